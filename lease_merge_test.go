package zael_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// A lease that takes more very often keeps few charges.
func TestLeaseMergesCharges(t *testing.T) {
	t.Parallel()
	for name, gap := range map[string]time.Duration{
		"at once":            0,
		"in steady use":      100 * time.Millisecond,
		"refilled each time": time.Minute,
	} {
		r, f := setupFake(t, nil)
		var given []int
		f.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
			for _, d := range debits {
				given = append(given, len(d.Charges))
			}
			return f.Store.Adjust(ctx, now, debits)
		}
		req := ask(zael.Amounts{"rps": 1}, zael.PerSecond("rps", 10_000), zael.PerSecond("tps", 10_000))
		lease := r.lease(req)
		for range 300 {
			r.clock.forward(gap)
			r.ok(lease.Consume(r.ctx, zael.Amounts{"rps": 10, "tps": 1000}))
			r.allow(ask(zael.Amounts{"rps": 1}, req.Limits[0])) // somebody else, of rps alone
			if gap == 0 {
				r.clock.forward(100 * time.Millisecond)
			}
		}
		r.ok(lease.Rollback(r.ctx))
		if len(given) != 1 || given[0] > 25 {
			t.Errorf("%s: got gives of %v charges, want a few in one call", name, given)
		}
	}
}

// No charge becomes greater than an amount may be.
func TestMergedChargesStayInRange(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	f.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
		for _, c := range debits[0].Charges {
			if c.Amount < -bucket.MaxAmount {
				t.Errorf("got %d given back at once, want %d at most", -c.Amount, bucket.MaxAmount)
			}
		}
		return f.Store.Adjust(ctx, now, debits)
	}
	req := ask(zael.Amounts{"n": bucket.MaxAmount}, zael.Limit{Name: "n", Burst: bucket.MaxAmount, RefillAmount: 9e9, RefillPeriod: time.Second})
	lease := r.lease(req)
	for range 3 {
		r.clock.forward(48 * time.Hour)
		r.ok(lease.Release(req.Consume))
		r.ok(lease.Consume(r.ctx, req.Consume))
	}
	r.ok(lease.Rollback(r.ctx))
	r.left(req, req.Consume)
}

// What a lease gives back is what its charges would one by one, the newest first:
// of tokens and of usage, whatever others take, give and change in between.
func TestMergedChargesGiveTheSame(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 500) {
		if err := mergedGiveTheSame(t.Context(), seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// A twin is a store, a lease on it, and another on which the lease's charges are
// made and kept one by one.
type twin struct {
	context.Context //nolint:containedctx // of the test
	*rand.Rand
	handClock

	one, other *memstore.Store
	lease      *zael.Lease
	charges    []zael.Charge // on other, oldest first
	d          bucket.Definition
}

func mergedGiveTheSame(ctx context.Context, seed uint64) error {
	w := &twin{
		Context: ctx, Rand: rand.New(rand.NewPCG(seed, 0)),
		one: memstore.New(&memstore.Config{Usage: true}), other: memstore.New(&memstore.Config{Usage: true}),
	}
	l, err := zael.New(w.one, &zael.Config{Clock: w.now})
	if err != nil {
		return err
	}
	limit := zael.PerMinute("n", 60)
	w.d = bucket.Definition{Burst: limit.Burst, Amount: limit.RefillAmount, Period: limit.RefillPeriod, Capacity: limit.Capacity}
	if w.lease, err = l.Reserve(ctx, ask(zael.Amounts{"n": 1}, limit)); err == nil {
		err = w.take(1)
	}
	for range w.IntN(60) {
		if err == nil {
			err = w.step()
		}
	}
	used := w.Int64N(w.lease.Consumed()["n"] + 1)
	if err == nil {
		err = errors.Join(w.lease.Settle(zael.Amounts{"n": used}), w.settle(used), w.lease.Commit(ctx))
	}
	if err != nil {
		return err
	}
	return w.compare()
}

// debits are one of the bucket.
func (w *twin) debits(charges ...zael.Charge) []zael.Debit {
	return []zael.Debit{{Key: zael.Key{Entity: "key-1", Resource: "gpt-4"}, Charges: charges}}
}

// take makes a charge of the lease's on the other store.
func (w *twin) take(n int64) error {
	debits := w.debits(zael.Charge{Name: "n", Definition: w.d, Amount: n})
	_, err := w.other.Take(w, w.now(), 0, debits)
	if err == nil {
		w.charges = append(w.charges, debits[0].Charges[0])
	}
	return err
}

// settle gives back on the other store.
func (w *twin) settle(used int64) error {
	var gives []zael.Charge
	left := -used
	for _, c := range w.charges {
		left += c.Amount
	}
	for i := len(w.charges) - 1; i >= 0 && left > 0; i-- {
		c := w.charges[i]
		c.Amount = -min(c.Amount, left)
		left += c.Amount
		gives = append(gives, c)
	}
	_, err := w.other.Adjust(w, w.now(), w.debits(gives...))
	return err
}

func (w *twin) step() error {
	switch n := w.Int64N(15); w.IntN(6) {
	case 0:
		w.forward([]time.Duration{time.Millisecond, time.Second, 10 * time.Second, 2 * time.Minute}[w.IntN(4)])
	case 1: // another caller
		return w.both(func(s *memstore.Store) error {
			_, err := s.Take(w, w.now(), 0, w.debits(zael.Charge{Name: "n", Definition: w.d, Amount: n}))
			return err
		})
	case 2: // seldom, one that names another definition
		d := w.d
		if d.Burst += 5; n < 12 {
			return nil
		}
		return w.both(func(s *memstore.Store) error {
			_, err := s.Adjust(w, w.now(), w.debits(zael.Charge{Name: "n", Definition: d, Amount: n % 2}))
			return err
		})
	default:
		err, other := w.lease.Consume(w, zael.Amounts{"n": n}), w.take(n)
		if (err == nil) != (other == nil) {
			return fmt.Errorf("Consume of %d: got %w, and of the other %w", n, err, other)
		}
	}
	return nil
}

func (w *twin) both(do func(*memstore.Store) error) error {
	err, other := do(w.one), do(w.other)
	if (err == nil) != (other == nil) {
		return fmt.Errorf("another caller: got %w, and of the other %w", err, other)
	}
	return nil
}

func (w *twin) compare() error {
	var levels [2]int64
	var usage [2][]zael.UsageRecord
	for i, s := range []*memstore.Store{w.one, w.other} {
		_, found, err := s.Buckets(w, w.now(), []zael.Key{w.debits()[0].Key})
		if err != nil {
			return err
		}
		if len(found[0].Limits) > 0 {
			now, err := bucket.At(w.now())
			if err != nil {
				return err
			}
			state := found[0].Limits[0].State
			levels[i] = max(0, state.Mark-state.Definition.Drip(now))
		}
		for record, err := range s.Usage(w, zael.UsageQuery{Entity: "key-1"}) {
			if err != nil {
				return err
			}
			usage[i] = append(usage[i], record)
		}
	}
	if levels[0] != levels[1] || !reflect.DeepEqual(usage[0], usage[1]) {
		return fmt.Errorf("got level %d, usage %v, want %d, %v", levels[0], usage[0], levels[1], usage[1])
	}
	return nil
}
