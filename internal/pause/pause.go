// Package pause waits, unless somebody leaves.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// For waits for d, or until ctx is done: that is the error then.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Backoff waits for the n-th time: up to base·2ⁿ and most, at random. base is a second at most.
func Backoff(ctx context.Context, n int, base, most time.Duration) error {
	const doublings = 30 // beyond which a second leaves int64
	return For(ctx, rand.N(min(most, base<<min(n, doublings))))
}
