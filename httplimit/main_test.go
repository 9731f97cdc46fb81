package httplimit_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/httplimit"
	"github.com/zeroae/zael/internal/testrig/limiters"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is a limiter in memory whose clock stands until it is set.
type world struct{ *limiters.Still }

func setup(tb testing.TB) *world {
	tb.Helper()
	return &world{limiters.New(tb)}
}

// left returns how many tokens of a limit of the policy are left to the entity "all".
func (w *world) left(tb testing.TB, policy *zael.Policy, limit string) int64 {
	tb.Helper()
	a, err := w.Available(context.Background(), zael.Query{Entity: "all", Policy: policy})
	if err != nil {
		tb.Fatal(err)
	}
	return a[limit]
}

// middleware is New, which must not fail.
func middleware(tb testing.TB, w *world, policy *zael.Policy, key httplimit.KeyFunc, config *httplimit.Config) *httplimit.Middleware {
	tb.Helper()
	m, err := httplimit.New(w.Limiter, policy, key, config)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// get serves a GET request from a client's address and returns the answer.
func get(h http.Handler, remote string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = remote
	for _, e := range edit {
		e(r)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

var (
	hello  = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	tokens = zael.MustPolicy("api", zael.PerMinute("requests", 10), zael.PerMinute("tokens", 1000))
)
