package zael_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/sqlitestore"
)

func slotPolicy(tb testing.TB, n int64) *zael.Policy {
	tb.Helper()
	p, err := zael.NewPolicy("gpt-4", zael.PerMinute("rpm", 1000), zael.AtOnce("parallel", n))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// TestSlotsAreHeldByLeases: a lease has its slots until it ends, whatever it settles.
func TestSlotsAreHeldByLeases(t *testing.T) {
	t.Parallel()
	r := setup(t)
	p := slotPolicy(t, 2)
	a, err := r.l.Acquire(r.ctx, p.For("key-1", 1, 1))
	r.ok(err)
	b, err := r.l.Acquire(r.ctx, p.For("key-1", 1, 1))
	r.ok(err)
	_, err = r.l.Acquire(r.ctx, p.For("key-1", 1, 1))
	if e := r.refusal(err); len(e.Violations()) != 1 || e.Primary().Limit.Name != "parallel" || errors.Is(err, zael.ErrNever) {
		t.Errorf("a third: got %v", err)
	}
	for verb, f := range map[string]func(zael.Amounts) error{"Settle": a.Settle, "Adjust": a.Adjust} {
		if err := f(zael.Amounts{"parallel": 1}); err == nil || !strings.Contains(err.Error(), "Release") {
			t.Errorf("%s of slots: got %v, want an error that names Release", verb, err)
		}
	}
	r.ok(a.Settle(zael.Amounts{"rpm": 5}))
	if !a.Held() || !b.Held() {
		t.Error("Held: got false, want true")
	}
	r.ok(a.Commit(r.ctx))
	if a.Held() {
		t.Error("Held after Commit: got true, want false")
	}
	c, err := r.l.Acquire(r.ctx, p.For("key-1", 1, 1))
	r.ok(err)
	r.ok(b.Release(zael.Amounts{"parallel": 1}))
	d, err := r.l.Acquire(r.ctx, p.For("key-1", 1, 1))
	r.ok(err)
	r.ok(b.Commit(r.ctx)) // releases nothing more
	if _, err := r.l.Acquire(r.ctx, p.For("key-1", 1, 1)); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("after a second release: got %v, want a refusal", err)
	}
	r.ok(c.Rollback(r.ctx))
	r.ok(d.Rollback(r.ctx))
	all, err := r.l.Available(r.ctx, zael.Query{Entity: "key-1", Policy: p})
	r.ok(err)
	if all["parallel"] != 2 {
		t.Errorf("at the end: got %v available, want 2 slots", all)
	}
}

// TestSlotsNeedALease: Allow and Decide cannot release, and slots that are not named are 0.
func TestSlotsNeedALease(t *testing.T) {
	t.Parallel()
	r := setup(t)
	p := slotPolicy(t, 1)
	err := r.l.Allow(r.ctx, p.For("key-1", 1, 1))
	invalidField(t, err, "Request.Consume parallel")
	if err == nil || !strings.Contains(err.Error(), "Acquire") {
		t.Errorf("Allow: got %v, want an error that names Acquire", err)
	}
	_, err = r.l.Decide(r.ctx, p.For("key-1", 1, 1))
	invalidField(t, err, "Request.Consume parallel")
	for range 3 {
		r.ok(r.l.Allow(r.ctx, p.For("key-1")))
	}
	if _, err := r.l.Acquire(r.ctx, p.For("key-1", 1, 2)); !errors.Is(err, zael.ErrNever) {
		t.Errorf("more than there are: got %v, want ErrNever", err)
	}
}

