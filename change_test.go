package zael_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// inUse gives a rig whose own Limiter and another one, as of another process,
// have read the limits and used the bucket, which has a level of taken.
func inUse(t *testing.T, scope zael.Scope, taken zael.Amounts, limits ...zael.Limit) (*rig, *zael.Limiter) {
	t.Helper()
	r := setup(t)
	r.set(scope, limits...)
	other := r.another(nil)
	r.ok(other.Allow(r.ctx, lastResort(nil)))
	lease := r.lease(lastResort(nil))
	r.ok(lease.Settle(taken))
	r.ok(lease.Commit(r.ctx))
	r.clock.forward(2 * time.Second) // cached limits may be read again
	return r, other
}

// lastResort returns a request under stored limits, or else under a limit of 70;
// with nil it takes nothing.
func lastResort(consume zael.Amounts) zael.Request {
	if consume == nil {
		consume = zael.Amounts{"rpd": 0, "tpd": 0}
	}
	req := askStored(consume)
	req.Limits = []zael.Limit{zael.PerDay("rpd", 70)}
	return req
}

// Traps and bugs of others: live buckets kept the old limits; a limit raised or
// lowered in debt is forgotten or stuck for ever; a limit added refuses for ever.
// The change is seen by the process that made it, and by one that has the bucket
// in use at its next acquire.
func TestTrapChangedLimitsBindLiveBuckets(t *testing.T) {
	t.Parallel()
	rpd := func(n int64) []zael.Limit { return []zael.Limit{zael.PerDay("rpd", n)} }
	for _, c := range []struct {
		name  string
		from  []zael.Limit
		taken zael.Amounts
		to    []zael.Limit // none: delete
		want  zael.Amounts // available right after the change
	}{
		{"raised, used", rpd(10), zael.Amounts{"rpd": 3}, rpd(20), zael.Amounts{"rpd": 17}},
		{"raised, exhausted", rpd(10), zael.Amounts{"rpd": 10}, rpd(20), zael.Amounts{"rpd": 10}},
		{"raised, in debt", rpd(10), zael.Amounts{"rpd": 15}, rpd(20), zael.Amounts{"rpd": 5}},
		{"raised, deep in debt", rpd(10), zael.Amounts{"rpd": 35}, rpd(20), zael.Amounts{"rpd": -15}},
		{"lowered, used", rpd(10), zael.Amounts{"rpd": 3}, rpd(4), zael.Amounts{"rpd": 1}},
		{"lowered, exhausted", rpd(10), zael.Amounts{"rpd": 10}, rpd(4), zael.Amounts{"rpd": 0}},
		{"lowered, in debt", rpd(10), zael.Amounts{"rpd": 15}, rpd(4), zael.Amounts{"rpd": -5}},
		{"same, exhausted", rpd(10), zael.Amounts{"rpd": 10}, rpd(10), zael.Amounts{"rpd": 0}},
		{
			"added, exhausted", rpd(10),
			zael.Amounts{"rpd": 10},
			[]zael.Limit{zael.PerDay("rpd", 10), zael.PerDay("tpd", 5)},
			zael.Amounts{"rpd": 0, "tpd": 5},
		},
		{
			"removed",
			[]zael.Limit{zael.PerDay("rpd", 10), zael.PerDay("tpd", 5)},
			zael.Amounts{"rpd": 4, "tpd": 9},
			rpd(10),
			zael.Amounts{"rpd": 6},
		},
		{"replaced", rpd(10), zael.Amounts{"rpd": 15}, []zael.Limit{zael.PerDay("tpd", 5)}, zael.Amounts{"tpd": 5}},
		{"deleted, exhausted", rpd(100), zael.Amounts{"rpd": 100}, nil, zael.Amounts{"rpd": 0}},
		{"deleted, in debt", rpd(10), zael.Amounts{"rpd": 15}, nil, zael.Amounts{"rpd": 55}},
	} {
		for _, scope := range scopes()[:2] { // the entity's
			t.Run(fmt.Sprintf("%s, %v", c.name, scope), func(t *testing.T) {
				t.Parallel()
				r, other := inUse(t, scope, c.taken, c.from...)
				if len(c.to) > 0 {
					r.set(scope, c.to...)
				} else {
					r.unset(scope)
				}
				r.left(lastResort(nil), c.want)
				err := other.Allow(r.ctx, lastResort(nil)) // the next acquire; may be refused in debt
				if err != nil && !errors.Is(err, zael.ErrExceeded) {
					t.Errorf("the other's next acquire: got %v, want it answered", err)
				}
				r.l, other = other, r.l
				r.left(lastResort(nil), c.want)
				// Nothing is stuck for ever, nor above its burst.
				r.clock.forward(60 * day)
				full := zael.Amounts{}
				for _, limit := range c.to {
					full[limit.Name] = limit.Burst
				}
				if len(c.to) == 0 {
					full["rpd"] = 70
				}
				r.left(lastResort(nil), full)
				r.allow(lastResort(full))
				r.clock.forward(time.Second)
				if err := other.Allow(r.ctx, lastResort(full)); !errors.Is(err, zael.ErrExceeded) {
					t.Errorf("the burst a second time: got %v, want a refusal", err)
				}
			})
		}
	}
}

