package dynamostore

import (
	"sync"
	"time"
)

const (
	clockSpan  = 10 * time.Minute // how long an answer counts
	clockSlots = 10
)

// A clock knows how far this machine's clock is from the engine's. Each answer
// bears the engine's time in whole seconds, somewhere between the sending and
// the receiving, so that
//
//	date − received ≤ offset < date + 1 s − sent
//
// and a few answers narrow it down to the time that one takes. Of the offsets
// that all answers of the last ten minutes allow, the one nearest to 0 counts:
// a clock that is right is left alone.
type clock struct {
	mu    sync.Mutex
	slots [clockSlots]bounds // each for a tenth of the span
}

type bounds struct {
	slot   int64         // which tenth, since 1970; 0: unused
	lo, hi time.Duration // lo ≤ offset < hi
}

// answer notes an answer.
func (c *clock) answer(date, sent, received time.Time) {
	b := bounds{
		slot: received.UnixNano() / int64(clockSpan/clockSlots),
		lo:   date.Sub(received), hi: date.Add(time.Second).Sub(sent),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if lo, hi, ok := c.agreed(b.slot); ok && (b.hi <= lo || b.lo >= hi) {
		c.slots = [clockSlots]bounds{} // a clock was set: what was before tells nothing
	}
	s := &c.slots[b.slot%clockSlots]
	if s.slot != b.slot {
		*s = b
		return
	}
	s.lo, s.hi = max(s.lo, b.lo), min(s.hi, b.hi)
}

// agreed is what all answers allow; not ok if there is none yet.
func (c *clock) agreed(slot int64) (lo, hi time.Duration, ok bool) {
	for _, s := range c.slots {
		if s.slot == 0 || s.slot <= slot-clockSlots {
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

// offset is what to add to this machine's time; not ok before the first answer.
func (c *clock) offset(now time.Time) (d time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lo, hi, ok := c.agreed(now.UnixNano() / int64(clockSpan/clockSlots))
	switch {
	case !ok:
		for _, s := range c.slots { // older than the span is better than nothing
			if s.slot != 0 {
				return min(max(0, s.lo), s.hi-1), true
			}
		}
		return 0, false
	case lo > 0:
		return lo, true
	case hi <= 0:
		return hi - 1, true
	}
	return 0, true
}
