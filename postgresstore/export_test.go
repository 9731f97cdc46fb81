package postgresstore

import (
	"context"
	"errors"
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

// Borrow has a new store use the connections of another one. The store is closed by what Borrow
// returns, before the other one is.
func (s *Store) Borrow(from *Store) (closing func(context.Context) error) {
	own := s.pool
	s.pool = from.pool
	return func(ctx context.Context) error {
		s.queue.close()
		s.sweepEnd()
		err := s.inflight.Close(ctx)
		s.lanes.Wait()
		s.sweeping.Wait()
		s.pool = own
		return errors.Join(err, s.Close(ctx))
	}
}
