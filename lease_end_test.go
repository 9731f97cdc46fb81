package zael_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// Both ends work after the context was cancelled.
func TestLeaseEndsAfterItsContext(t *testing.T) {
	t.Parallel()
	const timeout = time.Minute
	r, f := setupFake(t, &zael.Config{Timeout: timeout})
	f.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
		if err := ctx.Err(); err != nil {
			return now, err
		}
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > timeout {
			t.Errorf("got the deadline %v, %v, want one of at most Config.Timeout", deadline, ok)
		}
		return f.Store.Adjust(ctx, now, debits)
	}
	req := ask(zael.Amounts{"rpm": 10}, two()...)
	committed, rolledBack := r.lease(req), r.lease(req)
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	r.ok(committed.Settle(zael.Amounts{"rpm": 3}))
	r.ok(committed.Commit(ctx))
	r.ok(rolledBack.Rollback(ctx))
	r.left(req, zael.Amounts{"rpm": 57, "tpm": 600})
	if err := r.lease(req).Consume(ctx, zael.Amounts{"rpm": 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Consume: got %v, want context.Canceled", err)
	}
}

func TestDoCommits(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 10}, two()...)
	type key struct{}
	r.ok(r.l.Do(context.WithValue(r.ctx, key{}, "v"), req, func(ctx context.Context, lease *zael.Lease) error {
		if ctx.Value(key{}) != "v" {
			t.Error("got another context, want the caller's")
		}
		r.left(req, zael.Amounts{"rpm": 50, "tpm": 600})
		return lease.Settle(zael.Amounts{"tpm": 700, "rpm": 1})
	}))
	r.left(req, zael.Amounts{"rpm": 59, "tpm": -100})
}

// If f fails, what it recorded stands; if it recorded nothing, all is given back.
func TestDoThatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		use  func(*rig, *zael.Lease)
		left zael.Amounts
	}{
		"nothing recorded": {func(*rig, *zael.Lease) {}, zael.Amounts{"rpm": 60, "tpm": 600}},
		"consumed":         {func(r *rig, lease *zael.Lease) { r.ok(lease.Consume(r.ctx, zael.Amounts{"rpm": 5, "tpm": 5})) }, zael.Amounts{"rpm": 45, "tpm": 595}},
		"settled":          {func(r *rig, lease *zael.Lease) { r.ok(lease.Settle(zael.Amounts{"rpm": 3})) }, zael.Amounts{"rpm": 57, "tpm": 600}},
		"adjusted":         {func(r *rig, lease *zael.Lease) { r.ok(lease.Adjust(zael.Amounts{"rpm": 500})) }, zael.Amounts{"rpm": -450, "tpm": 600}},
		"released":         {func(r *rig, lease *zael.Lease) { r.ok(lease.Release(zael.Amounts{"rpm": 4})) }, zael.Amounts{"rpm": 54, "tpm": 600}},
		"rolled back": {func(r *rig, lease *zael.Lease) {
			r.ok(lease.Settle(zael.Amounts{"rpm": 3}))
			r.ok(lease.Rollback(r.ctx))
		}, zael.Amounts{"rpm": 60, "tpm": 600}},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); doFails(t, c.use, c.left) })
	}
}

// doFails ends Do in each way in which its function can fail after use.
func doFails(t *testing.T, use func(*rig, *zael.Lease), left zael.Amounts) {
	t.Helper()
	req := ask(zael.Amounts{"rpm": 10}, two()...)

	t.Run("error", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		failed := errors.New("failed")
		err := r.l.Do(r.ctx, req, func(_ context.Context, lease *zael.Lease) error { use(r, lease); return failed })
		if err != failed { //nolint:errorlint // as it is
			t.Errorf("got %v, want f's own error as it is", err)
		}
		r.left(req, left)
	})
	t.Run("error after cancellation", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		ctx, cancel := context.WithCancel(r.ctx)
		err := r.l.Do(ctx, req, func(ctx context.Context, lease *zael.Lease) error {
			use(r, lease)
			cancel()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		r.left(req, left)
	})
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		func() {
			defer func() {
				if got := recover(); got != "boom" {
					t.Errorf("got a panic with %v, want f's own", got)
				}
			}()
			_ = r.l.Do(r.ctx, req, func(_ context.Context, lease *zael.Lease) error { use(r, lease); panic("boom") })
		}()
		r.left(req, left)
	})
	t.Run("Goexit", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = r.l.Do(r.ctx, req, func(_ context.Context, lease *zael.Lease) error {
				use(r, lease)
				runtime.Goexit()
				return nil
			})
		}()
		<-done
		r.left(req, left)
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.allow(ask(zael.Amounts{"rpm": 60}, two()...))
		err := r.l.Do(r.ctx, req, func(context.Context, *zael.Lease) error { t.Error("got a call of f, want none"); return nil })
		if !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

// f may end the lease itself.
func TestDoWithALeaseThatWasEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		end  func(*zael.Lease, context.Context) error
		left int64
	}{{(*zael.Lease).Commit, 53}, {(*zael.Lease).Rollback, 60}} {
		r := setup(t)
		req := ask(zael.Amounts{"rpm": 10}, two()[0])
		r.ok(r.l.Do(r.ctx, req, func(ctx context.Context, lease *zael.Lease) error {
			r.ok(lease.Settle(zael.Amounts{"rpm": 7}))
			return c.end(lease, ctx)
		}))
		r.left(req, zael.Amounts{"rpm": c.left})
		// An error after that stays f's; what was committed stays so.
		failed := errors.New("failed")
		err := r.l.Do(r.ctx, req, func(ctx context.Context, lease *zael.Lease) error {
			r.ok(c.end(lease, ctx))
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("got %v, want f's error", err)
		}
	}
}

