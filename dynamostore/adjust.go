package dynamostore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/coalesce"
)

// Adjust implements zael.BucketStore. Several debits are applied at the same
// time, each as a whole; if one fails the others may stand. If the answer to a
// write is lost its charges are repeated, as those of Take, and its gives are
// forgotten: they refill by themselves.
func (s *Store) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	if bypasses(debits) {
		return s.adjustBypassing(ctx, now, debits)
	}
	if !s.inflight.Begin() {
		return now, errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, debits); err != nil {
		return now, err
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, err
	}
	s.held.release(debits)
	members := make([]coalesce.Op, len(debits))
	for i := range debits {
		members[i] = coalesce.Op{Kind: coalesce.Adjust, Holder: debits[i].Holder, Charges: slices.Clone(debits[i].Charges), At: at}
		s.coalescer.Start(ctx, debits[i].Key, &members[i])
	}
	for i := range debits {
		m := &members[i]
		if s.await(m); m.Outcome == coalesce.Failed {
			err = errors.Join(err, m.Err)
			continue
		}
		for j := range debits[i].Charges {
			c := &debits[i].Charges[j]
			c.State = coalesce.StateOf(m.Bucket, c)
		}
	}
	return now, err
}