// A raised limit admits the other process's very next acquire.
func TestRaisedLimitAdmitsAtOnce(t *testing.T) {
	t.Parallel()
	for readBefore, stale := range map[time.Duration]uint64{
		0:               2, // what is known is too fresh to be read again: each acquire meets the bucket's
		2 * time.Second: 1,
	} {
		r := setup(t)
		scope := zael.Scope{Entity: "key-1"}
		set := func(n int64) { r.set(scope, zael.PerDay("rpd", n), zael.PerDay("tpd", n)) }
		both := func(n int64) zael.Request { return askStored(zael.Amounts{"rpd": n, "tpd": n}) }
		set(10)
		other := r.another(nil)
		r.ok(other.Allow(r.ctx, both(10)))
		if err := other.Allow(r.ctx, both(1)); !errors.Is(err, zael.ErrExceeded) {
			t.Fatalf("exhausted: got %v, want a refusal", err)
		}
		r.clock.forward(readBefore)
		set(20)
		if got, err := other.Available(r.ctx, queryOf(both(0))); err != nil || got["rpd"] != 10 || got["tpd"] != 10 {
			t.Errorf("raised, known for %v: got %v, %v available, want the 10 more", readBefore, got, err)
		}
		if err := other.Allow(r.ctx, both(7)); err != nil {
			t.Errorf("raised, known for %v: got %v, want it admitted", readBefore, err)
		}
		lease, err := other.Reserve(r.ctx, both(1))
		r.ok(err)
		set(30) // under the lease
		r.ok(lease.Consume(r.ctx, both(11).Consume))
		r.ok(lease.Adjust(both(1).Consume))
		r.ok(lease.Commit(r.ctx))
		r.left(both(0), zael.Amounts{"rpd": 0, "tpd": 0})
		if got := other.Stats().StaleLimits; got != stale {
			t.Errorf("StaleLimits: got %d, want %d", got, stale)
		}
	}
}

// A bucket that shows newer limits makes them be read again, but only once a second,
// however often it is used.
func TestStaleLimitsAreReadOnceASecond(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	scope := zael.Scope{Entity: "key-1"}
	r.set(scope, zael.PerDay("rpd", 1000))
	other := r.another(nil)
	r.ok(other.Allow(r.ctx, askStored(zael.Amounts{"rpd": 1})))
	r.set(scope, zael.PerDay("rpd", 2000)) // at once: other has just read
	reads := f.limitReads.Load()
	for range 50 {
		r.clock.forward(19 * time.Millisecond)
		r.ok(other.Allow(r.ctx, askStored(zael.Amounts{"rpd": 1})))
	}
	if n := f.limitReads.Load() - reads; n != 0 {
		t.Errorf("within a second: got %d readings, want 0", n)
	}
	r.clock.set(time.Second)
	for range 50 {
		r.ok(other.Allow(r.ctx, askStored(zael.Amounts{"rpd": 1})))
	}
	if n := f.limitReads.Load() - reads; n != 1 {
		t.Errorf("after a second: got %d readings, want 1", n)
	}
	r.left(askStored(nil), zael.Amounts{"rpd": 2000 - 101})
}

