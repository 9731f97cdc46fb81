package dynamostore

import (
	"context"
	"strconv"
)

// undo gives back what a take took that was none, as another bucket refused or
// failed. It goes on when the caller has left. What it cannot give back refills.
func (s *Store) undo(ctx context.Context, o *op) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
	defer cancel()
	s.stats.count(func(c *Stats) { c.Undone++ })
	if o.restorable() && s.restore(ctx, o) {
		return
	}
	u := *o
	u.kind, u.id, u.calls, u.unsure, u.exact, u.birth = undoes, s.random(), 0, false, false, o.known.birth
	u.charges = nil
	for _, c := range o.charges {
		if c.Amount > 0 {
			c.Receipt, c.Amount = o.known.state(c.Name).Receipt(), -c.Amount
			u.charges = append(u.charges, c)
		}
	}
	if v, err := s.run(ctx, &u); err == nil && (v == applied || v == nothing) {
		o.learn(u.known)
	}
}

// undoUnknown undoes a take whose answer was lost, in the background: if its
// write turns out to be the last one of the bucket. If others wrote since, or
// it is still on its way, it stays, and refills.
func (s *Store) undoUnknown(ctx context.Context, o *op) {
	if !o.unsure {
		return
	}
	ctx = context.WithoutCancel(ctx)
	s.undoing.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, undoFor)
		defer cancel()
		r, err := s.readBucket(ctx, o.key)
		if err != nil || r == nil || r.last != o.id {
			return
		}
		o.learn(r)
		s.undo(ctx, o)
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
func (s *Store) restore(ctx context.Context, o *op) bool {
	w := newWriting(o.key)
	w.where(w.name("#o", "o"), " = ", w.text(":last", idText(o.id)))
	w.set("#o = ", w.text(":id", idText(s.random())))
	w.add(w.name("#e", "e"), " ", w.number(":e", -1))
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
	r, ok, err := s.update(ctx, &done)
	if err != nil {
		return fateOf(err) == unknown // and not given twice
	}
	s.cache.learn(o.key, r, o.at, nil)
	o.learn(r)
	return ok
}
