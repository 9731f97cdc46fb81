package redisstore

import (
	"context"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// Package coalesce joins the operations on one bucket that arrive while a write of it is in
// flight into the next write. This file is what it needs of a Store.

// engine is a Store as package coalesce sees it.
type engine struct{ *Store }

var _ coalesce.Engine = engine{}

// Write implements coalesce.Engine.
func (e engine) Write(ctx context.Context, b *coalesce.Batch) coalesce.Answer {
	s := e.Store
	begun := time.Now()
	w := &write{id: newID(), shared: b.Members > 1, only: [1]part{{
		key: b.Key, kind: b.Kind, charges: b.Charges, at: b.At, maxWait: b.MaxWait, stages: b.Stages, settings: b.Settings, holder: b.Holder, events: b.Events,
		batch: b, undoes: b.Overdrawn,
	}}}
	w.parts = w.only[:]
	if b.Kind == coalesce.Adjust {
		w.parts[0].events = 0
	}
	outcome, err := s.apply(ctx, w)
	if err != nil {
		if b.Kind == coalesce.Take && w.maybe {
			s.undoUnknown(ctx, w, begun)
		}
		return coalesce.Answer{Outcome: coalesce.Failed, Err: s.translateOwn(ctx, "writing a bucket", err)}
	}
	p := &w.parts[0]
	a := coalesce.Answer{Outcome: outcome, Bucket: p.known.owned(b.Holder), At: p.at, Seen: max(p.at, p.latest)}
	if s.cluster && b.Kind == coalesce.Take && outcome == coalesce.Applied {
		a.Note = w // to restore the bucket, if another one refuses
	}
	return a
}

// owned returns the record as a holder sees it.
func (r *record) owned(holder string) *record {
	if r == nil || r.Own == holder {
		return r
	}
	c := *r
	c.Own = holder
	return &c
}

// do makes an operation on one bucket, alone or with others.
func (s *Store) do(ctx context.Context, key zael.Key, m *coalesce.Op) {
	s.coalescer.Start(ctx, key, m)
	s.await(m)
}

// await waits for the answer to an operation that was started.
func (s *Store) await(m *coalesce.Op) {
	s.coalescer.Wait(m)
	if m.Shared {
		s.stats.shared.Add(1)
	}
	if m.Local {
		s.stats.remembered.Add(1)
	}
}

// undoUnknown undoes a take whose answer was lost, in the background, where it turns out to be
// the last write of a bucket. If others wrote since, or it is still in flight, it may stay,
// and refills.
func (s *Store) undoUnknown(ctx context.Context, w *write, begun time.Time) {
	ctx = context.WithoutCancel(ctx)
	s.inflight.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, undoFor)
		defer cancel()
		for i := range w.parts {
			p := &w.parts[i]
			if p.bypass {
				continue
			}
			hashes, err := s.readHashes(ctx, "reading a bucket", []string{s.keys.bucket(p.key)})
			if err == nil {
				p.known, err = readRecord(hashes[0])
			}
			if err != nil || p.known.last() != w.id {
				s.gaveBack(p.events, false)
				continue
			}
			s.cache.observe(p.key, p.known, p.at, p.texts)
			u := coalesce.Op{
				Kind: coalesce.Undo, Holder: p.holder, At: s.aged(p.at, begun), Events: -p.events, Charges: coalesce.Back(p.charges, p.known.owned(p.holder), nil),
				Overdrawn: p.overdrewIn(p.known.owned(p.holder)),
			}
			s.do(ctx, p.key, &u)
			s.gaveBack(p.events, u.Outcome == coalesce.Applied)
		}
	})
}

// aged returns an instant moved forward by the time since: what has refilled meanwhile is
// not to be given back.
func (s *Store) aged(at bucket.Instant, since time.Time) bucket.Instant {
	if s.trial.VirtualTime {
		return at
	}
	return at.Add(max(0, time.Since(since)))
}

// TakeLocal implements zael.LocalStore: it refuses what a remembered refusal decides. A
// refusal by the server is remembered for a second, by slots alone for 100 ms, with all that
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
		refused(&debits[i], all[i].Bucket, at, all[i].Seen)
	}
	s.stats.remembered.Add(1)
	return now, true, zael.ErrExceeded
}

// AdjustLocal implements zael.LocalStore: nothing is given or charged without a
// write.
func (s *Store) AdjustLocal(now time.Time, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

// refused writes the states of a bucket into the charges of a take that it refuses.
func refused(d *zael.Debit, b coalesce.Bucket, at, seen bucket.Instant) {
	r, _ := b.(*record)
	kept := r.kept(d.Holder, seen)
	kept.Finish(bucket.Exceeds, d.Charges, at)
}
