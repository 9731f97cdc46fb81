package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/zeroae/zael"
)

// A client on localhost is limited, by IPv6 and by IPv4 each for itself, and told
// what is left and when to come again.
func TestLimited(t *testing.T) {
	t.Parallel()
	handler, err := limited(http.HandlerFunc(hello), zael.MustPolicy("hello", zael.PerHour("requests", 2)))
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"[::1]:0", "127.0.0.1:0"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
			if err != nil {
				t.Fatalf("this machine has no loopback address %s: %v", address, err)
			}
			server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}} //nolint:gosec // of a test
			server.Start()
			defer server.Close()
			for i, want := range []struct {
				code        int
				left, retry string
			}{{200, "1", ""}, {200, "0", ""}, {429, "0", "1800"}, {429, "0", "1800"}} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := server.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				left, retry := resp.Header.Get("X-RateLimit-Remaining"), resp.Header.Get("Retry-After")
				if resp.StatusCode != want.code || left != want.left || retry != want.retry && retry != "1799" {
					t.Errorf("request %d: got %d, %q left, retry after %q, want %+v", i, resp.StatusCode, left, retry, want)
				}
			}
		})
	}
}
