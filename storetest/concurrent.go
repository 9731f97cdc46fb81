package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func concurrentChecks() []check {
	return []check{
		{name: "1000 callers on a limit of 100", run: callersOnOneLimit},
		{name: "1000 callers on two limits", run: callersOnTwoLimits},
		{name: "callers on many buckets", run: callersOnManyBuckets},
		{name: "callers with clocks 20 ms apart", run: callersWithClocksApart},
		{name: "callers who give back", run: callersWhoGiveBack},
		{name: "nobody sees a bucket half charged", run: neverHalfCharged},
		{name: "all methods may be called at once", run: everythingAtOnce},
	}
}

// together makes n calls at once and returns the first error.
func together(n int, call func(i int) error) error {
	start := make(chan struct{})
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// try takes, and reports whether the debits fit. It tries again after ErrContention.
func (e *env) try(ctx context.Context, now time.Time, debits ...zael.Debit) (bool, error) {
	for {
		_, err := e.take(ctx, now, 0, debits...)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, zael.ErrExceeded):
			return false, nil
		case errors.Is(err, zael.ErrContention) && ctx.Err() == nil:
			runtime.Gosched() // nothing was taken
		default:
			return false, err
		}
	}
}

// contest lets n callers take the same at once and counts the admitted.
func (e *env) contest(ctx context.Context, n int, take func(i int) []zael.Debit) (int64, error) {
	var admitted atomic.Int64
	err := together(n, func(i int) error {
		ok, err := e.try(ctx, e.t0, take(i)...)
		if ok {
			admitted.Add(1)
		}
		return err
	})
	return admitted.Load(), err
}

func callersOnOneLimit(ctx context.Context, e *env) error {
	k := key("alice")
	d := never(100)
	admitted, err := e.contest(ctx, 1000, func(int) []zael.Debit {
		return []zael.Debit{debit(k, ask("rpm", d, 1))}
	})
	if err != nil {
		return err
	}
	if admitted != 100 {
		return fmt.Errorf("1000 callers on a limit of 100: got %d admitted, want 100", admitted)
	}
	s := e.script(ctx)
	s.left(0, k, "rpm", d, 0)
	return s.err
}

// callersOnTwoLimits lets the slower limit decide, and then the other; the one
// that would admit more is charged for the admitted only.
func callersOnTwoLimits(ctx context.Context, e *env) error {
	s := e.script(ctx)
	for i, tt := range []struct {
		rpm, tpm       bucket.Definition
		want           int64
		rpmLeft, tLeft int64
	}{
		{never(100), define(1_000_000, 1_000_000, time.Second), 100, 0, 999_300},
		{never(1000), never(350), 50, 950, 0},
	} {
		k := key(fmt.Sprintf("entity-%d", i))
		admitted, err := e.contest(ctx, []int{1000, 300}[i], func(int) []zael.Debit {
			return []zael.Debit{debit(k, ask("rpm", tt.rpm, 1), ask("tpm", tt.tpm, 7))}
		})
		if err != nil {
			return err
		}
		if admitted != tt.want {
			return fmt.Errorf("callers of 1 of %d and 7 of %d: got %d admitted, want %d", tt.rpm.Burst, tt.tpm.Burst, admitted, tt.want)
		}
		s.left(0, k, "rpm", tt.rpm, tt.rpmLeft)
		s.left(0, k, "tpm", tt.tpm, tt.tLeft)
	}
	return s.err
}

func callersOnManyBuckets(ctx context.Context, e *env) error {
	const buckets = 40
	d := never(5)
	admitted, err := e.contest(ctx, buckets*12, func(i int) []zael.Debit {
		return []zael.Debit{debit(key(fmt.Sprintf("entity-%d", i%buckets)), ask("rpm", d, 1))}
	})
	if err != nil {
		return err
	}
	if admitted != 5*buckets {
		return fmt.Errorf("12 callers on each of %d limits of 5: got %d admitted, want %d", buckets, admitted, 5*buckets)
	}
	var keys []zael.Key
	for i := range buckets {
		keys = append(keys, key(fmt.Sprintf("entity-%d", i)))
	}
	s := e.script(ctx)
	s.leftOf(keys, "rpm", d, func(int) int64 { return 0 })
	return s.err
}

