package zael

import (
	"time"

	"github.com/zeroae/zael/bucket"
)

// merged are charges in order of time, of which the first name the limits, as
// fewer that give back the same: so a lease that takes more very often keeps few.
func merged(charges []Charge, limits int, at time.Time) []Charge {
	now, err := bucket.At(at)
	if err != nil {
		return charges
	}
	kept := charges[:limits]
	for _, ch := range charges[limits:] {
		last := len(kept) - 1
		for kept[last].Name != ch.Name {
			last--
		}
		if !merge(&kept[last], &ch, now) {
			kept = append(kept, ch)
		}
	}
	clear(charges[len(kept):])
	return kept
}

// merge makes c one charge of both if that gives back the same: if their
// stretches (Mark − n, Mark] adjoin, or both have refilled and only count as
// usage, or one is empty. It reports whether it has.
func merge(c, later *Charge, now bucket.Instant) bool {
	d, a, b := &later.Definition, c.Receipt, later.Receipt
	if a.Axis != b.Axis || c.Amount > bucket.MaxAmount-later.Amount {
		return false
	}
	adjoin := b.Mark-later.Amount*d.Unit() == a.Mark
	refilled := a.Mark <= d.Drip(now) && b.Mark <= d.Drip(now)
	if c.Amount > 0 && later.Amount > 0 && !adjoin && !refilled {
		return false
	}
	if later.Amount > 0 {
		c.Receipt = b
	}
	c.Amount += later.Amount
	return true
}
