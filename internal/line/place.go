package line

import (
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A stretch is (lo, hi] of one limit's axis.
type stretch struct {
	lo, hi     int64
	generation uint64
}

// A place has a stretch of each part.
type place struct {
	stretches []stretch
	since     bucket.Instant // the instant up to which it was handed out; no caller gets it at an earlier one
}

// clone copies a place, for what is only tried.
func (p place) clone() place { return place{slices.Clone(p.stretches), p.since} }

// fits reports whether amounts are in the place.
func (p place) fits(parts []Part, amounts []int64) bool {
	for i := range p.stretches {
		if amounts[i] > 0 && amounts[i] > p.tokens(parts, i) {
			return false
		}
	}
	return true
}

// tokens is the number of whole tokens of a part.
func (p place) tokens(parts []Part, i int) int64 {
	return (p.stretches[i].hi - p.stretches[i].lo) / parts[i].Definition.Unit()
}

// ready returns the time from an instant until amounts at the front of the place
// may be used.
func (p place) ready(parts []Part, amounts []int64, at bucket.Instant) time.Duration {
	var wait time.Duration
	for i := range p.stretches {
		if amounts[i] > 0 {
			wait = max(wait, untilReady(&parts[i].Definition, p.stretches[i].lo+amounts[i]*parts[i].Definition.Unit(), at))
		}
	}
	return wait
}

// end returns the time from an instant until the whole place may be used.
func (p place) end(parts []Part, at bucket.Instant) time.Duration {
	var wait time.Duration
	for i := range p.stretches {
		if p.stretches[i].hi > p.stretches[i].lo {
			wait = max(wait, untilReady(&parts[i].Definition, p.stretches[i].hi, at))
		}
	}
	return wait
}

// any reports whether anything is left.
func (p place) any() bool {
	for i := range p.stretches {
		if p.stretches[i].hi > p.stretches[i].lo {
			return true
		}
	}
	return false
}

// untilReady returns the time from an instant until the axis up to mark is within
// the burst.
func untilReady(d *bucket.Definition, mark int64, at bucket.Instant) time.Duration {
	return bucket.State{Definition: *d, Mark: mark}.Wait(at, 0)
}

// use takes amounts off the front.
func (p place) use(parts []Part, amounts []int64) {
	for i := range p.stretches {
		p.stretches[i].lo += amounts[i] * parts[i].Definition.Unit()
	}
}

// receipts returns those of the amounts that were just taken off the front.
func (p place) receipts() []bucket.Receipt {
	receipts := make([]bucket.Receipt, len(p.stretches))
	for i := range p.stretches {
		receipts[i] = bucket.Receipt{Mark: p.stretches[i].lo, Generation: p.stretches[i].generation}
	}
	return receipts
}

// last returns the part whose end is ready last, of those that are not empty; -1
// if all are empty. Its tokens are the ones that have to be used in time: those
// of the other parts were charged before they are used.
func (p place) last(parts []Part) int {
	last, longest := -1, time.Duration(-1)
	for i := range p.stretches {
		if p.stretches[i].hi <= p.stretches[i].lo {
			continue
		}
		// From the first of all instants on, as both may be ready by now.
		if wait := untilReady(&parts[i].Definition, p.stretches[i].hi, -bucket.MaxInstant); wait > longest {
			last, longest = i, wait
		}
	}
	return last
}

// trim drops what can no longer be used at an instant, as the drip has passed it,
// and reports whether a token is left.
func (p place) trim(parts []Part, at bucket.Instant) bool {
	i := p.last(parts)
	if i < 0 {
		return false
	}
	p.stretches[i].lo = max(p.stretches[i].lo, parts[i].Definition.Drip(at))
	return p.tokens(parts, i) > 0
}

// void returns the time from an instant until no whole token of the place can be used
// any more.
func (p place) void(parts []Part, at bucket.Instant) time.Duration {
	i := p.last(parts)
	if i < 0 {
		return 0
	}
	d := &parts[i].Definition
	past := p.stretches[i].hi - d.Unit() + 1 // for the drip
	burst := d.Burst * d.Unit()
	if past > math.MaxInt64-burst {
		return bucket.Never
	}
	return untilReady(d, past+burst, at)
}

// follows reports whether next begins where p ends, so that both are one place.
func (p place) follows(next place) bool {
	for i := range p.stretches {
		if p.stretches[i].hi != next.stretches[i].lo || p.stretches[i].generation != next.stretches[i].generation {
			return false
		}
	}
	return true
}

// ends reports whether nobody stands behind the place, by the states last seen.
func (p place) ends(states []bucket.State) bool {
	for i := range p.stretches {
		if p.stretches[i].hi > p.stretches[i].lo && (states[i].Mark != p.stretches[i].hi || states[i].Generation != p.stretches[i].generation) {
			return false
		}
	}
	return true
}

// back returns the charges that give the place back.
func (p place) back(parts []Part) []Back {
	back := make([]Back, len(p.stretches))
	for i := range p.stretches {
		back[i] = Back{Amount: max(0, p.tokens(parts, i)), Receipt: bucket.Receipt{Mark: p.stretches[i].hi, Generation: p.stretches[i].generation}}
	}
	return back
}

// given reports whether a give of the place, after which the limits are in
// states, was more than nothing: the store gives nothing of a place that is not
// ready if others stand behind it.
func (p place) given(parts []Part, states []bucket.State, at bucket.Instant) bool {
	for i := range p.stretches {
		if p.stretches[i].hi > p.stretches[i].lo && (states[i].Mark < p.stretches[i].hi || untilReady(&parts[i].Definition, p.stretches[i].hi, at) == 0) {
			return true
		}
	}
	return false
}
