package zael

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/bucket"
)

const (
	// resync is how often a clock reads the wall clock itself.
	resync = time.Second

	// catchUp is the part of its pace that a clock gives up while it is ahead
	// of the wall clock: one tenth.
	catchUp = 10

	// maxLead is how far ahead of the wall clock a store may bring a clock.
	maxLead = 24 * time.Hour
)

// A clock tells the time for a store that counts by its callers' clocks. It
// follows the wall clock but never runs back: if the wall clock is set back,
// tokens taken before would otherwise refill only once it is there again.
// Instead the clock goes on from the latest instant that this process or the
// store has seen, at nine tenths of the pace, until it meets the wall clock.
//
// Between two readings of the wall clock it uses the monotonic one, which costs
// half as much. It therefore notices up to resync later that the wall clock was
// set or the machine was asleep.
type clock struct {
	source timeSource
	store  InstantStore
	last   atomic.Pointer[reading]
}

// A timeSource is the clocks of a machine.
type timeSource interface {
	// Read returns the wall clock and, of the same moment, the monotonic one.
	Read() (wall time.Time, mono time.Duration)
	// Mono returns the monotonic clock.
	Mono() time.Duration
}

// machine is the timeSource of this machine. Its monotonic clock counts from
// start.
type machine struct{ start time.Time }

func (m *machine) Read() (wall time.Time, mono time.Duration) {
	now := time.Now()
	return now.Round(0), now.Sub(m.start)
}

func (m *machine) Mono() time.Duration { return time.Since(m.start) }

// A reading is a clock at the moment when it read the wall clock.
type reading struct {
	wall time.Time
	mono time.Duration
	lead time.Duration // of the clock over the wall clock, at least 0

	at      bucket.Instant // wall, for the arithmetic
	inRange bool           // at is there
}

// after returns the clock's time d after the reading.
func (r *reading) after(d time.Duration) time.Time {
	return r.wall.Add(d + max(0, r.lead-d/catchUp))
}

// newClock returns a clock for store. The error says that the store has seen an
// instant too far ahead of the wall clock to go on from.
func newClock(source timeSource, store InstantStore) (*clock, error) {
	c := &clock{source: source, store: store}
	first := c.read(nil)
	if latest := store.LatestInstant(); latest.Sub(first.wall) > maxLead {
		return nil, invalid("wall clock", first.wall.UTC().Format(time.RFC3339), fmt.Sprintf(
			"is more than a day behind %s, which has seen %s: set this machine's clock right, or use another store",
			storeName(store), latest.UTC().Format(time.RFC3339)))
	}
	c.last.Store(first)
	return c, nil
}

// now returns the time.
func (c *clock) now() time.Time {
	for {
		r := c.last.Load()
		if d := c.source.Mono() - r.mono; d < resync {
			return r.after(d)
		}
		c.last.CompareAndSwap(r, c.read(r))
	}
}

// instant returns the time for the arithmetic; ok is false if it is out of range.
func (c *clock) instant() (at bucket.Instant, ok bool) {
	r := c.last.Load()
	d := c.source.Mono() - r.mono
	if d >= resync {
		at, err := bucket.At(c.now())
		return at, err == nil
	}
	at = r.at + bucket.Instant(d+max(0, r.lead-d/catchUp))
	return at, r.inRange && at <= bucket.MaxInstant
}

// read reads the wall clock. old is the reading before, nil if there is none.
func (c *clock) read(old *reading) *reading {
	r := new(reading)
	r.wall, r.mono = c.source.Read()
	if at, err := bucket.At(r.wall); err == nil {
		r.at, r.inRange = at, true
	}
	if old != nil {
		r.lead = max(0, old.after(r.mono-old.mono).Sub(r.wall))
	}
	if ahead := c.store.LatestInstant().Sub(r.wall); ahead <= maxLead {
		r.lead = max(r.lead, ahead)
	}
	return r
}

// caughtUp reports whether the store has seen a later instant than the clock,
// from which the clock now goes on. It returns the time then, and otherwise now,
// which the clock told before.
func (c *clock) caughtUp(now time.Time) (time.Time, bool) {
	latest := c.store.LatestInstant()
	if !latest.After(now) || !latest.After(c.now()) {
		return now, false
	}
	for {
		r := c.last.Load()
		next := c.read(r)
		if next.after(0).Before(latest) { // too far ahead
			return now, false
		}
		if c.last.CompareAndSwap(r, next) {
			return next.after(0), true
		}
	}
}

// caughtUp is clock.caughtUp. A Config.Clock is taken as it is.
func (l *Limiter) caughtUp(now time.Time) (time.Time, bool) {
	if l.clock == nil {
		return now, false
	}
	return l.clock.caughtUp(now)
}

// instant returns the time for the arithmetic.
func (l *Limiter) instant() (bucket.Instant, error) { return instantOf(l.now()) }

func instantOf(t time.Time) (bucket.Instant, error) {
	at, err := bucket.At(t)
	if err != nil {
		return 0, badClock(err.Error())
	}
	return at, nil
}

// date returns the time for what is recorded. It refuses one out of range: a
// clock far ahead would outrank all others.
func (l *Limiter) auditTime() (time.Time, error) {
	now := l.now().UTC()
	_, err := instantOf(now)
	return now, err
}

// ofClock returns what a store says about its argument now in the caller's
// words.
func clockError(err error) error {
	if v, ok := errors.AsType[*ValidationError](err); ok && v.Field == "now" {
		return badClock(v.Reason)
	}
	return err
}

func badClock(reason string) error {
	reason = strings.TrimSuffix(reason, ": "+bucket.ErrRange.Error())
	return invalid("Config.Clock", nil, reason+": set the clock right")
}
