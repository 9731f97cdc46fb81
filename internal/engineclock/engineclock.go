// Package engineclock knows the time of a store's engine from what the engine answers.
package engineclock

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	clockSpan  = 10 * time.Minute // how long an answer counts
	clockSlots = 10

	// clockStep is by how much this machine's clocks part when the wall clock is
	// set, or the machine has slept. Clocks that are disciplined part by less.
	clockStep = 100 * time.Millisecond
)

// A Reading is what this machine's clocks show at one moment.
type Reading struct {
	Wall time.Time
	Mono time.Duration // of the monotonic clock, since the store was made
}

// Machine returns a function that reads this machine's clocks.
func Machine() func() Reading {
	start := time.Now()
	return func() Reading {
		now := time.Now()
		return Reading{now.Round(0), now.Sub(start)}
	}
}

// apart returns by how much the wall clock went another way than the monotonic
// one between two readings.
func (r Reading) apart(before Reading) time.Duration {
	return (r.Wall.Sub(before.Wall) - (r.Mono - before.Mono)).Abs()
}

// A Clock knows the engine's time by this machine's monotonic clock, which nobody
// sets. Each answer bears the engine's time, rounded down to a resolution, somewhere between
// the sending and the receiving. With the engine's time as a duration since the
// clock's zero,
//
//	date − received ≤ lead < date + resolution − sent
//
// and a few answers narrow the lead down to the time that one takes. Of the leads
// that all answers of the last ten minutes allow, the one counts that is nearest
// to this machine's wall clock: a clock that is right is left alone.
type Clock struct {
	mu    sync.Mutex // for Answer
	knows atomic.Pointer[knowledge]
}

// knowledge is what a Clock knows by its answers. It does not change.
type knowledge struct {
	zero  time.Time             // any instant, from which leads count
	last  Reading               // at the last answer
	slots [clockSlots]clockSlot // each for a tenth of the span
}

type clockSlot struct {
	number int64         // of the tenth, from 1; 0: unused
	lo, hi time.Duration // lo ≤ lead < hi
}

func slotNumber(r Reading) int64 { return int64(r.Mono/(clockSpan/clockSlots)) + 1 }

// Answer notes an answer with the engine's time, which is rounded down to a resolution.
func (c *Clock) Answer(date time.Time, resolution time.Duration, sent, received Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := knowledge{zero: date}
	if known := c.knows.Load(); known != nil {
		k = *known
	}
	lead := date.Sub(k.zero)
	b := clockSlot{number: slotNumber(received), lo: lead - received.Mono, hi: lead + resolution - sent.Mono}
	if lo, hi, ok := k.agreed(b.number); ok && (b.hi <= lo || b.lo >= hi) {
		k.slots = [clockSlots]clockSlot{} // the machine slept, or the engine's clock was set: what was before tells nothing
	}
	k.last = received
	if s := &k.slots[b.number%clockSlots]; s.number != b.number {
		*s = b
	} else {
		s.lo, s.hi = max(s.lo, b.lo), min(s.hi, b.hi)
	}
	c.knows.Store(&k)
}

// agreed returns what all answers allow; not ok if there is none yet.
func (k *knowledge) agreed(number int64) (lo, hi time.Duration, ok bool) {
	for i := range k.slots {
		s := &k.slots[i]
		if s.number == 0 || s.number <= number-clockSlots {
			continue
		}
		if !ok {
			lo, hi, ok = s.lo, s.hi, true
			continue
		}
		lo, hi = max(lo, s.lo), min(hi, s.hi)
	}
	return lo, hi, ok
}

// Offset returns what to add to the wall clock of a Reading. It is not known
// before the first answer, and when the wall clock was set or the machine slept
// since the last one.
func (c *Clock) Offset(r Reading) (d time.Duration, known bool) {
	k := c.knows.Load()
	if k == nil {
		return 0, false
	}
	lo, hi, ok := k.agreed(slotNumber(r))
	if !ok {
		for _, s := range k.slots { // older than the span is better than nothing
			if s.number != 0 {
				lo, hi = s.lo, s.hi
			}
		}
	}
	wall := r.Wall.Sub(k.zero) - r.Mono // the lead if this machine's wall clock is right
	return min(max(wall, lo), hi-1) - wall, r.apart(k.last) <= clockStep
}

// silent reports whether no answer has told a time yet.
func (c *Clock) silent() bool { return c.knows.Load() == nil }
