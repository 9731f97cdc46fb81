package protocol

import (
	"math"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// A guess follows the guessed mark of a limit through the operations of one write. Its piece
// leads from the mark in the item to the mark after the last operation. Each operation is
// one of package bucket; it narrows the piece to the marks for which it does the same as
// for the guessed one.
type guess struct {
	piece
	mark  int64 // as guessed, after the last operation
	def   bucket.Definition
	turns uint64 // changes of rate or burst: see definitionText
}

// take is bucket.Take: n tokens fit up to room. If the guessed mark does not fit, the piece
// is the one on which it would. With pad a level below pad/2 is taken for pad: the piece is
// longer, and nothing more is admitted.
func (g *guess) take(at bucket.Instant, n, room, pad int64) (fits bool) {
	units, drip := n*g.def.Unit(), g.def.Drip(at)
	switch {
	case n > g.def.Burst:
		g.nowhere()
		return false
	case n == 0:
		return g.upTo(math.MinInt64, room)
	case pad > 0 && g.mark < drip+pad/2:
		g.idle(drip+pad, units)
		return true
	case g.mark <= drip:
		g.idle(drip, units)
		return true
	}
	fits = g.upTo(drip, room)
	g.add(units)
	return fits
}

// charge is bucket.State.Charge.
func (g *guess) charge(at bucket.Instant, n int64) error {
	if _, err := (bucket.State{Definition: g.def, Mark: g.mark}).Charge(at, n); err != nil || n == 0 {
		return err
	}
	units, drip := n*g.def.Unit(), g.def.Drip(at)
	if g.mark <= drip {
		g.idle(drip, units)
		return nil
	}
	g.within(drip, math.MaxInt64-units)
	g.add(units)
	return nil
}

// give is bucket.State.Give, for a receipt of the state's generation.
func (g *guess) give(at bucket.Instant, n, receipt int64) {
	unit, drip := g.def.Unit(), g.def.Drip(at)
	if n <= 0 || n > bucket.MaxAmount || receipt <= drip {
		return
	}
	left := uint64(receipt) - uint64(drip)
	units := int64(min(uint64(n*unit), left, math.MaxInt64))
	switch {
	case left > uint64(g.def.Burst*unit):
		g.leaveLine(drip, units, receipt)
	case g.mark <= drip:
		g.within(math.MinInt64, drip)
	case g.mark-drip < units:
		g.within(drip+1, drip+units)
		g.put(drip)
	default:
		g.within(drip+units, math.MaxInt64)
		g.add(-units)
	}
}

// leaveLine gives back a place in line, unless others stand behind it.
func (g *guess) leaveLine(drip, units, receipt int64) {
	switch {
	case g.mark < receipt:
		g.within(math.MinInt64, receipt-1)
	case g.mark > receipt:
		g.within(receipt+1, math.MaxInt64)
	default:
		g.within(receipt, receipt)
		g.put(max(drip, receipt-units))
	}
}

// redefine is bucket.State.Redefine, for a limit that is there.
func (g *guess) redefine(d bucket.Definition, at bucket.Instant) {
	old := bucket.State{Definition: g.def, Mark: g.mark}
	next := old.Redefine(d, at, 0)
	if next.Generation == old.Generation {
		g.def = next.Definition
		return
	}
	drip, drip2 := g.def.Drip(at), next.Definition.Drip(at)
	unit, shift := g.def.Unit(), drip2-drip
	capped := g.def.Rev > 0 && next.Definition.Rev > g.def.Rev && next.Definition.Burst < g.def.Burst
	switch top, cut := drip+g.def.Burst*unit, drip+next.Definition.Burst*unit; {
	case unit != next.Definition.Unit() || next.Mark == math.MaxInt64:
		g.within(g.mark, g.mark) // the level is multiplied, or at its end: this mark only
		g.put(next.Mark)
	case g.mark <= drip:
		g.within(math.MinInt64, drip)
		g.put(drip2)
	case capped && g.mark > top:
		g.shift(top, next.Mark-g.mark)
	case capped && g.mark > cut:
		g.within(cut, top)
		g.put(next.Mark)
	case capped:
		g.within(drip, cut)
		g.add(shift)
	default:
		g.shift(drip, shift)
	}
	g.def = next.Definition
	g.turns++
}

// idle is for marks that the drip has passed: everything has refilled.
func (g *guess) idle(drip, units int64) {
	g.within(math.MinInt64, drip)
	g.put(drip + units)
}

// upTo is for marks from lo up to room. It reports whether the guessed one is at most room.
func (g *guess) upTo(lo, room int64) (fits bool) {
	fits = g.mark <= room
	g.within(lo, room)
	if g.set && !fits {
		g.nowhere()
	}
	return fits
}

// shift is for marks from lo on that stay within int64: by is added to them.
func (g *guess) shift(lo, by int64) {
	hi := int64(math.MaxInt64)
	if by > 0 {
		hi -= by + 1
	}
	g.within(lo, hi)
	g.add(by)
}

func (g *guess) add(n int64) {
	g.n += n
	g.mark = saturate.Add(g.mark, n)
}

func (g *guess) put(mark int64) {
	g.set, g.n, g.mark = true, mark, mark
}