// Limits of a resource or the system reach a process that has them within
// ConfigTTL, and not before.
func TestChangesOfResourceAndSystemWithinConfigTTL(t *testing.T) {
	t.Parallel()
	for _, scope := range scopes()[2:] {
		r := setupOn(t, setup(t).store, &zael.Config{ConfigTTL: 10 * time.Second})
		r.set(scope, zael.PerDay("rpd", 10))
		other := r.another(nil)
		r.allow(askStored(zael.Amounts{"rpd": 10}))
		r.ok(other.SetLimits(r.ctx, scope, []zael.Limit{zael.PerDay("rpd", 30)}))
		r.clock.set(10*time.Second - 1)
		r.refuses(askStored(zael.Amounts{"rpd": 1}))
		r.clock.set(10 * time.Second)
		r.allow(askStored(zael.Amounts{"rpd": 20}))
		r.refuses(askStored(zael.Amounts{"rpd": 1}))
		// A process that does not know the new ones yet meets them in the bucket.
		r.ok(other.SetLimits(r.ctx, scope, []zael.Limit{zael.PerDay("rpd", 40)}))
		r.ok(other.Allow(r.ctx, askStored(zael.Amounts{"rpd": 5})))
		r.allow(askStored(zael.Amounts{"rpd": 5}))
		r.refuses(askStored(zael.Amounts{"rpd": 1}))
	}
}

// Limits set for an entity that had none replace the last resort of a process
// that remembers that there were none.
func TestFirstLimitsOfAnEntityInUse(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.allow(lastResort(zael.Amounts{"rpd": 60}))
	r.clock.forward(2 * time.Second)
	other := r.another(nil)
	r.ok(other.SetLimits(r.ctx, zael.Scope{Entity: "key-1"}, []zael.Limit{zael.PerDay("rpd", 65)}))
	r.refuses(lastResort(zael.Amounts{"rpd": 6}))
	r.allow(lastResort(zael.Amounts{"rpd": 5}))
}

// busy has key-1 use n resources, r000 and so on, under its own limits.
func busy(r *rig, n int) {
	r.Helper()
	r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 10))
	for i := range n {
		r.allow(zael.Request{
			Entity: "key-1", Resource: fmt.Sprintf("r%03d", i), UseStoredLimits: true, Consume: zael.Amounts{"rpd": 10},
		})
	}
}

// The first 100 buckets follow at once; the others within ConfigTTL.
func TestConversionOfTheFirst100Buckets(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	busy(r, 130)
	r.clock.forward(2 * time.Second)
	other := r.another(nil)
	r.ok(other.SetLimits(r.ctx, zael.Scope{Entity: "key-1"}, []zael.Limit{zael.PerDay("rpd", 11)}))
	if n := f.adjusts.Load(); n != 100 {
		t.Errorf("got %d buckets converted, want 100", n)
	}
	admitted := func() (n int) {
		for i := range 130 {
			req := askStored(zael.Amounts{"rpd": 1})
			req.Resource = fmt.Sprintf("r%03d", i)
			if r.l.Allow(r.ctx, req) == nil {
				n++
			}
		}
		return n
	}
	if n := admitted(); n != 100 {
		t.Errorf("at once: got %d buckets with the raised limit, want 100", n)
	}
	r.clock.forward(time.Minute)
	if n := admitted(); n != 30 {
		t.Errorf("after ConfigTTL: got %d more, want 30", n)
	}
}

// The bucket of the scope itself follows, however many others the entity has.
func TestConversionOfOneBucketOfMany(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	busy(r, 130)
	r.clock.forward(2 * time.Second)
	other := r.another(nil)
	r.ok(other.SetLimits(r.ctx, zael.Scope{Entity: "key-1", Resource: "r129"}, []zael.Limit{zael.PerDay("rpd", 11)}))
	if n := f.adjusts.Load(); n != 1 {
		t.Errorf("got %d buckets converted, want the one of the scope", n)
	}
	req := askStored(zael.Amounts{"rpd": 1})
	req.Resource = "r129"
	r.allow(req)
	req.Resource = "r128"
	r.refuses(req)
}

