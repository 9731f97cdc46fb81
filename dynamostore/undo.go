package dynamostore

import (
	"context"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// undoMember gives back what a take took that was none, as another bucket
// refused or failed, and leaves the bucket since in m. It goes on when the caller
// has left. What it cannot give back refills.
func (s *Store) undoMember(ctx context.Context, key zael.Key, m *coalesce.Op, begun time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
	defer cancel()
	if o, ok := m.Note.(*op); ok && !m.Shared && o.restorable() {
		switch restored, err := s.restore(ctx, o); {
		case restored:
			m.Bucket = o.known
			s.gaveBack(m.Events, true)
			return
		case fateOf(err) == unknown: // and must not be given twice
			s.gaveBack(m.Events, false)
			return
		}
	}
	u := coalesce.Op{
		Kind: coalesce.Undo, Birth: m.Answer.Birth, At: s.aged(m.At, begun), Events: -m.Events,
		Charges: coalesce.Back(m.Charges, m.Bucket, m.Behind),
	}
	s.ask(ctx, key, &u)
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

// aged is what an instant has become since: what has refilled meanwhile is not
// to be given back.
func (s *Store) aged(at bucket.Instant, since time.Time) bucket.Instant {
	if s.config.VirtualTime {
		return at
	}
	return at.Add(max(0, time.Since(since)))
}

// undoUnknown undoes a take whose answer was lost, in the background, if its
// write turns out to be the last one of the bucket. If others wrote since, or
// it is still in flight, it may stay, and refills. So may a copy of it that was
// applied before, which Stats has as repeated.
func (s *Store) undoUnknown(ctx context.Context, o *op, begun time.Time) {
	if !o.unsure {
		return
	}
	ctx = context.WithoutCancel(ctx)
	s.inflight.spawn(func() {
		ctx, cancel := context.WithTimeout(ctx, undoFor)
		defer cancel()
		r, err := s.readBucket(ctx, o.key)
		if err != nil || r == nil || r.last != o.id {
			s.gaveBack(o.events, false)
			return
		}
		s.cache.learn(o.key, r, o.at, nil)
		u := coalesce.Op{
			Kind: coalesce.Undo, Birth: r.birth, At: s.aged(o.at, begun), Events: -o.events, Charges: coalesce.Back(o.charges, r, nil),
		}
		s.ask(ctx, o.key, &u)
		s.gaveBack(o.events, u.Outcome == coalesce.Applied)
		if o.lost > 1 { // one copy is given back, and another may stand
			s.stats.count(func(c *Stats) { c.Repeated++ })
		}
	})
}

// restorable tells whether there is more to undo than a give does, and all of
// it is known: definitions that changed, from a state known to the unit, or
// tokens taken by a clock that is behind, which have refilled by another's. Of a
// write of which copies may be on their way nothing is known: one that comes
// after others' writes has its id, and hides them.
func (o *op) restorable() bool {
	if o.unsure {
		return false
	}
	converted := false
	for i := range o.charges {
		was, is := o.before.find(o.charges[i].Name), o.known.find(o.charges[i].Name)
		converted = converted || was != nil && is != nil && was.text != is.text
	}
	if converted {
		return o.exact
	}
	return o.at < o.seen
}

// restore brings a bucket back to where it was before the take o, with the
// definitions that it had, if nobody has written since.
func (s *Store) restore(ctx context.Context, o *op) (restored bool, err error) {
	w := newWriting(o.key)
	w.where(w.name("#o", "o"), " = ", w.text(":last", idText(o.id)))
	w.set("#o = ", w.text(":id", idText(s.random())))
	w.nextVersion()
	if o.events != 0 {
		w.add(w.name("#e", "e"), " ", w.number(":e", -o.events))
	}
	for i := range o.charges {
		c, n := &o.charges[i], strconv.Itoa(i)
		is, was := o.known.find(c.Name), o.before.find(c.Name)
		if is == nil {
			continue
		}
		state := o.known.state(c.Name)
		mark, text := state.Give(o.at, c.Amount, state.Receipt()).Mark, is.text
		if was != nil && was.text != is.text {
			text = was.text
			if was.turns != is.turns { // exact: the write was made from this mark
				mark = was.mark
			}
		}
		w.set(w.name("#m"+n, "m_"+c.Name), " = ", w.number(":v"+n, mark))
		w.set(w.name("#d"+n, "d_"+c.Name), " = ", w.text(":t"+n, text))
		if c.Amount > 0 {
			w.add(w.name("#c"+n, "c_"+c.Name), " ", w.number(":c"+n, -c.Amount))
		}
	}
	done := w.finish()
	ctx, cancel := context.WithTimeout(ctx, s.callTime(ctx))
	defer cancel()
	r, ok, err := s.update(ctx, &done)
	s.coalescer.Forget(o.key)
	if err != nil {
		return false, err
	}
	s.cache.learn(o.key, r, o.at, nil)
	o.learn(r)
	return ok, nil
}
