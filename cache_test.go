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
	"github.com/zeroae/zael/memstore"
)

// gate makes a fake's readings of limits wait until it is opened.
func gate(f *fake) (open func()) {
	gate := make(chan struct{})
	f.limits = func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
		sets, err := f.Store.Limits(ctx, scopes) // as they are now
		select {
		case <-gate:
			return sets, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return sync.OnceFunc(func() { close(gate) })
}

// Concurrent first callers make one reading, though each looks at the clock by
// itself: those whose time is a little before the reader's too.
func TestFirstCallersMakeOneReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{Store: memstore.New(nil)}
		var looks atomic.Int64
		l, err := zael.New(f, &zael.Config{Clock: func() time.Time {
			return t0().Add(-time.Duration(looks.Add(1)) * time.Millisecond)
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SetLimits(t.Context(), zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 1e6)}); err != nil {
			t.Fatal(err)
		}
		open := gate(f)
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				if err := l.Allow(t.Context(), askStored(zael.Amounts{"rpd": 1})); err != nil {
					t.Errorf("got %v, want it admitted", err)
				}
			})
		}
		synctest.Wait()
		open()
		wg.Wait()
		if limits, entities := f.limitReads.Load(), f.entityReads.Load(); limits != 1 || entities != 1 {
			t.Errorf("got %d readings of limits and %d of the entity, want 1 each", limits, entities)
		}
	})
}

// A caller that waits for another's reading waits no longer than its own deadline, and
// callers of other keys do not wait at all. Once the reader has given up the
// next one reads.
func TestStalledReaderHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{Store: memstore.New(nil)}
		l, err := zael.New(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SetLimits(t.Context(), zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 500)}); err != nil {
			t.Fatal(err)
		}
		f.limits = func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
			if scopes[0].Entity == "key-1" && f.limitReads.Load() == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return f.Store.Limits(ctx, scopes)
		}
		start := time.Now()
		var wg sync.WaitGroup
		caller := func(req zael.Request, timeout, took time.Duration, want error) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				err := l.Allow(ctx, req)
				if !errors.Is(err, want) || time.Since(start) != took {
					t.Errorf("timeout %v: got %v at %v, want %v at %v", timeout, err, time.Since(start), want, took)
				}
			})
			synctest.Wait()
		}
		stored := askStored(zael.Amounts{"rpd": 1})
		other := stored
		other.Entity = "key-2"
		caller(stored, time.Hour, time.Second, zael.ErrUnavailable) // the reader
		for _, timeout := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond} {
			caller(stored, timeout, timeout, context.DeadlineExceeded)
		}
		caller(other, time.Hour, 0, nil)
		explicit := ask(nil, zael.PerDay("rpd", 1))
		caller(explicit, time.Hour, 0, nil)
		time.Sleep(900 * time.Millisecond)          //nolint:forbidigo // the bubble's clock
		caller(stored, time.Hour, time.Second, nil) // reads when the reader gives up
		caller(stored, time.Hour, time.Second, nil)
		wg.Wait()
		if n := f.limitReads.Load(); n != 3 {
			t.Errorf("got %d readings, want 3: the stalled one, key-2's and the next one of key-1", n)
		}
	})
}

// When a reader leaves, the next one reads.
func TestReaderWhoLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{Store: memstore.New(nil)}
		l, err := zael.New(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SetLimits(t.Context(), zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 500)}); err != nil {
			t.Fatal(err)
		}
		open := gate(f)
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := l.Allow(ctx, askStored(nil)); !errors.Is(err, context.Canceled) {
				t.Errorf("who left: got %v, want context.Canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := l.Allow(t.Context(), askStored(zael.Amounts{"rpd": 0})); err != nil {
				t.Errorf("the next one: got %v, want it admitted", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		open()
		wg.Wait()
	})
}

// What was read before a change through the same Limiter, and arrives after it,
// is not remembered.
func TestReadingUnderWayDuringAChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{Store: memstore.New(nil)}
		l, err := zael.New(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		set := func(n int64) {
			if err := l.SetLimits(t.Context(), zael.Scope{}, []zael.Limit{zael.PerDay("rpd", n)}); err != nil {
				t.Fatal(err)
			}
		}
		set(10)
		open := gate(f)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := l.Allow(t.Context(), askStored(zael.Amounts{"rpd": 0})); err != nil {
				t.Errorf("got %v, want it admitted", err)
			}
		})
		synctest.Wait()
		set(20)
		open()
		wg.Wait()
		got, err := l.Available(t.Context(), queryOf(askStored(nil)))
		if err != nil || got["rpd"] != 20 {
			t.Errorf("after the change: got %v, %v, want 20", got, err)
		}
	})
}

// What is remembered is bounded: of very many keys the oldest are read again.
func TestMemoryOfStoredLimitsIsBounded(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	const size = 500
	zael.ShrinkCaches(r.l, size)
	stored := []zael.LimitSet{{Limits: []zael.Limit{zael.PerDay("rpd", 500)}, Rev: 1}}
	nobody := make([]zael.Entity, 1)
	f.limits = func(context.Context, []zael.Scope) ([]zael.LimitSet, error) { return stored, nil }
	f.ents = func(context.Context, []string) ([]zael.Entity, error) { return nobody, nil }
	f.local = func(now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, bool, error) { return now, true, nil }
	look := func(i int) {
		req := askStored(nil)
		req.Entity = fmt.Sprintf("key-%d", i)
		r.allow(req)
	}
	look(0)
	look(0)
	if n := f.limitReads.Load(); n != 1 {
		t.Fatalf("got %d readings, want 1", n)
	}
	const keys = 2*size + 1
	for i := 1; i < keys; i++ {
		look(i)
		if i%(size/2) == 0 {
			look(1) // in use all the time
		}
	}
	if n := f.limitReads.Load(); n != keys {
		t.Errorf("got %d readings, want one for each of %d keys", n, keys)
	}
	look(0)
	if n := f.limitReads.Load(); n != keys+1 {
		t.Errorf("the oldest key: got %d readings, want one more than %d", n, keys)
	}
	look(1)
	if n := f.limitReads.Load(); n != keys+1 {
		t.Errorf("a key in use: got %d readings, want it remembered", n)
	}
}