// The work is done and cannot be settled: a *CommitError, and the charge stands.
func TestCommitThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, cause := range []error{broken, zael.ErrUnavailable, zael.ErrContention} {
		r, f := setupFake(t, nil)
		req := ask(zael.Amounts{"rpm": 10}, two()...)
		err := r.l.Do(r.ctx, req, func(_ context.Context, lease *zael.Lease) error {
			f.adjust = func(context.Context, time.Time, []zael.Debit) (time.Time, error) { return time.Time{}, cause }
			return lease.Settle(zael.Amounts{"rpm": 3})
		})
		var commit *zael.CommitError
		if !errors.As(err, &commit) || !errors.Is(err, cause) {
			t.Errorf("got %v, want a *CommitError by %v", err, cause)
		}
		if n := f.adjusts.Load(); n != 1 {
			t.Errorf("got %d calls of the store, want 1, and no give-back", n)
		}
		r.left(req, zael.Amounts{"rpm": 50, "tpm": 600})
		if got := r.l.Stats().LostGives; got != 1 {
			t.Errorf("LostGives: got %d, want 1", got)
		}
		lease := r.lease(req)
		r.ok(lease.Adjust(zael.Amounts{"tpm": 1}))
		if err := lease.Commit(r.ctx); !errors.Is(err, cause) || errors.As(err, &commit) {
			t.Errorf("Commit: got %v, want %v alone", err, cause)
		}
		if err := lease.Commit(r.ctx); !errors.Is(err, zael.ErrLeaseClosed) {
			t.Errorf("Commit again: got %v, want ErrLeaseClosed", err)
		}
		if got := r.l.Stats().LostGives; got != 1 {
			t.Errorf("LostGives after a lost charge: got %d, want still 1", got)
		}
	}
}

// A debt that would be more than can be counted is an error, and not forgotten.
func TestDebtBeyondInt64(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(nil, zael.PerMinute("a", 1))
	leases := make([]*zael.Lease, 12)
	for i := range leases {
		leases[i] = r.lease(req)
		r.ok(leases[i].Settle(zael.Amounts{"a": 1e15}))
	}
	refused := 0
	for _, lease := range leases {
		if err := lease.Commit(r.ctx); err != nil {
			invalidField(t, err, "amount of a")
			refused++
		}
	}
	if refused == 0 || refused == len(leases) {
		t.Errorf("got %d of %d charges of 10^15 refused, want those that leave int64", refused, len(leases))
	}
	r.left(req, zael.Amounts{"a": 1 - int64(len(leases)-refused)*1e15})
}

func TestDegradedLease(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, &zael.Config{FailureMode: zael.FailOpen})
	f.down()
	req := ask(zael.Amounts{"rpm": 1, "tpd": 9}, two()...)
	req.Cascade, req.ParentLimits = true, []zael.Limit{zael.PerDay("tpd", 10)}
	lease := r.lease(req)
	if !lease.Degraded() || lease.Delay() != 0 {
		t.Fatalf("got degraded %v, delay %v, want a degraded lease at once", lease.Degraded(), lease.Delay())
	}
	asked := f.asked()
	r.consumed(lease, zael.Amounts{"rpm": 1, "tpm": 0}) // tpd is the parent's
	r.ok(lease.Consume(r.ctx, zael.Amounts{"rpm": 2, "tpm": 10_000}))
	r.ok(lease.Adjust(zael.Amounts{"tpm": 3}))
	r.ok(lease.Release(zael.Amounts{"rpm": 1}))
	r.ok(lease.Settle(zael.Amounts{"tpd": 1}))
	r.consumed(lease, zael.Amounts{"rpm": 2, "tpm": 10_003})
	invalidField(t, lease.Settle(zael.Amounts{"rps": 1}), "Settle")
	invalidField(t, lease.Settle(zael.Amounts{"rpm": -1}), "Settle rpm")
	r.ok(lease.Commit(r.ctx))
	if err := lease.Adjust(zael.Amounts{"rpm": 1}); !errors.Is(err, zael.ErrLeaseClosed) {
		t.Errorf("after Commit: got %v, want ErrLeaseClosed", err)
	}
	r.ok(r.lease(req).Rollback(r.ctx))

	// By stored limits nobody knows the names: those in Consume are kept.
	stored := r.lease(askStored(zael.Amounts{"rpm": 4}))
	r.consumed(stored, zael.Amounts{"rpm": 4})
	r.ok(stored.Adjust(zael.Amounts{"rpm": 1, "tpm": 1}))
	r.consumed(stored, zael.Amounts{"rpm": 5})
	r.ok(stored.Commit(r.ctx))

	called := false
	r.ok(r.l.Do(r.ctx, req, func(_ context.Context, lease *zael.Lease) error { called = lease.Degraded(); return nil }))
	if !called {
		t.Error("Do: got no call with a degraded lease, want one")
	}
	if n := f.Store.Len(); n != 0 || f.adjusts.Load() != 0 {
		t.Errorf("got %d buckets and %d adjusts, want nothing charged (asked %d times before)", n, f.adjusts.Load(), asked)
	}
}

// A lease whose Consume was admitted during an outage charges it in the end.
func TestConsumeDuringAnOutageIsChargedByCommit(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, &zael.Config{FailureMode: zael.FailOpen})
	req := ask(zael.Amounts{"rpm": 1}, two()...)
	lease := r.lease(req)
	f.down()
	r.ok(lease.Consume(r.ctx, zael.Amounts{"rpm": 4}))
	r.consumed(lease, zael.Amounts{"rpm": 5, "tpm": 0})
	f.take, f.adjust = nil, nil
	r.ok(lease.Commit(r.ctx))
	r.left(req, zael.Amounts{"rpm": 55, "tpm": 600})
}
