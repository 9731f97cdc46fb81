package zael_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/sqlitestore"
)

// replicas runs a test with two Limiters that share a store: in memory, and in a SQLite file
// that each has opened.
func replicas(t *testing.T, test func(t *testing.T, clock *handClock, l [2]*zael.Limiter)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		clock, s := new(handClock), memstore.New(&memstore.Config{Usage: true})
		test(t, clock, [2]*zael.Limiter{
			limiterOn(t, s, &zael.Config{Clock: clock.now}), limiterOn(t, s, &zael.Config{Clock: clock.now}),
		})
	})
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		clock, path := new(handClock), filepath.Join(t.TempDir(), "zael.db")
		var l [2]*zael.Limiter
		for i := range l {
			s, err := sqlitestore.Open(t.Context(), path, &sqlitestore.Config{Synchronous: sqlitestore.SyncNormal})
			if err != nil {
				t.Fatal(err)
			}
			l[i] = limiterOn(t, s, &zael.Config{Clock: clock.now, Timeout: time.Minute, CloseStore: true})
			t.Cleanup(func() { _ = l[i].Close(context.Background()) })
		}
		test(t, clock, l)
	})
}

func detachedLease(t *testing.T, l *zael.Limiter, req zael.Request, o zael.DetachOptions) *zael.DetachedLease {
	t.Helper()
	d, err := l.AcquireDetached(t.Context(), req, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ended(t *testing.T, l *zael.Limiter, d *zael.DetachedLease, e zael.Ending) zael.Ended {
	t.Helper()
	got, err := l.EndDetached(t.Context(), d, e)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDetachedEndings(t *testing.T) {
	t.Parallel()
	settle, release := zael.Amounts{"tpd": 70}, zael.Amounts{"tpd": 10}
	for _, c := range []struct {
		ending zael.Ending
		used   zael.Amounts
		left   int64 // of 100 tpd
	}{
		{zael.Ending{Verb: zael.LeaseCommit}, zael.Amounts{"tpd": 40, "rpd": 1}, 60},
		{zael.Ending{Verb: zael.LeaseRollback}, zael.Amounts{"tpd": 0, "rpd": 0}, 100},
		{zael.Ending{Verb: zael.LeaseSettle, Amounts: settle}, zael.Amounts{"tpd": 70, "rpd": 1}, 30},
		{zael.Ending{Verb: zael.LeaseRelease, Amounts: release}, zael.Amounts{"tpd": 30, "rpd": 1}, 70},
	} {
		t.Run(string(c.ending.Verb), func(t *testing.T) {
			t.Parallel()
			replicas(t, func(t *testing.T, _ *handClock, l [2]*zael.Limiter) {
				t.Helper()
				ctx := t.Context()
				if err := errors.Join(
					second(l[0].CreateEntity(ctx, zael.Entity{ID: "team"})),
					second(l[0].CreateEntity(ctx, zael.Entity{ID: "alice", ParentID: "team", Cascade: true})),
				); err != nil {
					t.Fatal(err)
				}
				p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100), zael.EachDay("rpd", 50))
				req := p.For("alice", 40, 1)
				req.Cascade = true
				d := detachedLease(t, l[0], req, zael.DetachOptions{Principal: "web"})
				if got := d.Decision(); !got.Admitted || got.Len() != 4 || got.Status(0).Available != 60 {
					t.Errorf("got %+v, want the levels of child and parent", got)
				}
				there := limiters.Moved(t, d)
				if there.ID() != d.ID() || there.Principal() != "web" || there.Keys()[0] != (zael.Key{Entity: "alice", Resource: "gpt-4"}) {
					t.Errorf("got %+v, want the lease as it was", there)
				}
				first := ended(t, l[1], there, c.ending)
				if first.Verb != c.ending.Verb || first.Repeated || !maps.Equal(first.Used, c.used) {
					t.Errorf("got %+v, want used %v", first, c.used)
				}
				for i, again := range []zael.Ending{c.ending, {Verb: zael.LeaseRollback}, {Verb: zael.LeaseSettle, Amounts: settle}} {
					got := ended(t, l[i%2], limiters.Moved(t, d), again)
					if got.Verb != first.Verb || !got.Repeated || !maps.Equal(got.Used, first.Used) {
						t.Errorf("ended again by %s: got %+v, want the first answer, repeated", again.Verb, got)
					}
				}
				if got := []int64{left(t, l[0], "alice", p), left(t, l[1], "team", p)}; got[0] != c.left || got[1] != c.left {
					t.Errorf("got %v left of child and parent, want %d of both", got, c.left)
				}
			})
		})
	}
}

// TestDetachedEndedOnce: of many that end one lease at once on two replicas, each in another
// way, one does, and all have its answer.
func TestDetachedEndedOnce(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ *handClock, l [2]*zael.Limiter) {
		t.Helper()
		p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 10_000))
		total := int64(0)
		for range 20 {
			d := detachedLease(t, l[0], p.For("alice", 40), zael.DetachOptions{})
			endings := []zael.Ending{
				{Verb: zael.LeaseCommit},
				{Verb: zael.LeaseRollback},
				{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"tpd": 41}},
				{Verb: zael.LeaseRelease, Amounts: zael.Amounts{"tpd": 3}},
			}
			answers := make([]zael.Ended, 2*len(endings))
			var firsts atomic.Int64
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() {
					var err error
					if answers[i], err = l[i%2].EndDetached(t.Context(), limiters.Moved(t, d), endings[i/2]); err != nil {
						t.Error(err)
					} else if !answers[i].Repeated {
						firsts.Add(1)
					}
				})
			}
			all.Wait()
			if firsts.Load() != 1 {
				t.Errorf("got %d that have ended the lease, want 1", firsts.Load())
			}
			for _, a := range answers {
				if a.Verb != answers[0].Verb || !maps.Equal(a.Used, answers[0].Used) {
					t.Errorf("got the answers %+v and %+v, want one", a, answers[0])
				}
			}
			total += answers[0].Used["tpd"]
		}
		if got := left(t, l[1], "alice", p); got != 10_000-total {
			t.Errorf("got %d left, want %d: what the answers say is charged", got, 10_000-total)
		}
	})
}

