package zael_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// line is a request for one token of a bucket of 2 that refills one a second.
func line(maxWait time.Duration) zael.Request {
	req := ask(zael.Amounts{"a": 1}, zael.PerSecond("a", 1).WithBurst(2))
	req.MaxWait = maxWait
	return req
}

// First come, first served: each place in line is a second later.
func TestMaxWaitReservesInOrder(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for i, want := range []time.Duration{0, 0, time.Second, 2 * time.Second, 3 * time.Second} {
		if got := r.lease(line(3 * time.Second)).Delay(); got != want {
			t.Errorf("caller %d: got a delay of %v, want %v", i, got, want)
		}
	}
	_, err := r.l.Reserve(r.ctx, line(3*time.Second))
	if e := r.refusal(err); e.RetryAfter() != 4*time.Second || !e.Statuses()[0].Exceeded || e.Statuses()[0].Available != -3 {
		t.Errorf("beyond the bound: got %+v, want 3 in debt, retry after 4s", e.Statuses())
	}
	if got := r.lease(line(4 * time.Second)).Delay(); got != 4*time.Second {
		t.Errorf("with a longer MaxWait: got %v, want 4s", got)
	}
	r.clock.set(1500 * time.Millisecond)
	if got := r.lease(line(time.Minute)).Delay(); got != 3500*time.Millisecond {
		t.Errorf("later: got a delay of %v, want 3.5s", got)
	}
}

func TestMaxWaitBoundIsExact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		maxWait time.Duration
		ok      bool
	}{{time.Second - 1, false}, {time.Second, true}} {
		r := setup(t)
		r.lease(line(0))
		r.lease(line(0))
		lease, err := r.l.Reserve(r.ctx, line(c.maxWait))
		if ok := err == nil; ok != c.ok || ok && lease.Delay() != time.Second {
			t.Errorf("MaxWait %v: got %v, want admitted: %v", c.maxWait, err, c.ok)
		}
	}
}

// While a line stands, nobody without MaxWait gets in: neither with an amount
// nor to check.
func TestNoMaxWaitIsRefusedWhileALineStands(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for range 4 {
		r.lease(line(time.Minute))
	}
	check := line(0)
	check.Consume = zael.Amounts{"a": 0}
	for _, s := range []float64{0, 0.5, 1, 1.999} {
		r.clock.set(time.Duration(s * float64(time.Second)))
		r.refuses(line(0))
		r.refuses(check)
		if err := r.l.Allow(r.ctx, line(time.Minute)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("at %v s: Allow with MaxWait: got %v, want a refusal, as it never waits", s, err)
		}
	}
	r.clock.set(2 * time.Second) // the last one's time has come
	r.allow(check)
	r.refuses(line(0))
	r.clock.set(3 * time.Second)
	r.allow(line(0))
}

func TestDelayIsThatOfTheSlowestLimit(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"a": 5, "b": 5}, zael.PerSecond("a", 1).WithBurst(10), zael.PerSecond("b", 1).WithBurst(7), zael.PerSecond("c", 1))
	req.MaxWait = time.Minute
	r.lease(req)
	if got := r.lease(req).Delay(); got != 3*time.Second {
		t.Errorf("got a delay of %v, want the 3 s of b", got)
	}
	// All or none holds for places in line too.
	req.MaxWait = 5 * time.Second
	_, err := r.l.Reserve(r.ctx, req)
	e := r.refusal(err)
	for i, exceeded := range []bool{false, true, false} { // a has room in 5 s, b in 8
		if e.Statuses()[i].Exceeded != exceeded {
			t.Errorf("%s: got exceeded %v, want %v", e.Statuses()[i].Limit.Name, e.Statuses()[i].Exceeded, exceeded)
		}
	}
	if e.RetryAfter() != 8*time.Second {
		t.Errorf("got retry after %v, want 8s", e.RetryAfter())
	}
	r.left(req, zael.Amounts{"a": 0, "b": -3, "c": 1})
}

