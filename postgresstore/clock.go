package postgresstore

import (
	"context"
	"time"

	"github.com/zeroae/zael/internal/engineclock"
)

const askingTime = "asking for the server's time"

// learnTime notes the server's time in an answer.
func (s *Store) learnTime(at time.Time, sent engineclock.Reading) {
	if !at.IsZero() {
		s.clock.Heard(at, time.Microsecond, sent)
	}
}

// askTime makes a call for the server's time.
func (s *Store) askTime(ctx context.Context) error {
	return s.retryRead(ctx, askingTime, func(ctx context.Context) error {
		var at time.Time
		sent := s.clock.Read()
		if err := s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&at); err != nil {
			return err
		}
		s.learnTime(at, sent)
		return nil
	})
}