// TestWaitForSlots: who waits gets a slot when it is released, in order.
func TestWaitForSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := slotPolicy(t, 1)
		req := p.For("key-1", 1, 1)
		first, err := l.Acquire(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		req.MaxWait = time.Minute
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				lease, err := l.Acquire(t.Context(), req)
				if err != nil {
					t.Errorf("waiter %d: %v", i, err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				if err := lease.Commit(t.Context()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if err := first.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if !slices.IsSorted(order) || len(order) != 5 {
			t.Fatalf("served in the order %v", order)
		}
		held, err := l.Acquire(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		req.MaxWait = 10 * time.Second
		begun := time.Now()
		if _, err := l.Acquire(t.Context(), req); !errors.Is(err, zael.ErrExceeded) || time.Since(begun) != 10*time.Second {
			t.Errorf("nobody releases: got %v after %v, want a refusal after 10s", err, time.Since(begun))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := l.Acquire(ctx, req); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller leaves: got %v, want context.Canceled", err)
		}
		time.AfterFunc(time.Second, func() { _ = l.Close(context.Background()) })
		if _, err := l.Acquire(t.Context(), req); !errors.Is(err, zael.ErrClosed) {
			t.Errorf("the limiter is closed: got %v, want ErrClosed", err)
		}
		if err := held.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestWaitForAQuota: a wait that ends with the period is waited for, and one that is longer
// than MaxWait refused at once.
func TestWaitForAQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := zael.MustPolicy("gpt-4", zael.Each("q", 2, "minute"), zael.PerSecond("rps", 100))
		req := p.For("key-1", 2, 1)
		time.Sleep(20 * time.Second) //nolint:forbidigo // in synctest's time, whose clock begins at a full minute
		if err := l.Allow(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		end := begun.Truncate(time.Minute).Add(time.Minute)
		req.MaxWait = time.Until(end) - time.Second
		if _, err := l.Acquire(t.Context(), req); !errors.Is(err, zael.ErrExceeded) || time.Since(begun) != 0 {
			t.Errorf("the period ends too late: got %v after %v, want a refusal at once", err, time.Since(begun))
		}
		req.MaxWait = time.Hour
		lease, err := l.Acquire(t.Context(), req)
		if err != nil || !time.Now().Equal(end) {
			t.Fatalf("got %v at %v, want a lease at the end of the period, %v", err, time.Now(), end)
		}
		if err := lease.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestSlotsAmongProcesses: limiters on one file hold no more slots together than there
// are, and all are free in the end.
func TestSlotsAmongProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "zael.db")
	p := slotPolicy(t, 5)
	open := func() *zael.Limiter {
		s, err := sqlitestore.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := zael.New(s, &zael.Config{CloseStore: true, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return l
	}
	var held, most atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		l := open()
		for range 4 {
			wg.Go(func() {
				for range 25 {
					req := p.For("key-1", 1, 1)
					req.MaxWait = 5 * time.Minute
					lease, err := l.Acquire(t.Context(), req)
					if err != nil {
						t.Error(err)
						return
					}
					n := held.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					held.Add(-1)
					if err := lease.Commit(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if most.Load() > 5 {
		t.Errorf("%d slots of 5 were held at once", most.Load())
	}
	all, err := open().Available(t.Context(), zael.Query{Entity: "key-1", Policy: p})
	if err != nil || all["parallel"] != 5 {
		t.Errorf("at the end: got %v, %v, want 5 slots", all, err)
	}
}

// TestReleaseOfLostSlots: a lease whose slots were removed, and which has taken more since, has as
// many after a release as it says.
func TestReleaseOfLostSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewedSlots(t)
		r.silence(true)
		lease := r.acquire(2)
		r.wait(70*time.Second, 15*time.Second, 22500*time.Millisecond, 30*time.Second, 37500*time.Millisecond,
			45*time.Second, 52500*time.Millisecond, 60*time.Second, 67500*time.Millisecond)
		others := (&renewing{Store: r.store.Store}).limiter(t)
		theirs, err := others.Acquire(t.Context(), r.p.For("key-1", 1, 4)) // which removes them
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.Consume(t.Context(), zael.Amounts{"parallel": 1}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(theirs.Rollback(t.Context()), others.Close(t.Context())); err != nil {
			t.Error(err)
		}
		if err := lease.Release(zael.Amounts{"parallel": 2}); err != nil {
			t.Fatal(err)
		}
		r.silence(false)
		time.Sleep(time.Minute) //nolint:forbidigo // in synctest's time
		synctest.Wait()
		free, err := r.l.Available(t.Context(), zael.Query{Entity: "key-1", Policy: r.p})
		if err != nil {
			t.Fatal(err)
		}
		if used := lease.Consumed()["parallel"]; free["parallel"] != 5-used || used != 1 {
			t.Errorf("got %d slots free and %d held by the lease, want 4 and 1", free["parallel"], used)
		}
		if err := lease.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
