package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// In a cluster, buckets of several entities are in several slots, and no script can write them in
// one step. They are taken at the same time; if one refuses or fails, what the others took is given
// back. Two callers after the last tokens may then both be refused.

// apart reports whether debits have to be made one by one.
func (s *Store) apart(debits []zael.Debit) bool {
	return s.cluster && slices.ContainsFunc(debits, func(d zael.Debit) bool { return d.Key.Entity != debits[0].Key.Entity })
}

// takeApart takes from buckets in several slots.
func (s *Store) takeApart(ctx context.Context, now time.Time, at bucket.Instant, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	begun := time.Now()
	ops := make([]coalesce.Op, len(debits))
	for i := range debits {
		if d := &debits[i]; !d.Bypass {
			takes(&ops[i], d, at, maxWait)
			s.coalescer.Start(ctx, d.Key, &ops[i])
		}
	}
	fits, last := true, at
	for i := range ops {
		if !debits[i].Bypass {
			s.await(&ops[i])
			fits = fits && ops[i].Outcome == coalesce.Applied
			last = max(last, ops[i].Answer.At)
		}
	}
	var failed error
	if fits {
		failed = s.passApart(ctx, now, at, debits)
		fits = failed == nil
	}
	if fits {
		for i := range debits {
			if debits[i].Bypass {
				continue
			}
			r, _ := ops[i].Bucket.(*record)
			for j := range debits[i].Charges {
				took(&debits[i].Charges[j], r, ops[i].Answer.At, ops[i].Behind, j)
			}
		}
		return now.Add(time.Duration(last - at)), nil
	}
	s.giveBackApart(ctx, debits, ops, begun)
	return s.refusedApart(ctx, now, at, debits, ops, failed)
}