func TestDetachedConsume(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ *handClock, l [2]*zael.Limiter) {
		t.Helper()
		ctx := t.Context()
		p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100), zael.PerDay("rpd", 10))
		d := detachedLease(t, l[0], p.For("alice", 40, 1), zael.DetachOptions{})
		more, err := l[1].ConsumeDetached(ctx, limiters.Moved(t, d), zael.Amounts{"tpd": 30}, zael.ConsumeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if more.ID() != d.ID() {
			t.Errorf("got the id %s, want %s still", more.ID(), d.ID())
		}
		if _, err := l[0].ConsumeDetached(ctx, limiters.Moved(t, more), zael.Amounts{"tpd": 31}, zael.ConsumeOptions{}); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("got %v, want a refusal", err)
		}
		if _, err := l[0].ConsumeDetached(ctx, limiters.Moved(t, more), zael.Amounts{"usd": 1}, zael.ConsumeOptions{}); err == nil {
			t.Error("got no error of a name that the lease lacks")
		}
		if got := ended(t, l[0], limiters.Moved(t, more), zael.Ending{Verb: zael.LeaseRollback}); got.Repeated {
			t.Errorf("got %+v, want it ended now", got)
		}
		if got := left(t, l[1], "alice", p); got != 100 {
			t.Errorf("got %d left, want 100: all that was taken is given back", got)
		}
		if _, err := l[1].ConsumeDetached(ctx, limiters.Moved(t, more), zael.Amounts{"tpd": 1}, zael.ConsumeOptions{}); !errors.Is(err, zael.ErrLeaseClosed) {
			t.Errorf("got %v, want ErrLeaseClosed", err)
		}
		if got := left(t, l[1], "alice", p); got != 100 {
			t.Errorf("got %d left, want 100: a lease that has ended takes nothing", got)
		}
	})
}

