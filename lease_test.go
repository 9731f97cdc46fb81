package zael_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

func two() []zael.Limit { return []zael.Limit{zael.PerMinute("rpm", 60), zael.PerMinute("tpm", 600)} }

func (r *rig) consumed(lease *zael.Lease, want zael.Amounts) {
	r.Helper()
	if got := lease.Consumed(); !maps.Equal(got, want) {
		r.Errorf("Consumed: got %v, want %v", got, want)
	}
}

// Trap: child and parent were added up, so that 1 showed 2.
func TestTrapConsumedIsTheChilds(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, false)
	child.Cascade = true
	child.Consume = zael.Amounts{"rpm": 1, "tpm": 0}
	lease := r.lease(child)
	r.consumed(lease, zael.Amounts{"rpm": 1, "tpm": 0})
	r.ok(lease.Consume(r.ctx, zael.Amounts{"rpm": 2}))
	r.ok(lease.Adjust(zael.Amounts{"tpm": 5}))
	r.consumed(lease, zael.Amounts{"rpm": 3, "tpm": 5})
	r.ok(lease.Commit(r.ctx))
	r.consumed(lease, zael.Amounts{"rpm": 3, "tpm": 5})
	r.left(parent, zael.Amounts{"rpm": 7, "tpm": 95})
	r.left(on("key-1", child), zael.Amounts{"rpm": 7, "tpm": 95})
}

// Trap: an adjust of a limit not named in consume was lost.
func TestTrapAdjustOfALimitNotConsumed(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 1}, two()...)
	lease := r.lease(req)
	r.ok(lease.Adjust(zael.Amounts{"tpm": 500}))
	r.ok(lease.Commit(r.ctx))
	r.left(req, zael.Amounts{"rpm": 59, "tpm": 100})
}

// Trap: writes only at exit. Others see what a lease took at once.
func TestTrapAcquireChargesAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 60}, two()...)
	lease := r.lease(req)
	r.refuses(ask(zael.Amounts{"rpm": 1}, two()...))
	if err := r.another(nil).Allow(r.ctx, req); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("another process: got %v, want a refusal", err)
	}
	r.ok(lease.Commit(r.ctx))
	r.left(req, zael.Amounts{"rpm": 0, "tpm": 600})
}

func TestLeaseRecordsUntilCommit(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	req := ask(zael.Amounts{"rpm": 10, "tpm": 100}, two()...)
	lease := r.lease(req)
	asked := f.asked()
	for _, step := range []struct {
		call func(zael.Amounts) error
		with zael.Amounts
		want zael.Amounts
	}{
		{lease.Adjust, zael.Amounts{"rpm": 5}, zael.Amounts{"rpm": 15, "tpm": 100}},
		{lease.Adjust, zael.Amounts{"rpm": -3, "tpm": 1}, zael.Amounts{"rpm": 12, "tpm": 101}},
		{lease.Release, zael.Amounts{"tpm": 51}, zael.Amounts{"rpm": 12, "tpm": 50}},
		{lease.Settle, zael.Amounts{"rpm": 7}, zael.Amounts{"rpm": 7, "tpm": 50}},
		{lease.Settle, nil, zael.Amounts{"rpm": 7, "tpm": 50}},
		{lease.Adjust, zael.Amounts{"rpm": -100}, zael.Amounts{"rpm": 0, "tpm": 50}}, // down to 0
		{lease.Adjust, zael.Amounts{"rpm": 2}, zael.Amounts{"rpm": 2, "tpm": 50}},
		{lease.Release, zael.Amounts{"rpm": 1e15}, zael.Amounts{"rpm": 0, "tpm": 50}},
		{lease.Settle, zael.Amounts{"tpm": 700}, zael.Amounts{"rpm": 0, "tpm": 700}}, // into debt
	} {
		r.ok(step.call(step.with))
		r.consumed(lease, step.want)
	}
	if n := f.asked() - asked; n != 0 {
		t.Errorf("before Commit: the store was asked %d times, want 0", n)
	}
	r.left(req, zael.Amounts{"rpm": 50, "tpm": 500})
	r.ok(lease.Commit(r.ctx))
	if n := f.adjusts.Load(); n != 1 {
		t.Errorf("Commit: got %d calls of the store, want one for gives and charges", n)
	}
	r.left(req, zael.Amounts{"rpm": 60, "tpm": -100})
}

