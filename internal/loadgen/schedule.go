package loadgen

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael/internal/pause"
)

// A schedule says when the callers of a process make their calls.
type schedule struct {
	rate       float64 // calls a second of all callers together; 0: without pause
	callers    int
	begin, end time.Time
}

// A nextCall waits until the caller's next call is due, and returns when that was. It
// is told the time. It returns false at the end, and when ctx is done.
type nextCall func(ctx context.Context, now time.Time) (due time.Time, ok bool)

// forCaller returns the schedule of caller i. Calls of a caller are equally spaced;
// the first is at a random time, so that processes are not in step. A late caller
// makes its next call at once, and skips none.
func (s schedule) forCaller(i int) nextCall {
	if s.rate <= 0 {
		return func(ctx context.Context, now time.Time) (time.Time, bool) {
			return now, now.Before(s.end) && ctx.Err() == nil
		}
	}
	number := float64(i) + rand.Float64() // of the next call, counted over all callers
	return func(ctx context.Context, now time.Time) (time.Time, bool) {
		due := s.begin.Add(time.Duration(number / s.rate * float64(time.Second)))
		number += float64(s.callers)
		if !due.Before(s.end) || !now.Before(s.end) {
			return due, false
		}
		return due, pause.For(ctx, due.Sub(now)) == nil
	}
}
