package dynamostore

import (
	"time"

	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/engineclock"
)

// What the tests look at of the inside.

type Clock struct{ engineclock.Clock }

func RecordOf(it item) (*protocol.Record, error) { return recordOf(it) }

// SetWall makes the store's own wall clock, which nobody sets.
func (s *Store) SetWall(now func() time.Time) {
	start := now()
	s.SetClocks(func() (time.Time, time.Duration) {
		wall := now()
		return wall, wall.Sub(start)
	})
}

// SetClocks makes the store's own wall clock and monotonic clock.
func (s *Store) SetClocks(read func() (wall time.Time, mono time.Duration)) {
	s.clock.Read = func() engineclock.Reading {
		wall, mono := read()
		return engineclock.Reading{Wall: wall, Mono: mono}
	}
}

// readingAt is one of a wall clock that nobody sets.
func readingAt(wall time.Time) engineclock.Reading {
	return engineclock.Reading{Wall: wall, Mono: wall.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

func (c *Clock) Answer(date, sent, received time.Time) {
	c.Clock.Answer(date, time.Second, readingAt(sent), readingAt(received))
}

func (c *Clock) Offset(now time.Time) (time.Duration, bool) { return c.Clock.Offset(readingAt(now)) }

// KnowResource has a store believe that it has listed a resource.
func (s *Store) KnowResource(name string) { s.resources.add(name) }

// Kept returns for how many buckets something is kept besides their last state.
func Kept(s *Store) int { return s.coalescer.Len() }

// Parked returns how many goroutines of a store wait for work.
func Parked(s *Store) int { return s.inflight.Parked() }
