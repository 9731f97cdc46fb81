package protocol

import (
	"math"

	"github.com/zeroae/zael/bucket"
)

// A guess follows the guessed state of a limit through the operations of one write. Its pieces
// lead from the numbers in the item to those after the last operation. Each operation is
// one of package bucket. It chooses the row by the guessed state, and narrows the pieces to the
// numbers for which this row is right.
type guess struct {
	state bucket.State // as guessed, after the last operation; its Generation is the turns alone
	mark  piece        // of the mark, or of the start of a quota or session
	used  piece        // of what is used since the start
}

// newGuess returns the guess that a limit is in a state.
func newGuess(s bucket.State) guess { return guess{state: s, mark: identity(), used: identity()} }

// then follows the guess through one more row.
func (g *guess) then(row piece) {
	g.mark.then(row)
	g.state.Mark = row.of(g.state.Mark)
}

// take is bucket.Take: n tokens fit up to room. If the guessed mark does not fit, the piece
// is the one on which it would. With pad a level below pad/2 is taken for pad: the piece is
// longer, and nothing more is admitted.
func (g *guess) take(at bucket.Instant, n, room, pad int64) (fits bool) {
	units, drip := n*g.state.Definition.Unit(), g.state.Definition.Floor(at)
	switch {
	case n > g.state.Definition.Burst && g.state.Definition.Schedule == nil || drip > room: // the rows that set have no room in their condition
		g.mark.nowhere()
		return false
	case n == 0:
		fits = g.state.Mark <= room
		g.then(nothingRow(room))
	case pad > 0 && g.state.Mark < drip+pad/2:
		fits = true
		g.then(idleRow(drip+pad, units))
	case g.state.Mark <= drip:
		fits = true
		g.then(idleRow(drip, units))
	default:
		fits = g.state.Mark <= room
		g.then(busyRow(drip, room, units))
	}
	return fits
}

// charge is bucket.State.Charge.
func (g *guess) charge(at bucket.Instant, n int64) error {
	if _, err := g.state.Charge(at, n); err != nil || n == 0 || g.state.Definition.Flags&bucket.Unlimited != 0 {
		return err
	}
	if periodic(&g.state.Definition) {
		g.chargePeriod(at, n)
		return nil
	}
	units, drip := n*g.state.Definition.Unit(), g.state.Definition.Floor(at)
	if g.state.Mark <= drip {
		g.then(idleRow(drip, units))
	} else {
		g.then(chargeRow(drip, units))
	}
	return nil
}

// give is bucket.State.Give, for a receipt of the state's generation.
func (g *guess) give(at bucket.Instant, n, receipt int64) {
	switch {
	case g.state.Definition.Flags&bucket.Unlimited != 0:
		return
	case periodic(&g.state.Definition):
		if n > 0 && n <= bucket.MaxAmount {
			g.settlePeriod(at, -n, receipt)
		}
		return
	}
	unit, drip := g.state.Definition.Unit(), g.state.Definition.Floor(at)
	if n <= 0 || n > bucket.MaxAmount || receipt <= drip {
		return
	}
	left := uint64(receipt) - uint64(drip)
	units := int64(min(uint64(n*unit), left, math.MaxInt64))
	place := left > uint64(g.state.Definition.Ceiling(at))-uint64(drip) // in line
	switch {
	case place && g.state.Mark < receipt:
		g.then(beforeRow(receipt))
	case place && g.state.Mark > receipt:
		g.then(behindRow(receipt))
	case place:
		g.then(placeRow(receipt, units, drip))
	case g.state.Mark <= drip:
		g.then(refilledRow(drip))
	case g.state.Mark-drip < units:
		g.then(giveDownRow(drip, units))
	default:
		g.then(giveRow(drip, units))
	}
}

// redefine is bucket.State.Redefine, for a limit that is there.
func (g *guess) redefine(d bucket.Definition, at bucket.Instant) {
	next := g.state.Redefine(d, at, 0)
	switch {
	case next.Generation == g.state.Generation:
		if g.state.Definition.Turns(next.Definition) {
			g.turn(next, at)
		}
		g.state.Definition = next.Definition
		return
	case periodic(&g.state.Definition) || periodic(&next.Definition):
		g.redefinePeriod(next, at)
		g.state.Generation++
		return
	}
	drip, drip2 := g.state.Definition.Floor(at), next.Definition.Drip(at)
	unit := g.state.Definition.Unit()
	capped := g.state.Definition.Rev > 0 && next.Definition.Rev > g.state.Definition.Rev && next.Definition.Burst < g.state.Definition.Burst
	switch top, cut := drip+g.state.Definition.Burst*unit, drip+next.Definition.Burst*unit; {
	case unit != next.Definition.Unit() || next.Mark == math.MaxInt64 || g.state.Definition.Schedule != nil || next.Definition.Schedule != nil:
		g.then(exactRow(g.state.Mark, next.Mark))
	case g.state.Mark <= drip:
		g.then(emptyRow(drip, drip2))
	case capped && g.state.Mark > top: // the debt stays
		g.then(shiftRow(top, next.Mark-g.state.Mark))
	case capped && g.state.Mark > cut:
		g.then(capRow(cut, top, next.Mark))
	case capped:
		g.then(belowCapRow(drip, cut, drip2-drip))
	default:
		g.then(shiftRow(drip, drip2-drip))
	}
	g.state.Definition = next.Definition
	g.state.Generation++
}
