package dynamostore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/storearg"
)

func bypasses(debits []zael.Debit) bool {
	return slices.ContainsFunc(debits, func(d zael.Debit) bool { return d.Bypass })
}

// bound returns those of debits that are not bypassed, with the same charges.
func bound(debits []zael.Debit) []zael.Debit {
	return slices.DeleteFunc(slices.Clone(debits), func(d zael.Debit) bool { return d.Bypass })
}

// takeBypassing is Take of debits some of which are bypassed: it takes the others and
// then counts these. If they cannot be counted, what was taken is given back.
func (s *Store) takeBypassing(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (at time.Time, err error) {
	at, others := now, bound(debits)
	if len(others) > 0 {
		if at, err = s.Take(ctx, now, maxWait, others); err != nil {
			if errors.Is(err, zael.ErrExceeded) {
				err = errors.Join(err, s.showBypassed(ctx, now, debits))
			}
			return at, err
		}
	}
	if err = s.countBypassed(ctx, now, debits, 1); err == nil || len(others) == 0 {
		return at, err
	}
	for i := range others {
		charges := slices.Clone(others[i].Charges)
		for j := range charges {
			charges[j].Amount = -charges[j].Amount
		}
		others[i].Charges = slices.DeleteFunc(charges, func(c zael.Charge) bool { return c.Amount == 0 })
	}
	s.inflight.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
		defer cancel()
		_, _ = s.Adjust(ctx, at, others) // if it fails, the tokens refill
	})
	return at, err
}

// showBypassed reads the limits of bypassed debits, and shows them as they are.
func (s *Store) showBypassed(ctx context.Context, now time.Time, debits []zael.Debit) error {
	for i := range debits {
		if !debits[i].Bypass {
			continue
		}
		at, buckets, err := s.Buckets(ctx, now, []zael.Key{debits[i].Key})
		if err != nil {
			return err
		}
		instant, err := bucket.At(at)
		if err != nil {
			return storearg.Invalid("now", nil, err.Error())
		}
		shown := bucket.Record{Limits: buckets[0].Limits}
		shown.Pass(debits[i].Charges, instant)
	}
	return nil
}

// adjustBypassing is Adjust of debits some of which are bypassed.
func (s *Store) adjustBypassing(ctx context.Context, now time.Time, debits []zael.Debit) (at time.Time, err error) {
	at = now
	if others := bound(debits); len(others) > 0 {
		at, err = s.Adjust(ctx, now, others)
	}
	return at, errors.Join(err, s.countBypassed(ctx, now, debits, 0))
}

// countBypassed counts the charges of bypassed debits, and shows their limits as they
// are.
func (s *Store) countBypassed(ctx context.Context, now time.Time, debits []zael.Debit, events int64) error {
	if !s.inflight.Begin() {
		return errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, debits); err != nil {
		return err
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return err
	}
	for i := range debits {
		d := &debits[i]
		if !d.Bypass {
			continue
		}
		r, err := s.countOnly(ctx, now, d, events)
		if err != nil {
			return err
		}
		s.cache.observe(d.Key, r, at, nil)
		shown := bucket.Record{Limits: r.Bucket(d.Key, at).Limits}
		shown.Pass(d.Charges, at)
	}
	return nil
}

// countOnly adds charges to the counters of a bucket. The write has an id, by which a
// repetition after a lost answer is known.
func (s *Store) countOnly(ctx context.Context, now time.Time, d *zael.Debit, events int64) (*protocol.Record, error) {
	c := protocol.Count{
		Key: d.Key, Charges: d.Charges, Events: events, Settings: d.SettingsRev, ID: s.random(), Index: s.keys.bucketIndex(d.Key),
	}
	if !s.trial.VirtualTime {
		c.Expiry = now.Add(bypassExpiry).Unix()
	}
	update := c.Update()
	for n := 0; ; n++ {
		callCtx, cancel := context.WithTimeout(ctx, s.callTime(ctx))
		r, ok, err := s.updateItem(callCtx, &update)
		cancel()
		switch {
		case err == nil && (ok || r.LastWrite() == c.ID): // or the first copy was applied
			return r, nil
		case err == nil:
			return nil, zael.ErrStaleSettings
		case !retries.Again(ctx, n, err):
			return nil, s.translate(ctx, "counting what is bypassed", err)
		}
	}
}

// staleSettings reports whether the bucket of a side has been told of settings that are
// newer than those it was taken under.
func (t *multiTake) staleSettings() bool {
	for i := range t.sides {
		if r, ok := t.sides[i].Bucket.(*protocol.Record); ok && r.SettingsRev() > t.debits[i].SettingsRev {
			return true
		}
	}
	return false
}

// bypassExpiry is how long an item is kept that has counters alone.
const bypassExpiry = 2 * time.Hour