// Buckets under limits that calls name are none of SetLimits's business.
func TestConversionLeavesExplicitLimits(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	req := ask(zael.Amounts{"rpd": 10}, zael.PerDay("rpd", 10))
	r.allow(req)
	r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 100))
	r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("other", 100))
	r.unset(zael.Scope{Entity: "key-1"})
	r.refuses(ask(zael.Amounts{"rpd": 1}, zael.PerDay("rpd", 10)))
	if n := f.adjusts.Load(); n != 0 {
		t.Errorf("got %d buckets converted, want 0", n)
	}
}

// If the buckets could not follow at once that is said, and what holds.
func TestConversionThatFails(t *testing.T) {
	t.Parallel()
	scope := zael.Scope{Entity: "key-1"}
	limits := []zael.Limit{zael.PerDay("rpd", 20)}
	for name, fail := range map[string]func(*fake){
		"Adjust": func(f *fake) {
			f.adjust = func(context.Context, time.Time, []zael.Debit) (time.Time, error) {
				return time.Time{}, zael.ErrUnavailable
			}
		},
		"Limits":        func(f *fake) { failLimits(f, 1) },
		"EntityBuckets": func(f *fake) { failBuckets(f, 1) },
	} {
		r, f := setupFake(t, nil)
		busy(r, 1)
		fail(f)
		err := r.l.SetLimits(r.ctx, scope, limits)
		var u *zael.UnavailableError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), "the limits are stored") || !strings.Contains(err.Error(), "within 1m0s") {
			t.Errorf("%s: got %v, want an *UnavailableError that says what holds", name, err)
		}
		f.limits = nil
		if got, err := r.l.Limits(r.ctx, scope); err != nil || len(got) != 1 || got[0] != limits[0] {
			t.Errorf("%s: got %v, %v, want the new limits stored", name, got, err)
		}
	}
}

// failLimits makes readings of limits fail after some.
func failLimits(f *fake, after int) {
	f.limits = func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
		if after--; after < 0 {
			return nil, zael.ErrUnavailable
		}
		return f.Store.Limits(ctx, scopes)
	}
}

// failBuckets is the same for readings of an entity's buckets.
func failBuckets(f *fake, after int) {
	f.buckets = func(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
		if after--; after < 0 {
			return func(yield func(zael.Bucket, error) bool) { yield(zael.Bucket{}, zael.ErrUnavailable) }
		}
		return f.Store.EntityBuckets(ctx, entity)
	}
}

// If it is not known what a change has to outrank nothing is changed.
func TestChangeThatCannotLook(t *testing.T) {
	t.Parallel()
	scope := zael.Scope{Entity: "key-1"}
	for name, fail := range map[string]func(*fake){
		"Limits":        func(f *fake) { failLimits(f, 0) },
		"EntityBuckets": func(f *fake) { failBuckets(f, 0) },
	} {
		r, f := setupFake(t, nil)
		busy(r, 1)
		before, err := r.l.Limits(r.ctx, scope)
		r.ok(err)
		fail(f)
		change := zael.Change{Scope: scope, Limits: []zael.Limit{zael.PerDay("rpd", 20)}}
		_, applied := r.l.Apply(r.ctx, []zael.Change{change})
		for _, err := range []error{r.l.SetLimits(r.ctx, scope, change.Limits), r.l.DeleteLimits(r.ctx, scope), applied} {
			var u *zael.UnavailableError
			if !errors.As(err, &u) || strings.Contains(err.Error(), "are stored") {
				t.Errorf("%s: got %v, want an *UnavailableError alone", name, err)
			}
		}
		f.limits = nil
		if got, err := r.l.Limits(r.ctx, scope); err != nil || !slices.Equal(got, before) {
			t.Errorf("%s: got %v, %v, want %v as before", name, got, err, before)
		}
	}
}