func TestDetachedSlots(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, clock *handClock, l [2]*zael.Limiter) {
		t.Helper()
		ctx := t.Context()
		p := zael.MustPolicy("gpt-4", zael.AtOnce("parallel", 3), zael.PerDay("rpd", 100))
		a := detachedLease(t, l[0], p.For("alice", 2, 1), zael.DetachOptions{})
		b := detachedLease(t, l[1], p.For("alice", 1, 1), zael.DetachOptions{})
		runtime.GC() // which ends leases of this process that nobody can end
		clock.forward(50 * time.Second)
		r, err := l[1].RenewDetached(ctx, limiters.Moved(t, a))
		if want := clock.now().Add(time.Minute); err != nil || !r.Held || r.Deadline.Before(want) || r.Deadline.After(want.Add(time.Second)) {
			t.Errorf("got %+v (%v), want the slots held until %v", r, err, want)
		}
		clock.forward(20 * time.Second) // b is silent for longer than its hold
		c := detachedLease(t, l[0], p.For("alice", 1, 1), zael.DetachOptions{})
		if r, err := l[0].RenewDetached(ctx, limiters.Moved(t, b)); err != nil || r.Held {
			t.Errorf("got %+v (%v), want the slots lost to another lease", r, err)
		}
		if got := ended(t, l[0], limiters.Moved(t, b), zael.Ending{Verb: zael.LeaseRollback}); got.Repeated {
			t.Errorf("got %+v, want the lease ended", got)
		}
		if _, err := l[1].AcquireDetached(ctx, p.For("alice", 1, 1), zael.DetachOptions{}); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("got %v, want a refusal: what b has lost it cannot release", err)
		}
		ended(t, l[1], limiters.Moved(t, a), zael.Ending{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"rpd": 0}})
		ended(t, l[1], limiters.Moved(t, a), zael.Ending{Verb: zael.LeaseCommit})
		if _, err := l[1].RenewDetached(ctx, limiters.Moved(t, a)); !errors.Is(err, zael.ErrLeaseClosed) {
			t.Errorf("got %v, want ErrLeaseClosed of a lease that has ended", err)
		}
		d := detachedLease(t, l[1], p.For("alice", 2, 1), zael.DetachOptions{})
		if _, err := l[1].AcquireDetached(ctx, p.For("alice", 1, 1), zael.DetachOptions{}); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("got %v, want a refusal: a was released once", err)
		}
		ended(t, l[0], limiters.Moved(t, c), zael.Ending{Verb: zael.LeaseCommit})
		ended(t, l[0], limiters.Moved(t, d), zael.Ending{Verb: zael.LeaseRelease, Amounts: zael.Amounts{"parallel": 1}})
		detachedLease(t, l[0], p.For("alice", 3, 1), zael.DetachOptions{})
	})
}

func TestDetachedExpires(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, clock *handClock, l [2]*zael.Limiter) {
		t.Helper()
		ctx := t.Context()
		p := zael.MustPolicy("gpt-4", zael.EachMonth("tpm", 100))
		d := detachedLease(t, l[0], p.For("alice", 40), zael.DetachOptions{MaxAge: time.Hour})
		clock.forward(time.Hour - time.Microsecond)
		if r, err := l[0].RenewDetached(ctx, d); err != nil || !r.Held {
			t.Errorf("got %+v (%v), want a lease without slots held until it expires", r, err)
		}
		clock.forward(time.Microsecond)
		for _, err := range []error{
			second(l[1].EndDetached(ctx, d, zael.Ending{Verb: zael.LeaseRollback})),
			second(l[1].ConsumeDetached(ctx, d, zael.Amounts{"tpm": 1}, zael.ConsumeOptions{})),
			second(l[1].RenewDetached(ctx, d)),
		} {
			if !errors.Is(err, zael.ErrLeaseExpired) {
				t.Errorf("got %v, want ErrLeaseExpired", err)
			}
		}
		if got := left(t, l[1], "alice", p); got != 60 {
			t.Errorf("got %d left, want 60: what was taken stands", got)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestDetachedParts(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ *handClock, l [2]*zael.Limiter) {
		t.Helper()
		chat, tools := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100)), zael.MustPolicy("tools", zael.EachDay("calls", 5))
		req := chat.For("alice", 40)
		req.Also = []zael.Part{tools.PartFor("team", 2)}
		o := zael.DetachOptions{IdempotencyKey: "k"}
		d := detachedLease(t, l[0], req, o)
		again := detachedLease(t, l[1], req, o)
		if !again.Repeated() || again.ID() != d.ID() || len(again.Keys()) != 2 {
			t.Errorf("got %+v, want the first lease with both parts", again)
		}
		if got, want := asJSON(t, again.Decision()), asJSON(t, d.Decision()); got != want {
			t.Errorf("got %s, want the first decision, %s", got, want)
		}
		e := zael.Ending{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"tpd": 50}, Also: []zael.PartAmount{{Entity: "team", Resource: "tools", Amounts: zael.Amounts{"calls": 1}}}}
		ended(t, l[1], limiters.Moved(t, again), e)
		if a, b := left(t, l[0], "alice", chat), left(t, l[0], "team", tools); a != 50 || b != 4 {
			t.Errorf("got %d and %d left, want 50 and 4", a, b)
		}
		e.Also[0].Resource = "search"
		if _, err := l[0].EndDetached(t.Context(), d, e); err == nil {
			t.Error("got no error of a part that the lease lacks")
		}
	})
}

