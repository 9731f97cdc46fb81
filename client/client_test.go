package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/client"
)

func TestNew(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"http://127.0.0.1:8080", "http://localhost", "http://LOCALHOST:1/", "http://[::1]:8080", "http://127.8.8.8/limits/", "https://limits.example.com", "https://x/a%2Fb",
	} {
		c, err := client.New(address, nil)
		if err != nil || c.String() != strings.TrimRight(address, "/") {
			t.Errorf("%s: got %v, %v", address, c, err)
		}
	}
	for _, address := range []string{
		"", "x", "127.0.0.1:8080", "ftp://localhost", "http://", "http:///x", "http://:8080", "sqlite:x", "http://limits.example.com", "http://10.0.0.1:8080", "http://0.0.0.0",
		"http://localhost.example.com", "https://user:secret@x", "https://x?a=b", "https://x?", "https://x#y", "http://127.0.0.1.example.com", "https://x:y", "http://[::ffff:10.0.0.1]",
	} {
		_, err := client.New(address, nil)
		if v, ok := errors.AsType[*zael.ValidationError](err); !ok || v.Field != "address" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want the address refused", address, err)
		}
	}
	for _, config := range []client.Config{{Timeout: -1}, {Timeout: time.Hour}, {Timeout: 1}, {Token: "a b"}, {Token: "a\nb"}, {Token: "é"}} {
		if _, err := client.New("http://localhost", &config); err == nil || strings.Contains(err.Error(), "a b") {
			t.Errorf("%+v: got %v, want it refused", config, err)
		}
	}
}

// A request with a key is repeated until its answer is there, and takes once; so are ends of leases.
// Any other is made once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	n := zael.EachYear("n", 100)
	req := client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{n}, Consume: zael.Amounts{"n": 10}}
	for _, c := range []struct {
		name     string
		lost     int64 // how many answers
		call     func(context.Context, *rig, *client.Lease) error
		fails    bool
		requests int64
		left     int64 // of 90
	}{
		{"an acquire", 1, func(ctx context.Context, s *rig, _ *client.Lease) error {
			_, err := s.Allow(ctx, req)
			return err
		}, true, 1, 80},
		{"an acquire with a key", 2, func(ctx context.Context, s *rig, _ *client.Lease) error {
			req := req
			req.IdempotencyKey = "k"
			_, err := s.Acquire(ctx, req)
			return err
		}, false, 3, 80},
		{"an acquire with a key that is lost again and again", 3, func(ctx context.Context, s *rig, _ *client.Lease) error {
			req := req
			req.IdempotencyKey = "k"
			_, err := s.Acquire(ctx, req)
			return err
		}, true, 3, 80},
		{"a commit", 2, func(ctx context.Context, _ *rig, l *client.Lease) error { return l.Commit(ctx) }, false, 3, 90},
		{"a rollback", 2, func(ctx context.Context, _ *rig, l *client.Lease) error { return l.Rollback(ctx) }, false, 3, 100},
		{"a settle of which no answer comes, and then one", 3, func(ctx context.Context, _ *rig, l *client.Lease) error {
			if err := errors.Join(l.Settle(zael.Amounts{"n": 1}), l.Commit(ctx)); !errors.Is(err, zael.ErrUnavailable) {
				return err
			}
			return l.Commit(ctx)
		}, false, 4, 99},
		{"a consume", 1, func(ctx context.Context, _ *rig, l *client.Lease) error {
			return l.Consume(ctx, zael.Amounts{"n": 5}, "")
		}, true, 1, 85},
		{"a consume with a key", 2, func(ctx context.Context, _ *rig, l *client.Lease) error {
			return errors.Join(l.Consume(ctx, zael.Amounts{"n": 5}, "k"), l.Rollback(ctx))
		}, false, 4, 100},
		{"a renewal", 2, func(ctx context.Context, _ *rig, l *client.Lease) error {
			_, err := l.Renew(ctx)
			return err
		}, false, 3, 90},
		{"a reading", 2, func(ctx context.Context, s *rig, _ *client.Lease) error {
			_, err := s.Limits(ctx, zael.Scope{})
			return err
		}, false, 3, 90},
		{"a change", 1, func(ctx context.Context, s *rig, _ *client.Lease) error {
			_, err := s.CreateEntity(ctx, zael.Entity{ID: "x"})
			return err
		}, true, 1, 90},
		{"a change with a key", 2, func(ctx context.Context, s *rig, _ *client.Lease) error {
			return s.SetSwitch(ctx, zael.Scope{Entity: "x"}, zael.Enabled, zael.AdminOptions{IdempotencyKey: "k"})
		}, false, 3, 90},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			lease, err := s.Acquire(t.Context(), req)
			s.ok(err)
			s.wire.requests.Store(0)
			s.wire.lose = func(n int64, _ *http.Request) bool { return n <= c.lost }
			err = c.call(t.Context(), s, lease)
			if c.fails != errors.Is(err, zael.ErrUnavailable) || !c.fails && err != nil {
				t.Errorf("got %v, want it to fail: %v", err, c.fails)
			}
			if got := s.wire.requests.Load(); got != c.requests {
				t.Errorf("got %d requests, want %d", got, c.requests)
			}
			if got := s.left("r", n); got != c.left {
				t.Errorf("got %d left, want %d", got, c.left)
			}
		})
	}
}