// The last place is given back when it is left; one with others behind it is
// not, as theirs would not move up.
func TestLeavingTheLine(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := line(time.Minute)
	r.lease(req)
	r.lease(req)
	first, second := r.lease(req), r.lease(req)
	r.ok(second.Rollback(r.ctx))
	third := r.lease(req)
	if got := third.Delay(); got != 2*time.Second {
		t.Errorf("after the last one left: got a delay of %v, want its 2s", got)
	}
	r.ok(first.Rollback(r.ctx))
	if got := r.lease(req).Delay(); got != 3*time.Second {
		t.Errorf("after one in the middle left: got a delay of %v, want 3s as before", got)
	}
}

// A place whose time has come is an ordinary charge.
func TestLeavingAPlaceWhoseTimeHasCome(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := line(time.Minute)
	r.lease(req)
	r.lease(req)
	first := r.lease(req)
	r.lease(req)
	r.clock.set(time.Second)
	r.ok(first.Rollback(r.ctx))
	r.left(req, zael.Amounts{"a": 0}) // 4 taken, 1 refilled, 1 given back, of 2
}

func TestContextBoundsMaxWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := l.Allow(t.Context(), line(0)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second-1)
		defer cancel()
		lease, err := l.Reserve(ctx, line(time.Hour))
		if err != nil || lease.Delay() != time.Second {
			t.Fatalf("the place of 1 s: got %v, want it", err)
		}
		if _, err = l.Reserve(ctx, line(time.Hour)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("the place of 2 s: got %v, want a refusal, as the context ends before", err)
		}
		if lease, err = l.Reserve(t.Context(), line(time.Hour)); err != nil || lease.Delay() != 2*time.Second {
			t.Errorf("without a deadline: got %v, want the place of 2 s", err)
		}
		late, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err = l.Reserve(late, line(2*time.Second)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("with a late deadline: got %v, want a refusal by MaxWait", err)
		}
		if _, err = l.Reserve(late, line(0)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("without MaxWait: got %v, want a refusal, as a deadline is no wish to wait", err)
		}
	})
}

// Acquire returns when the tokens are there, and in order.
func TestAcquireSleeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var mu sync.Mutex
		var after []time.Duration
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				lease, err := l.Acquire(t.Context(), line(3*time.Second))
				mu.Lock()
				defer mu.Unlock()
				after = append(after, time.Since(start))
				if err != nil {
					if !errors.Is(err, zael.ErrExceeded) {
						t.Errorf("got %v, want a lease or a refusal", err)
					}
					return
				}
				if lease.Delay() != time.Since(start) {
					t.Errorf("got it after %v, want its delay of %v", time.Since(start), lease.Delay())
				}
			})
		}
		wg.Wait()
		want := []time.Duration{0, 0, 0, time.Second, 2 * time.Second, 3 * time.Second} // one is refused at once
		for i := range want {
			if after[i] != want[i] {
				t.Fatalf("answers: got %v, want %v", after, want)
			}
		}
	})
}

func TestAcquireLeavesTheLineWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := l.Allow(t.Context(), line(0)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		start := time.Now()
		lease, err := l.Acquire(ctx, line(time.Minute))
		if lease != nil || !errors.Is(err, context.Canceled) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("got %v after %v, want context.Canceled after 100ms", err, time.Since(start))
		}
		next, err := l.Reserve(t.Context(), line(time.Minute))
		if err != nil || next.Delay() != 900*time.Millisecond {
			t.Errorf("the next one: got %v, want the place that was given back, in 900ms", err)
		}
		called := false
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		err = l.Do(ctx, line(time.Minute), func(context.Context, *zael.Lease) error { called = true; return nil })
		if called || !errors.Is(err, context.Canceled) {
			t.Errorf("Do: got %v, called %v, want context.Canceled and no call", err, called)
		}
	})
}

// A place that the store does not take back after its caller has left is counted.
func TestPlaceThatIsLostIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{Store: memstore.New(nil)}
		l, err := zael.New(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		lease, err := l.Reserve(t.Context(), line(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := lease.Consume(t.Context(), zael.Amounts{"a": 1}); err != nil {
			t.Fatal(err)
		}
		f.adjust = func(context.Context, time.Time, []zael.Debit) (time.Time, error) {
			return time.Time{}, zael.ErrUnavailable
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		time.AfterFunc(950*time.Millisecond, cancel) // when its place has been taken
		_, err = l.Acquire(ctx, line(time.Minute))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := l.Stats().LostGives; got != 1 {
			t.Errorf("LostGives: got %d, want 1", got)
		}
	})
}
