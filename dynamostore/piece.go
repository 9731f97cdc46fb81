package dynamostore

import (
	"math"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// A piece is what an operation makes of a mark, with the stretch of marks for
// which it is that: everything that package bucket does is linear in pieces.
// Which piece is right depends on the mark, which a writer does not know; so it
// guesses one, and the engine writes only if the mark lies on it.
type piece struct {
	lo, hi int64 // inclusive; the ends of int64 are no bound
	set    bool  // the mark becomes n; otherwise mark + n
	n      int64
}

func identity() piece { return piece{lo: math.MinInt64, hi: math.MaxInt64} }

// keeps tells whether the piece leaves the mark as it is.
func (p *piece) keeps() bool { return !p.set && p.n == 0 }

// of is what the piece makes of a mark.
func (p *piece) of(mark int64) int64 {
	if p.set {
		return p.n
	}
	return saturate.Add(mark, p.n)
}

// A path is how a guessed mark goes through the operations of one write, one
// after the other: the piece that leads from the mark as it is kept to where
// the guess has come to.
type path struct {
	piece
	mark  int64 // the guess as it is now
	def   bucket.Definition
	turns uint64 // changes of rate or burst
}

// within keeps to the stretch from lo to hi of the mark as it is now.
func (p *path) within(lo, hi int64) {
	if p.set {
		return // one number, which the caller has looked at
	}
	if lo != math.MinInt64 {
		p.lo = max(p.lo, saturate.Sub(lo, p.n))
	}
	if hi != math.MaxInt64 {
		p.hi = min(p.hi, saturate.Sub(hi, p.n))
	}
}

func (p *path) add(n int64) {
	p.n += n
	p.mark = saturate.Add(p.mark, n)
}

func (p *path) put(mark int64) {
	p.set, p.n, p.mark = true, mark, mark
}

// take is bucket.Take: n tokens fit up to room. If the guess does not fit, the
// piece is that on which it would. With pad a level below pad/2 is taken for pad: the stretch is wider,
// and nothing more is admitted.
func (p *path) take(at bucket.Instant, n, room, pad int64) (fits bool) {
	d := p.def
	unit, drip := d.Unit(), d.Drip(at)
	if n > d.Burst {
		p.nowhere()
		return false
	}
	switch {
	case n == 0:
		fits := p.mark <= room
		if p.within(math.MinInt64, room); p.set && !fits {
			p.nowhere()
		}
		return fits
	case pad > 0 && p.mark < drip+pad/2:
		p.within(math.MinInt64, drip+pad)
		p.put(drip + pad + n*unit)
	case p.mark <= drip:
		p.within(math.MinInt64, drip)
		p.put(drip + n*unit)
	default:
		fits := p.mark <= room
		if p.within(drip, room); p.set && !fits {
			p.nowhere()
		}
		p.add(n * unit)
		return fits
	}
	return true
}

// nowhere leaves no mark for which the piece is right.
func (p *path) nowhere() { p.lo, p.hi = 1, 0 }

// charge is bucket.State.Charge.
func (p *path) charge(at bucket.Instant, n int64) error {
	next, err := bucket.State{Definition: p.def, Mark: p.mark}.Charge(at, n)
	if err != nil || n == 0 {
		return err
	}
	units, drip := n*p.def.Unit(), p.def.Drip(at)
	if p.mark <= drip {
		p.within(math.MinInt64, drip)
		p.put(next.Mark)
		return nil
	}
	p.within(drip, math.MaxInt64-units)
	p.add(units)
	return nil
}

// give is bucket.State.Give for a receipt of the state's generation.
func (p *path) give(at bucket.Instant, n, receipt int64) {
	unit, drip := p.def.Unit(), p.def.Drip(at)
	if n <= 0 || n > bucket.MaxAmount || receipt <= drip {
		return
	}
	left := uint64(receipt) - uint64(drip)
	g := int64(min(uint64(n*unit), left, math.MaxInt64))
	if left > uint64(p.def.Burst*unit) { // a place in line
		switch {
		case p.mark < receipt:
			p.within(math.MinInt64, receipt-1)
		case p.mark > receipt:
			p.within(receipt+1, math.MaxInt64)
		default:
			p.within(receipt, receipt)
			p.put(max(drip, receipt-g))
		}
		return
	}
	switch {
	case p.mark <= drip:
		p.within(math.MinInt64, drip)
	case p.mark-drip < g:
		p.within(drip+1, drip+g)
		p.put(drip)
	default:
		p.within(drip+g, math.MaxInt64)
		p.add(-g)
	}
}

// under is bucket.State.Redefine for a limit that is there.
func (p *path) under(d bucket.Definition, at bucket.Instant) {
	old := bucket.State{Definition: p.def, Mark: p.mark}
	next := old.Redefine(d, at, 0)
	if next.Generation == old.Generation {
		p.def = next.Definition
		return
	}
	drip, drip2 := p.def.Drip(at), next.Definition.Drip(at)
	unit, shift := p.def.Unit(), drip2-drip
	capped := p.def.Rev > 0 && next.Definition.Rev > p.def.Rev && next.Definition.Burst < p.def.Burst
	switch top, cut := drip+p.def.Burst*unit, drip+next.Definition.Burst*unit; {
	case unit != next.Definition.Unit() || next.Mark == math.MaxInt64:
		p.within(p.mark, p.mark) // multiplied, or at its end: for this mark only
		p.put(next.Mark)
	case p.mark <= drip:
		p.within(math.MinInt64, drip)
		p.put(drip2)
	case capped && p.mark > top:
		p.move(top, next.Mark-p.mark)
	case capped && p.mark > cut:
		p.within(cut, top)
		p.put(next.Mark)
	case capped:
		p.within(drip, cut)
		p.add(shift)
	default:
		p.move(drip, shift)
	}
	p.def = next.Definition
	p.turns++
}

// move adds to all marks from lo on that it does not take out of int64.
func (p *path) move(lo, by int64) {
	hi := int64(math.MaxInt64)
	if by > 0 {
		hi -= by + 1
	}
	p.within(lo, hi)
	p.add(by)
}
