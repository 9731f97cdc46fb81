package httplimit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/httplimit"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
)

const client = "192.0.2.1:4711"

// TestTimeline: 5 a second. t0: five are served and the sixth is refused; t0 + 200 ms:
// one more.
func TestTimeline(t *testing.T) {
	t.Parallel()
	w := setup(t)
	h := middleware(t, w, zael.MustPolicy("api", zael.PerSecond("requests", 5)), httplimit.Address(nil), nil).Handler(hello)
	for i := range 5 {
		rec := get(h, client)
		if rec.Code != http.StatusOK || rec.Body.String() != "hello" || rec.Header().Get("X-RateLimit-Remaining") != fmt.Sprint(4-i) {
			t.Errorf("request %d: got %d %q, %v, want 200, hello, %d left", i, rec.Code, rec.Body, rec.Header(), 4-i)
		}
	}
	rec := get(h, client)
	want := map[string]string{
		"Retry-After": "1", "X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1",
		"Content-Type": "application/problem+json", "Cache-Control": "no-store",
	}
	for name, value := range want {
		if got := rec.Header().Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	var p map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code != http.StatusTooManyRequests ||
		p["type"] != "https://iana.org/assignments/http-problem-types#quota-exceeded" || p["status"] != 429.0 || fmt.Sprint(p["violated-policies"]) != "[requests]" {
		t.Errorf("got %d, %v (%v), want 429 and its details", rec.Code, p, err)
	}
	if strings.Contains(rec.Body.String(), "192.0.2.1") {
		t.Errorf("the body names the entity: %s", rec.Body)
	}
	if rec := get(h, "192.0.2.2:4711"); rec.Code != http.StatusOK {
		t.Errorf("another client: got %d, want 200", rec.Code)
	}
	w.Forward(200 * time.Millisecond)
	for _, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		if rec := get(h, client); rec.Code != want {
			t.Errorf("after 200 ms: got %d, want %d", rec.Code, want)
		}
	}
}

// A request that no wait admits has no Retry-After and says why.
func TestNever(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cost := func(*http.Request) (zael.Amounts, error) { return zael.Amounts{"tokens": 1001}, nil }
	h := middleware(t, w, tokens, httplimit.Fixed("all"), &httplimit.Config{Cost: cost}).Handler(hello)
	rec := get(h, client)
	if rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") != "" || !strings.Contains(rec.Body.String(), "make it smaller") {
		t.Errorf("got %d, %v, %s, want 429 without Retry-After", rec.Code, rec.Header(), rec.Body)
	}
	if left := w.left(t, tokens, "requests"); left != 10 {
		t.Errorf("requests left: got %d, want 10", left)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	key := httplimit.Fixed("all")
	own := func(*http.Request) (zael.Request, error) { return tokens.For("all"), nil }
	cost := func(*http.Request) (zael.Amounts, error) { return nil, nil }
	for _, c := range []struct {
		field   string
		limiter *zael.Limiter
		policy  *zael.Policy
		key     httplimit.KeyFunc
		config  *httplimit.Config
	}{
		{"limiter", nil, tokens, key, nil},
		{"policy", w.Limiter, nil, key, nil},
		{"key", w.Limiter, tokens, nil, nil},
		{"policy", w.Limiter, tokens, nil, &httplimit.Config{Request: own}},
		{"key", w.Limiter, nil, key, &httplimit.Config{Request: own}},
		{"Config.Cost", w.Limiter, nil, nil, &httplimit.Config{Request: own, Cost: cost}},
		{"Config.MaxWait", w.Limiter, tokens, key, &httplimit.Config{MaxWait: -1}},
		{"Config.Headers", w.Limiter, tokens, key, &httplimit.Config{Headers: 99}},
	} {
		m, err := httplimit.New(c.limiter, c.policy, c.key, c.config)
		invalid, ok := errors.AsType[*zael.ValidationError](err)
		if m != nil || !ok || invalid.Field != c.field {
			t.Errorf("%s: got %v, %v, want an error about it", c.field, m, err)
		}
	}
	if m, err := httplimit.New(w.Limiter, nil, nil, &httplimit.Config{Request: own}); err != nil || get(m.Func(hello), client).Code != http.StatusOK {
		t.Errorf("with Config.Request: got %v, want it to serve", err)
	}
}

