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

// A renewing store is memstore with the role SlotStore, and a test between it and the Limiter.
type renewing struct {
	*memstore.Store
	renew func(ctx context.Context, now time.Time, d zael.Debit) (bool, error) // nil: as memstore does
	take  func(d zael.Debit) error                                             // nil: as memstore does; of takes that are not answered from memory

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

func (s *renewing) Renew(ctx context.Context, now time.Time, d zael.Debit) (bool, error) {
	if s.renew != nil {
		return s.renew(ctx, now, d)
	}
	return s.extend(ctx, now, d)
}

func (s *renewing) extend(ctx context.Context, now time.Time, d zael.Debit) (bool, error) {
	_, held, err := s.Extend(ctx, now, d)
	return held, err
}

func (s *renewing) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if s.take != nil {
		return now, s.take(debits[0])
	}
	return s.Store.Take(ctx, now, maxWait, debits)
}

// limiter returns a Limiter on the store.
func (s *renewing) limiter(t *testing.T) *zael.Limiter {
	t.Helper()
	l, err := zael.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A renewedSlots is a Limiter on a renewing store, in synctest's time.
type renewedSlots struct {
	*testing.T
	store *renewing
	l     *zael.Limiter
	p     *zael.Policy
	begun time.Time

	mu     sync.Mutex
	calls  []time.Duration // when renewals came
	silent bool            // they are not answered
}

func newRenewedSlots(t *testing.T) *renewedSlots {
	t.Helper()
	r := &renewedSlots{T: t, store: &renewing{Store: memstore.New(nil)}, p: slotPolicy(t, 5), begun: time.Now()}
	r.store.renew = func(ctx context.Context, now time.Time, d zael.Debit) (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.calls = append(r.calls, time.Since(r.begun)); r.silent {
			return false, errors.New("the store is silent")
		}
		return r.store.extend(ctx, now, d)
	}
	r.l = r.store.limiter(t)
	return r
}

func (r *renewedSlots) acquire(n int64) *zael.Lease {
	r.Helper()
	lease, err := r.l.Acquire(r.Context(), r.p.For("key-1", 1, n))
	if err != nil {
		r.Fatal(err)
	}
	return lease
}

func (r *renewedSlots) silence(silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = silent
}

// wait waits until a time, and checks when renewals came since the last call.
func (r *renewedSlots) wait(until time.Duration, want ...time.Duration) {
	r.Helper()
	time.Sleep(until - time.Since(r.begun)) //nolint:forbidigo // in synctest's time
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.calls, want) {
		r.Errorf("until %v: got renewals at %v, want them at %v", until, r.calls, want)
	}
	r.calls = nil
}

func (r *renewedSlots) close(leases ...*zael.Lease) {
	r.Helper()
	for _, lease := range leases {
		if err := lease.Rollback(r.Context()); err != nil {
			r.Error(err)
		}
	}
	r.wait(time.Since(r.begun) + time.Hour)
	if err := r.l.Close(r.Context()); err != nil {
		r.Error(err)
	}
}

// TestRenewals: slots are renewed in one call a bucket each quarter of the hold, and only
// while they are held.
func TestRenewals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewedSlots(t)
		a, b := r.acquire(1), r.acquire(2)
		r.wait(61*time.Second, 15*time.Second, 30*time.Second, 45*time.Second, 60*time.Second)
		if !a.Held() || !b.Held() {
			t.Errorf("Held: got %v and %v, want true", a.Held(), b.Held())
		}
		r.close(a, b)
	})
}

// TestRenewalsArePutOff: what else writes the slots of a bucket moves their deadline as a renewal
// does. What takes no slots does not.
func TestRenewalsArePutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewedSlots(t)
		a := r.acquire(1)
		r.wait(10 * time.Second)
		b := r.acquire(1)
		r.wait(20 * time.Second)
		if err := b.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		r.wait(30 * time.Second)
		if err := r.l.Allow(t.Context(), r.p.For("key-1")); err != nil {
			t.Error(err)
		}
		r.wait(36*time.Second, 35*time.Second)
		for until := 40 * time.Second; until < 10*time.Minute; until += 10 * time.Second { // a busy bucket
			if err := r.acquire(1).Commit(t.Context()); err != nil {
				t.Error(err)
			}
			r.wait(until)
			if !a.Held() {
				t.Errorf("at %v: got Held false", until)
			}
		}
		r.wait(600*time.Second, 595*time.Second)
		r.close(a)
	})
}

