package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/enginecall"
)

// Take implements zael.BucketStore. A write whose answer is lost is repeated, by its id once
// only.
func (s *Store) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if !s.inflight.Begin() {
		return now, errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, debits, true); err != nil {
		return now, err
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, err
	}
	switch {
	case s.apart(debits):
		return s.takeApart(ctx, now, at, maxWait, debits)
	case len(debits) != 1 || bypasses(debits):
		return s.takeTogether(ctx, now, at, maxWait, debits, nil)
	}
	d := &debits[0]
	m := s.coalescer.NewOp()
	defer s.coalescer.Recycle(m)
	takes(m, d, at, maxWait)
	s.do(ctx, d.Key, m)
	if m.Outcome != coalesce.Failed {
		now = now.Add(time.Duration(m.Answer.At - at))
	}
	r, _ := m.Bucket.(*record)
	switch m.Outcome {
	case coalesce.Failed:
		if m.Left {
			return now, fmt.Errorf("redisstore: writing a bucket: %w", m.Err)
		}
		return now, m.Err
	case coalesce.Stale:
		if r.settingsRev() > d.SettingsRev {
			return now, zael.ErrStaleSettings
		}
		stale(d, r)
		return now, zael.ErrStaleLimits
	case coalesce.Refused:
		refused(d, r, m.Answer.At, m.Seen)
		return now, zael.ErrExceeded
	}
	for i := range d.Charges {
		took(&d.Charges[i], r, m.Answer.At, m.Behind, i)
	}
	return now, nil
}

// takes makes an op that of taking one debit.
func takes(m *coalesce.Op, d *zael.Debit, at bucket.Instant, maxWait time.Duration) {
	m.Charges = append(m.Charges, d.Charges...)
	m.At, m.MaxWait, m.Settings, m.Holder, m.Events = at, maxWait, d.SettingsRev, d.Holder, 1
}

// took writes the receipt of a take's charge i, which was applied, and its state, if it is of
// another kind than a plain rate.
func took(c *zael.Charge, r *record, at bucket.Instant, behind []int64, i int) {
	if kept := r.find(c.Name, false); behind == nil && kept != nil && c.Definition.Plain() {
		c.Receipt = kept.Receipt() // nearly always
		return
	}
	state := coalesce.Taken(c, r, behind, i)
	if state.Absent() { // asked for 0
		state = state.Redefine(c.Definition, at, 0)
	}
	if c.Receipt = state.Receipt(); !c.Definition.Plain() {
		c.State = state
	}
}

// stale writes the states of a bucket into the charges of a take whose limits are older.
func stale(d *zael.Debit, r *record) {
	kept := r.kept(d.Holder, 0)
	kept.Finish(bucket.StaleLimits, d.Charges, 0)
}

func bypasses(debits []zael.Debit) bool {
	return slices.ContainsFunc(debits, func(d zael.Debit) bool { return d.Bypass })
}

// check returns what is wrong with an operation whatever the buckets are.
func (s *Store) check(ctx context.Context, debits []zael.Debit, take bool) error {
	if ctx.Err() != nil {
		return s.translate(ctx, "not tried", ctx.Err())
	}
	return storable.Debits(debits, take, "server")
}

// Adjust implements zael.BucketStore. If the answer to a write is lost that gives something
// back, and others have written meanwhile, it may not be made.
func (s *Store) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	if !s.inflight.Begin() {
		return now, errClosed
	}
	defer s.inflight.End()
	if err := s.check(ctx, debits, false); err != nil {
		return now, err
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, err
	}
	switch {
	case s.apart(debits):
		return now, s.adjustApart(ctx, at, debits)
	case len(debits) != 1 || bypasses(debits):
		return now, s.adjustTogether(ctx, at, debits, nil)
	}
	d := &debits[0]
	m := s.coalescer.NewOp()
	defer s.coalescer.Recycle(m)
	m.Kind, m.Holder, m.At, m.Charges = coalesce.Adjust, d.Holder, at, append(m.Charges, d.Charges...)
	if s.do(ctx, d.Key, m); m.Outcome == coalesce.Failed {
		if m.Left {
			return now, fmt.Errorf("redisstore: writing a bucket: %w", m.Err)
		}
		return now, m.Err
	}
	for i := range d.Charges {
		d.Charges[i].State = coalesce.StateOf(m.Bucket, &d.Charges[i])
	}
	return now, nil
}

// Renew implements zael.SlotStore.
func (s *Store) Renew(ctx context.Context, now time.Time, d zael.Debit) (held bool, err error) {
	_, held, err = s.Extend(ctx, now, d)
	return held, err
}

// Buckets implements zael.BucketStore.
func (s *Store) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	if err := s.usable(ctx); err != nil {
		return now, nil, err
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		if err := storable.Key(k); err != nil {
			return now, nil, err
		}
		names[i] = s.keys.bucket(k)
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, nil, err
	}
	hashes, err := s.readHashes(ctx, "reading buckets", names)
	if err != nil {
		return now, nil, err
	}
	buckets := make([]zael.Bucket, len(keys))
	for i, k := range keys {
		r, err := readRecord(hashes[i])
		if err != nil {
			return now, nil, err
		}
		s.cache.observe(k, r, at, nil)
		buckets[i] = zael.Bucket{Key: k, Limits: r.shown(at)}
	}
	return now, buckets, nil
}

// translateOwn is translate, of an error that may be one of this package's.
func (s *Store) translateOwn(ctx context.Context, what string, err error) error {
	var invalid *zael.ValidationError
	if err == nil || edits.IsAnswer(err) {
		return err
	}
	if _, ok := errors.AsType[*enginecall.Error](err); ok { // translated before
		return err
	}
	if errors.As(err, &invalid) || errors.Is(err, zael.ErrContention) || errors.Is(err, errDamaged) || errors.Is(err, errLost) {
		return fmt.Errorf("redisstore: %s: %w", what, err)
	}
	return s.translate(ctx, what, err)
}