func asJSON(t *testing.T, d zael.Decision) string {
	t.Helper()
	var all []zael.Status
	for s := range d.All() {
		all = append(all, s)
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDetachedBypass(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ *handClock, l [2]*zael.Limiter) {
		t.Helper()
		p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100), zael.AtOnce("parallel", 1))
		scope := zael.Scope{Entity: "alice", Resource: "gpt-4"}
		if err := l[0].SetSwitch(t.Context(), scope, zael.Bypass, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
		d := detachedLease(t, l[0], p.For("alice", 200, 3), zael.DetachOptions{})
		if got := d.Decision(); !got.Bypassed {
			t.Errorf("got %+v, want it bypassed", got)
		}
		if err := l[0].SetSwitch(t.Context(), scope, zael.Enabled, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
		ended(t, l[1], limiters.Moved(t, d), zael.Ending{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"tpd": 50}})
		if got := left(t, l[1], "alice", p); got != 100 {
			t.Errorf("got %d left, want 100: it settles as it was taken", got)
		}
	})
}

func TestDetachedDegraded(t *testing.T) {
	t.Parallel()
	s := &fake{Store: memstore.New(nil), take: func(context.Context, time.Time, time.Duration, []zael.Debit) (time.Time, error) {
		return time.Time{}, zael.ErrUnavailable
	}}
	l := limiterOn(t, s, &zael.Config{FailureMode: zael.FailOpen})
	p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100))
	d := detachedLease(t, l, p.For("alice", 40), zael.DetachOptions{})
	there := limiters.Moved(t, d)
	if !d.Degraded() || !there.Degraded() {
		t.Errorf("got %+v, want a degraded lease", there)
	}
	if got, err := l.ConsumeDetached(t.Context(), there, zael.Amounts{"tpd": 1}, zael.ConsumeOptions{}); err != nil || !got.Degraded() {
		t.Errorf("got %+v (%v), want it degraded still", got, err)
	}
	if got := ended(t, l, there, zael.Ending{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"tpd": 1}}); got.Used != nil {
		t.Errorf("got %+v, want nothing charged", got)
	}
	if r, err := l.RenewDetached(t.Context(), there); err != nil || !r.Held {
		t.Errorf("got %+v (%v), want it held", r, err)
	}
}

func TestDetachedErrors(t *testing.T) {
	t.Parallel()
	l := limiterOn(t, memstore.New(nil), nil)
	p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100), zael.AtOnce("parallel", 3))
	for _, o := range []zael.DetachOptions{
		{MaxAge: -1},
		{MaxAge: time.Millisecond},
		{MaxAge: 31 * 24 * time.Hour},
		{Principal: strings.Repeat("x", 129)},
		{IdempotencyKey: strings.Repeat("x", 129)},
		{IdempotencyKey: "a\n"},
		{IdempotencyKey: "ä"},
	} {
		if _, err := l.AcquireDetached(t.Context(), p.For("alice", 1, 1), o); !isInvalid(err) {
			t.Errorf("%+v: got %v, want a *ValidationError", o, err)
		}
	}
	d := detachedLease(t, l, p.For("alice", 1, 1), zael.DetachOptions{})
	for _, e := range []zael.Ending{
		{},
		{Verb: "end"},
		{Verb: zael.LeaseCommit, Amounts: zael.Amounts{"tpd": 1}},
		{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"tpd": -1}},
		{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"usd": 1}},
		{Verb: zael.LeaseSettle, Amounts: zael.Amounts{"parallel": 1}},
		{Verb: zael.LeaseRelease, Amounts: zael.Amounts{"tpd": -1}},
	} {
		if _, err := l.EndDetached(t.Context(), d, e); !isInvalid(err) {
			t.Errorf("%+v: got %v, want a *ValidationError", e, err)
		}
	}
	if got := ended(t, l, d, zael.Ending{Verb: zael.LeaseCommit}); got.Repeated {
		t.Error("got an ending repeated, but the others were not valid")
	}
	bare := limiterOn(t, struct{ zael.Store }{memstore.New(nil)}, nil)
	if _, err := bare.AcquireDetached(t.Context(), p.For("alice", 1, 1), zael.DetachOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
	if _, err := bare.LeaseKey(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[*zael.ValidationError](err)
	return ok
}

func TestLeaseKey(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, clock *handClock, l [2]*zael.Limiter) {
		t.Helper()
		a, err := l[0].LeaseKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clock.forward(365 * 24 * time.Hour)
		b, err := l[1].LeaseKey(t.Context())
		if err != nil || len(a) != 32 || string(a) != string(b) {
			t.Errorf("got %x and %x (%v), want 32 bytes that both agree on", a, b, err)
		}
	})
}
