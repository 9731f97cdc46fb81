package protocol

import (
	"math"

	"github.com/zeroae/zael/internal/saturate"
)

// A piece is what an operation makes of a number, such as a mark, together with the
// stretch of numbers for which this holds: everything that package bucket does to a mark is
// linear in pieces. Which piece is right depends on the mark, which a writer does not
// know; so it guesses one, and the engine writes only if the mark lies on it.
type piece struct {
	lo, hi int64 // inclusive; the ends of int64 are no bound
	set    bool  // the number becomes n; otherwise n is added to it
	n      int64
}

// identity returns the piece that leaves every number as it is.
func identity() piece { return piece{lo: math.MinInt64, hi: math.MaxInt64} }

// keeps reports whether the piece leaves numbers as they are.
func (p *piece) keeps() bool { return !p.set && p.n == 0 }

// bounded reports whether there are numbers that do not lie on the piece.
func (p *piece) bounded() bool { return p.lo != math.MinInt64 || p.hi != math.MaxInt64 }

// empty reports whether no number lies on the piece.
func (p *piece) empty() bool { return p.lo > p.hi }

// of returns what the piece makes of a number.
func (p *piece) of(number int64) int64 {
	if p.set {
		return p.n
	}
	return saturate.Add(number, p.n)
}

// within narrows the piece to the numbers of which it makes one from lo to hi. A piece that
// makes one number of all numbers stays as it is.
func (p *piece) within(lo, hi int64) {
	if p.set {
		return
	}
	if lo != math.MinInt64 {
		p.lo = max(p.lo, saturate.Sub(lo, p.n))
	}
	if hi != math.MaxInt64 {
		p.hi = min(p.hi, saturate.Sub(hi, p.n))
	}
}

// then makes p the piece that is p and, after it, next.
func (p *piece) then(next piece) {
	switch {
	case !p.set:
		p.within(next.lo, next.hi)
	case p.n < next.lo || p.n > next.hi:
		p.nowhere()
	}
	if next.set {
		p.set, p.n = true, next.n
	} else {
		p.n += next.n
	}
}

// nowhere leaves no number on the piece.
func (p *piece) nowhere() { p.lo, p.hi = 1, 0 }