func TestCommitOfWhatWasTakenAsksNobody(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	lease := r.lease(ask(zael.Amounts{"rpm": 10}, two()...))
	r.ok(lease.Adjust(zael.Amounts{"rpm": 5}))
	r.ok(lease.Release(zael.Amounts{"rpm": 5}))
	r.ok(lease.Commit(r.ctx))
	empty := r.lease(ask(nil, two()...))
	r.ok(empty.Rollback(r.ctx))
	if n := f.adjusts.Load(); n != 0 {
		t.Errorf("got %d calls of the store, want 0", n)
	}
}

// Trap: a lease could be used after its end.
func TestTrapEndedLease(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*zael.Lease, context.Context) error{
		"Commit": (*zael.Lease).Commit, "Rollback": (*zael.Lease).Rollback,
	} {
		r, f := setupFake(t, nil)
		lease := r.lease(ask(zael.Amounts{"rpm": 10}, two()...))
		r.ok(lease.Settle(zael.Amounts{"rpm": 4}))
		r.ok(end(lease, r.ctx))
		asked := f.asked()
		for call, err := range map[string]error{
			"Consume": lease.Consume(r.ctx, zael.Amounts{"rpm": 1}),
			"Adjust":  lease.Adjust(zael.Amounts{"rpm": 1}),
			"Release": lease.Release(zael.Amounts{"rpm": 1}),
			"Settle":  lease.Settle(zael.Amounts{"rpm": 1}),
			"Commit":  lease.Commit(r.ctx),
		} {
			if !errors.Is(err, zael.ErrLeaseClosed) {
				t.Errorf("%s after %s: got %v, want ErrLeaseClosed", call, name, err)
			}
		}
		if err := lease.Rollback(r.ctx); err != nil {
			t.Errorf("Rollback after %s: got %v, want nil, so that it can be deferred", name, err)
		}
		if n := f.asked() - asked; n != 0 {
			t.Errorf("after %s: the store was asked %d times, want 0", name, n)
		}
		want := map[string]int64{"Commit": 56, "Rollback": 60}[name]
		r.left(ask(nil, two()[0]), zael.Amounts{"rpm": want})
	}
}

func TestConsumeMore(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 10}, two()...)
	lease := r.lease(req)
	r.ok(lease.Consume(r.ctx, zael.Amounts{"rpm": 20, "tpm": 500}))
	r.consumed(lease, zael.Amounts{"rpm": 30, "tpm": 500})
	r.left(req, zael.Amounts{"rpm": 30, "tpm": 100}) // at once
	// A refusal takes nothing of any limit and leaves the lease as it was.
	e := r.refusal(lease.Consume(r.ctx, zael.Amounts{"rpm": 1, "tpm": 101}))
	if v := e.Violations(); len(v) != 1 || v[0].Limit.Name != "tpm" || v[0].RetryAfter != 100*time.Millisecond {
		t.Errorf("got %v, want a refusal by tpm for 100ms", v)
	}
	if err := lease.Consume(r.ctx, zael.Amounts{"rpm": 61}); !errors.Is(err, zael.ErrNever) {
		t.Errorf("more than the burst: got %v, want ErrNever", err)
	}
	r.consumed(lease, zael.Amounts{"rpm": 30, "tpm": 500})
	r.left(req, zael.Amounts{"rpm": 30, "tpm": 100})
	r.ok(lease.Rollback(r.ctx))
	r.left(req, zael.Amounts{"rpm": 60, "tpm": 600})
}