// TestTrap08HeldUntilTheDeadline is trap 8 of the kinds: if nothing is answered a lease is held for
// half of its hold, not until its deadline, as clocks differ.
func TestTrap08HeldUntilTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewedSlots(t)
		r.silence(true)
		a := r.acquire(5)
		others := (&renewing{Store: r.store.Store}).limiter(t)
		at := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
		r.wait(at(29.9), at(15), at(22.5))
		if !a.Held() {
			t.Error("before half the hold: got Held false")
		}
		r.wait(at(30.1), at(30))
		if a.Held() {
			t.Error("after half the hold: got Held")
		}
		if _, err := others.Acquire(t.Context(), r.p.For("key-1", 1, 1)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("others, before the deadline: got %v, want a refusal", err)
		}
		r.wait(at(60.1), at(37.5), at(45), at(52.5), at(60))
		theirs, err := others.Acquire(t.Context(), r.p.For("key-1", 1, 1))
		if err != nil {
			t.Fatalf("others, after it: got %v", err)
		}
		if err := errors.Join(theirs.Commit(t.Context()), a.Rollback(t.Context()), others.Close(t.Context()), r.l.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// TestHeldAfterAWait: a lease that has waited long for its slots holds them from then on.
func TestHeldAfterAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewedSlots(t)
		a := r.acquire(5)
		ended := make(chan *zael.Lease)
		go func() {
			req := r.p.For("key-1", 1, 1)
			req.MaxWait = time.Minute
			lease, err := r.l.Acquire(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			ended <- lease
		}()
		r.wait(50*time.Second, 15*time.Second, 30*time.Second, 45*time.Second)
		if err := a.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		b := <-ended
		if !b.Held() {
			t.Error("after a wait of 50s: got Held false")
		}
		r.close(b)
	})
}

// TestRenewalsOfASilentStore: a renewal that is not answered is repeated before the lease ceases to
// be held; slots that others have taken are taken again when there is room.
func TestRenewalsOfASilentStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewedSlots(t)
		a := r.acquire(3)
		held := func(want bool) {
			t.Helper()
			if got := a.Held(); got != want {
				t.Errorf("at %v: Held: got %v, want %v", time.Since(r.begun), got, want)
			}
		}
		at := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
		r.wait(at(16), at(15))
		r.silence(true)
		r.wait(at(30.5), at(30))
		r.silence(false)
		r.wait(at(40), at(37.5))
		held(true) // without a moment in which it was not
		r.silence(true)
		r.wait(at(67), at(52.5), at(60))
		held(true)
		r.wait(at(68), at(67.5))
		held(false)
		r.wait(at(96), at(75), at(82.5), at(90))

		others := (&renewing{Store: r.store.Store}).limiter(t)
		r.wait(at(98), at(97.5)) // a hold after the last answer
		theirs, err := others.Acquire(t.Context(), r.p.For("key-1", 1, 3))
		if err != nil {
			t.Fatal(err)
		}
		r.silence(false)
		r.wait(at(106), at(105)) // removed
		held(false)
		r.wait(at(121)) // asked again: there is no room
		held(false)
		if err := theirs.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		r.wait(at(136))
		held(true)
		if _, err := others.Acquire(t.Context(), r.p.For("key-1", 1, 3)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("beside 3 of 5: got %v, want a refusal", err)
		}
		if theirs, err = others.Acquire(t.Context(), r.p.For("key-1", 1, 2)); err != nil {
			t.Errorf("the other 2 of 5: got %v", err)
		}
		if err := errors.Join(theirs.Commit(t.Context()), others.Close(t.Context())); err != nil {
			t.Error(err)
		}
		r.wait(at(151), at(150))
		r.close(a)
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
		s.renew = func(_ context.Context, _ time.Time, d zael.Debit) (bool, error) {
			return d.Key.Entity != lost.Load(), nil
		}
		s.take = func(d zael.Debit) error {
			if d.Key.Entity == lost.Load() {
				return zael.ErrExceeded
			}
			d.Charges[0].Receipt.Generation++
			return nil
		}
		l := s.limiter(t)
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

// TestRenewTakesWhatIsHeld: slots that are taken again, as others had removed them, are those that
// leases hold at that moment: what was released while the take was on its way is released
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
				var err error
				var released [][]release
				sums := map[uint64]int64{}
				s.renew = func(_ context.Context, _ time.Time, d zael.Debit) (bool, error) {
					mu.Lock()
					defer mu.Unlock()
					sums[d.Charges[0].Receipt.Generation] += d.Charges[0].Amount
					return d.Charges[0].Receipt.Generation == 7, nil
				}
				s.take = func(d zael.Debit) error { // again
					mu.Lock()
					defer mu.Unlock()
					if len(released) > 0 {
						return zael.ErrExceeded
					}
					if err := c.during(t.Context(), leases[0], leases[1]); err != nil {
						t.Error(err)
					}
					released = append(released, s.takeReleased())
					d.Charges[0].Receipt.Generation = 7
					return nil
				}
				l := s.limiter(t)
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
