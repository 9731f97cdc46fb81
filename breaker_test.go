package zael_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// A faulty store is memstore behind a fault: without TakeLocal, so that all goes
// through the deadline and the breaker.
type faulty struct {
	zael.EntityStore
	zael.LimitStore
	inner *memstore.Store
	fault atomic.Pointer[func(context.Context) error] // of every call; nil: none
	calls atomic.Int64
}

func newFaulty() *faulty {
	inner := memstore.New(nil)
	return &faulty{EntityStore: inner, LimitStore: inner, inner: inner}
}

func (f *faulty) String() string { return "the faulty store" }

func (f *faulty) set(fault func(context.Context) error) {
	if fault == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&fault)
}

func (f *faulty) fail(ctx context.Context) error {
	f.calls.Add(1)
	if fault := f.fault.Load(); fault != nil {
		return (*fault)(ctx)
	}
	return nil
}

func (f *faulty) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if err := f.fail(ctx); err != nil {
		return now, err
	}
	return f.inner.Take(ctx, now, maxWait, debits)
}

func (f *faulty) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	if err := f.fail(ctx); err != nil {
		return now, err
	}
	return f.inner.Adjust(ctx, now, debits)
}

func (f *faulty) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	if err := f.fail(ctx); err != nil {
		return now, nil, err
	}
	return f.inner.Buckets(ctx, now, keys)
}

func (f *faulty) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	return f.inner.Limits(ctx, scopes)
}

func (f *faulty) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	return f.inner.Entities(ctx, ids)
}

// Faults.
func stall(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func refuse(context.Context) error { return fmt.Errorf("dial: refused: %w", zael.ErrUnavailable) }

var errDenied = errors.New("access denied")

func deny(context.Context) error { return errDenied }

func faultyLimiter(t *testing.T, config *zael.Config) (*zael.Limiter, *faulty) {
	t.Helper()
	store := newFaulty()
	l, err := zael.New(store, config)
	if err != nil {
		t.Fatal(err)
	}
	return l, store
}

func request(mode zael.FailureMode) zael.Request {
	return zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: []zael.Limit{zael.PerMinute("rpm", 1_000_000)},
		Consume: zael.Amounts{"rpm": 1}, FailureMode: mode,
	}
}

// crowd has n callers acquire at once; it returns their errors, how many leases
// were degraded and how long the last one took.
func crowd(ctx context.Context, l *zael.Limiter, n int, req zael.Request) (errs []error, degraded int, took time.Duration) {
	errs = make([]error, n)
	var count atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			lease, err := l.Acquire(ctx, req)
			errs[i] = err
			if err == nil && lease.Degraded() {
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return errs, int(count.Load()), time.Since(start)
}

func expectAll(t *testing.T, errs []error, want error) {
	t.Helper()
	for i, err := range errs {
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Fatalf("caller %d of %d: got %v, want %v", i, len(errs), err, want)
		}
	}
}

// I8: with the store dead 1000 concurrent acquires, a tenth with -short, are all answered within the
// timeout, and at once when the breaker is open; then recovery within 1 s.
func TestDeadStoreIsDecidedWithinTheTimeout(t *testing.T) {
	t.Parallel()
	for _, dead := range []struct {
		name  string
		fault func(context.Context) error
		first time.Duration // what the first callers wait
	}{
		{"black hole", stall, time.Second},
		{"refused", refuse, 0},
	} {
		for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
			t.Run(dead.name+" "+mode.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					l, store := faultyLimiter(t, &zael.Config{FailureMode: mode})
					callers := schedules.Count(t, 1000)
					want, wantDegraded := error(nil), callers
					if mode == zael.FailClosed {
						want, wantDegraded = zael.ErrUnavailable, 0
					}
					store.set(dead.fault)

					errs, degraded, took := crowd(ctx, l, callers, request(0))
					expectAll(t, errs, want)
					if degraded != wantDegraded || took != dead.first {
						t.Errorf("dead store: got %d degraded after %v, want %d after %v", degraded, took, wantDegraded, dead.first)
					}
					asked := store.calls.Load()

					errs, degraded, took = crowd(ctx, l, callers, request(0))
					expectAll(t, errs, want)
					if degraded != wantDegraded || took != 0 {
						t.Errorf("breaker open: got %d degraded after %v, want %d at once", degraded, took, wantDegraded)
					}
					if again := store.calls.Load() - asked; again != 0 {
						t.Errorf("breaker open: the store was asked %d times, want 0", again)
					}
					if got := l.Stats().Breaks; got != 1 {
						t.Errorf("Breaks: got %d, want 1", got)
					}

					store.set(nil)
					time.Sleep(251 * time.Millisecond) //nolint:forbidigo // the bubble's clock
					lease, err := l.Acquire(ctx, request(0))
					if err != nil || lease.Degraded() {
						t.Errorf("after recovery: got %v, degraded %v, want a lease", err, err == nil && lease.Degraded())
					}
				})
			})
		}
	}
}

