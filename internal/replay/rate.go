package replay

import (
	"math/bits"

	"github.com/zeroae/zael/bucket"
)

// The least rate. Under a rate r that refuses nothing, the mark before a
// request is, over all earlier requests j of the entity (and its own drip),
//
//	mark(r) = max over j of  drip(r, at_j) + tokens settled since j, j included
//
// so that r refuses request i exactly if for some j
//
//	drip(r, at_i + wait) − drip(r, at_j) < (settled from j on, before i) + take_i − burst
//
// Without the floors in drip the left side is (at_i + wait − at_j)·r/period: j
// asks for a least rate, and the answer is the greatest over all pairs. As a
// function of r each j is a line with slope at_j and intercept −(tokens settled
// before j), the mark follows their upper envelope, and only the lines on it,
// at the rate found so far or above, can matter again. They are few. The floors
// change nothing in that: floor(drip) rises with drip, and settled tokens are
// whole units.
//
// What is left of the floors is one unit: rates slightly below a pair's bound
// may pass or not, by the phase of at_j. So the answer is found as one above
// the greatest rate that is refused, trying rates from the bound downwards by
// the real arithmetic; every rate from the answer up refuses nothing.

// A line is a request that later ones may have to wait for.
type line struct {
	at     bucket.Instant
	before int64 // tokens settled before it, counted as track.taken is
}

// maxTaken keeps sums of tokens within int64.
const maxTaken = 1 << 62

// maxTries bounds the search below a pair's bound. It is reached only by gaps
// so short that the bound is above a million tokens a second, and then the
// bound itself, too high by less than 1 %, is the answer.
const maxTries = 1 << 22

func (n *need) addRate(t *track, at bucket.Instant, take, settle int64) {
	if n.rate > n.maxRate {
		return
	}
	if take > n.def.Burst {
		n.rate = n.maxRate + 1
		return
	}
	if len(t.lines) > 0 {
		end := at.Add(n.wait)
		asked := t.taken + take - n.def.Burst
		t.dropFirst(n)
		// The first line is the highest at this rate. If it is no obstacle, none is.
		if !n.passes(t.lines[0], end, asked) {
			for _, l := range t.lines {
				n.raise(l, end, asked)
			}
		}
	}
	if settle > 0 {
		t.push(n, line{at, t.taken})
		t.taken += settle
		if t.taken > maxTaken {
			n.rate = n.maxRate + 1
		}
	}
}

// passes tells whether a request that ends its wait at end is clear of a line,
// floors aside: then it is so at every higher rate, and with floors.
func (n *need) passes(l line, end bucket.Instant, asked int64) bool {
	tokens := asked - l.before
	return tokens <= 0 || cmpProducts(uint64(end-l.at), uint64(n.rate), uint64(tokens), uint64(n.def.Period)) >= 0
}

// raise makes the rate high enough for a request and one of the lines before it.
func (n *need) raise(l line, end bucket.Instant, asked int64) {
	if n.rate > n.maxRate || n.passes(l, end, asked) {
		return
	}
	tokens, span := asked-l.before, uint64(end-l.at)
	bound := n.maxRate + 1 // from here up it surely passes
	hi, lo := bits.Mul64(uint64(tokens), uint64(n.def.Period))
	if hi < span {
		q, r := bits.Div64(hi, lo, span)
		if r > 0 {
			q++
		}
		bound = int64(min(q, uint64(bound)))
	}
	tries := 0
	for rate := bound - 1; rate >= n.rate; rate-- {
		if tries++; tries > maxTries {
			n.rate = bound
			return
		}
		if n.refuses(rate, l.at, end, tokens) {
			n.rate = rate + 1
			return
		}
	}
}

// refuses tells by the bucket's arithmetic whether fewer than so many tokens
// refill from one instant to another.
func (n *need) refuses(rate int64, from, to bucket.Instant, tokens int64) bool {
	d := n.def
	d.Amount = rate
	refill := d.Drip(to) - d.Drip(from)
	unit := d.Unit()
	return refill/unit < tokens
}

// push adds a line, with the highest slope of all, and drops those that it puts
// out of the envelope.
func (t *track) push(n *need, l line) {
	for len(t.lines) > 0 {
		last := t.lines[len(t.lines)-1]
		if last.at == l.at {
			return // it stays below the last one for ever
		}
		if n.overtaken(last, l) {
			t.lines = t.lines[:len(t.lines)-1]
			continue
		}
		if len(t.lines) == 1 {
			break
		}
		// last is on the envelope only between where it overtakes the line
		// before it and where l overtakes last.
		prev := t.lines[len(t.lines)-2]
		if cmpProducts(uint64(l.before-last.before), uint64(last.at-prev.at), uint64(last.before-prev.before), uint64(l.at-last.at)) > 0 {
			break
		}
		t.lines = t.lines[:len(t.lines)-1]
	}
	if len(t.lines) == 0 {
		t.taken, l.before = 0, 0
	}
	t.lines = append(t.lines, l)
}

// dropFirst drops the first lines that the rate puts out of the envelope; it may
// have risen since by this entity or another.
func (t *track) dropFirst(n *need) {
	drop := 0
	for drop+1 < len(t.lines) && n.overtaken(t.lines[drop], t.lines[drop+1]) {
		drop++
	}
	if drop > 0 {
		t.lines = append(t.lines[:0], t.lines[drop:]...)
	}
}

// overtaken tells whether a later line is as high as an earlier one, now and so
// at all higher rates: whether what was settled between the two has refilled.
func (n *need) overtaken(early, late line) bool {
	return cmpProducts(uint64(late.at-early.at), uint64(n.rate), uint64(late.before-early.before), uint64(n.def.Period)) >= 0
}

// cmpProducts compares a·b with c·d: below, equal or above 0.
func cmpProducts(a, b, c, d uint64) int {
	h1, l1 := bits.Mul64(a, b)
	h2, l2 := bits.Mul64(c, d)
	switch {
	case h1 < h2 || h1 == h2 && l1 < l2:
		return -1
	case h1 == h2 && l1 == l2:
		return 0
	}
	return 1
}
