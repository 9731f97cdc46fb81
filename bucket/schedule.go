package bucket

import "time"

// A Schedule is a rate by wall clock.
type Schedule struct{}

func (sc *Schedule) valid() bool                            { return sc != nil }
func (sc *Schedule) floor(at Instant) int64                 { return 0 }
func (sc *Schedule) available(mark int64, at Instant) int64 { return 0 }
func (sc *Schedule) take(mark int64, at Instant, n int64, ahead time.Duration) (int64, bool) {
	return mark, false
}
func (sc *Schedule) wait(mark int64, at Instant, n int64) time.Duration { return Never }
func (sc *Schedule) waitFull(mark int64, at Instant) time.Duration      { return Never }
