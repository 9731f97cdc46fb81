package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/client"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
)

// What a client is told is what a Limiter tells: statuses, refusals and their text.
func TestAcquire(t *testing.T) {
	t.Parallel()
	s := setup(t)
	limits := []zael.Limit{zael.EachYear("n", 10), zael.EachYear("m", 1_000_000_000_000_000).In("Europe/Berlin")}
	req := client.Request{Entity: "e", Resource: "r", Limits: limits, Consume: zael.Amounts{"n": 4}}
	for i, left := range []int64{6, 2} {
		a, err := s.Allow(t.Context(), req)
		if err != nil || a.Entity != "e" || a.Resource != "r" || a.Degraded || a.Bypassed || len(a.Limits) != 2 ||
			a.Limits[0].Available != left || a.Limits[1].Requested != 1 || a.Limits[1].Limit != limits[1] || a.Limits[0].ResetsAt.IsZero() {
			t.Errorf("acquire %d: got %+v, %v, want %d left", i, a, err, left)
		}
	}
	_, err := s.Allow(t.Context(), req)
	want := s.limiter.Allow(t.Context(), zael.Request{Entity: "e", Resource: "r", Limits: limits, Consume: req.Consume})
	refusal, ok := errors.AsType[*zael.ExceededError](err)
	wanted, _ := errors.AsType[*zael.ExceededError](want)
	if !ok || !errors.Is(err, zael.ErrExceeded) || errors.Is(err, zael.ErrNever) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if got := refusal.Primary(); got.Limit != limits[0] || got.Available != 2 || refusal.RetryAfter() < wanted.RetryAfter() || len(refusal.Statuses()) != 2 {
		t.Errorf("got %+v, want %+v", refusal.Statuses(), wanted.Statuses())
	}
	before, _, _ := strings.Cut(err.Error(), ", retry")
	if wantText, _, _ := strings.Cut(want.Error(), ", retry"); before != wantText {
		t.Errorf("got %q, want %q", before, wantText)
	}
	req.Consume = zael.Amounts{"n": 11}
	if _, err := s.Allow(t.Context(), req); !errors.Is(err, zael.ErrNever) || !strings.Contains(err.Error(), "more than the amount of 10") {
		t.Errorf("got %v, want that no wait helps", err)
	}
	s.ok(s.limiter.SetSwitch(t.Context(), zael.Scope{Resource: "r"}, zael.Disabled, zael.AdminOptions{}))
	_, err = s.Allow(t.Context(), req)
	off, ok := errors.AsType[*zael.DisabledError](err)
	if !ok || *off != (zael.DisabledError{Entity: "e", Resource: "r", Scope: zael.Scope{Resource: "r"}}) || !errors.Is(err, zael.ErrDisabled) {
		t.Errorf("got %v, want it disabled by the resource", err)
	}
	for range 2 {
		if a, err := s.Allow(t.Context(), client.Request{Entity: "e", Policy: "chat"}); err != nil || a.Resource != "chat" {
			t.Errorf("got %+v, %v, want it admitted by the policy", a, err)
		}
	}
	if _, err := s.Allow(t.Context(), client.Request{Entity: "e", Policy: "chat"}); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("got %v, want the policy to refuse", err)
	}
}