func TestConsumeMoreOfBothBuckets(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, false)
	child.Cascade = true
	child.Consume = zael.Amounts{"rpm": 1, "tpm": 0}
	lease := r.lease(child)
	r.ok(lease.Consume(r.ctx, zael.Amounts{"rpm": 2, "tpm": 20}))
	r.left(parent, zael.Amounts{"rpm": 7, "tpm": 80})
	parent.Consume = zael.Amounts{"rpm": 7, "tpm": 0}
	r.allow(parent)
	if v := r.refusal(lease.Consume(r.ctx, zael.Amounts{"rpm": 1})).Violations(); len(v) != 1 || v[0].Entity != "org" {
		t.Errorf("got %v, want a refusal by org", v)
	}
	r.left(on("key-1", child), zael.Amounts{"rpm": 7, "tpm": 80})
	r.ok(lease.Rollback(r.ctx))
	r.left(on("key-1", child), zael.Amounts{"rpm": 10, "tpm": 100})
	r.left(parent, zael.Amounts{"rpm": 3, "tpm": 100})
}

// A partial release gives back the newest charge first: the oldest may have
// refilled already.
func TestReleaseBeginsWithTheNewestCharge(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerSecond("a", 1).WithBurst(10)
	lease := r.lease(ask(zael.Amounts{"a": 4}, limit))
	r.clock.set(3 * time.Second) // 1 of the 4 is left
	r.ok(lease.Consume(r.ctx, zael.Amounts{"a": 3}))
	r.left(ask(nil, limit), zael.Amounts{"a": 6})
	r.ok(lease.Release(zael.Amounts{"a": 3}))
	r.ok(lease.Commit(r.ctx))
	r.left(ask(nil, limit), zael.Amounts{"a": 9}) // oldest first would give back only 1
}

func TestReleaseOverSeveralCharges(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 4}, two()...)
	lease := r.lease(req)
	for range 3 {
		r.ok(lease.Consume(r.ctx, zael.Amounts{"rpm": 5, "tpm": 1}))
	}
	r.ok(lease.Release(zael.Amounts{"rpm": 12}))
	r.ok(lease.Commit(r.ctx))
	r.left(req, zael.Amounts{"rpm": 53, "tpm": 597})
}

// What has refilled by itself is not given back: that would make tokens.
func TestRollbackAfterRefillMintsNothing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerMinute("rpm", 60)
	all := ask(zael.Amounts{"rpm": 60}, limit)
	lease := r.lease(all)
	r.clock.set(30 * time.Second)
	r.allow(ask(zael.Amounts{"rpm": 30}, limit))
	r.ok(lease.Rollback(r.ctx)) // 30 of the 60 have refilled
	r.left(all, zael.Amounts{"rpm": 30})
	r.allow(ask(zael.Amounts{"rpm": 30}, limit))

	lease = r.lease(ask(nil, limit))
	r.clock.set(2 * time.Minute)
	old := r.lease(all)
	r.clock.set(3 * time.Minute)
	r.allow(all)
	r.ok(old.Rollback(r.ctx))
	r.left(all, zael.Amounts{"rpm": 0})
	r.ok(lease.Rollback(r.ctx))
	r.left(all, zael.Amounts{"rpm": 0})
}

// Attack: hoard leases of a full burst, one a period, give all back at once.
func TestHoardedLeasesGiveOneBurst(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rps": 10}, zael.PerSecond("rps", 10))
	leases := make([]*zael.Lease, 1000)
	for i := range leases {
		r.clock.set(time.Duration(i) * time.Second)
		leases[i] = r.lease(req)
	}
	for _, lease := range leases {
		r.ok(lease.Rollback(r.ctx))
	}
	admitted := 0
	for range 1000 {
		if r.l.Allow(r.ctx, req) == nil {
			admitted += 10
		}
	}
	if admitted != 10 {
		t.Errorf("got %d tokens at one instant, want one burst of 10", admitted)
	}
}

