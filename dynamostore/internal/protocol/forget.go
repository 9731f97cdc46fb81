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
	limits := w.forgettable(n)
	for i, l := range limits {
		b.forget(strconv.Itoa(i), l)
	}
	if len(limits) > 0 {
		b.add(b.name("#r", schema.Removals), " ", b.number(":removes", 1))
	}
}

// forgettable returns the limits that a take that names n others removes.
func (w *BucketWrite) forgettable(n int) (limits []*limit) {
	if w.known == nil || n > MaxNamedToForget {
		return nil
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
			return limits
		}
	}
	if !late {
		return nil
	}
	return limits
}

// names reports whether the write names a limit, be it slots of that name: they have one
// counter.
func (w *BucketWrite) names(name string) bool {
	return slices.ContainsFunc(w.Charges, func(c zael.Charge) bool { return c.Name == name })
}
