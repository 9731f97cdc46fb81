package loadgen

import (
	"sync/atomic"
	"time"
)

// A runClock is the clock of a limiter under load. All calls are decided between its
// first and last instant: those that it returned, and those at which admitted calls
// ended, as a store may decide a call at the time of its own turn. It stops at the
// end, so that a late call gets no more refill than the others.
type runClock struct {
	first, last atomic.Int64 // ns since 1970; 0 before the first call
	end         atomic.Int64
}

func (c *runClock) stopAt(end time.Time) { c.end.Store(end.UnixNano()) }

func (c *runClock) now() time.Time {
	now := time.Now()
	ns := now.UnixNano()
	if end := c.end.Load(); ns > end {
		ns = end
		now = time.Unix(0, end)
	}
	for first := c.first.Load(); (first == 0 || ns < first) && !c.first.CompareAndSwap(first, ns); first = c.first.Load() {
	}
	c.reached(ns)
	return now
}

// reached moves the last instant to ns, if that is later.
func (c *runClock) reached(ns int64) {
	for last := c.last.Load(); ns > last && !c.last.CompareAndSwap(last, ns); last = c.last.Load() {
	}
}
