package loadgen

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael/internal/pause"
)

// A schedule says when the callers of a process call.
type schedule struct {
	rate       float64 // calls a second of all callers; 0: each as soon as it can
	callers    int
	begin, end time.Time
}

// A next waits until a caller's next call is due and tells when that was; now is
// when he is ready for it. It is false at the end, and when ctx is done.
type next func(ctx context.Context, now time.Time) (due time.Time, ok bool)

// of is the schedule of caller i. His calls are as far apart as those of all
// callers together take; the first is at random, so that processes do not call in
// step. Who is late calls at once, and leaves none out.
func (s schedule) of(i int) next {
	if s.rate <= 0 {
		return func(ctx context.Context, now time.Time) (time.Time, bool) {
			return now, now.Before(s.end) && ctx.Err() == nil
		}
	}
	number := float64(i) + rand.Float64() // of his next call, in those of all callers
	return func(ctx context.Context, now time.Time) (time.Time, bool) {
		due := s.begin.Add(time.Duration(number / s.rate * float64(time.Second)))
		number += float64(s.callers)
		if !due.Before(s.end) || !now.Before(s.end) {
			return due, false
		}
		return due, pause.For(ctx, due.Sub(now)) == nil
	}
}
