package dynamostore

import (
	"context"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// The acquires of one bucket that come while a write of it is on its way are
// coalesced into the next: package coalesce says how. Here is what it asks for.

// Write implements coalesce.Engine: it makes one op of the batch, and runs it.
func (e engine) Write(ctx context.Context, b *coalesce.Batch) coalesce.Answer {
	s := e.Store
	if b.Kind == coalesce.Read {
		r, err := s.readBucket(ctx, b.Key)
		if err != nil {
			return coalesce.Answer{Outcome: coalesce.Failed, Err: err}
		}
		s.cache.learn(b.Key, r, b.At, nil)
		a := coalesce.Answer{Bucket: r, Birth: r.born(), At: b.At, Seen: b.At}
		if e := s.cache.get(b.Key); e != nil {
			a.Seen = max(a.Seen, e.latest)
		}
		return a
	}
	begun := time.Now()
	o := s.op(kindOf(b.Kind), b.At, b.Key, b.Charges)
	o.maxWait, o.stages, o.events = b.MaxWait, b.Stages, b.Events
	o.exact, o.birth = b.ExactState, b.Birth
	o.several, o.spaced = b.Members > 1, !s.config.Direct
	v, err := s.run(ctx, o)
	a := coalesce.Answer{Bucket: o.known, Birth: o.known.born(), At: o.at, Seen: o.seen, Note: o}
	switch {
	case v == throttledNow:
		return coalesce.Answer{Outcome: coalesce.Throttled, Err: err}
	case err != nil:
		if o.kind == takes {
			s.undoUnknown(ctx, o, begun)
		}
		return coalesce.Answer{Outcome: coalesce.Failed, Err: err}
	case v == contended:
		return coalesce.Answer{Outcome: coalesce.Failed, Err: fmt.Errorf("dynamostore: %d calls for one write: %w", maxCalls, zael.ErrContention)}
	case v == apart:
		a.Outcome = coalesce.Split
	case v == refused:
		a.Outcome = coalesce.Refused
	case v == stale:
		a.Outcome = coalesce.Stale
	}
	return a
}

// engine is a Store as package coalesce sees it.
type engine struct{ *Store }

var _ coalesce.Engine = engine{}

func kindOf(k coalesce.Kind) kind {
	switch k {
	case coalesce.Adjust:
		return adjusts
	case coalesce.Undo:
		return undoes
	}
	return takes
}

// ask does what m says to one bucket, alone or with others.
func (s *Store) ask(ctx context.Context, key zael.Key, m *coalesce.Op) {
	s.coalescer.Start(ctx, key, m)
	s.await(m)
}

// await waits for the answer to what was started.
func (s *Store) await(m *coalesce.Op) {
	s.coalescer.Wait(m)
	if m.Left {
		m.Err = fmt.Errorf("dynamostore: writing a bucket: %w", m.Err)
	}
	if m.Shared || m.Local {
		s.stats.count(func(c *Stats) {
			if m.Local {
				c.Remembered++
			} else {
				c.Shared++
			}
		})
	}
}

// TakeLocal implements zael.LocalStore: it refuses what it knows to be refused.
// A refusal by the engine counts for a second, with all that this process has
// done to the bucket since.
func (s *Store) TakeLocal(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error) {
	if s.config.Direct || len(debits) > 2 || s.closed.Load() {
		return now, false, nil
	}
	type known struct {
		bucket coalesce.Bucket
		seen   bucket.Instant
	}
	var all [2]known
	for i := range debits {
		b, seen, ok := s.coalescer.Recall(debits[i].Key)
		if !ok {
			return now, false, nil
		}
		all[i] = known{b, seen}
	}
	if !s.config.VirtualTime {
		offset, known := s.clock.offset(s.read())
		if !known && !s.timeless.Load() {
			return now, false, nil
		}
		now = now.Add(offset)
	}
	at, err := bucket.At(now)
	if err != nil {
		return now, false, nil //nolint:nilerr // Take says it
	}
	refuses := false
	for i := range debits {
		for _, c := range debits[i].Charges {
			if c.Amount < 0 || c.Amount > bucket.MaxAmount {
				return now, false, nil // likewise
			}
		}
		switch coalesce.Evaluate(all[i].bucket, debits[i].Charges, at, maxWait) {
		case coalesce.Refused:
			refuses = true
		case coalesce.Stale, coalesce.UnknownDefinition:
			return now, false, nil
		}
	}
	if !refuses {
		return now, false, nil
	}
	for i := range debits {
		shows(debits[i].Charges, all[i].bucket, at, max(at, all[i].seen), false, s.random())
	}
	s.stats.remembered.Add(1)
	return now, true, zael.ErrExceeded
}

// AdjustLocal implements zael.LocalStore: nothing is given or charged without a
// write.
func (s *Store) AdjustLocal(now time.Time, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}