// Callers see a recovery within 1 s, even if they come while a probe is stalled.
func TestProbeDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l, store := faultyLimiter(t, nil)
		store.set(stall)
		crowd(ctx, l, 10, request(0))
		time.Sleep(300 * time.Millisecond) //nolint:forbidigo // the bubble's clock

		var wg sync.WaitGroup
		wg.Go(func() { // tries again, into the black hole
			start := time.Now()
			_, err := l.Acquire(ctx, request(0))
			if took := time.Since(start); !errors.Is(err, zael.ErrUnavailable) || took != 500*time.Millisecond {
				t.Errorf("who tries again: got %v after %v, want ErrUnavailable after half the timeout", err, took)
			}
		})
		synctest.Wait()
		errs, _, took := crowd(ctx, l, 100, request(0))
		expectAll(t, errs, zael.ErrUnavailable)
		if took != 0 {
			t.Errorf("the others: answered after %v, want at once", took)
		}
		store.set(nil)
		recovered := time.Now()
		for l.Allow(ctx, request(0)) != nil && time.Since(recovered) < time.Minute {
			time.Sleep(time.Millisecond) //nolint:forbidigo // the bubble's clock
		}
		if took := time.Since(recovered); took > time.Second {
			t.Errorf("recovery: seen after %v, want at most 1 s", took)
		}
		wg.Wait()
	})
}

func TestFailureModePerCall(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, config := range []zael.FailureMode{0, zael.FailClosed, zael.FailOpen} {
		for _, call := range []zael.FailureMode{0, zael.FailClosed, zael.FailOpen} {
			l, store := faultyLimiter(t, &zael.Config{FailureMode: config})
			store.set(refuse)
			open := call == zael.FailOpen || call == 0 && config == zael.FailOpen

			lease, err := l.Reserve(ctx, request(call))
			allowErr := l.Allow(ctx, request(call))
			if !open {
				var u *zael.UnavailableError
				if !errors.As(err, &u) || u.Store != "the faulty store" || u.Entity != "key-1" || u.Resource != "gpt-4" {
					t.Errorf("config %v, call %v: got %#v, want an *UnavailableError that names store, entity and resource", config, call, err)
				}
				if !errors.Is(allowErr, zael.ErrUnavailable) {
					t.Errorf("Allow, config %v, call %v: got %v, want ErrUnavailable", config, call, allowErr)
				}
				continue
			}
			if err != nil || !lease.Degraded() || allowErr != nil {
				t.Fatalf("config %v, call %v: got %v, Allow %v, want a degraded lease", config, call, err, allowErr)
			}
			if err := lease.Settle(zael.Amounts{"rpm": 7}); err != nil || lease.Consumed()["rpm"] != 7 {
				t.Errorf("degraded Settle: got %v, consumed %v, want 7", err, lease.Consumed())
			}
			if err := lease.Consume(ctx, zael.Amounts{"rpm": 1}); err != nil {
				t.Errorf("degraded Consume: got %v, want nil", err)
			}
			store.set(nil)
			if err := lease.Commit(ctx); err != nil {
				t.Errorf("degraded Commit: got %v, want nil", err)
			}
			if n := store.inner.Len(); n != 0 {
				t.Errorf("a degraded lease charged %d buckets, want none", n)
			}
			if got := l.Stats().Degraded; got != 2 {
				t.Errorf("Stats.Degraded: got %d, want 2", got)
			}
		}
	}
}

// Bugs and denied access are no outage: errors in both modes, and the breaker
// stays closed.
func TestPlainErrorsAreNoOutage(t *testing.T) {
	t.Parallel()
	for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
		l, store := faultyLimiter(t, &zael.Config{FailureMode: mode})
		store.set(deny)
		for range 20 {
			if err := l.Allow(t.Context(), request(0)); !errors.Is(err, errDenied) || errors.Is(err, zael.ErrUnavailable) {
				t.Fatalf("mode %v: got %v, want the store's own error", mode, err)
			}
		}
		if n := store.calls.Load(); n != 20 {
			t.Errorf("mode %v: the store was asked %d times, want 20", mode, n)
		}
	}
}