// No request is served whose key or cost cannot be told.
func TestKeyless(t *testing.T) {
	t.Parallel()
	w := setup(t)
	failing := func(*http.Request) (zael.Amounts, error) { return nil, errors.New("no length") }
	for name, m := range map[string]*httplimit.Middleware{
		"an error":     middleware(t, w, tokens, httplimit.Header("X-Tenant"), nil),
		"empty":        middleware(t, w, tokens, httplimit.Fixed(""), nil),
		"too long":     middleware(t, w, tokens, httplimit.Fixed(strings.Repeat("a", 257)), nil),
		"a control":    middleware(t, w, tokens, httplimit.Fixed("a\x00b"), nil),
		"no cost":      middleware(t, w, tokens, httplimit.Fixed("all"), &httplimit.Config{Cost: failing}),
		"no address":   middleware(t, w, tokens, httplimit.Address(nil), nil),
		"zero Request": middleware(t, w, nil, nil, &httplimit.Config{Request: func(*http.Request) (zael.Request, error) { return zael.Request{}, nil }}),
	} {
		served := false
		rec := get(m.Func(func(http.ResponseWriter, *http.Request) { served = true }), "@")
		if rec.Code != http.StatusBadRequest || served {
			t.Errorf("%s: got %d, served %v, want 400", name, rec.Code, served)
		}
	}
}

// TestDisabled checks that a client whose switch is off is told so, and no more.
func TestDisabled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if err := w.SetSwitch(t.Context(), zael.Scope{Entity: "secret-key"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	config := httplimit.Config{Report: func(_ *http.Request, err error) { t.Errorf("reported: %v", err) }}
	rec := get(middleware(t, w, tokens, httplimit.Fixed("secret-key"), &config).Handler(hello), client)
	if rec.Code != http.StatusForbidden || rec.Header().Get("Retry-After") != "" || strings.Contains(rec.Body.String(), "secret-key") {
		t.Errorf("got %d, %v, %s, want 403 without Retry-After and without the key", rec.Code, rec.Header(), rec.Body)
	}
}

// TestUnavailable: with the store dead, requests fail or pass, by the failure mode.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	dead, err := zael.New(limiters.Dead(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{&limiters.Still{Limiter: dead}}
	var reported []error
	config := httplimit.Config{Report: func(_ *http.Request, err error) { reported = append(reported, err) }}
	rec := get(middleware(t, w, tokens, httplimit.Fixed("all"), &config).Handler(hello), client)
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") != "1" || strings.Contains(rec.Body.String(), "cable") {
		t.Errorf("closed: got %d, %v, %s, want 503 without the cause", rec.Code, rec.Header(), rec.Body)
	}
	if len(reported) != 1 || !errors.Is(reported[0], zael.ErrUnavailable) {
		t.Errorf("reported: got %v, want the error", reported)
	}
	config.FailureMode = zael.FailOpen
	rec = get(middleware(t, w, tokens, httplimit.Fixed("all"), &config).Handler(hello), client)
	if rec.Code != http.StatusOK || rec.Header().Get("X-RateLimit-Remaining") != "" {
		t.Errorf("open: got %d, %v, want 200 without headers", rec.Code, rec.Header())
	}
	config.FailureMode = zael.FailClosed
	config.Failed = func(w http.ResponseWriter, _ *http.Request, err error) { http.Error(w, err.Error(), http.StatusTeapot) }
	if rec = get(middleware(t, w, tokens, httplimit.Fixed("all"), &config).Handler(hello), client); rec.Code != http.StatusTeapot {
		t.Errorf("with Failed: got %d, want its own", rec.Code)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	own := func(w http.ResponseWriter, _ *http.Request, err *zael.ExceededError) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(err.Primary().Limit.Name))
	}
	policy := zael.MustPolicy("api", zael.PerMinute("requests", 1))
	h := middleware(t, w, policy, httplimit.Fixed("all"), &httplimit.Config{Refused: own}).Handler(hello)
	get(h, client)
	if rec := get(h, client); rec.Code != http.StatusTeapot || rec.Body.String() != "requests" || rec.Header().Get("Retry-After") != "60" {
		t.Errorf("got %d, %s, %v, want its own answer, with Retry-After", rec.Code, rec.Body, rec.Header())
	}
}

