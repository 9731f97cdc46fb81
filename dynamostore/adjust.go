package dynamostore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/gather"
)

// Adjust implements zael.BucketStore. Several debits are applied at the same
// time, each as a whole; if one fails the others may stand. If the answer to a
// write is lost its charges are repeated, as those of Take, and its gives are
// forgotten: they refill by themselves.
func (s *Store) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	if !s.inflight.begin() {
		return now, errClosed
	}
	defer s.inflight.end()
	if err := s.check(ctx, debits); err != nil {
		return now, err
	}
	now, at, err := s.instant(ctx, now)
	if err != nil {
		return now, err
	}
	errs := make([]error, len(debits))
	var wg sync.WaitGroup
	for i := range debits {
		work := func() { errs[i] = s.adjust(ctx, at, &debits[i]) }
		if i < len(debits)-1 {
			wg.Go(work)
		} else {
			work()
		}
	}
	wg.Wait()
	return now, errors.Join(errs...)
}

// adjust adjusts one bucket.
func (s *Store) adjust(ctx context.Context, at bucket.Instant, d *zael.Debit) error {
	m := gather.Member{Kind: gather.Adjust, Charges: slices.Clone(d.Charges), At: at}
	if s.ask(ctx, d.Key, &m); m.Verdict == gather.Failed {
		return m.Err
	}
	for i := range d.Charges {
		d.Charges[i].State = m.Bucket.State(d.Charges[i].Name)
	}
	return nil
}
