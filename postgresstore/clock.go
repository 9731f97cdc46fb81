package postgresstore

import (
	"context"
	"sync"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/engineclock"
	"github.com/zeroae/zael/internal/storearg"
)

// An askLock has one caller ask for the server's time, for all that wait for it.
type askLock struct {
	mu    sync.Mutex
	asked chan struct{} // closed when the call that is under way has ended; nil if there is none
	err   error         // of the last one
}

// learnTime notes the server's time in an answer.
func (s *Store) learnTime(at time.Time, sent engineclock.Reading) {
	if !at.IsZero() {
		s.clock.Answer(at, time.Microsecond, sent, s.read())
	}
}

// instant returns now, which the caller has just read from this machine's wall clock, by the
// server's clock. If the offset between the two is not known it asks the server first.
func (s *Store) instant(ctx context.Context, now time.Time) (time.Time, bucket.Instant, error) {
	if !s.trial.VirtualTime {
		entered := s.read()
		offset, known := s.clock.Offset(entered)
		if !known {
			if err := s.askTime(ctx); err != nil {
				return now, 0, err
			}
			offset, _ = s.clock.Offset(entered)
		}
		now = now.Add(offset)
	}
	at, err := storearg.Instant(now)
	return now, at, err
}

// localInstant is instant if nobody has to be asked.
func (s *Store) localInstant(now time.Time) (time.Time, bucket.Instant, bool) {
	if !s.trial.VirtualTime {
		offset, known := s.clock.Offset(s.read())
		if !known {
			return now, 0, false
		}
		now = now.Add(offset)
	}
	at, err := bucket.At(now)
	return now, at, err == nil
}

// askTime asks for the server's time. Callers that come meanwhile wait for the same answer.
func (s *Store) askTime(ctx context.Context) error {
	for {
		s.asked.mu.Lock()
		if _, known := s.clock.Offset(s.read()); known {
			s.asked.mu.Unlock()
			return nil
		}
		asked := s.asked.asked
		if asked == nil {
			asked = make(chan struct{})
			s.asked.asked = asked
			s.asked.mu.Unlock()
			err := s.askServer(ctx)
			s.asked.mu.Lock()
			s.asked.asked, s.asked.err = nil, err
			s.asked.mu.Unlock()
			close(asked)
			return err
		}
		s.asked.mu.Unlock()
		select {
		case <-asked:
			s.asked.mu.Lock()
			err := s.asked.err
			s.asked.mu.Unlock()
			if err != nil && !isDone(err) {
				return err
			}
		case <-ctx.Done():
			return contextError(ctx, "asking for the server's time")
		}
	}
}

func (s *Store) askServer(ctx context.Context) error {
	return s.retryRead(ctx, "asking for the server's time", func(ctx context.Context) error {
		var at time.Time
		sent := s.read()
		if err := s.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&at); err != nil {
			return err
		}
		s.learnTime(at, sent)
		return nil
	})
}