// Requests that are not valid are admitted by nobody, and name the member.
func TestInvalidRequests(t *testing.T) {
	t.Parallel()
	s := setup(t)
	n := []zael.Limit{zael.PerMinute("n", 1)}
	for _, c := range []struct {
		req   client.Request
		field string
	}{
		{client.Request{Resource: "r", Limits: n}, "entity"},
		{client.Request{Entity: "e", Limits: n}, "resource"},
		{client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{}}, "limits"},
		{client.Request{Entity: "e", Resource: "r", Limits: n, ParentLimits: []zael.Limit{}}, "parent_limits"},
		{client.Request{Entity: "e", Resource: "r", Also: []client.Part{{Resource: "q", Limits: []zael.Limit{}}}}, "also[0].limits"},
		{client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{{}}}, "limits[0]"},
		{client.Request{Entity: "e", Resource: "r", Limits: n, Consume: zael.Amounts{"x": 1}}, "consume"},
		{client.Request{Entity: "e", Resource: "r", Limits: n, Consume: zael.Amounts{"n": -1}}, "consume.n"},
		{client.Request{Entity: "e", Resource: "r", Limits: n, MaxWait: -1}, "max_wait"},
		{client.Request{Entity: "e", Resource: "r", Limits: n, MaxWait: time.Hour}, "max_wait"},
		{client.Request{Entity: "e", Resource: "r", Limits: n, IdempotencyKey: strings.Repeat("x", 129)}, "Idempotency-Key"},
		{client.Request{Entity: "e", Policy: "nope"}, "policy"},
		{client.Request{}, "entity"},
		{client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.AtOnce("p", 3)}, Consume: zael.Amounts{"p": 1}}, "lease"},
	} {
		_, err := s.Allow(t.Context(), c.req)
		if v, ok := errors.AsType[*zael.ValidationError](err); !ok || v.Field != c.field || v.Reason == "" {
			t.Errorf("%+v: got %v, want the field %s", c.req, err, c.field)
		}
	}
	if _, err := s.Allow(t.Context(), client.Request{Entity: "e", Resource: "r"}); !errors.Is(err, zael.ErrNoLimits) {
		t.Errorf("got %v, want ErrNoLimits", err)
	}
	var none *client.Client
	for _, c := range []*client.Client{none, new(client.Client)} {
		if _, err := c.Allow(t.Context(), client.Request{Entity: "e", Resource: "r", Limits: n}); err == nil {
			t.Error("got a client of no server that admits")
		}
		c.Close()
	}
	var lease *client.Lease
	for _, l := range []*client.Lease{lease, new(client.Lease)} {
		if err := errors.Join(l.Rollback(t.Context())); err != nil || l.Text() != "" {
			t.Errorf("got %v, want that a lease that nobody has given can be rolled back", err)
		}
		_, endErr := l.End(t.Context(), zael.Ending{Verb: zael.LeaseCommit})
		_, renewErr := l.Renew(t.Context())
		for _, err := range []error{endErr, renewErr, l.Commit(t.Context()), l.Settle(zael.Amounts{"n": 1}), l.Consume(t.Context(), zael.Amounts{"n": 1}, ""), l.Keep(t.Context())} {
			if !errors.Is(err, zael.ErrLeaseClosed) {
				t.Errorf("got %v, want ErrLeaseClosed", err)
			}
		}
	}
	if err := s.Do(t.Context(), client.Request{}, nil); err == nil {
		t.Error("got no error of a function that is nil")
	}
}

// A token that may not, a store that does not answer and contention are told apart.
func TestOtherRefusals(t *testing.T) {
	t.Parallel()
	n := []zael.Limit{zael.PerMinute("n", 1)}
	s := setupAs(t, access.Principal{Name: "web", Role: access.Acquire, Prefix: "a/"}, memstore.New(nil))
	_, err := s.Allow(t.Context(), client.Request{Entity: "a/1", Resource: "r", Limits: n})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "forbidden" || e.Status != 403 || !strings.Contains(err.Error(), "may not send limits") {
		t.Errorf("got %v, want it forbidden", err)
	}
	s = setupAs(t, access.Principal{Name: "ops", Role: access.Admin}, limiters.Dead())
	_, err = s.Allow(t.Context(), client.Request{Entity: "e", Resource: "r", Limits: n})
	down, ok := errors.AsType[*zael.UnavailableError](err)
	if !ok || !errors.Is(err, zael.ErrUnavailable) || down.Entity != "e" || down.Store != "http://localhost:1" || s.wire.requests.Load() != 1 {
		t.Errorf("got %v after %d requests, want it unavailable after one", err, s.wire.requests.Load())
	}
	a, err := s.Allow(t.Context(), client.Request{Entity: "e", Resource: "r", Limits: n, FailureMode: zael.FailOpen})
	if err != nil || !a.Degraded || len(a.Limits) != 0 {
		t.Errorf("got %+v, %v, want it admitted without a charge", a, err)
	}
}

