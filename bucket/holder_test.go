package bucket_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

func slots(n int64) bucket.Definition {
	return bucket.Definition{Burst: n, Capacity: n, Kind: bucket.Slots, Period: time.Minute}
}

// A slotBucket is a record of one limit of slots, as a store uses it.
type slotBucket struct {
	r     bucket.Record
	birth uint64
}

func (b *slotBucket) charge(d bucket.Definition, n int64) []bucket.Charge {
	return []bucket.Charge{{Name: "parallel", Definition: d, Amount: n}}
}

func (b *slotBucket) take(id string, d bucket.Definition, n int64, at bucket.Instant) (bucket.Charge, bool) {
	b.birth++
	b.r.Own = id
	charges := b.charge(d, n)
	outcome := b.r.Take(charges, at, 0, b.birth)
	b.r.Finish(outcome, charges, at)
	return charges[0], outcome == bucket.Fits
}

// renew extends the hold of a charge, or takes its slots again.
func (b *slotBucket) renew(id string, c *bucket.Charge, at bucket.Instant) bool {
	b.r.Own = id
	if _, held := b.r.Extend([]bucket.Charge{*c}, at); held {
		return true
	}
	again, ok := b.take(id, c.Definition, c.Amount, at)
	if ok {
		*c = again
	}
	return ok
}

func (b *slotBucket) release(id string, c bucket.Charge, at bucket.Instant) {
	b.r.Own = id
	charges := []bucket.Charge{{Name: c.Name, Definition: c.Definition, Amount: -c.Amount, Receipt: c.Receipt}}
	if _, err := b.r.Adjust(charges, at, 0); err != nil {
		panic(err)
	}
	b.r.Finish(bucket.Fits, charges, at)
}

func (b *slotBucket) available(at bucket.Instant) int64 {
	for _, l := range b.r.View(at) {
		return l.State.Available(at)
	}
	return -1
}

// TestSlotTimeline is timeline 9 of the design.
func TestSlotTimeline(t *testing.T) {
	t.Parallel()
	d, b := slots(2), &slotBucket{}
	sec := func(s int) bucket.Instant { return bucket.Instant(s) * bucket.Instant(time.Second) }
	holders := map[string]bucket.Charge{}
	take := func(s int, id string, want time.Duration) {
		t.Helper()
		c, ok := b.take(id, d, 1, sec(s))
		if ok != (want == 0) {
			t.Fatalf("t%d %s: got %v", s, id, ok)
		}
		if !ok {
			if got := c.State.Wait(sec(s), 1); got != want {
				t.Errorf("t%d %s: wait: got %v, want %v", s, id, got, want)
			}
			return
		}
		holders[id] = c
	}
	free := func(s int, want int64) {
		t.Helper()
		if got := b.available(sec(s)); got != want {
			t.Errorf("t%d: available: got %d, want %d", s, got, want)
		}
	}
	take(0, "A", 0)
	take(10, "B", 0)
	take(20, "C", 40*time.Second)
	a := holders["A"]
	if !b.renew("A", &a, sec(30)) {
		t.Error("t30: A is not renewed")
	}
	b.release("B", holders["B"], sec(35))
	take(36, "C", 0)
	take(40, "D", 50*time.Second)
	take(89, "D", time.Second)
	take(90, "D", 0)
	b.release("A", a, sec(91))
	free(91, 0)
	free(95, 0)
	free(96, 1)
	b.release("C", holders["C"], sec(97))
	free(97, 1)
	b.release("C", holders["C"], sec(97))
	b.release("D", holders["D"], sec(98))
	free(98, 2)
	if len(b.r.Holders) != 0 {
		t.Errorf("got holders %+v, want none", b.r.Holders)
	}
}

