package postgresstore

import (
	"context"
	"time"

	"github.com/zeroae/zael/bucket"
)

// SweepAt sweeps what is due at an instant.
func (s *Store) SweepAt(ctx context.Context, now time.Time) (more bool, err error) {
	at, err := bucket.At(now)
	if err != nil {
		return false, err
	}
	return s.sweepAt(ctx, now, at)
}
