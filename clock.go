package zael

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/bucket"
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

// instant is now for the arithmetic.
func (l *Limiter) instant() (bucket.Instant, error) { return instantOf(l.now()) }

func instantOf(t time.Time) (bucket.Instant, error) {
	at, err := bucket.At(t)
	if err != nil {
		return 0, badClock(err.Error())
	}
	return at, nil
}

// date is now for what is recorded: a clock far ahead would outrank all others.
func (l *Limiter) date() (time.Time, error) {
	now := l.now().UTC()
	_, err := instantOf(now)
	return now, err
}

// ofClock is what a store says about its argument now, in the caller's words.
func ofClock(err error) error {
	if v, ok := errors.AsType[*ValidationError](err); ok && v.Field == "now" {
		return badClock(v.Reason)
	}
	return err
}

func badClock(reason string) error {
	reason = strings.TrimSuffix(reason, ": "+bucket.ErrRange.Error())
	return invalid("Config.Clock", nil, reason+": set the clock right")
}