// A lease settles to the truth, or gives everything back, once.
func TestLease(t *testing.T) {
	t.Parallel()
	s := setup(t)
	n, p := zael.EachYear("n", 100), zael.AtOnce("p", 2)
	req := client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{n, p}, Consume: zael.Amounts{"n": 10, "p": 1}}
	acquire := func() *client.Lease {
		t.Helper()
		lease, err := s.Acquire(t.Context(), req)
		s.ok(err)
		return lease
	}
	wantLeft := func(what string, wantN, wantP int64) {
		t.Helper()
		if gotN, gotP := s.left("r", n), s.left("r", p); gotN != wantN || gotP != wantP {
			t.Errorf("%s: got %d and %d left, want %d and %d", what, gotN, gotP, wantN, wantP)
		}
	}
	settled := acquire()
	for _, bad := range []zael.Amounts{{"x": 1}, {"n": -1}, {"p": 1}, {"n": 1, "x": 1}} {
		if err := settled.Settle(bad); err == nil {
			t.Errorf("Settle %v: got no error", bad)
		}
	}
	s.ok(settled.Consume(t.Context(), zael.Amounts{"n": 20}, ""))
	s.ok(settled.Consume(t.Context(), zael.Amounts{"n": 20}, "more"))
	wantLeft("taken", 50, 1)
	if err := settled.Consume(t.Context(), zael.Amounts{"n": 51}, ""); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("got %v, want a refusal", err)
	}
	if r, err := settled.Renew(t.Context()); err != nil || !r.Held || r.Deadline.IsZero() {
		t.Errorf("renew: got %+v, %v, want the slot held", r, err)
	}
	s.ok(settled.Settle(zael.Amounts{"n": 3}))
	s.ok(settled.Commit(t.Context()))
	wantLeft("settled", 97, 2)
	if err := errors.Join(settled.Rollback(t.Context())); err != nil {
		t.Errorf("got %v, want that a rollback after the end does nothing", err)
	}
	if err := settled.Commit(t.Context()); !errors.Is(err, zael.ErrLeaseClosed) {
		t.Errorf("got %v, want ErrLeaseClosed", err)
	}
	s.ok(acquire().Commit(t.Context()))
	wantLeft("committed", 87, 2)
	s.ok(acquire().Rollback(t.Context()))
	wantLeft("rolled back", 87, 2)
	first := acquire()
	second := s.Lease(first.Text())
	ended, err := second.End(t.Context(), zael.Ending{Verb: zael.LeaseRelease, Amounts: zael.Amounts{"n": 4}})
	if want := (zael.Ended{Verb: zael.LeaseRelease, Used: zael.Amounts{"n": 6, "p": 0}}); err != nil || !reflect.DeepEqual(ended, want) {
		t.Errorf("got %+v, %v, want %+v", ended, err, want)
	}
	ended, err = first.End(t.Context(), zael.Ending{Verb: zael.LeaseRollback})
	if want := (zael.Ended{Verb: zael.LeaseRelease, Used: zael.Amounts{"n": 6, "p": 0}, Repeated: true}); err != nil || !reflect.DeepEqual(ended, want) {
		t.Errorf("got %+v, %v, want the first answer, %+v", ended, err, want)
	}
	wantLeft("released", 81, 2)
	if _, err := s.Lease("x").Renew(t.Context()); err == nil {
		t.Error("got a lease of no text renewed")
	}
	if _, err := s.Lease(first.Text()).Renew(t.Context()); !errors.Is(err, zael.ErrLeaseClosed) {
		t.Errorf("got %v, want ErrLeaseClosed", err)
	}
	if _, err := acquire().End(t.Context(), zael.Ending{Verb: "../acquire"}); err == nil {
		t.Error("got no error of a verb that is none")
	}
}

// Several buckets are taken from together, and settled by one lease.
func TestAlso(t *testing.T) {
	t.Parallel()
	s := setup(t)
	n := zael.EachYear("n", 10)
	req := client.Request{
		Entity: "e", Resource: "a", Limits: []zael.Limit{n}, Consume: zael.Amounts{"n": 2},
		Also: []client.Part{{Resource: "b", Limits: []zael.Limit{n}, Consume: zael.Amounts{"n": 3}}, {Entity: "team", Policy: "chat"}},
	}
	lease, err := s.Acquire(t.Context(), req)
	s.ok(err)
	if a, b := s.left("a", n), s.left("b", n); a != 8 || b != 7 || len(lease.Admission().Limits) != 3 {
		t.Errorf("got %d and %d left, want 8 and 7", a, b)
	}
	ended, err := lease.End(t.Context(), zael.Ending{
		Verb: zael.LeaseSettle, Amounts: zael.Amounts{"n": 1}, Also: []zael.PartAmount{{Entity: "e", Resource: "b", Amounts: zael.Amounts{"n": 1}}},
	})
	if err != nil || len(ended.Also) != 2 || ended.Also[0].Amounts["n"] != 1 || ended.Also[1].Resource != "chat" || ended.Used["n"] != 1 {
		t.Errorf("got %+v, %v, want what stays of each", ended, err)
	}
	if a, b := s.left("a", n), s.left("b", n); a != 9 || b != 9 {
		t.Errorf("got %d and %d left, want 9 and 9", a, b)
	}
}

