package zael_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
)

// panics expects the store's panic.
func panics(t *testing.T, what string, call func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := recover(); got != "a bug" {
			t.Errorf("%s: got panic %v, want the store's", what, got)
		}
	}()
	call()
}

// A store's panic goes on to the caller and leaves nothing behind that later callers
// meet: no deadline of its call, no lock.
func TestStorePanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, f := t.Context(), newFaulty()
		l, err := zael.New(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		req, one := ask(nil, two()...), zael.Amounts{"rpm": 1}
		reserve := func() *zael.Lease {
			t.Helper()
			lease, err := l.Reserve(ctx, req)
			if err != nil {
				t.Fatalf("Reserve: got %v, want a lease", err)
			}
			return lease
		}
		kept, committed, rolledBack := reserve(), reserve(), reserve()
		if err := errors.Join(committed.Adjust(one), rolledBack.Consume(ctx, one)); err != nil {
			t.Fatal(err)
		}
		for what, call := range map[string]func(){
			"Allow":           func() { _ = l.Allow(ctx, req) },
			"Allow, stored":   func() { _ = l.Allow(ctx, lastResort(nil)) },
			"Reserve":         func() { _, _ = l.Reserve(ctx, req) },
			"Reserve, stored": func() { _, _ = l.Reserve(ctx, lastResort(nil)) },
			"Available":       func() { _, _ = l.Available(ctx, queryOf(req)) },
			"Consume":         func() { _ = kept.Consume(ctx, one) },
			"Commit":          func() { _ = committed.Commit(ctx) },
			"Rollback":        func() { _ = rolledBack.Rollback(ctx) },
		} {
			var ended <-chan struct{}
			f.set(func(ctx context.Context) error {
				ended = ctx.Done()
				panic("a bug")
			})
			panics(t, what, call)
			select {
			case <-ended:
			default:
				t.Errorf("%s: its context has not ended", what)
			}
			f.set(func(ctx context.Context) error { return ctx.Err() })
			time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
			reserve()
			if err := l.Allow(ctx, lastResort(nil)); err != nil {
				t.Errorf("after %s: got %v, want it admitted", what, err)
			}
		}
		if err := kept.Consume(ctx, one); err != nil || kept.Consumed()["rpm"] != 1 {
			t.Errorf("a lease after its Consume panicked: got %v, %v, want it as it was", err, kept.Consumed())
		}
		for _, lease := range []*zael.Lease{kept, committed, rolledBack} {
			if err := lease.Rollback(ctx); err != nil {
				t.Errorf("Rollback: got %v, want nil", err)
			}
		}
	})
}

// A caller that waits for a reading by another one whose store panics reads by itself.
func TestReaderPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		l, err := zael.New(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		begun, second := make(chan struct{}), make(chan struct{})
		f.set(func(context.Context) error {
			once.Do(func() {
				close(begun)
				<-second
				panic("a bug")
			})
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { panics(t, "the reader", func() { _ = l.Allow(t.Context(), lastResort(nil)) }) })
		<-begun
		wg.Go(func() {
			if err := l.Allow(t.Context(), lastResort(nil)); err != nil {
				t.Errorf("who waits: got %v, want it admitted", err)
			}
		})
		synctest.Wait()
		close(second)
		wg.Wait()
	})
}

// A panic is not a failure of the engine: if the probe panics, the breaker closes as
// after any answer.
func TestProbePanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, req := newFaulty(), ask(nil, two()...)
		l, err := zael.New(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.set(func(context.Context) error { return zael.ErrUnavailable })
		for range 10 {
			_ = l.Allow(t.Context(), req)
		}
		if l.Stats().Breaks != 1 {
			t.Fatalf("got %d breaks, want 1", l.Stats().Breaks)
		}
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		f.set(func(context.Context) error { panic("a bug") })
		panics(t, "the one who tries", func() { _ = l.Allow(t.Context(), req) })
		f.set(nil)
		if err := l.Allow(t.Context(), req); err != nil {
			t.Errorf("after it: got %v, want it admitted", err)
		}
	})
}
