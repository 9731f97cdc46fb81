package storetest_test

import (
	"context"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/storetest"
)

// valued is a reference that is a ValueStore too.
type valued struct {
	*reference

	// What broken ones do.
	answersAll bool // also under other definitions
	charges    bool // although it does not answer
	sets       bool // an adjust writes marks, and does not give back
	passesBy   bool // settings
}

var _ zael.ValueStore = (*valued)(nil)

// has reports whether a bucket has each limit under that definition, and none is of slots.
func (v *valued) has(entity string, p *zael.PolicyLimits) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.admin.latest > 0 && !v.passesBy {
		return false
	}
	r := v.record(zael.Key{Entity: entity, Resource: p.Resource})
	for _, l := range p.Limits {
		if l.Definition.Kind == bucket.Slots || r.limits[v.limit(l.Name)].Definition != l.Definition {
			return false
		}
	}
	return true
}

func debitOf(entity string, p *zael.PolicyLimits, amounts [4]int64) []zael.Debit {
	d := zael.Debit{Key: zael.Key{Entity: entity, Resource: p.Resource}}
	for i, l := range p.Limits {
		d.Charges = append(d.Charges, zael.Charge{Name: l.Name, Definition: l.Definition, Amount: amounts[i]})
	}
	return []zael.Debit{d}
}

func (v *valued) TakeValues(at bucket.Instant, entity string, p *zael.PolicyLimits, amounts [4]int64) (
	out zael.Values, outcome bucket.Outcome, ok bool,
) {
	debits := debitOf(entity, p, amounts)
	if ok = v.answersAll || v.has(entity, p); ok || v.charges {
		if _, err := v.Take(context.Background(), at.Time(), 0, debits); err != nil {
			outcome = bucket.Exceeds
		}
	}
	for i, c := range debits[0].Charges {
		state := c.State
		if outcome == bucket.Fits {
			state = c.Taken()
		}
		out.Marks[i], out.Used[i], out.Generations[i] = state.Mark, state.Used, state.Generation
	}
	return out, outcome, ok
}

func (v *valued) AdjustValues(
	at bucket.Instant, entity string, p *zael.PolicyLimits, amounts [4]int64, in zael.Values,
) bool {
	if !v.has(entity, p) {
		if v.charges {
			_, _ = v.Adjust(context.Background(), at.Time(), debitOf(entity, p, amounts))
		}
		return false
	}
	debits := debitOf(entity, p, amounts)
	for i := range debits[0].Charges {
		c := &debits[0].Charges[i]
		if c.Receipt = (bucket.Receipt{Mark: in.Marks[i], Generation: in.Generations[i]}); v.sets && c.Amount < 0 {
			c.Receipt.Mark += 1_000_000
		}
	}
	_, err := v.Adjust(context.Background(), at.Time(), debits)
	return err == nil
}

func TestValueStore(t *testing.T) {
	t.Parallel()
	storetest.RunRole(t, func(*testing.T) zael.Store { return &valued{reference: newReference()} }, storetest.ValueStore)
}

// brokenValues have a defect as ValueStore.
func brokenValues() []brokenStore {
	return []brokenStore{
		{
			name: "calls by value that are not answered have charged",
			make: func() zael.Store { return &valued{reference: newReference(), charges: true} },
			fails: []string{
				"ValueStore/an unanswered call by value changes nothing", "ValueStore/a take charges every limit",
			},
		},
		{
			name:  "stale limits by value exceed",
			make:  func() zael.Store { return &valued{reference: newReference(), answersAll: true} },
			fails: []string{"ValueStore/stale limits change nothing"},
		},
		{
			name:  "gives by value pay no heed to the receipt",
			make:  func() zael.Store { return &valued{reference: newReference(), sets: true} },
			fails: []string{"ValueStore/what has refilled is not given back"},
		},
		{
			name:  "calls by value pass settings by",
			make:  func() zael.Store { return &valued{reference: newReference(), passesBy: true} },
			fails: []string{"ValueStore/calls by value do not pass settings by"},
		},
	}
}
