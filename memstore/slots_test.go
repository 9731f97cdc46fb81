package memstore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/memstore"
)

func slotsHeld(hold time.Duration) bucket.Definition {
	return bucket.Definition{Kind: bucket.Slots, Burst: 2, Capacity: 2, Period: hold}
}

func slotsOf(holder, name string, hold time.Duration, n int64) []zael.Debit {
	charges := []zael.Charge{{Name: name, Definition: slotsHeld(hold), Amount: n}}
	return []zael.Debit{{Key: zael.Key{Entity: "alice", Resource: "r"}, Holder: holder, Charges: charges}}
}

// Trap 16 of the kinds: a write moves the deadline of all that a holder has, by the longest hold of them, also that
// of limits which the write does not name.
func TestTrap16DeadlineOfAllSlots(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	mustTake(t, s, t0, slotsOf("A", "long", time.Hour, 2))
	mustTake(t, s, t0.Add(50*time.Minute), slotsOf("A", "short", time.Minute, 1))
	if _, err := s.Take(t.Context(), t0.Add(90*time.Minute), 0, slotsOf("B", "long", time.Hour, 1)); err == nil {
		t.Error("slots of A, 40 minutes after its last write: got B admitted, want them held for an hour")
	}
}

// A holder that was removed and comes back is another one.
func TestHolderBeginsAgain(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	var old []zael.Debit
	for i, holder := range []string{"A", "B", "A"} {
		d := slotsOf(holder, "n", time.Minute, 2)
		mustTake(t, s, t0.Add(time.Duration(i)*time.Minute), d)
		if i == 0 {
			old = d
		} else if d[0].Charges[0].Receipt.Generation == 0 {
			t.Errorf("%s: got no generation of the holder", holder)
		}
	}
	old[0].Charges[0].Amount = -2
	if _, err := s.Adjust(t.Context(), t0.Add(2*time.Minute), old); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Take(t.Context(), t0.Add(2*time.Minute), 0, slotsOf("B", "n", time.Minute, 1)); err == nil {
		t.Error("a release by A as it was before: got B admitted, want the slots held")
	}
}