// TestSlotRules has what is particular to slots.
func TestSlotRules(t *testing.T) {
	t.Parallel()
	d := slots(2)
	at := bucket.Instant(0)
	b := &slotBucket{}
	if c, ok := b.take("A", d, 3, at); ok || c.State.Wait(at, 3) != bucket.Never {
		t.Error("more than there are: got true or a wait, want Never")
	}
	a, _ := b.take("A", d, 2, at)
	if _, ok := b.take("B", d, 0, at); !ok {
		t.Error("asked for 0: got false, want true")
	}
	if _, ok := b.take("B", slots(1), 0, at); !ok {
		t.Error("asked for 0 under a lowered number: got false, want true")
	}
	late := at + bucket.Instant(2*time.Minute)
	if !b.renew("A", &a, late) {
		t.Error("late but not removed: got false, want true")
	}
	if _, ok := b.take("B", d, 1, late); ok {
		t.Error("beside a holder that was late but renewed: got true, want false")
	}
	late += bucket.Instant(2 * time.Minute)
	if _, ok := b.take("B", d, 1, late); !ok {
		t.Error("instead of a dead one: got false, want true")
	}
	if b.renew("A", &a, late) {
		t.Error("removed, and without room for all: got true, want false")
	}
	b.release("A", a, late)
	if got := b.available(late); got != 1 {
		t.Errorf("released after it was removed: got %d available, want 1", got)
	}
	again, ok := b.take("A", d, 1, late)
	if !ok || again.Receipt.Generation == a.Receipt.Generation {
		t.Errorf("taken again: got %v, generation %d, want another than %d", ok, again.Receipt.Generation, a.Receipt.Generation)
	}
	b.release("A", a, late)
	if got := b.available(late); got != 0 {
		t.Errorf("an old receipt releases a new hold: got %d available, want 0", got)
	}
	charges := b.charge(d, 1)
	if _, err := b.r.Adjust(charges, late, 0); !errors.Is(err, bucket.ErrRange) {
		t.Errorf("charged: got %v, want ErrRange", err)
	}
}

// TestSlotsAgainstLeases compares records with a list of leases, of which no more than
// there are slots may be held and live at any instant.
func TestSlotsAgainstLeases(t *testing.T) {
	t.Parallel()
	type lease struct {
		id     string
		charge bucket.Charge
		until  bucket.Instant
	}
	for seed := range schedules.Seeds(t, 200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		d, b := slots(1+rng.Int64N(6)), &slotBucket{}
		var leases []*lease
		at := bucket.Instant(0)
		for step := range 200 {
			at += bucket.Instant(rng.Int64N(int64(25 * time.Second)))
			switch rng.IntN(3) {
			case 0:
				l := &lease{id: fmt.Sprint(step), until: at + bucket.Instant(d.Period)}
				n, live := 1+rng.Int64N(3), int64(0)
				for _, o := range leases {
					if o.until > at {
						live += o.charge.Amount
					}
				}
				c, ok := b.take(l.id, d, n, at)
				if live+n > d.Burst && ok {
					t.Fatalf("step %d: took %d beside %d of %d", step, n, live, d.Burst)
				}
				if live+n <= d.Burst && !ok {
					t.Fatalf("step %d: refused %d beside %d of %d", step, n, live, d.Burst)
				}
				if l.charge = c; ok {
					leases = append(leases, l)
				}
			case 1:
				if len(leases) == 0 {
					continue
				}
				l := leases[rng.IntN(len(leases))]
				if held := b.renew(l.id, &l.charge, at); !held && l.until > at {
					t.Fatalf("step %d: a live lease is lost", step)
				} else if held {
					l.until = at + bucket.Instant(d.Period)
				}
			case 2:
				if len(leases) == 0 {
					continue
				}
				i := rng.IntN(len(leases))
				b.release(leases[i].id, leases[i].charge, at)
				leases[i].until = at
				leases = append(leases[:i], leases[i+1:]...)
			}
			live := int64(0)
			for _, o := range leases {
				if o.until > at {
					live += o.charge.Amount
				}
			}
			if got := b.available(at); len(b.r.Limits) > 0 && got != d.Burst-live {
				t.Fatalf("step %d: available: got %d, want %d", step, got, d.Burst-live)
			}
			if live > d.Burst {
				t.Fatalf("step %d: %d of %d are held", step, live, d.Burst)
			}
		}
	}
}
