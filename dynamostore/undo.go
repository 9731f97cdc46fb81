package dynamostore

import (
	"context"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/enginecall"
)

// undoMember gives back what a take took that came to nothing, since another bucket refused
// or failed, and sets m's Bucket to the state since. It goes on when the caller has left.
// What it cannot give back refills.
func (s *Store) undoMember(ctx context.Context, key zael.Key, m *coalesce.Op, begun time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
	defer cancel()
	if w, ok := m.Note.(*protocol.BucketWrite); ok && !m.Shared && w.Restorable() {
		switch restored, err := s.restore(ctx, w); {
		case restored:
			m.Bucket = w.Known()
			s.gaveBack(m.Events, true)
			return
		case fateOf(err) == enginecall.Unknown: // it must not be given twice
			s.gaveBack(m.Events, false)
			return
		}
	}
	u := coalesce.Op{
		Kind: coalesce.Undo, Holder: m.Holder, Birth: m.Answer.Birth, At: s.aged(m.At, begun), Events: -m.Events,
		Charges: coalesce.Back(m.Charges, m.Bucket, m.Behind), Overdrawn: coalesce.Overdrew(m.Charges, m.Bucket, m.Behind, m.Answer.At),
	}
	s.do(ctx, key, &u)
	s.gaveBack(m.Events, u.Outcome == coalesce.Applied)
	if u.Outcome == coalesce.Applied {
		m.Bucket = u.Bucket
	}
}

// gaveBack counts takes that were to be given back.
func (s *Store) gaveBack(takes int64, ok bool) {
	s.stats.count(func(c *Stats) {
		if ok {
			c.Undone += uint64(takes)
		} else {
			c.Stranded += uint64(takes)
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

// undoUnknown undoes a take whose answer was lost, in the background, if its
// write turns out to be the last one of the bucket. If others wrote since, or
// it is still in flight, it may stay, and refills. So may a copy of it that was
// applied before, which Stats has as repeated.
func (s *Store) undoUnknown(ctx context.Context, w *protocol.BucketWrite, begun time.Time) {
	if w.LostAnswers() == 0 {
		return
	}
	ctx = context.WithoutCancel(ctx)
	s.inflight.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, undoFor)
		defer cancel()
		r, err := s.readBucket(ctx, w.Key)
		if err != nil || r.LastWrite() != w.ID {
			s.gaveBack(w.Events, false)
			if w.Holder != "" { // its entry may say more than it holds
				u := coalesce.Op{Kind: coalesce.Undo, Holder: w.Holder, Birth: r.Birth(), At: s.aged(w.At, begun)}
				s.do(ctx, w.Key, &u)
			}
			return
		}
		s.cache.observe(w.Key, r, w.At, nil)
		u := coalesce.Op{
			Kind: coalesce.Undo, Holder: w.Holder, Birth: r.Birth(), At: s.aged(w.At, begun), Events: -w.Events, Charges: coalesce.Back(w.Charges, r, nil), Overdrawn: w.Overdrew(r),
		}
		s.do(ctx, w.Key, &u)
		s.gaveBack(w.Events, u.Outcome == coalesce.Applied)
		if w.LostAnswers() > 1 { // one copy is given back, and another may stand
			s.stats.count(func(c *Stats) { c.Repeated++ })
		}
	})
}

// restore brings a bucket back to where it was before the take w, if nobody has written
// since.
func (s *Store) restore(ctx context.Context, w *protocol.BucketWrite) (restored bool, err error) {
	update := w.Restore(s.random())
	ctx, cancel := context.WithTimeout(ctx, s.callTime(ctx))
	defer cancel()
	r, ok, err := s.updateItem(ctx, &update)
	s.coalescer.Forget(w.Key)
	if err != nil {
		return false, err
	}
	s.cache.observe(w.Key, r, w.At, nil)
	w.Know(r)
	return ok, nil
}