// callersWithClocksApart interleaves timestamps: half of the callers have a
// clock 20 ms ahead.
func callersWithClocksApart(ctx context.Context, e *env) error {
	const (
		workers, each = 8, 150
		step          = 100 * time.Microsecond
		apart         = 20 * time.Millisecond
	)
	d := define(100, 1000, time.Second)
	var admitted atomic.Int64
	err := together(workers, func(w int) error {
		for i := range each {
			now := e.t0.Add(time.Duration(i) * step)
			if w%2 == 0 {
				now = now.Add(apart)
			}
			ok, err := e.try(ctx, now, debit(key("alice"), ask("rpm", d, 1)))
			if err != nil {
				return err
			}
			if ok {
				admitted.Add(1)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The whole span, clocks included, is 35 ms: 35 tokens.
	if got := admitted.Load(); got < 100 || got > 135 {
		return fmt.Errorf("%d callers on a burst of 100 and 1000/s within %v, clocks %v apart: got %d admitted, want 100 to 135",
			workers*each, each*step, apart, got)
	}
	return nil
}

// callersWhoGiveBack hold at most what the limit allows at any time, and leave
// a full bucket.
func callersWhoGiveBack(ctx context.Context, e *env) error {
	const workers, burst = 12, 5
	k := key("alice")
	d := never(burst)
	var held, most atomic.Int64
	err := together(workers, func(int) error {
		for range e.times(20) {
			lease := debit(k, ask("in-flight", d, 1))
			ok, err := e.try(ctx, e.t0, lease)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			n := held.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				continue
			}
			runtime.Gosched()
			held.Add(-1)
			if _, err := e.adjust(ctx, e.t0, debit(k, back(lease.Charges[0], 1))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if got := most.Load(); got < 1 || got > burst {
		return fmt.Errorf("leases held at one time: got %d, want 1 to %d", got, burst)
	}
	s := e.script(ctx)
	s.left(0, k, "in-flight", d, burst)
	return s.err
}

// neverHalfCharged takes the same from two limits, and reads, while others do.
func neverHalfCharged(ctx context.Context, e *env) error {
	k := key("alice")
	d := never(int64(6 * e.times(20)))
	return together(6, func(int) error {
		for range e.times(20) {
			if ok, err := e.try(ctx, e.t0, debit(k, ask("rpm", d, 1), ask("tpm", d, 1))); err != nil || !ok {
				return fmt.Errorf("Take within the burst: got %w, want it admitted", orNil(err))
			}
			at, got, err := e.read(ctx, e.t0, k)
			if err != nil {
				return err
			}
			if rpm, tpm := level(limitOf(got[0], "rpm"), at), level(limitOf(got[0], "tpm"), at); rpm != tpm {
				return fmt.Errorf("limits always charged together: got %d and %d units taken, want the same", rpm, tpm)
			}
		}
		return nil
	})
}

// everythingAtOnce calls every method that the store has from several
// goroutines, for the race detector, and for locks that wait for each other.
func everythingAtOnce(ctx context.Context, e *env) error {
	d := never(bucket.MaxAmount)
	return together(6, func(w int) error {
		for i := range e.times(3) {
			id := fmt.Sprintf("entity-%d", (w+i)%3)
			if err := e.everyMethod(ctx, id, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// everyMethod calls each method once; what one worker makes another deletes.
func (e *env) everyMethod(ctx context.Context, id string, d bucket.Definition) error {
	k, event := key(id), e.event(0, zael.LimitsSet, id, "")
	var errs []error
	note := func(err error) { errs = append(errs, err) }

	_, err := e.try(ctx, e.t0, debit(k, ask("rpm", d, 1)), debit(key("parent"), ask("rpm", d, 1)))
	note(err)
	_, err = e.adjust(ctx, e.t0, debit(k, ask("rpm", d, 1)))
	note(err)
	_, _, err = e.read(ctx, e.t0, k, key("parent"))
	note(err)
	if s, ok := e.store.(zael.EntityStore); ok {
		note(s.CreateEntity(ctx, zael.Entity{ID: id, Name: id, ParentID: "parent", CreatedAt: e.t0}, event))
		_, err = s.Entities(ctx, []string{id, "parent"})
		note(err)
		_, err = collect(s.Children(ctx, "parent"))
		note(err)
	}
	if s, ok := e.store.(zael.LimitStore); ok {
		_, err = s.SetLimits(ctx, zael.Scope{Entity: id}, []zael.Limit{zael.PerMinute("rpm", 1)}, event)
		note(err)
		_, err = s.Limits(ctx, []zael.Scope{{Entity: id}, {}})
		note(err)
		_, err = s.DeleteLimits(ctx, zael.Scope{Entity: id}, event)
		note(err)
		_, err = collect(s.EntityBuckets(ctx, id))
		note(err)
	}
	if s, ok := e.store.(zael.Applier); ok {
		note(s.Apply(ctx, []zael.Edit{e.creates(id, "parent"), e.sets(0, zael.Scope{Entity: id}, zael.PerMinute("rpm", 1))}))
	}
	if s, ok := e.store.(zael.CapacityReader); ok {
		_, err = collect(s.ResourceBuckets(ctx, k.Resource))
		note(err)
	}
	if s, ok := e.store.(zael.UsageStore); ok {
		_, err = collect(s.Usage(ctx, zael.UsageQuery{Entity: id}))
		note(err)
	}
	if s, ok := e.store.(zael.AuditStore); ok {
		_, err = collect(s.Audit(ctx, zael.AuditQuery{}))
		note(err)
	}
	if s, ok := e.store.(zael.EntityStore); ok {
		note(s.DeleteEntity(ctx, id, event))
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, zael.ErrEntityExists) && !errors.Is(err, zael.ErrEntityNotFound) && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return nil
}