// A wait in line: the second request waits for its token, in real time.
func TestMaxWait(t *testing.T) {
	t.Parallel()
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	policy := zael.MustPolicy("api", zael.Limit{Name: "requests", Burst: 1, RefillAmount: 100, RefillPeriod: time.Second})
	m, err := httplimit.New(limiter, policy, httplimit.Fixed("all"), &httplimit.Config{MaxWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 5 {
		if rec := get(m.Handler(hello), client); rec.Code != http.StatusOK {
			t.Errorf("got %d, want 200 after a wait", rec.Code)
		}
	}
	if took := time.Since(begin); took < 40*time.Millisecond-time.Millisecond {
		t.Errorf("5 requests at 100 a second took %v, want 40 ms at least", took)
	}
}

// A client that has left gets no answer, and no error is reported.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var reported []error
	m := middleware(t, w, tokens, httplimit.Fixed("all"), &httplimit.Config{Report: func(_ *http.Request, err error) { reported = append(reported, err) }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := m.Func(func(http.ResponseWriter, *http.Request) { t.Error("served a client who had left") })
	get(h, client, func(r *http.Request) { *r = *r.WithContext(ctx) })
	if len(reported) > 0 {
		t.Errorf("reported: got %v, want none", reported)
	}
}

func TestLeaseFromOutside(t *testing.T) {
	t.Parallel()
	if lease, ok := httplimit.LeaseFrom(t.Context()); ok || lease != nil {
		t.Errorf("without a Middleware: got %v, want none", lease)
	}
}

// Two middlewares, one in the other: each has a lease, and the handler gets the inner one.
func TestNested(t *testing.T) {
	t.Parallel()
	w := setup(t)
	inner := zael.MustPolicy("inner", zael.PerMinute("requests", 7))
	h := middleware(t, w, inner, httplimit.Fixed("all"), nil).Func(func(_ http.ResponseWriter, r *http.Request) {
		lease, _ := httplimit.LeaseFrom(r.Context())
		if err := lease.Settle(zael.Amounts{"requests": 3}); err != nil {
			t.Error(err)
		}
	})
	get(middleware(t, w, tokens, httplimit.Fixed("all"), nil).Handler(h), client)
	if got := []int64{w.left(t, inner, "requests"), w.left(t, tokens, "requests")}; !slices.Equal(got, []int64{4, 9}) {
		t.Errorf("left: got %v, want 4 of the inner and 9 of the outer", got)
	}
}

func TestAllocations(t *testing.T) { //nolint:paralleltest // counts the allocations of the whole program
	w := setup(t)
	policy := zael.MustPolicy("api", zael.PerSecond("requests", 1e6))
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, c := range []struct {
		name string
		m    *httplimit.Middleware
		most float64
	}{
		{"default headers, the address", middleware(t, w, policy, httplimit.Address(nil), nil), 4},
		{"no headers, a fixed key", middleware(t, w, policy, httplimit.Fixed("all"), &httplimit.Config{Headers: httplimit.NoHeaders}), 3},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		h := c.m.Handler(bare)
		rec := &discard{header: http.Header{}}
		if got := testing.AllocsPerRun(1000, func() { h.ServeHTTP(rec, r) }); got > c.most {
			t.Errorf("%s: got %v allocations, want %v at most", c.name, got, c.most)
		}
	}
}

// discard is a writer of answers that allocates nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
