package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/client"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/api"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/live"
	"github.com/zeroae/zael/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A direct transport serves requests by a handler, without a network.
type direct struct {
	handler  http.Handler
	requests atomic.Int64
	lose     func(n int64, r *http.Request) bool // whether the answer to request n is lost; nil: none is
}

var errCut = errors.New("the connection was cut")

func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	n := d.requests.Add(1)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	if d.lose != nil && d.lose(n, r) {
		return nil, errCut
	}
	return w.Result(), nil
}

// A rig is a client of an API over a limiter.
type rig struct {
	*testing.T
	*client.Client

	limiter *zael.Limiter
	wire    *direct
}

func setup(t *testing.T) *rig {
	t.Helper()
	return setupAs(t, access.Principal{Name: "ops", Role: access.Admin}, memstore.New(&memstore.Config{Usage: true}))
}

func setupAs(t *testing.T, p access.Principal, store zael.Store) *rig {
	t.Helper()
	s := &rig{T: t, wire: new(direct)}
	var err error
	s.limiter, err = zael.New(store, &zael.Config{Principal: "server"})
	s.ok(err)
	t.Cleanup(func() { _ = s.limiter.Close(context.WithoutCancel(t.Context())) })
	settings := &config.Config{Max: config.Max{Body: 1 << 20, Wait: time.Minute}}
	settings.Policies = map[string]*zael.Policy{"chat": zael.MustPolicy("chat", zael.EachYear("rpy", 2))}
	handler, err := api.New(&serve.Env{
		Limiter: s.limiter, Store: store, Live: live.New(time.Now), Log: slog.New(slog.DiscardHandler), Config: func() *config.Config { return settings },
		Wait: func() (func(), bool) { return func() {}, true }, Draining: make(chan struct{}),
	})
	s.ok(err)
	s.wire.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(access.With(r.Context(), p)))
	})
	s.Client, err = client.New("http://localhost:1", &client.Config{Transport: s.wire, Timeout: 2 * time.Minute})
	s.ok(err)
	return s
}

func (s *rig) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// left returns how many tokens entity e has left of a limit.
func (s *rig) left(resource string, limit zael.Limit) int64 {
	s.Helper()
	got, err := s.limiter.Available(s.Context(), zael.Query{Entity: "e", Resource: resource, Limits: []zael.Limit{limit}})
	s.ok(err)
	return got[limit.Name]
}
