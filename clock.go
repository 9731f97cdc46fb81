package zael

import (
	"sync/atomic"
	"time"
)

// resync is how often a clock looks at the wall clock itself.
const resync = time.Second

// A clock reads the wall clock by way of the monotonic one, which costs half as
// much. What the two do not share, a step of the wall clock or a sleep of the
// machine, is seen at most resync later.
type clock struct {
	base atomic.Pointer[time.Time]
}

func newClock() *clock {
	c := new(clock)
	c.look()
	return c
}

func (c *clock) now() time.Time {
	base := c.base.Load()
	if d := time.Since(*base); d < resync {
		return base.Add(d)
	}
	return c.look()
}

func (c *clock) look() time.Time {
	now := time.Now()
	c.base.Store(&now)
	return now
}
