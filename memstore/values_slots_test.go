package memstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// A valued store is asked by value first, as a Limiter does.
type valued struct {
	*memstore.Store
	answered int
}

func (s *valued) take(t *testing.T, now time.Time, d zael.Debit) error {
	t.Helper()
	if d.Holder != "" {
		_, err := s.Take(t.Context(), now, 0, []zael.Debit{d})
		return err
	}
	if v, outcome, ok := s.TakeValues(instantOf(now), d.Key.Entity, policyOf(d), amountsOf(d)); ok {
		s.answered++
		for i := range d.Charges {
			c := &d.Charges[i]
			c.State = bucket.State{Definition: c.Definition, Mark: v.Marks[i], Used: v.Used[i], Generation: v.Generations[i]}
			c.Receipt = c.State.Receipt()
		}
		if outcome != bucket.Fits {
			return zael.ErrExceeded
		}
		return nil
	}
	_, err := s.Take(t.Context(), now, 0, []zael.Debit{d})
	return err
}

func (s *valued) adjust(t *testing.T, now time.Time, d zael.Debit) {
	t.Helper()
	v := zael.Values{}
	for i, c := range d.Charges {
		v.Marks[i], v.Generations[i] = c.Receipt.Mark, c.Receipt.Generation
	}
	if d.Holder == "" && s.AdjustValues(instantOf(now), d.Key.Entity, policyOf(d), amountsOf(d), v) {
		s.answered++
		return
	}
	if _, err := s.Adjust(t.Context(), now, []zael.Debit{d}); err != nil {
		t.Fatal(err)
	}
}

func instantOf(now time.Time) bucket.Instant {
	at, err := bucket.At(now)
	if err != nil {
		panic(err)
	}
	return at
}

func policyOf(d zael.Debit) *zael.PolicyLimits {
	p := &zael.PolicyLimits{Resource: d.Key.Resource}
	for _, c := range d.Charges {
		p.Limits = append(p.Limits, bucket.Limit{Name: c.Name, Definition: c.Definition})
	}
	return p
}

func amountsOf(d zael.Debit) (amounts [4]int64) {
	for i, c := range d.Charges {
		amounts[i] = c.Amount
	}
	return amounts
}

// TestSlotsByValue compares slots that are taken and released by value with those that are
// not, beside holders that are named.
func TestSlotsByValue(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 150) {
		if err := slotsByValue(t, rand.New(rand.NewPCG(seed, 21))); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func slotsByValue(t *testing.T, rng *rand.Rand) error {
	t.Helper()
	stores := [2]*valued{{Store: memstore.New(nil)}, {Store: memstore.New(nil)}}
	now := t0
	var leases [2][]zael.Debit
	named := rng.IntN(2) == 0
	for step := range 200 {
		now = now.Add(time.Duration(rng.IntN(20)) * time.Second)
		if n := len(leases[0]); n > 0 && rng.IntN(2) == 0 {
			i := rng.IntN(n)
			for k, s := range stores {
				d := leases[k][i]
				leases[k][i] = leases[k][n-1]
				leases[k] = leases[k][:n-1]
				for j := range d.Charges {
					d.Charges[j].Amount = -d.Charges[j].Amount
				}
				if k == 0 {
					s.adjust(t, now, d)
				} else if _, err := s.Adjust(t.Context(), now, []zael.Debit{d}); err != nil {
					return err
				}
			}
			continue
		}
		d := zael.Debit{Key: zael.Key{Entity: "alice", Resource: "r"}}
		for i, c := range []zael.Charge{
			{Name: "rpm", Definition: bucket.Definition{Burst: 100, Capacity: 100, Amount: 100, Period: time.Minute}, Amount: rng.Int64N(3)},
			{Name: "slots", Definition: bucket.Definition{Kind: bucket.Slots, Burst: 4, Capacity: 4, Period: time.Minute}, Amount: rng.Int64N(4)},
			{Name: "rpm", Definition: bucket.Definition{Kind: bucket.Slots, Burst: 3, Capacity: 3, Period: 2 * time.Minute}, Amount: rng.Int64N(3)},
		} {
			if i == 0 || rng.IntN(3) > 0 {
				d.Charges = append(d.Charges, c)
			}
		}
		if named && rng.IntN(4) == 0 {
			d.Holder = []string{"A", "B"}[rng.IntN(2)]
		}
		var taken [2]zael.Debit
		var errs [2]error
		for k, s := range stores {
			taken[k] = d
			taken[k].Charges = append([]zael.Charge(nil), d.Charges...)
			if k == 0 {
				errs[k] = s.take(t, now, taken[k])
			} else {
				_, errs[k] = s.Take(t.Context(), now, 0, []zael.Debit{taken[k]})
			}
		}
		if !errors.Is(errs[0], errs[1]) {
			return fmt.Errorf("step %d: got %w, want %w", step, errs[0], errs[1])
		}
		at := instantOf(now)
		for i := range d.Charges {
			got, want := taken[0].Charges[i].Taken(), taken[1].Charges[i].Taken()
			if errs[0] != nil {
				got, want = taken[0].Charges[i].State, taken[1].Charges[i].State
			}
			n := d.Charges[i].Amount
			if got.Used != want.Used || got.Wait(at, n) != want.Wait(at, n) || got.Available(at) != want.Available(at) {
				return fmt.Errorf("step %d, %q: got %+v, want %+v", step, d.Charges[i].Name, got, want)
			}
		}
		if errs[0] == nil {
			for k := range stores {
				leases[k] = append(leases[k], taken[k])
			}
		}
	}
	if stores[0].answered < 40 && !named {
		return fmt.Errorf("got %d answers by value in 200 steps, too few to tell anything", stores[0].answered)
	}
	for k := range leases {
		for _, d := range leases[k] {
			for j := range d.Charges {
				d.Charges[j].Amount = -d.Charges[j].Amount
			}
			stores[k].adjust(t, now, d)
		}
		_, buckets, err := stores[k].Buckets(t.Context(), now.Add(time.Hour), []zael.Key{{Entity: "alice", Resource: "r"}})
		if err != nil {
			return err
		}
		for _, l := range buckets[0].Limits {
			if l.State.Definition.Kind == bucket.Slots && l.State.Used != 0 {
				return fmt.Errorf("all is released: got %d used of %q", l.State.Used, l.Name)
			}
		}
	}
	return nil
}

// TestReleasedSlotsAreForgotten: a bucket of slots that were taken and released by value goes.
func TestReleasedSlotsAreForgotten(t *testing.T) {
	t.Parallel()
	const n = 2000
	s := &valued{Store: memstore.New(nil)}
	for i := range n {
		for range 2 { // the first is not answered by value
			d := slotsOf("", "n", time.Minute, 1)[0]
			d.Key.Entity = fmt.Sprint(i)
			now := t0.Add(time.Duration(i) * time.Second)
			if err := s.take(t, now, d); err != nil {
				t.Fatal(err)
			}
			d.Charges[0].Amount = -1
			s.adjust(t, now, d)
		}
	}
	if s.answered < n {
		t.Errorf("got %d answers by value, want at least %d", s.answered, n)
	}
	if got := s.Len(); got > 500 {
		t.Errorf("got %d of %d buckets, want those of which nothing is held to be forgotten", got, n)
	}
}
