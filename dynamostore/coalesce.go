package dynamostore

import (
	"context"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
)

// Package coalesce joins the operations on one bucket that arrive while a write of it is in
// flight into the next write. This file is what it needs of a Store.

// Write implements coalesce.Engine.
func (e engine) Write(ctx context.Context, b *coalesce.Batch) coalesce.Answer {
	s := e.Store
	if b.Kind == coalesce.Read {
		return s.readAnswer(ctx, b)
	}
	begun := time.Now()
	if b.Holder != "" && s.trial.Direct {
		s.held.direct.Lock()
		defer s.held.direct.Unlock()
	}
	w := s.newWrite(*b)
	process := b.Holder != "" && protocol.IsProcess(b.Holder)
	before := s.held.of(b.Key, b.Holder)
	if process {
		w.SetHeld(before)
	}
	outcome, err := s.run(ctx, w)
	if process && outcome != coalesce.Throttled && outcome != coalesce.Split {
		s.held.update(b.Key, b.Holder, before, w.Held())
	}
	if err != nil {
		if outcome == coalesce.Failed && b.Kind == coalesce.Take {
			s.undoUnknown(ctx, w, begun)
		}
		return coalesce.Answer{Outcome: outcome, Err: err}
	}
	return coalesce.Answer{Outcome: outcome, Bucket: w.Known(), Birth: w.Known().Birth(), At: w.At, Seen: w.Seen, Note: w}
}

// readAnswer reads a bucket.
func (s *Store) readAnswer(ctx context.Context, b *coalesce.Batch) coalesce.Answer {
	r, err := s.readBucket(ctx, b.Key)
	if err != nil {
		return coalesce.Answer{Outcome: coalesce.Failed, Err: err}
	}
	s.cache.observe(b.Key, r, b.At, nil)
	a := coalesce.Answer{Bucket: r, Birth: r.Birth(), At: b.At, Seen: b.At}
	if o := s.cache.last(b.Key); o != nil {
		a.Seen = max(a.Seen, o.Latest)
	}
	return a
}

// engine is a Store as package coalesce sees it.
type engine struct{ *Store }

var _ coalesce.Engine = engine{}

// do makes an operation on one bucket, alone or with others.
func (s *Store) do(ctx context.Context, key zael.Key, m *coalesce.Op) {
	s.coalescer.Start(ctx, key, m)
	s.await(m)
}

// await waits for the answer to an operation that was started.
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

// TakeLocal implements zael.LocalStore: it refuses what a remembered refusal decides. A
// refusal by the engine is remembered for a second, by slots alone for 100 ms, with all that
// this process has done to the bucket since.
func (s *Store) TakeLocal(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error) {
	if s.trial.Direct || s.closed.Load() || bypasses(debits) {
		return now, false, nil
	}
	all, ok := s.coalescer.RecallAll(debits)
	if !ok {
		return now, false, nil
	}
	now, at, known := s.clock.Local(now)
	if !known {
		return now, false, nil // Take asks, or says what is wrong with now
	}
	if !all.Refuses(debits, at, maxWait) {
		return now, false, nil
	}
	for i := range debits {
		fillStates(debits[i].Charges, all[i].Bucket)
		redefineStates(debits[i].Charges, at, max(at, all[i].Seen), s.random())
		slotStates(debits[i].Charges, all[i].Bucket, debits[i].Holder, at)
	}
	s.stats.remembered.Add(1)
	return now, true, zael.ErrExceeded
}

// AdjustLocal implements zael.LocalStore: nothing is given or charged without a
// write.
func (s *Store) AdjustLocal(now time.Time, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}