// A caller that leaves says nothing about the store.
func TestCancelledCallersDoNotBreak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, store := faultyLimiter(t, &zael.Config{FailureMode: zael.FailOpen})
		store.set(stall)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		errs, _, took := crowd(ctx, l, 100, request(0))
		expectAll(t, errs, context.Canceled)
		if took != 500*time.Millisecond {
			t.Errorf("cancelled callers: answered after %v, want 500ms", took)
		}
		if err := l.Allow(ctx, request(0)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: got %v, want context.Canceled", err)
		}
		store.set(nil)
		if err := l.Allow(t.Context(), request(zael.FailClosed)); err != nil {
			t.Errorf("the next caller: got %v, want nil", err)
		}
		if got := l.Stats().Breaks; got != 0 {
			t.Errorf("Breaks: got %d, want 0", got)
		}
	})
}

// A caller's own deadline is an outage if the store had its chance, and else
// does not count against it.
func TestCallersDeadline(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		deadline time.Duration
		breaks   uint64
	}{{10 * time.Millisecond, 0}, {200 * time.Millisecond, 1}} {
		synctest.Test(t, func(t *testing.T) {
			l, store := faultyLimiter(t, nil)
			store.set(stall)
			for range 10 {
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				err := l.Allow(ctx, request(0))
				cancel()
				if !errors.Is(err, zael.ErrUnavailable) {
					t.Fatalf("deadline %v: got %v, want ErrUnavailable", c.deadline, err)
				}
			}
			if got := l.Stats().Breaks; got != c.breaks {
				t.Errorf("deadline %v: got %d breaks, want %d", c.deadline, got, c.breaks)
			}
		})
	}
}

// Reading stored limits is under the same deadline, also for callers that wait for
// another's reading of the same key.
func TestStalledLimitsAreDecidedWithinTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, store := faultyLimiter(t, nil)
		store.set(stall)
		req := request(0)
		req.UseStoredLimits = true
		errs, _, took := crowd(t.Context(), l, 1000, req)
		expectAll(t, errs, zael.ErrUnavailable)
		if took != time.Second {
			t.Errorf("got the last answer after %v, want 1s", took)
		}
		_, err := l.Available(t.Context(), zael.Query{Entity: "key-1", Resource: "gpt-4", Limits: req.Limits})
		if !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("Available: got %v, want ErrUnavailable", err)
		}
	})
}

func TestLeaseCallsUnderAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l, store := faultyLimiter(t, nil)
		acquire := func(mode zael.FailureMode) *zael.Lease {
			t.Helper()
			store.set(nil)
			lease, err := l.Acquire(ctx, request(mode))
			if err != nil {
				t.Fatal(err)
			}
			if err := lease.Adjust(zael.Amounts{"rpm": 4}); err != nil {
				t.Fatal(err)
			}
			store.set(stall)
			return lease
		}
		closed := acquire(zael.FailClosed)
		start := time.Now()
		if err := closed.Consume(ctx, zael.Amounts{"rpm": 1}); !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("Consume, closed: got %v, want ErrUnavailable", err)
		}
		if err := closed.Commit(ctx); !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("Commit, closed: got %v, want ErrUnavailable", err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("two calls took %v, want 2s", took)
		}
		open := acquire(zael.FailOpen)
		if err := open.Consume(ctx, zael.Amounts{"rpm": 1}); err != nil || open.Consumed()["rpm"] != 6 {
			t.Errorf("Consume, open: got %v and %v, want it counted", err, open.Consumed())
		}
		if err := open.Commit(ctx); err != nil {
			t.Errorf("Commit, open: got %v, want nil", err)
		}
		lost := l.Stats().LostGives
		if err := acquire(zael.FailClosed).Rollback(ctx); !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("Rollback, closed: got %v, want ErrUnavailable", err)
		}
		if got := l.Stats().LostGives - lost; got != 1 {
			t.Errorf("LostGives: got %d more, want 1", got)
		}

		store.set(nil)
		err := l.Do(ctx, request(zael.FailClosed), func(_ context.Context, lease *zael.Lease) error {
			store.set(refuse)
			return lease.Settle(zael.Amounts{"rpm": 10})
		})
		var commit *zael.CommitError
		if !errors.As(err, &commit) || !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("Do: got %v, want a *CommitError by ErrUnavailable", err)
		}
	})
}

// What a store answers from memory needs neither deadline nor breaker.
func TestLocalAnswersPassTheBreaker(t *testing.T) {
	t.Parallel()
	store := memstore.New(&memstore.Config{MaxBuckets: 1})
	l, err := zael.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := l.Allow(ctx, request(0)); err != nil {
		t.Fatal(err)
	}
	other := request(0)
	other.Entity = "key-2"
	for range 20 {
		if err := l.Allow(ctx, other); !errors.Is(err, zael.ErrUnavailable) {
			t.Fatalf("no room for key-2: got %v, want ErrUnavailable", err)
		}
	}
	if err := l.Allow(ctx, request(0)); err != nil {
		t.Errorf("key-1 after refusals of key-2: got %v, want nil", err)
	}
}