// A context that ends is the error, at once, and nothing is repeated.
func TestContext(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.wire.lose = func(int64, *http.Request) bool { cancel(); return true }
	_, err := s.Allow(ctx, client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerMinute("n", 1)}, IdempotencyKey: "k"})
	if !errors.Is(err, context.Canceled) || errors.Is(err, zael.ErrUnavailable) || s.wire.requests.Load() != 1 {
		t.Errorf("got %v after %d requests, want the context's error after one", err, s.wire.requests.Load())
	}
}

// The token goes to the server, over connections that are used again, and to nobody that the server
// names: redirects are not followed.
func TestNetwork(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("got %s with %q, want no redirect followed", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/limits/v1/acquire":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		case "/limits/v1/ping":
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if r.Header.Get("Authorization") != "Bearer zael_x" || r.Header.Get("Content-Type") != "" {
			t.Errorf("got the headers %v", r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"`+strings.Repeat("x", 1000)+`"}`)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c, err := client.New(server.URL+"/limits/", &client.Config{Token: "zael_x"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Allow(t.Context(), client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerMinute("n", 1)}})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 307 || !strings.Contains(err.Error(), elsewhere.URL) {
		t.Errorf("got %v, want the redirect named", err)
	}
	const callers = 8
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range 20 {
				if e, err := c.Entity(t.Context(), "a/b"); err != nil || len(e.ID) != 1000 {
					t.Errorf("got %v, %v", e, err)
				}
				if err := c.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := connections.Load(); n > 3*callers { // a caller may dial while another's connection becomes idle
		t.Errorf("got %d connections for %d requests, want them used again", n, 2*20*callers)
	}
}

// Beyond this machine, and where the certificate is nobody's that is trusted, nothing is sent.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	strange, err := client.New(server.URL, &client.Config{Token: "zael_x"})
	if err != nil {
		t.Fatal(err)
	}
	defer strange.Close()
	if err := strange.Ping(t.Context()); !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v, want the certificate refused", err)
	}
	trusting := server.Client().Transport.(*http.Transport).Clone() //nolint:forcetypeassert // httptest's is one
	defer trusting.CloseIdleConnections()
	known, err := client.New(server.URL, &client.Config{Transport: trusting})
	if err != nil {
		t.Fatal(err)
	}
	if err := known.Ping(t.Context()); err != nil {
		t.Errorf("got %v, want the certificate trusted", err)
	}
	if trusting.TLSClientConfig.MinVersion > tls.VersionTLS13 {
		t.Error("the transport was changed")
	}
}

// A server that is away, one that does not answer, and one that answers without end.
func TestBadServers(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	away, err := client.New("http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	if err := away.Ping(t.Context()); !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v, want it unavailable", err)
	}
	ended := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ended }))
	defer silent.Close()
	defer close(ended)
	hasty, err := client.New(silent.URL, &client.Config{Timeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer hasty.Close()
	if err := hasty.Ping(t.Context()); !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "no answer within 10ms") {
		t.Errorf("got %v, want the time named", err)
	}
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for page := make([]byte, 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(page); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	reader, err := client.New(endless.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if testing.Short() {
		reader.Bound(1 << 20)
	}
	if _, err := reader.Entity(t.Context(), "e"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v, want the answer bounded", err)
	}
}

// A list that goes on for ever ends.
func TestEndlessList(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.wire.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"entities":[],"next":"again"}`)
	})
	if _, err := s.Children(t.Context(), "e"); err == nil || !strings.Contains(err.Error(), "has no end") {
		t.Errorf("got %v, want the list refused", err)
	}
}
