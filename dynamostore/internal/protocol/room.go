package protocol

import (
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/saturate"
)

// room returns the highest mark from which a take's charge fits.
func (w *BucketWrite) room(d bucket.Definition, c *zael.Charge) int64 {
	if w.Stages == nil {
		return room(d, w.At, c.Amount, w.MaxWait)
	}
	i := slices.IndexFunc(w.Charges, func(own zael.Charge) bool { return own.Name == c.Name })
	least := int64(math.MaxInt64)
	for _, s := range w.Stages[i] {
		least = min(least, room(d, w.At, s.Sum, s.Wait))
	}
	return least
}

func room(d bucket.Definition, at bucket.Instant, n int64, ahead time.Duration) int64 {
	then := at.Add(ahead)
	room := d.Ceiling(then) - n*d.Unit()
	if d.Schedule != nil && d.Floor(then) > room {
		return math.MinInt64 // more than the burst then
	}
	return room
}

// boundCharges narrows a guess by an upper end: without one nobody would know when the
// bucket is full. A take has one, the room.
func (w *BucketWrite) boundCharges(g *guess, own []zael.Charge) {
	if w.Kind == coalesce.Take {
		return
	}
	tokens, charges := int64(0), w.Kind == coalesce.StoreDefinitions
	for i := range own {
		if c := &own[i]; c.Amount >= 0 {
			tokens, charges = saturate.Add(tokens, c.Amount), true
		}
	}
	if charges {
		g.bound(tokens)
	}
}

// bound narrows the guess by an upper end, below which charges of so many tokens may
// still be made.
func (g *guess) bound(tokens int64) {
	if periodic(&g.state.Definition) {
		if g.state.Definition.Flags&bucket.CarryDebt == 0 {
			return // all of it ends with the period
		}
		g.used.within(math.MinInt64, saturate.Add(max(0, g.state.Used), saturate.Add(g.state.Definition.Burst, tokens)))
		return
	}
	unit := g.state.Definition.Unit()
	top := saturate.Add(g.state.Definition.Burst*unit, min(tokens, math.MaxInt64/unit)*unit)
	g.mark.within(math.MinInt64, saturate.Add(g.state.Mark, top))
}

// From call padAfter on an idle take aims above the drip, so that a level that hovers around
// 0 is not missed each time.
const (
	padAfter = 3
	padShare = 50 // of the burst
)

// pad returns how far above the drip a take of n aims.
func (w *BucketWrite) pad(d bucket.Definition, n int64) int64 {
	if w.calls+1 < padAfter {
		return 0
	}
	return PadFor(d, n)
}

// PadFor returns the distance above the drip at which a level of near 0 is not missed, and
// 0 if n would not fit from there.
func PadFor(d bucket.Definition, n int64) int64 {
	unit := d.Unit()
	pad := d.Burst * unit / padShare
	if n > d.Burst || n*unit > d.Burst*unit-pad {
		return 0
	}
	return pad
}
