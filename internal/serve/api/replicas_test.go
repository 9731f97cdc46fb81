package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/sqlitestore"
)

// Three servers over one file tell exactly as many clients that they are admitted as the
// limit has, although one of them ends in the middle and every answer may be lost: clients
// ask again with their key, on any server.
func TestReplicas(t *testing.T) {
	t.Parallel()
	const callers = 16
	limit := 200
	if testing.Short() {
		limit = 40
	}
	requests := 3 * limit
	file := filepath.Join(t.TempDir(), "zael.db")
	var servers []*httptest.Server
	for range 3 {
		store, err := sqlitestore.Open(t.Context(), file, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
		s := setupOn(t, store)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.handler.ServeHTTP(w, r.WithContext(access.With(r.Context(), admin)))
		}))
		t.Cleanup(server.Close)
		servers = append(servers, server)
	}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	// ask returns the status and the body of an answer; 0 if there was none.
	ask := func(server *httptest.Server, key int) (int, string) {
		body := fmt.Sprintf(`{"entity":"e","resource":"r","limits":["q=%d each day"],"lease":true}`, limit)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/acquire", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		r.Header.Set("Idempotency-Key", fmt.Sprintf("request-%d", key))
		resp, err := client.Do(r)
		if err != nil {
			return 0, ""
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, ""
		}
		return resp.StatusCode, string(text)
	}
	var next, told, refused atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for {
				key := int(next.Add(1))
				if key > requests {
					return
				}
				if key == requests/3 {
					servers[0].CloseClientConnections()
					servers[0].Config.SetKeepAlivesEnabled(false)
					_ = servers[0].Listener.Close()
				}
				_, lost := ask(servers[key%3], key) // its answer is lost, whatever it was
				status, text := 0, ""
				for try := 1; status != http.StatusOK && status != http.StatusTooManyRequests; try++ {
					if status, text = ask(servers[(key+try)%3], key); try > 100 {
						t.Errorf("request %d: got %d %s", key, status, text)
						return
					}
				}
				if status == http.StatusTooManyRequests {
					refused.Add(1)
					continue
				}
				told.Add(1)
				if strings.Contains(lost, `"admitted":true`) && lost != text {
					t.Errorf("request %d: got %s, want the first answer, %s", key, text, lost)
				}
			}
		})
	}
	all.Wait()
	if told.Load() != int64(limit) || told.Load()+refused.Load() != int64(requests) {
		t.Errorf("got %d told and %d refused, want exactly %d told", told.Load(), refused.Load(), limit)
	}
}
