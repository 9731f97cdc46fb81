package protocol

import (
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/schema"
)

// A take removes limits that it does not name and that had been full for an hour when the
// bucket was last seen, so that names that are used once do not add up: when one write
// cannot remove more, or one of them has been full for a day. Usage has new items after
// each such write, so few that remove many are better.
const (
	forgetAfter = bucket.Instant(time.Hour)
	forgetLate  = bucket.Instant(24 * time.Hour)

	// MaxForgotten is how many limits a write removes.
	MaxForgotten = 8

	// MaxNamedToForget is how many limits a write may name and still remove others: an
	// expression has 300 operators.
	MaxNamedToForget = 32
)

// forget removes limits in a take that names n others.
func (w *BucketWrite) forget(b *expressionBuilder, n int) {
	limits, slots := w.forgettable(n)
	for i, l := range limits {
		b.forget(strconv.Itoa(i), l)
	}
	for i, l := range slots {
		b.forgetSlots(strconv.Itoa(len(limits)+i), l)
	}
	if len(limits)+len(slots) > 0 {
		b.add(b.name("#r", schema.Removals), " ", b.number(":removes", 1))
	}
}

// forgettable returns the limits, and the slots, that a take that names n others removes.
// How long nobody has had slots is not known: they go where there are many.
func (w *BucketWrite) forgettable(n int) (limits []*limit, slots []*slotLimit) {
	if w.known == nil || n > MaxNamedToForget {
		return nil, nil
	}
	late := false
	for i := range w.known.limits {
		l := &w.known.limits[i]
		state := w.known.State(l.name)
		if !l.counted || !state.Forgettable(w.At-forgetAfter) || w.names(l.name) {
			continue
		}
		late = late || state.Forgettable(w.At-forgetLate)
		if limits = append(limits, l); len(limits) == MaxForgotten {
			return limits, nil
		}
	}
	for i := range w.known.slots {
		l := &w.known.slots[i]
		state := bucket.State{Definition: l.def, Used: l.held}
		if !l.counted || l.held != 0 || !state.Forgettable(w.At-forgetAfter) || w.names(l.name) || w.known.find(l.name) != nil {
			continue
		}
		if slots = append(slots, l); len(limits)+len(slots) == MaxForgotten {
			return limits, slots
		}
	}
	if !late {
		return nil, nil
	}
	return limits, slots
}

// names reports whether the write names a limit, be it slots of that name: they have one
// counter.
func (w *BucketWrite) names(name string) bool {
	return slices.ContainsFunc(w.Charges, func(c zael.Charge) bool { return c.Name == name })
}
