package redisstore

import (
	"context"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// newWrite returns a write of all debits.
func newWrite(kind coalesce.Kind, at bucket.Instant, maxWait time.Duration, debits []zael.Debit) *write {
	w := &write{id: newID(), parts: make([]part, len(debits))}
	for i := range debits {
		d := &debits[i]
		p := &w.parts[i]
		*p = part{key: d.Key, kind: kind, charges: slices.Clone(d.Charges), at: at, maxWait: maxWait, settings: d.SettingsRev, holder: d.Holder, bypass: d.Bypass}
		if kind == coalesce.Take {
			p.events = 1
		}
	}
	return w
}

// A done is a write that has ended.
type done struct {
	outcome coalesce.Outcome
	err     error
}

// applyTogether makes a write in a goroutine of the store, which goes on when the caller has
// left. left is then called with what came of it.
func (s *Store) applyTogether(ctx context.Context, w *write, left func(done)) (coalesce.Outcome, error) {
	answers, gone := make(chan done), make(chan struct{})
	s.inflight.Go(func() {
		var d done
		if d.outcome, d.err = s.apply(ctx, w); d.err == nil {
			s.learn(w, d.outcome)
		}
		select {
		case answers <- d:
		case <-gone:
			left(d)
		}
	})
	select {
	case d := <-answers:
		return d.outcome, d.err
	case <-ctx.Done():
		close(gone)
		return coalesce.Failed, ctx.Err()
	}
}

// learn has the coalescer remember the buckets of a write that was made without it.
func (s *Store) learn(w *write, outcome coalesce.Outcome) {
	for i := range w.parts {
		p := &w.parts[i]
		if p.bypass {
			continue
		}
		s.coalescer.Learn(p.key, coalesce.Answer{Outcome: outcome, Bucket: p.known, At: p.at, Seen: max(p.at, p.latest)})
	}
}

// takeTogether takes from several buckets, all or none, in one call.
func (s *Store) takeTogether(ctx context.Context, now time.Time, at bucket.Instant, maxWait time.Duration, debits []zael.Debit, once *onceWrite) (time.Time, error) {
	if len(debits) == 0 && once == nil {
		return now, nil
	}
	w := newWrite(coalesce.Take, at, maxWait, debits)
	w.once = once
	begun := time.Now()
	outcome, err := s.applyTogether(ctx, w, func(d done) { s.leftTogether(ctx, w, d, begun) })
	if err != nil {
		return now, s.translateOwn(ctx, "writing buckets", err)
	}
	if once.decides() {
		return now, nil
	}
	for i := range debits {
		copy(debits[i].Charges, w.parts[i].charges)
	}
	switch outcome {
	case coalesce.Stale:
		for i := range w.parts {
			if w.parts[i].known.settingsRev() > debits[i].SettingsRev {
				return now, zael.ErrStaleSettings
			}
		}
		for i := range debits {
			stale(&debits[i], w.parts[i].known)
		}
		return now, zael.ErrStaleLimits
	case coalesce.Refused:
		return now, zael.ErrExceeded
	}
	return now, nil
}

// leftTogether gives back a take whose caller has left.
func (s *Store) leftTogether(ctx context.Context, w *write, d done, begun time.Time) {
	if w.once != nil && w.once.key != "" {
		return // a repetition finds out
	}
	if d.err != nil {
		if w.maybe {
			s.undoUnknown(ctx, w, begun)
		}
		return
	}
	if d.outcome != coalesce.Applied {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
	defer cancel()
	u := &write{id: newID(), parts: slices.Clone(w.parts)}
	for i := range u.parts {
		p := &u.parts[i]
		charges := slices.Clone(p.charges)
		for j := range charges {
			charges[j].Amount = -charges[j].Amount
		}
		p.undoes = p.overdrew()
		p.kind, p.events, p.at = coalesce.Undo, -p.events, s.aged(p.at, begun)
		if !p.bypass {
			charges = slices.DeleteFunc(charges, func(c zael.Charge) bool { return c.Amount == 0 })
		}
		p.charges = charges
	}
	outcome, err := s.apply(ctx, u)
	if err == nil {
		s.learn(u, outcome)
	}
	s.gaveBack(1, err == nil)
}

// adjustTogether adjusts several buckets, all or none, in one call.
func (s *Store) adjustTogether(ctx context.Context, at bucket.Instant, debits []zael.Debit, once *onceWrite) error {
	if len(debits) == 0 && once == nil {
		return nil
	}
	w := newWrite(coalesce.Adjust, at, 0, debits)
	w.once = once
	if _, err := s.applyTogether(ctx, w, func(done) {}); err != nil {
		return s.translateOwn(ctx, "writing buckets", err)
	}
	if once.decides() {
		return nil
	}
	for i := range debits {
		for j := range debits[i].Charges {
			debits[i].Charges[j].State = w.parts[i].charges[j].State
		}
	}
	return nil
}
