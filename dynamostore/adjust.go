package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// Adjust implements zael.BucketStore. Several debits are applied at the same
// time, each as a whole; if one fails the others may stand. If the answer to a
// write is lost its charges are repeated, as those of Take, and its gives are
// forgotten: they refill by themselves.
func (s *Store) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
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
		o := s.op(adjusts, at, &debits[i])
		work := func() { errs[i] = s.adjust(ctx, o, debits[i].Charges) }
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
func (s *Store) adjust(ctx context.Context, o *op, charges []zael.Charge) error {
	v, err := s.run(ctx, o)
	if err != nil {
		return err
	}
	if v == contended {
		return fmt.Errorf("dynamostore: %d calls for one write: %w", maxCalls, zael.ErrContention)
	}
	for i := range charges {
		charges[i].State = o.known.state(charges[i].Name)
	}
	return nil
}
