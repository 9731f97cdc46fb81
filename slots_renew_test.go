package zael_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/memstore"
)

// A renewing store is memstore with the role SlotStore, whose answers a test gives.
type renewing struct {
	*memstore.Store
	renew func(now time.Time, d zael.Debit) (bool, error)

	mu       sync.Mutex
	released []release
}

// AdjustLocal keeps what the adjusts of slots are.
func (s *renewing) AdjustLocal(now time.Time, debits []zael.Debit) (time.Time, bool, error) {
	s.mu.Lock()
	for _, d := range debits {
		for _, c := range d.Charges {
			if c.Definition.Kind == bucket.Slots {
				s.released = append(s.released, release{c.Name, c.Receipt.Generation, -c.Amount})
			}
		}
	}
	s.mu.Unlock()
	return s.Store.AdjustLocal(now, debits)
}

// A release is slots of a holder's generation that were released.
type release struct {
	name       string
	generation uint64
	n          int64
}

// takeReleased returns what was released since the last call, without generations above 9.
func (s *renewing) takeReleased() (all []release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.released {
		if r.generation > 9 {
			r.generation = 0 // of the store
		}
		all = append(all, r)
	}
	s.released = nil
	return all
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

// TestRenewTakesWhatIsHeld: a renewal that takes slots again, as others had removed them, takes
// those that leases hold at that moment: what was released while it was on its way is released
// again, and what was taken is taken with the rest by the next one.
func TestRenewTakesWhatIsHeld(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		during func(ctx context.Context, a, b *zael.Lease) error // the renewal
		before []release                                         // while it is on its way
		after  []release
		held   [2]bool
		next   int64 // renewed by the next one under the new generation
	}{
		{
			name:   "a lease ends",
			during: func(ctx context.Context, _, b *zael.Lease) error { return b.Rollback(ctx) },
			before: []release{{"parallel", 0, 2}}, after: []release{{"parallel", 7, 2}}, held: [2]bool{true, false}, next: 1,
		},
		{
			name:   "a lease releases a part",
			during: func(_ context.Context, _, b *zael.Lease) error { return b.Release(zael.Amounts{"parallel": 1}) },
			before: []release{{"parallel", 0, 1}}, after: []release{{"parallel", 7, 1}}, held: [2]bool{true, true}, next: 2,
		},
		{
			name: "a lease takes more",
			during: func(ctx context.Context, _, b *zael.Lease) error {
				return b.Consume(ctx, zael.Amounts{"parallel": 1})
			},
			after: []release{{"parallel", 7, 2}}, held: [2]bool{true, false}, next: 1,
		},
		{
			name:   "nothing happens",
			during: func(context.Context, *zael.Lease, *zael.Lease) error { return nil },
			held:   [2]bool{true, true}, next: 3,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &renewing{Store: memstore.New(nil)}
				var mu sync.Mutex // of what follows
				var leases [2]*zael.Lease
				var released [][]release
				sums := map[uint64]int64{}
				s.renew = func(_ time.Time, d zael.Debit) (bool, error) {
					mu.Lock()
					defer mu.Unlock()
					if len(released) > 0 {
						sums[d.Charges[0].Receipt.Generation] += d.Charges[0].Amount
						return true, nil
					}
					if err := c.during(t.Context(), leases[0], leases[1]); err != nil {
						t.Error(err)
					}
					released = append(released, s.takeReleased())
					d.Charges[0].Receipt.Generation = 7
					return true, nil
				}
				l, err := zael.New(s, nil)
				if err != nil {
					t.Fatal(err)
				}
				p := slotPolicy(t, 5)
				for i := range leases {
					mu.Lock()
					leases[i], err = l.Acquire(t.Context(), p.For("key-1", 1, int64(i)+1))
					mu.Unlock()
					if err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(15 * time.Second) //nolint:forbidigo // in synctest's time
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if released = append(released, s.takeReleased()); len(released) != 2 {
					t.Fatalf("got %d renewals, want 1", len(released)-1)
				}
				if got := released; !slices.Equal(got[0], c.before) || !slices.Equal(got[1], c.after) {
					t.Errorf("released while it was on its way, and after it: got %v, want %v and %v", got, c.before, c.after)
				}
				if got := [2]bool{leases[0].Held(), leases[1].Held()}; got != c.held {
					t.Errorf("Held: got %v, want %v", got, c.held)
				}
				mu.Unlock()
				time.Sleep(15 * time.Second) //nolint:forbidigo // in synctest's time
				synctest.Wait()
				mu.Lock()
				if got := sums[7]; got != c.next {
					t.Errorf("the next renewal: got %v, want %d of generation 7", sums, c.next)
				}
				for _, lease := range leases {
					if err := lease.Rollback(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if err := l.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
