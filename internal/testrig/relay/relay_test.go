package relay_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/internal/testrig/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get returns what url answers; a client keeps the connection for later.
func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// The client's connection stays idle: that its goroutines end with the relay is checked by
// TestMain, as the server is never closed before the relay.
func TestCloseEndsIdleConnections(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	defer server.Close()
	r, err := relay.Start(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: new(http.Transport)}
	for _, path := range []string{"/one", "/two"} {
		if got := get(t, client, r.Endpoint()+path); got != path {
			t.Errorf("got %q, want %q", got, path)
		}
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}
	if got := get(t, client, r.Endpoint()+"/three"); got == "/three" {
		t.Errorf("after Close: got %q, want an error", got)
	}
}

// An engine that ends closes the connections of its clients.
func TestEngineEnds(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	r, err := relay.Start(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	client := &http.Client{Transport: new(http.Transport)}
	const found = "404 page not found\n"
	if got := get(t, client, r.Endpoint()); got != found {
		t.Errorf("got %q, want %q", got, found)
	}
	server.Close()
	if got := get(t, client, r.Endpoint()); got == found {
		t.Errorf("after the engine's end: got %q, want an error", got)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"https://127.0.0.1:8000", "http://127.0.0.1", "127.0.0.1:8000", "\x00"} {
		if _, err := relay.Start(endpoint); err == nil {
			t.Errorf("%q: got no error", endpoint)
		}
	}
}