// passApart counts the debits that are bypassed.
func (s *Store) passApart(ctx context.Context, now time.Time, at bucket.Instant, debits []zael.Debit) error {
	for i := range debits {
		if debits[i].Bypass {
			if _, err := s.takeTogether(ctx, now, at, 0, debits[i:i+1], nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveBackApart gives back what was taken, also when the caller has left. It returns when that is
// done, or the caller has left.
func (s *Store) giveBackApart(ctx context.Context, debits []zael.Debit, ops []coalesce.Op, begun time.Time) {
	done, n := make(chan struct{}, len(ops)), 0
	for i := range ops {
		m := &ops[i]
		if debits[i].Bypass || m.Outcome != coalesce.Applied {
			continue
		}
		n++
		key := debits[i].Key // the debits are the caller's
		s.inflight.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
			defer cancel()
			defer func() { done <- struct{}{} }()
			if w, ok := m.Note.(*write); ok && !m.Shared && s.restore(ctx, w, m) {
				s.gaveBack(m.Events, true)
				return
			}
			u := coalesce.Op{
				Kind: coalesce.Undo, Holder: m.Holder, At: s.aged(m.At, begun), Events: -m.Events, Charges: coalesce.Back(m.Charges, m.Bucket, m.Behind),
				Overdrawn: coalesce.Overdrew(m.Charges, m.Bucket, m.Behind, m.Answer.At),
			}
			s.do(ctx, key, &u)
			s.gaveBack(m.Events, u.Outcome == coalesce.Applied)
			if u.Outcome == coalesce.Applied {
				m.Bucket = u.Bucket
			}
		})
	}
	for range n {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// restore brings a bucket back to where it was before a take, if nobody has written since. It
// reports whether it did. Giving back would leave a definition that has changed, and a session that
// has begun.
func (s *Store) restore(ctx context.Context, w *write, m *coalesce.Op) bool {
	p := w.parts[0] // as the take has left it
	if p.known.last() != w.id {
		return false // nothing was written
	}
	var call writeScript
	key, id := s.keys.bucket(p.key), newID()
	call.require(key, idsField, w.id)
	next := w.before
	if next == nil {
		call.command("DEL", call.key(key))
		call.command("ZREM", call.key(s.keys.index(p.key.Entity)), escape(p.key.Resource))
	} else {
		kept := w.before.kept("", 0)
		next = p.changes(&call, s.keys, &kept, id)
	}
	p.kind, p.events, p.undoes = coalesce.Undo, -m.Events, coalesce.Overdrew(m.Charges, m.Bucket, m.Behind, m.Answer.At)
	p.charges = slices.Clone(m.Charges)
	for i := range p.charges {
		p.charges[i].Amount = -p.charges[i].Amount
	}
	s.count(&call, &p)
	a, _, err := s.run(ctx, editScript, call.keys, call.args(id), func() {})
	s.coalescer.Forget(p.key)
	if err != nil || a.verdict == notApplied {
		return false
	}
	s.cache.observe(p.key, next, p.at, p.texts)
	m.Bucket = next
	return true
}

// refusedApart returns why a take came to nothing, with the states of the buckets.
func (s *Store) refusedApart(ctx context.Context, now time.Time, at bucket.Instant, debits []zael.Debit, ops []coalesce.Op, failed error) (time.Time, error) {
	if ctx.Err() != nil {
		return now, s.translate(ctx, "writing buckets", ctx.Err())
	}
	refuses := false
	for i := range ops {
		if !debits[i].Bypass && ops[i].Outcome == coalesce.Failed {
			failed = cmp.Or(failed, ops[i].Err)
		}
		refuses = refuses || ops[i].Outcome == coalesce.Refused
	}
	if failed != nil && (!refuses || !errors.Is(failed, zael.ErrUnavailable)) {
		return now, failed
	}
	for i := range ops {
		if r, _ := ops[i].Bucket.(*record); !debits[i].Bypass && r.settingsRev() > debits[i].SettingsRev {
			return now, zael.ErrStaleSettings
		}
	}
	for i := range ops {
		if !debits[i].Bypass && ops[i].Outcome == coalesce.Stale {
			for j := range ops {
				r, _ := ops[j].Bucket.(*record)
				stale(&debits[j], r)
			}
			return now, zael.ErrStaleLimits
		}
	}
	for i := range debits {
		r, _ := ops[i].Bucket.(*record)
		if debits[i].Bypass {
			if _, buckets, err := s.Buckets(ctx, now, []zael.Key{debits[i].Key}); err == nil {
				shown := bucket.Record{Limits: buckets[0].Limits}
				shown.Pass(debits[i].Charges, at)
			}
			continue
		}
		if s.storeDefinitions(ctx, at, &debits[i], r) {
			continue
		}
		refused(&debits[i], r, max(at, ops[i].Answer.At), max(at, ops[i].Seen))
	}
	return now, zael.ErrExceeded
}

// storeDefinitions stores those definitions of a refused take that would admit it sooner, where
// there may be any, and writes the states into the charges. It reports whether it did; if not, the
// next caller tries again.
func (s *Store) storeDefinitions(ctx context.Context, at bucket.Instant, d *zael.Debit, r *record) bool {
	if !coalesce.Differs(r, d.Charges) {
		return false
	}
	w := newWrite(coalesce.Take, at, 0, []zael.Debit{*d})
	w.refuse = true
	outcome, err := s.apply(ctx, w)
	s.coalescer.Forget(d.Key)
	if err != nil || outcome != coalesce.Refused {
		return false
	}
	copy(d.Charges, w.parts[0].charges)
	return true
}

// adjustApart adjusts buckets in several slots. If one fails the others may stand.
func (s *Store) adjustApart(ctx context.Context, at bucket.Instant, debits []zael.Debit) (err error) {
	ops := make([]coalesce.Op, len(debits))
	for i := range debits {
		if d := &debits[i]; !d.Bypass {
			ops[i] = coalesce.Op{Kind: coalesce.Adjust, Holder: d.Holder, Charges: slices.Clone(d.Charges), At: at}
			s.coalescer.Start(ctx, d.Key, &ops[i])
		}
	}
	for i := range debits {
		d, m := &debits[i], &ops[i]
		if d.Bypass {
			err = errors.Join(err, s.adjustTogether(ctx, at, debits[i:i+1], nil))
			continue
		}
		if s.await(m); m.Outcome == coalesce.Failed {
			if m.Left {
				m.Err = fmt.Errorf("redisstore: writing a bucket: %w", m.Err)
			}
			err = errors.Join(err, m.Err)
			continue
		}
		for j := range d.Charges {
			d.Charges[j].State = coalesce.StateOf(m.Bucket, &d.Charges[j])
		}
	}
	return err
}
