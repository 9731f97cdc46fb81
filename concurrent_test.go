package zael_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// race has n goroutines call f at once; it returns how many were admitted.
// Anything but a refusal is an error.
func race(t *testing.T, n int, f func(i int) error) int {
	t.Helper()
	var admitted atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			switch err := f(i); {
			case err == nil:
				admitted.Add(1)
			case !errors.Is(err, zael.ErrExceeded):
				t.Errorf("caller %d: got %v, want nil or a refusal", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(admitted.Load())
}

// waysToAcquire are how one token can be taken for good.
func waysToAcquire(ls []*zael.Limiter) map[string]func(context.Context, int, zael.Request) error {
	return map[string]func(context.Context, int, zael.Request) error{
		"Allow": func(ctx context.Context, i int, req zael.Request) error { return ls[i%len(ls)].Allow(ctx, req) },
		"Acquire and Commit": func(ctx context.Context, i int, req zael.Request) error {
			lease, err := ls[i%len(ls)].Acquire(ctx, req)
			if err != nil {
				return err
			}
			return lease.Commit(ctx)
		},
		"Do": func(ctx context.Context, i int, req zael.Request) error {
			return ls[i%len(ls)].Do(ctx, req, func(context.Context, *zael.Lease) error { return nil })
		},
	}
}

// Trap: 53–72 of 100 concurrent acquires admitted on a limit of 10. 1000
// goroutines on a limit of 100, by 3 Limiters on one store, admit exactly 100.
func TestTrapConcurrentAcquiresAreExact(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{false, true} {
		for way := range waysToAcquire([]*zael.Limiter{nil}) {
			t.Run(fmt.Sprintf("%s, stored %v", way, stored), func(t *testing.T) {
				t.Parallel()
				r := setup(t)
				limits := []zael.Limit{zael.PerDay("rpd", 100), zael.PerDay("tpd", 1000)}
				r.set(zael.Scope{Resource: "gpt-4"}, limits...)
				req := ask(zael.Amounts{"rpd": 1, "tpd": 7}, limits...)
				if stored {
					req.Limits, req.UseStoredLimits = nil, true
				}
				acquire := waysToAcquire([]*zael.Limiter{r.l, r.another(nil), r.another(nil)})[way]
				if got := race(t, 1000, func(i int) error { return acquire(r.ctx, i, req) }); got != 100 {
					t.Errorf("got %d admitted, want exactly 100", got)
				}
				r.left(req, zael.Amounts{"rpd": 0, "tpd": 300})
			})
		}
	}
}

// Requests of different sizes fill the bucket, and never more than it.
func TestConcurrentAcquiresOfDifferentSizes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerDay("tpd", 1000)
	var taken atomic.Int64
	race(t, 1000, func(i int) error {
		n := int64(1 + i%13)
		err := r.l.Allow(r.ctx, ask(zael.Amounts{"tpd": n}, limit))
		if err == nil {
			taken.Add(n)
		}
		return err
	})
	if got := taken.Load(); got != 1000 {
		t.Errorf("got %d taken, want exactly 1000", got)
	}
}

// With a cascade the children together never get more than the parent has, nor
// each more than its own.
func TestConcurrentCascade(t *testing.T) {
	t.Parallel()
	for way := range waysToAcquire([]*zael.Limiter{nil}) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			const children = 5
			for i := range children {
				r.create(zael.Entity{ID: fmt.Sprintf("child-%d", i), ParentID: "org"})
			}
			req := ask(zael.Amounts{"rpd": 1}, zael.PerDay("rpd", 30))
			req.Cascade, req.ParentLimits = true, []zael.Limit{zael.PerDay("rpd", 100)}
			var each [children]atomic.Int64
			acquire := waysToAcquire([]*zael.Limiter{r.l, r.another(nil)})[way]
			got := race(t, 1000, func(i int) error {
				req := req
				req.Entity = fmt.Sprintf("child-%d", i%children)
				err := acquire(r.ctx, i/children, req)
				if err == nil {
					each[i%children].Add(1)
				}
				return err
			})
			if got != 100 { // memstore takes from both in one step
				t.Errorf("got %d admitted, want the 100 of the parent", got)
			}
			for i := range each {
				if n := each[i].Load(); n > 30 {
					t.Errorf("child %d: got %d, want at most 30", i, n)
				}
			}
		})
	}
}

// Bug of others (x/time/rate admits 10,000 of 10,000 where 112 are allowed):
// timestamps that interleave by 20 ms between goroutines admit far too much.
func TestInterleavedClocks(t *testing.T) {
	t.Parallel()
	var looks atomic.Int64
	clock := func() time.Time { return t0().Add(time.Duration((looks.Add(1)-1)%2) * 20 * time.Millisecond) }
	l, err := zael.New(memstore.New(nil), &zael.Config{Clock: clock, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	req := ask(zael.Amounts{"rps": 1}, zael.PerSecond("rps", 600).WithBurst(100))
	whole := req
	whole.Consume = zael.Amounts{"rps": 100}
	if err := l.Allow(t.Context(), whole); err != nil { // at the earlier of the two instants
		t.Fatal(err)
	}
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 200 {
				if l.Allow(t.Context(), req) == nil {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := admitted.Load(); got != 12 {
		t.Errorf("got %d of 2,000 admitted after the burst, want the 12 of 20 ms", got)
	}
}

// Leases that are rolled back while others acquire: in the end all is there.
func TestConcurrentRollbacks(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpd": 3}, zael.PerDay("rpd", 100))
	failed := errors.New("failed")
	for range 5 {
		race(t, 200, func(int) error {
			err := r.l.Do(r.ctx, req, func(ctx context.Context, lease *zael.Lease) error {
				if err := lease.Consume(ctx, zael.Amounts{"rpd": 1}); err != nil && !errors.Is(err, zael.ErrExceeded) {
					return err
				}
				if err := lease.Rollback(ctx); err != nil {
					return err
				}
				return failed
			})
			if errors.Is(err, failed) {
				return nil
			}
			return err
		})
	}
	r.left(req, zael.Amounts{"rpd": 100})
}

// Limits that change while they are used: nobody gets an error, and in the end
// the last ones hold.
func TestConcurrentChangesOfLimits(t *testing.T) {
	t.Parallel()
	r := setup(t)
	scope := zael.Scope{Entity: "key-1"}
	r.set(scope, zael.PerDay("rpd", 1000))
	other := r.another(nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 100 {
				err := r.l.Allow(r.ctx, askStored(zael.Amounts{"rpd": int64(i % 2)}))
				if err != nil && !errors.Is(err, zael.ErrExceeded) && !errors.Is(err, zael.ErrContention) {
					t.Errorf("got %v, want it answered", err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range int64(50) {
			if err := other.SetLimits(r.ctx, scope, []zael.Limit{zael.PerDay("rpd", 1000+i)}); err != nil {
				t.Errorf("SetLimits: got %v, want no error", err)
			}
		}
	})
	wg.Wait()
	r.clock.set(time.Minute)
	r.allow(askStored(zael.Amounts{"rpd": 1}))
	r.left(askStored(nil), zael.Amounts{"rpd": 1049 - 201})
}
