package httplimit_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/httplimit"
)

// byBytes settles tokens to the bytes of the answer, and failures to none.
func byBytes(_ *http.Request, a httplimit.Answer) zael.Amounts {
	if a.Status >= 500 {
		return zael.Amounts{"requests": 0, "tokens": 0}
	}
	return zael.Amounts{"tokens": a.Bytes}
}

func estimate(*http.Request) (zael.Amounts, error) { return zael.Amounts{"tokens": 100}, nil }

func TestSettle(t *testing.T) {
	t.Parallel()
	lease := func(r *http.Request) *zael.Lease {
		lease, ok := httplimit.LeaseFrom(context.WithValue(r.Context(), otherKey{}, 1))
		if !ok {
			panic("no lease")
		}
		return lease
	}
	for name, c := range map[string]struct {
		handler  http.HandlerFunc
		requests int64 // used
		tokens   int64
	}{
		"by bytes": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("a", 250)) }, 1, 250},
		"in pieces": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("ab"))
			_, _ = io.WriteString(w, "c")
		}, 1, 3},
		"an empty answer":       {func(http.ResponseWriter, *http.Request) {}, 1, 0},
		"a failure":             {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) }, 0, 0},
		"a panic":               {func(http.ResponseWriter, *http.Request) { panic("oh") }, 0, 0},
		"a panic after answers": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("abc")); panic("oh") }, 1, 3},
		"by the handler": {func(w http.ResponseWriter, r *http.Request) {
			_ = lease(r).Settle(zael.Amounts{"tokens": 42})
			_, _ = w.Write([]byte("abc"))
		}, 1, 42},
		"by the handler, then a panic": {func(_ http.ResponseWriter, r *http.Request) {
			_ = lease(r).Adjust(zael.Amounts{"tokens": 7})
			panic("oh")
		}, 1, 107},
		"rolled back by the handler": {func(_ http.ResponseWriter, r *http.Request) { lease(r).Rollback(r.Context()) }, 0, 0},
		"early hints are not an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusBadGateway)
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			config := &httplimit.Config{Cost: estimate, Settle: byBytes, Report: func(_ *http.Request, err error) { t.Error(err) }}
			h := middleware(t, w, tokens, httplimit.Fixed("all"), config).Handler(c.handler)
			func() {
				defer func() {
					if p := recover(); (p != nil) != strings.Contains(name, "panic") {
						t.Errorf("panic: got %v", p)
					}
				}()
				get(h, client)
			}()
			if got := 10 - w.left(t, tokens, "requests"); got != c.requests {
				t.Errorf("requests used: got %d, want %d", got, c.requests)
			}
			if got := 1000 - w.left(t, tokens, "tokens"); got != c.tokens {
				t.Errorf("tokens used: got %d, want %d", got, c.tokens)
			}
		})
	}
}

type otherKey struct{}

// A mistake in what Settle says is reported, and what was taken stays.
func TestSettleReports(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var reported error
	config := &httplimit.Config{
		Cost: estimate, Settle: func(*http.Request, httplimit.Answer) zael.Amounts { return zael.Amounts{"tokn": 1} },
		Report: func(_ *http.Request, err error) { reported = err },
	}
	get(middleware(t, w, tokens, httplimit.Fixed("all"), config).Handler(hello), client)
	if _, ok := errors.AsType[*zael.ValidationError](reported); !ok {
		t.Errorf("reported: got %v, want the name that is wrong", reported)
	}
	if left := w.left(t, tokens, "tokens"); left != 900 {
		t.Errorf("tokens left: got %d, want 900", left)
	}
}

// TestStreaming runs a server whose handler flushes, sends a file, and takes over the
// connection.
func TestStreaming(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 300), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/flush", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write([]byte("one"))
		rw.(http.Flusher).Flush()
		<-r.Context().Done() // the client has read it and leaves
	})
	mux.HandleFunc("/file", func(rw http.ResponseWriter, r *http.Request) { http.ServeFile(rw, r, file) })
	mux.HandleFunc("/control", func(rw http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(rw).EnableFullDuplex(); err != nil {
			t.Errorf("EnableFullDuplex: %v", err)
		}
	})
	mux.HandleFunc("/hijack", func(rw http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			defer close(closed)
			_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = buf.Flush()
			_, _ = io.CopyN(conn, buf, 5)
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}()
	})
	done := make(chan struct{}, 1)
	limited := middleware(t, w, tokens, httplimit.Fixed("all"), &httplimit.Config{Cost: estimate, Settle: byBytes}).Handler(mux)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		limited.ServeHTTP(rw, r)
	}))
	defer server.Close()
	fetch := func(path string, n int64) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if got, err := io.CopyN(io.Discard, resp.Body, n); got != n {
			t.Errorf("%s: got %d bytes, %v, want %d", path, got, err, n)
		}
	}
	used := int64(0)
	for _, c := range []struct {
		path   string
		bytes  int64
		tokens int64
	}{{"/flush", 3, 3}, {"/file", 300, 300}, {"/control", 0, 0}} {
		fetch(c.path, c.bytes)
		<-done
		used += c.tokens
		if got := 1000 - w.left(t, tokens, "tokens"); got != used {
			t.Errorf("%s: got %d tokens used in all, want %d", c.path, got, used)
		}
	}

	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /hijack HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-done // the handler has returned, and the connection is open
	if got := 1000 - w.left(t, tokens, "tokens"); got != used+100 {
		t.Errorf("hijacked: got %d tokens used, want %d and the estimate", got, used)
	}
	if _, err := io.WriteString(conn, "abcde"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil || !strings.HasSuffix(string(answer), "\r\n\r\nabcde") {
		t.Errorf("hijacked: got %q, %v, want the echo", answer, err)
	}
	<-closed
	if got := 1000 - w.left(t, tokens, "tokens"); got != used+int64(len(answer)) {
		t.Errorf("closed: got %d tokens used, want %d and %d", got, used, len(answer))
	}
}