// The audit event of a change that is dated later says the true time too.
func TestChangeThatOutranks(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.clock.set(time.Hour)
	r.set(zael.Scope{}, zael.PerDay("rpd", 10))
	r.clock.set(0)
	r.set(zael.Scope{}, zael.PerDay("rpd", 20)) // its own level, to which the store sees
	r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 30))
	events, err := r.l.Audit(r.ctx, zael.AuditQuery{})
	r.ok(err)
	want := map[string]time.Duration{
		"system rpd=10/d ": time.Hour,
		"system rpd=20/d ": 0,
		"entity key-1 rpd=30/d " + t0().Format(time.RFC3339): time.Hour + 2*time.Microsecond,
	}
	for _, e := range events {
		got := zael.Scope{Entity: e.Entity, Resource: e.Resource}.String() + " " + e.Details["limits"] + " " + e.Details["clock"]
		if at, ok := want[got]; !ok || !e.Time.Equal(t0().Add(at)) {
			t.Errorf("got %q at %v, want one of %v", got, e.Time.Sub(t0()), want)
		}
		delete(want, got)
	}
	if len(want) > 0 {
		t.Errorf("not recorded: %v", want)
	}
}

// Limits of a deleted entity do not live on in a bucket that a process with a stale
// cache recreates: within ConfigTTL and a second the stored limits, or the request's,
// hold.
func TestLimitsOfDeletedEntityGo(t *testing.T) {
	t.Parallel()
	for name, system := range map[string][]zael.Limit{
		"limits of the system": {zael.PerDay("rpd", 10), zael.PerDay("tpd", 10)},
		"limits of the call":   nil,
	} {
		r := setup(t)
		want := zael.PerDay("rpd", 70)
		if system != nil {
			r.set(zael.Scope{}, system...)
			want = system[0]
		}
		r.clock.forward(time.Second)
		r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 1000))
		limiters := []*zael.Limiter{r.l, r.another(nil), r.another(nil)}
		for _, l := range limiters {
			r.ok(l.Allow(r.ctx, lastResort(zael.Amounts{"rpd": 1})))
		}
		r.ok(r.l.DeleteEntity(r.ctx, "key-1"))
		r.ok(limiters[1].Allow(r.ctx, lastResort(zael.Amounts{"rpd": 1}))) // it remembers
		var before zael.Stats
		for round := range 5 {
			for _, l := range limiters {
				for range 2 {
					_ = l.Allow(r.ctx, lastResort(zael.Amounts{"rpd": 1}))
					r.clock.forward(time.Second)
				}
			}
			for i, l := range limiters {
				err := l.Allow(r.ctx, lastResort(zael.Amounts{"rpd": 900}))
				e, ok := errors.AsType[*zael.ExceededError](err)
				if !ok {
					t.Fatalf("%s, limiter %d: got %v, want a refusal", name, i, err)
				}
				if got := e.Statuses()[0].Limit; round > 0 && got != want {
					t.Errorf("%s, round %d, limiter %d: bound by %v, want %v", name, round, i, got, want)
				}
			}
			stats := r.l.Stats()
			if more := stats.StaleLimits - before.StaleLimits; round > 0 && more > 2 {
				t.Errorf("%s, round %d: limits were stale %d times, want them settled", name, round, more)
			}
			before = stats
			r.clock.forward(time.Minute)
		}
	}
}

// Programs that keep changing an entity's limits do not keep callers
// from being answered.
func TestLimitsThatChangeAllTheTime(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 10))
	f.take = func(context.Context, time.Time, time.Duration, []zael.Debit) (time.Time, error) {
		return time.Time{}, zael.ErrStaleLimits
	}
	err := r.l.Allow(r.ctx, askStored(zael.Amounts{"rpd": 1}))
	if !errors.Is(err, zael.ErrContention) {
		t.Errorf("got %v, want ErrContention", err)
	}
	if n := f.takes.Load(); n > 5 {
		t.Errorf("the store was asked %d times, want a few", n)
	}
}
