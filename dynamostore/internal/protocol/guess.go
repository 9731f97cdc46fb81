package protocol

import (
	"math"

	"github.com/zeroae/zael/bucket"
)

// A guess follows the guessed mark of a limit through the operations of one write. Its piece
// leads from the mark in the item to the mark after the last operation. Each operation is
// one of package bucket. It chooses the row by the guessed mark, and narrows the piece to the
// marks for which this row is right.
type guess struct {
	piece
	mark  int64 // as guessed, after the last operation
	def   bucket.Definition
	turns uint64 // changes of rate or burst: see definitionText
}

// then follows the guess through one more row.
func (g *guess) then(row piece) {
	g.piece.then(row)
	g.mark = row.of(g.mark)
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
		fits = g.mark <= room
		g.then(nothingRow(room))
	case pad > 0 && g.mark < drip+pad/2:
		fits = true
		g.then(idleRow(drip+pad, units))
	case g.mark <= drip:
		fits = true
		g.then(idleRow(drip, units))
	default:
		fits = g.mark <= room
		g.then(busyRow(drip, room, units))
	}
	return fits
}

// charge is bucket.State.Charge.
func (g *guess) charge(at bucket.Instant, n int64) error {
	if _, err := (bucket.State{Definition: g.def, Mark: g.mark}).Charge(at, n); err != nil || n == 0 {
		return err
	}
	units, drip := n*g.def.Unit(), g.def.Drip(at)
	if g.mark <= drip {
		g.then(idleRow(drip, units))
	} else {
		g.then(chargeRow(drip, units))
	}
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
	place := left > uint64(g.def.Burst*unit) // in line
	switch {
	case place && g.mark < receipt:
		g.then(beforeRow(receipt))
	case place && g.mark > receipt:
		g.then(behindRow(receipt))
	case place:
		g.then(placeRow(receipt, units, drip))
	case g.mark <= drip:
		g.then(refilledRow(drip))
	case g.mark-drip < units:
		g.then(giveDownRow(drip, units))
	default:
		g.then(giveRow(drip, units))
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
	unit := g.def.Unit()
	capped := g.def.Rev > 0 && next.Definition.Rev > g.def.Rev && next.Definition.Burst < g.def.Burst
	switch top, cut := drip+g.def.Burst*unit, drip+next.Definition.Burst*unit; {
	case unit != next.Definition.Unit() || next.Mark == math.MaxInt64:
		g.then(exactRow(g.mark, next.Mark))
	case g.mark <= drip:
		g.then(emptyRow(drip, drip2))
	case capped && g.mark > top: // the debt stays
		g.then(shiftRow(top, next.Mark-g.mark))
	case capped && g.mark > cut:
		g.then(capRow(cut, top, next.Mark))
	case capped:
		g.then(belowCapRow(drip, cut, drip2-drip))
	default:
		g.then(shiftRow(drip, drip2-drip))
	}
	g.def = next.Definition
	g.turns++
}