// Bug of others (gubernator): a give-back on a full bucket goes above burst.
func TestGiveBackNeverExceedsTheBurst(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 20}, two()...)
	first, second := r.lease(req), r.lease(req)
	r.ok(second.Settle(zael.Amounts{"rpm": 0}))
	r.ok(second.Commit(r.ctx))
	r.ok(first.Rollback(r.ctx))
	r.ok(first.Rollback(r.ctx))
	r.left(req, zael.Amounts{"rpm": 60, "tpm": 600})
	// Nor does what another process gave back when this one had it refilled.
	late := r.lease(req)
	r.clock.set(time.Hour)
	r.ok(late.Rollback(r.ctx))
	r.left(req, zael.Amounts{"rpm": 60, "tpm": 600})
	r.refuses(ask(zael.Amounts{"rpm": 61}, two()...))
}

// Bug of others (envoy ratelimit): a give-back is not seen while a refusal is
// remembered.
func TestGiveBackIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 60}, two()...)
	lease := r.lease(req)
	for range 10 {
		r.refuses(req)
	}
	r.ok(lease.Rollback(r.ctx))
	r.allow(req)
}

// Another call site has changed the numbers of the limit since: the charge
// stands of another generation and is not given back, and nothing is made.
func TestGiveBackAfterAChangedDefinition(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		r := setup(t)
		a, b := zael.PerDay("rpd", 100), zael.PerDay("rpd", 200)
		first, second := r.lease(ask(zael.Amounts{"rpd": 60}, a)), r.lease(ask(zael.Amounts{"rpd": 30}, a))
		r.allow(ask(zael.Amounts{"rpd": 1}, b))
		if again {
			r.allow(ask(zael.Amounts{"rpd": 1}, a))
			r.allow(ask(zael.Amounts{"rpd": 1}, b))
		}
		before, err := r.l.Available(r.ctx, queryOf(ask(nil, b)))
		r.ok(err)
		r.ok(first.Rollback(r.ctx))
		r.ok(second.Rollback(r.ctx))
		after, err := r.l.Available(r.ctx, queryOf(ask(nil, b)))
		r.ok(err)
		if !maps.Equal(before, after) {
			t.Errorf("flipped back %v: got %v after %v, want the give-backs to change nothing", again, after, before)
		}
	}
}

// What one lease is asked by many goroutines adds up.
func TestOneLeaseUsedConcurrently(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limits := []zael.Limit{zael.PerDay("a", 1000), zael.PerDay("b", 1_000_000)}
	lease := r.lease(ask(zael.Amounts{"a": 1}, limits...))
	var wg sync.WaitGroup
	errs := make([]error, 100)
	for i := range errs {
		wg.Go(func() {
			errs[i] = errors.Join(
				lease.Consume(r.ctx, zael.Amounts{"a": 3, "b": 2}),
				lease.Adjust(zael.Amounts{"b": 10}),
				lease.Release(zael.Amounts{"a": 1}),
			)
			_ = lease.Consumed()
			_ = lease.Degraded()
		})
	}
	wg.Wait()
	r.ok(errors.Join(errs...))
	r.consumed(lease, zael.Amounts{"a": 201, "b": 1200})
	ended := make([]error, 50)
	for i := range ended {
		wg.Go(func() {
			_ = lease.Adjust(zael.Amounts{"a": 0})
			if i%2 == 0 {
				ended[i] = lease.Commit(r.ctx)
			} else {
				ended[i] = lease.Commit(context.WithoutCancel(r.ctx))
			}
		})
	}
	wg.Wait()
	committed := 0
	for _, err := range ended {
		if err == nil {
			committed++
		} else if !errors.Is(err, zael.ErrLeaseClosed) {
			t.Errorf("Commit: got %v, want nil once and then ErrLeaseClosed", err)
		}
	}
	if committed != 1 {
		t.Errorf("got %d commits, want 1", committed)
	}
	r.left(ask(nil, limits...), zael.Amounts{"a": 799, "b": 998_800})
}
