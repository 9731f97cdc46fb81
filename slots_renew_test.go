package zael_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A renewing store is memstore with the role SlotStore, whose answers a test gives.
type renewing struct {
	*memstore.Store
	renew func(now time.Time, d zael.Debit) (bool, error)
}

func (s *renewing) Renew(_ context.Context, now time.Time, d zael.Debit) (bool, error) {
	return s.renew(now, d)
}

// TestRenewals: slots are renewed in one call a bucket each quarter of the hold, and only
// while they are held; Held follows the answers.
func TestRenewals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var mu sync.Mutex
		var calls []time.Duration
		held, failure := true, error(nil)
		s := &renewing{Store: memstore.New(nil)}
		s.renew = func(_ time.Time, d zael.Debit) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, time.Since(begun))
			if d.Holder == "" || len(d.Charges) != 1 || d.Charges[0].Amount != 3 {
				t.Errorf("renewal %d: got %+v, want 3 slots of a holder", len(calls), d)
			}
			return held, failure
		}
		l, err := zael.New(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := slotPolicy(t, 5)
		a, err := l.Acquire(t.Context(), p.For("key-1", 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Acquire(t.Context(), p.For("key-1", 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		wait := func(d time.Duration, want bool) {
			t.Helper()
			time.Sleep(d) //nolint:forbidigo // in synctest's time
			synctest.Wait()
			if a.Held() != want || b.Held() != want {
				t.Errorf("after %v: Held: got %v and %v, want %v", time.Since(begun), a.Held(), b.Held(), want)
			}
		}
		wait(61*time.Second, true)
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(calls)
		}
		if n := count(); n != 4 || calls[0] != 15*time.Second || calls[3] != time.Minute {
			t.Errorf("got renewals at %v, want 4 in a minute", calls)
		}
		answer := func(h bool, err error) {
			mu.Lock()
			held, failure = h, err
			mu.Unlock()
		}
		answer(false, nil)
		wait(15*time.Second, false) // others have taken them
		answer(true, nil)
		wait(15*time.Second, true) // there was room again
		answer(true, errors.New("the store is silent"))
		wait(28*time.Second, true)
		wait(2*time.Second, false) // half a hold after the last answer
		if err := a.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
		n := count()
		time.Sleep(time.Hour) //nolint:forbidigo // in synctest's time
		if more := count() - n; more != 0 {
			t.Errorf("%d renewals after all was released", more)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A lease with slots of several buckets is held if all of them are, and what it takes later
// does not make it held again.
func TestHeldInAllBuckets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Value // the entity
		lost.Store("child")
		s := &renewing{Store: memstore.New(nil)}
		s.renew = func(_ time.Time, d zael.Debit) (bool, error) { return d.Key.Entity != lost.Load(), nil }
		l, err := zael.New(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []zael.Entity{{ID: "parent"}, {ID: "child", ParentID: "parent"}} {
			if _, err := l.CreateEntity(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		req := slotPolicy(t, 5).For("child", 1, 1)
		req.Cascade = true
		lease, err := l.Acquire(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			lost.Store([]string{"child", "parent"}[i%2])
			time.Sleep(15 * time.Second) //nolint:forbidigo // in synctest's time
			synctest.Wait()
			if lease.Held() {
				t.Errorf("after renewal %d, in which the slots of the %s were lost: got Held", i+1, lost.Load())
			}
			if err := lease.Consume(t.Context(), zael.Amounts{"rpm": 1}); err != nil {
				t.Error(err)
			}
			if lease.Held() {
				t.Errorf("after renewal %d and a take of tokens: got Held", i+1)
			}
		}
		if err := lease.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
