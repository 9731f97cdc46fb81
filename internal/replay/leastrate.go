package replay

import (
	"cmp"
	"math/bits"

	"github.com/zeroae/zael/bucket"
)

// The least rate. Under a rate r that refuses nothing, the mark before a request
// is the maximum, over its own drip and each earlier request j of the entity, of
//
//	drip(r, at_j) + tokens settled since j, j included
//
// so r refuses request i exactly if, for some j,
//
//	drip(r, at_i + wait) − drip(r, at_j) < (settled from j on, before i) + take_i − burst
//
// Without the rounding in drip the left side is (at_i + wait − at_j)·r/period: each
// j asks for a least rate, and the result is the greatest over all pairs. As a
// function of r, each j is a line with slope at_j and intercept −(tokens settled
// before j). The mark follows the upper envelope of these lines, and only the lines
// on it, at the rate found so far or above, can matter later. They are few. Rounding
// changes nothing in this: floor(drip) rises with drip, and settled tokens are whole
// units.
//
// What rounding changes is one unit: a rate slightly below the bound of a pair may
// be enough, depending on the phase of at_j. So the result is one above the greatest
// rate that is refused, found by trying rates from the bound downwards with the real
// arithmetic. Every rate from the result upwards refuses nothing.

// An origin is a request that later ones may have to wait for: a line of the
// envelope.
type origin struct {
	at     bucket.Instant
	before int64 // tokens settled before it, counted as in lenientBucket.settled
}

// maxSettled keeps sums of tokens within int64.
const maxSettled = 1 << 62

// maxTries bounds the search below the bound of a pair. It is reached only where
// requests are so close that the bound is above a million tokens a second. Then the
// bound itself is the result, which is less than 1 % too high.
const maxTries = 1 << 22

func (q *requirement) raiseRate(b *lenientBucket, o *observation) {
	if q.rate > q.maxRate {
		return
	}
	if o.take > q.definition.Burst {
		q.rate = q.maxRate + 1
		return
	}
	if len(b.origins) > 0 {
		end := o.at.Add(q.maxWait)
		needed := b.settled + o.take - q.definition.Burst
		b.dropOvertaken(q)
		// The first line is the highest at this rate: if it is low enough, all are.
		if !q.passes(b.origins[0], end, needed) {
			for _, from := range b.origins {
				q.raiseFor(from, end, needed)
			}
		}
	}
	if o.settle > 0 {
		b.push(q, origin{o.at, b.settled})
		b.settled += o.settle
		if b.settled > maxSettled {
			q.rate = q.maxRate + 1
		}
	}
}

// passes reports whether enough refills between an origin and the end of a wait,
// disregarding rounding. If so, it does at every higher rate, and with rounding.
func (q *requirement) passes(from origin, end bucket.Instant, needed int64) bool {
	tokens := needed - from.before
	return tokens <= 0 || compareProducts(uint64(end-from.at), uint64(q.rate), uint64(tokens), uint64(q.definition.Period)) >= 0
}

// raiseFor raises the rate until enough refills between an origin and the end of a
// wait.
func (q *requirement) raiseFor(from origin, end bucket.Instant, needed int64) {
	if q.rate > q.maxRate || q.passes(from, end, needed) {
		return
	}
	tokens, length := needed-from.before, uint64(end-from.at)
	bound := q.maxRate + 1 // the least rate that passes without rounding
	hi, lo := bits.Mul64(uint64(tokens), uint64(q.definition.Period))
	if hi < length {
		quotient, rest := bits.Div64(hi, lo, length)
		if rest > 0 {
			quotient++
		}
		bound = int64(min(quotient, uint64(bound)))
	}
	tries := 0
	for rate := bound - 1; rate >= q.rate; rate-- {
		if tries++; tries > maxTries {
			q.rate = bound
			return
		}
		if q.refillAt(rate, from.at, end) < tokens {
			q.rate = rate + 1
			return
		}
	}
}

// refillAt returns the whole tokens that refill between two instants at a rate, by
// the bucket's arithmetic.
func (q *requirement) refillAt(rate int64, from, to bucket.Instant) int64 {
	d := q.definition
	d.Amount = rate
	return (d.Drip(to) - d.Drip(from)) / d.Unit()
}

// push adds the line with the highest slope so far, and drops those that it takes
// out of the envelope.
func (b *lenientBucket) push(q *requirement, added origin) {
	for len(b.origins) > 0 {
		last := b.origins[len(b.origins)-1]
		if last.at == added.at {
			return // it is below the last line at every rate
		}
		if q.overtakes(added, last) {
			b.origins = b.origins[:len(b.origins)-1]
			continue
		}
		if len(b.origins) == 1 {
			break
		}
		// last is on the envelope only between the rate at which it overtakes the
		// line before it and the rate at which added overtakes it.
		previous := b.origins[len(b.origins)-2]
		if compareProducts(
			uint64(added.before-last.before), uint64(last.at-previous.at),
			uint64(last.before-previous.before), uint64(added.at-last.at)) > 0 {
			break
		}
		b.origins = b.origins[:len(b.origins)-1]
	}
	if len(b.origins) == 0 {
		b.settled, added.before = 0, 0
	}
	b.origins = append(b.origins, added)
}

// dropOvertaken drops the first lines where they are no longer on the envelope: the
// rate may have risen since they were added, for any entity.
func (b *lenientBucket) dropOvertaken(q *requirement) {
	drop := 0
	for drop+1 < len(b.origins) && q.overtakes(b.origins[drop+1], b.origins[drop]) {
		drop++
	}
	if drop > 0 {
		b.origins = append(b.origins[:0], b.origins[drop:]...)
	}
}

// overtakes reports whether a later line is as high as an earlier one at the rate,
// and so at every higher one: whether what was settled in between has refilled.
func (q *requirement) overtakes(late, early origin) bool {
	return compareProducts(uint64(late.at-early.at), uint64(q.rate), uint64(late.before-early.before), uint64(q.definition.Period)) >= 0
}

// compareProducts compares a·b with c·d, as cmp.Compare does.
func compareProducts(a, b, c, d uint64) int {
	hi1, lo1 := bits.Mul64(a, b)
	hi2, lo2 := bits.Mul64(c, d)
	return cmp.Or(cmp.Compare(hi1, hi2), cmp.Compare(lo1, lo2))
}
