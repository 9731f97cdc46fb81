package dynamostore

import (
	"time"

	"github.com/zeroae/zael/dynamostore/internal/protocol"
)

// What the tests look at of the inside.

type Clock = clock

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
	s.read = func() reading {
		wall, mono := read()
		return reading{wall, mono}
	}
}

// readingAt is one of a wall clock that nobody sets.
func readingAt(wall time.Time) reading {
	return reading{wall, wall.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

func (c *clock) Answer(date, sent, received time.Time) {
	c.answer(date, readingAt(sent), readingAt(received))
}
func (c *clock) Offset(now time.Time) (time.Duration, bool) { return c.offset(readingAt(now)) }

// Kept returns for how many buckets something is kept besides their last state.
func Kept(s *Store) int { return s.coalescer.Len() }

// Parked returns how many goroutines of a store wait for work.
func Parked(s *Store) int {
	s.inflight.mu.Lock()
	defer s.inflight.mu.Unlock()
	return len(s.inflight.parked)
}
