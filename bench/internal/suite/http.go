package suite

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/go-chi/httprate"
	"github.com/throttled/throttled/v2"
	throttledstore "github.com/throttled/throttled/v2/store/memstore"
	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/middleware/stdlib"
	ululestore "github.com/ulule/limiter/v3/drivers/store/memory"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/httplimit"
	"github.com/zeroae/zael/memstore"
)

// httpGroups are the middlewares around a handler that does nothing, by the client's
// address: one client that is admitted, and one that is refused.
func httpGroups() []Group {
	const many = 1_000_000_000
	return []Group{
		{Name: "http/admitted", Benchmarks: httpBenchmarks(many, http.StatusNoContent)},
		{Name: "http/refused", Benchmarks: httpBenchmarks(1, http.StatusTooManyRequests)[1:]},
	}
}

// httpBenchmarks returns the benchmarks of limits of n requests an hour, after the first
// of which each answer has a status.
func httpBenchmarks(n, status int) []Benchmark {
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	benchmark := func(name string, peer bool, wrap func(http.Handler) (http.Handler, error)) Benchmark {
		return Benchmark{Name: name, Peer: peer, Run: func(b *testing.B) {
			b.Helper()
			h, err := wrap(bare)
			if err != nil {
				b.Fatal(err)
			}
			serveHTTP(b, h, status)
		}}
	}
	return []Benchmark{
		benchmark("the handler alone", false, func(h http.Handler) (http.Handler, error) { return h, nil }),
		benchmark("zael httplimit", false, func(h http.Handler) (http.Handler, error) { return zaelHTTP(h, n, httplimit.XRateLimit) }),
		benchmark("zael httplimit, no headers", false, func(h http.Handler) (http.Handler, error) { return zaelHTTP(h, n, httplimit.NoHeaders) }),
		benchmark("go-chi/httprate", true, func(h http.Handler) (http.Handler, error) {
			return httprate.LimitBy(n, time.Hour, func(r *http.Request) (string, error) {
				host, _, err := net.SplitHostPort(r.RemoteAddr)
				return httprate.CanonicalizeIP(host), err
			})(h), nil
		}),
		benchmark("throttled", true, throttledHTTP(n)),
		benchmark("ulule/limiter", true, func(h http.Handler) (http.Handler, error) {
			l := limiter.New(ululestore.NewStore(), limiter.Rate{Period: time.Hour, Limit: int64(n)})
			return stdlib.NewMiddleware(l).Handler(h), nil
		}),
	}
}

func zaelHTTP(h http.Handler, n int, headers httplimit.Headers) (http.Handler, error) {
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		return nil, err
	}
	policy, err := zael.NewPolicy("bench", zael.PerHour("requests", int64(n)))
	if err != nil {
		return nil, err
	}
	m, err := httplimit.New(l, policy, httplimit.Address(nil), &httplimit.Config{Headers: headers})
	if err != nil {
		return nil, err
	}
	return m.Handler(h), nil
}

func throttledHTTP(n int) func(http.Handler) (http.Handler, error) {
	return func(h http.Handler) (http.Handler, error) {
		store, err := throttledstore.NewCtx(0)
		if err != nil {
			return nil, err
		}
		gcra, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{MaxRate: throttled.PerHour(n), MaxBurst: n - 1})
		if err != nil {
			return nil, err
		}
		limit := throttled.HTTPRateLimiterCtx{RateLimiter: gcra, VaryBy: &throttled.VaryBy{RemoteAddr: true}}
		return limit.RateLimit(h), nil
	}
}

// serveHTTP serves the request of one client, again and again.
func serveHTTP(b *testing.B, h http.Handler, status int) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "/", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.1:4711"
	w := &discard{header: http.Header{}}
	h.ServeHTTP(w, r)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		w.status = 0
		h.ServeHTTP(w, r)
		if w.status != status {
			b.Fatalf("status: got %d, want %d", w.status, status)
		}
	}
}

// A discard is a writer of answers that keeps the status alone.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

func (d *discard) WriteHeader(status int) {
	if d.status == 0 {
		d.status = status
	}
}