// Do commits what was recorded, gives back what failed, and survives a panic.
func TestDo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	n := zael.EachYear("n", 100)
	req := client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{n}, Consume: zael.Amounts{"n": 10}}
	errWork := errors.New("work")
	settle := func(_ context.Context, l *client.Lease) error { return l.Settle(zael.Amounts{"n": 1}) }
	for _, c := range []struct {
		name string
		work func(context.Context, *client.Lease) error
		want error
		left int64
	}{
		{"done", func(context.Context, *client.Lease) error { return nil }, nil, 90},
		{"settled", settle, nil, 89},
		{"failed", func(context.Context, *client.Lease) error { return errWork }, errWork, 89},
		{"settled and failed", func(ctx context.Context, l *client.Lease) error { return errors.Join(settle(ctx, l), errWork) }, errWork, 88},
		{"ended by itself", func(ctx context.Context, l *client.Lease) error { return l.Rollback(ctx) }, nil, 88},
	} {
		if err := s.Do(t.Context(), req, c.work); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if got := s.left("r", n); got != c.left {
			t.Errorf("%s: got %d left, want %d", c.name, got, c.left)
		}
	}
	func() {
		defer func() { _ = recover() }()
		_ = s.Do(t.Context(), req, func(context.Context, *client.Lease) error { panic("work") })
	}()
	if got := s.left("r", n); got != 88 {
		t.Errorf("after a panic: got %d left, want 88", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Do(ctx, req, func(context.Context, *client.Lease) error { cancel(); return ctx.Err() })
	if got := s.left("r", n); got != 88 || !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: got %v and %d left, want 88", err, got)
	}
}

// Slots are renewed while the work goes on; a server that is away for a hold loses them.
func TestKeep(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			p := zael.AtOnce("p", 1).Hold(10 * time.Second)
			var cut atomic.Bool
			s.wire.lose = func(_ int64, r *http.Request) bool { return cut.Load() && strings.HasSuffix(r.URL.Path, "/renew") }
			if away {
				served := s.wire.handler
				s.wire.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !cut.Load() || !strings.HasSuffix(r.URL.Path, "/renew") {
						served.ServeHTTP(w, r)
					}
				})
			}
			req := client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{p}, Consume: zael.Amounts{"p": 1}}
			err := s.Do(t.Context(), req, func(ctx context.Context, _ *client.Lease) error {
				for range 6 {
					<-time.After(9 * time.Second)
					if _, err := s.Acquire(t.Context(), req); !errors.Is(err, zael.ErrExceeded) {
						return fmt.Errorf("got %w, want the slot held", err)
					}
				}
				cut.Store(away)
				if !away {
					return nil
				}
				<-ctx.Done()
				return context.Cause(ctx)
			})
			if away != errors.Is(err, client.ErrSlotsLost) || !away && err != nil {
				t.Errorf("away %v: got %v", away, err)
			}
			_ = s.limiter.Close(context.Background())
		})
	}
}

// The answer of anything but a zael server admits nobody.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	req := client.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerMinute("n", 1)}}
	for _, c := range []struct {
		status      int
		contentType string
		body        string
		unavailable bool
	}{
		{200, "text/html", "<html>log in</html>", false},
		{200, "application/json", `{}`, false},
		{200, "application/json", `{"admitted":false}`, false},
		{200, "application/json", `{"admitted":true}`, false}, // the lease is missing
		{200, "application/json", `{"admitted":true,"lease":null}`, false},
		{200, "application/json", `[]`, false},
		{200, "application/json", `{"admitted":true,"lease":"x","limits":[{"limit":"nonsense"}]}`, false},
		{200, "application/json", `{"admitted":true`, false},
		{204, "", "", false},
		{302, "text/html", "", false},
		{404, "text/plain", "404 page not found", false},
		{429, "text/plain", "slow down", false},
		{429, "application/problem+json", `{"error":"rate_limit_exceeded","detail":"too many wrong tokens from this address"}`, false},
		{418, "application/problem+json", `{"error":"teapot","detail":"x"}`, false},
		{418, "application/problem+json", `{`, false},
		{500, "application/problem+json", `{"error":"internal","detail":"the log says why"}`, false},
		{502, "text/html", "bad gateway", true},
		{503, "application/problem+json", `{"error":"draining","detail":"about to end"}`, true},
	} {
		s.wire.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.contentType)
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		lease, err := s.Acquire(t.Context(), req)
		if err == nil || lease != nil || errors.Is(err, zael.ErrUnavailable) != c.unavailable || errors.Is(err, zael.ErrExceeded) {
			t.Errorf("%d %s: got %+v, %v, want an error, unavailable: %v", c.status, c.body, lease, err, c.unavailable)
		}
	}
}
