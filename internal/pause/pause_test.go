package pause_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael/internal/pause"
)

// Backoff waits up to twice as long each time, and no longer than most, however often.
func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []int{0, 1, 5, 30, 31, 62, 63, 64, 1000, math.MaxInt} {
			for _, base := range []time.Duration{time.Nanosecond, time.Millisecond, time.Second} {
				begun := time.Now()
				if err := pause.Backoff(t.Context(), n, base, time.Minute); err != nil {
					t.Fatal(err)
				}
				if most := min(time.Minute, base<<min(n, 30)); time.Since(begun) >= most {
					t.Errorf("the wait number %d from %v: got %v, want less than %v", n, base, time.Since(begun), most)
				}
			}
		}
	})
}

func TestForLeaves(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause.For(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
