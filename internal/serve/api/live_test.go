package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/memstore"
)

const one = `{"entity":"e","resource":"r","limits":["n=2/min burst 1"],"max_wait":"1m"}`

// left returns what is left of the limit n of e on r.
func (s *rig) left() int64 {
	s.Helper()
	a, err := s.limiter.Available(context.Background(), zael.Query{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerMinute("n", 1)}})
	s.ok(err)
	return a["n"]
}

// A client that leaves during the wait frees its place; so does the end of the daemon, and
// no more wait than may.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		s.waits = 2
		s.want(200, admin, "POST", "/v1/acquire", one)
		ctx, leave := context.WithCancel(access.With(t.Context(), admin))
		first, second := make(chan answer, 1), make(chan answer, 1)
		go func() {
			first <- s.send(httptest.NewRequestWithContext(ctx, "POST", "/v1/acquire", strings.NewReader(one)))
		}()
		go func() { second <- s.do(admin, "POST", "/v1/acquire", one) }()
		synctest.Wait()
		s.wantError(503, "unavailable", "", admin, "POST", "/v1/acquire", one)
		leave()
		<-first
		synctest.Wait()
		if s.waits != 1 {
			t.Errorf("got %d free waits, want 1", s.waits)
		}
		close(s.draining)
		if got := <-second; got.status != 503 || got.body["error"] != "draining" {
			t.Errorf("got %d %s, want it draining", got.status, got.text)
		}
		if s.waits != 2 {
			t.Errorf("got %d free waits, want 2", s.waits)
		}
		s.ok(s.limiter.Close(t.Context()))
	})
}

// What a client takes that leaves before its answer is given back.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	const body = `{"entity":"e","resource":"r","limits":["n=1/min"]}`
	for name, w := range map[string]*leaver{"after the take": {}, "no write": {failWrite: true}, "no flush": {failFlush: true}} {
		ctx, leave := context.WithCancel(access.With(t.Context(), admin))
		store := slow{contended{memstore.New(nil)}, func() {}}
		if !w.failWrite && !w.failFlush {
			store.taken = leave
		}
		s := setupOn(t, store)
		w.ResponseWriter = httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/v1/acquire", strings.NewReader(body)))
		leave()
		if got := s.left(); got != 1 || w.takes {
			t.Errorf("%s: got %d left and an answer: %v; want all given back", name, got, w.takes)
		}
	}
}

// A slow store takes, and then calls a function.
type slow struct {
	contended

	taken func()
}

func (s slow) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	at, err := s.contended.Store.Take(ctx, now, maxWait, debits)
	s.taken()
	return at, err
}

// A leaver is the writer of an answer to a client that has gone.
type leaver struct {
	http.ResponseWriter

	failWrite, failFlush bool
	takes                bool // something was written without an error
}

func (w *leaver) Write(p []byte) (int, error) {
	if w.failWrite {
		return 0, errors.New("broken pipe")
	}
	w.takes = !w.failFlush
	return w.ResponseWriter.Write(p)
}

func (w *leaver) FlushError() error {
	if w.failFlush {
		return errors.New("broken pipe")
	}
	return nil
}
