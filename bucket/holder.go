package bucket

import (
	"cmp"
	"slices"
	"time"
)

// A Holder has slots of a bucket until its deadline, which it moves by renewing. It is a
// process, or a lease that has left its process. What a holder does not renew in time is
// free for others: a take that finds no room removes all holders whose deadline
// is past. Until then such a holder may still renew.
type Holder struct {
	ID string // "" is the process that has the bucket in its memory, whose hold never ends by itself

	// Deadline is the last write of the holder and the greatest hold of its slots. It
	// grows by holdStep at least with each write, so that no two entries are equal.
	Deadline Instant
	// Generation tells a holder from one of the same ID that was removed before. It is a
	// random number, and that of the receipts of its slots.
	Generation uint64
	Counts     []Count // of slots held; each name once, none of 0
}

// A Count is the number of slots that a holder has of one limit.
type Count struct {
	Name string // of the limit
	N    int64
}

// holdStep is how much a deadline grows by at least.
const holdStep = Instant(time.Millisecond)

// Live reports whether the holder's deadline is after an instant.
func (h *Holder) Live(at Instant) bool { return h.ID == "" || h.Deadline > at }

// Count returns how many slots of a limit the holder has.
func (h *Holder) Count(name string) int64 {
	for i := range h.Counts {
		if h.Counts[i].Name == name {
			return h.Counts[i].N
		}
	}
	return 0
}

// add changes the number of slots of a limit by n, to no less than 0. Counts is
// copied, as others may have it.
func (h *Holder) add(name string, n int64) {
	counts := slices.Clone(h.Counts)
	i := slices.IndexFunc(counts, func(c Count) bool { return c.Name == name })
	if i < 0 {
		i = len(counts)
		counts = append(counts, Count{Name: name})
	}
	if counts[i].N += n; counts[i].N <= 0 {
		counts = slices.Delete(counts, i, i+1)
	}
	h.Counts = counts
}

// own returns the holder whose slots the operation takes, renews or releases, or nil.
func (r *Record) own() *Holder {
	for i := range r.Holders {
		if r.Holders[i].ID == r.Own {
			return &r.Holders[i]
		}
	}
	return nil
}

// held returns how many slots of a limit are held: by all holders, or by those that are
// live at an instant and the one of the operation.
func (r *Record) held(name string, liveAt *Instant) int64 {
	n := int64(0)
	for i := range r.Holders {
		if h := &r.Holders[i]; liveAt == nil || h.ID == r.Own || h.Live(*liveAt) {
			n += h.Count(name)
		}
	}
	return n
}

// slots returns the state of slots for a take of n at an instant: what is held, without
// the dead if there is no room otherwise, and by when n are free.
func (r *Record) slots(l *LimitState, c *Charge, at Instant) State {
	s := State{Definition: c.Definition}
	if l != nil {
		s = l.State.Redefine(c.Definition, at, 0)
	}
	if s.Used = r.held(c.Name, nil); s.Used > s.Definition.Burst-c.Amount {
		s.Used = r.held(c.Name, &at)
	}
	s.Mark = int64(r.freeBy(c.Name, s.Definition.Burst-c.Amount, at, s.Definition.Period))
	s.Generation = 0
	return s
}

// freeBy returns the instant by which no more than left slots of a limit are held if
// nobody renews or takes.
func (r *Record) freeBy(name string, left int64, at Instant, hold time.Duration) Instant {
	held := r.held(name, &at)
	if held <= left {
		return at
	}
	var ends []Count
	deadlines := map[string]Instant{}
	for i := range r.Holders {
		h := &r.Holders[i]
		if n := h.Count(name); n > 0 && (h.ID == r.Own || h.Live(at)) {
			deadline := max(h.Deadline, at)
			if h.ID == "" {
				deadline = at.Add(hold)
			}
			ends, deadlines[h.ID] = append(ends, Count{h.ID, n}), deadline
		}
	}
	slices.SortFunc(ends, func(a, b Count) int { return cmp.Compare(deadlines[a.Name], deadlines[b.Name]) })
	by := at
	for _, e := range ends {
		if held <= left {
			break
		}
		held, by = held-e.N, deadlines[e.Name]
	}
	return by
}

// keepSlots applies the slots of an operation that fits: it removes the dead if they are
// in the way, changes the counts of the holder, and moves its deadline.
func (r *Record) keepSlots(charges []Charge, at Instant) {
	touched := false
	for i := range charges {
		c := &charges[i]
		if c.Definition.Kind != Slots || c.Amount == 0 {
			continue
		}
		own := r.own()
		switch {
		case c.Amount > 0:
			if r.held(c.Name, nil) > c.State.Definition.Burst-c.Amount {
				r.removeDead(at)
				own = r.own()
			}
			if own == nil {
				r.Holders = append(r.Holders, Holder{ID: r.Own, Deadline: least, Generation: c.Receipt.Generation})
				own = &r.Holders[len(r.Holders)-1]
			}
			own.add(c.Name, c.Amount)
			touched = true
		case own != nil && own.Generation == c.Receipt.Generation:
			own.add(c.Name, max(c.Amount, -own.Count(c.Name)))
			touched = true
		}
	}
	if touched {
		r.touch(at)
	}
	r.countSlots()
}

// removeDead removes the holders whose deadline is past, except that of the operation.
func (r *Record) removeDead(at Instant) {
	r.Holders = slices.DeleteFunc(r.Holders, func(h Holder) bool { return h.ID != r.Own && !h.Live(at) })
}

// Bury removes the holders whose deadline was past at an instant, and reports whether there
// were any. All that such a holder has goes at once: it may still come back, and then learns
// that its slots were free for others.
func (r *Record) Bury(at Instant) bool {
	before := len(r.Holders)
	r.Holders = slices.DeleteFunc(r.Holders, func(h Holder) bool { return !h.Live(at) })
	if len(r.Holders) == before {
		return false
	}
	r.countSlots()
	return true
}

// touch moves the deadline of the operation's holder, or removes it if it holds nothing.
func (r *Record) touch(at Instant) {
	own := r.own()
	switch {
	case own == nil:
		return
	case len(own.Counts) == 0:
		r.Holders = slices.DeleteFunc(r.Holders, func(h Holder) bool { return h.ID == r.Own })
		return
	}
	hold := time.Duration(0)
	for i := range r.Limits {
		if l := &r.Limits[i]; l.State.Definition.Kind == Slots && own.Count(l.Name) > 0 {
			hold = max(hold, l.State.Definition.Period)
		}
	}
	own.Deadline = max(own.Deadline+holdStep, at.Add(hold))
}

// countSlots brings the states of all slots up to date with the holders.
func (r *Record) countSlots() {
	for i := range r.Limits {
		l := &r.Limits[i]
		if l.State.Definition.Kind != Slots {
			continue
		}
		l.State.Used, l.State.Mark = r.held(l.Name, nil), int64(least)
		for j := range r.Holders {
			if h := &r.Holders[j]; h.Count(l.Name) > 0 {
				deadline := h.Deadline
				if h.ID == "" {
					deadline = MaxInstant
				}
				l.State.Mark = max(l.State.Mark, int64(deadline))
			}
		}
	}
}

// Extend moves the deadline of the record's Own holder, which has the slots that charges
// name under their Receipts, to an instant and the longest hold of its slots. It takes
// nothing: if the holder has been removed, held is false and nothing has changed.
func (r *Record) Extend(charges []Charge, at Instant) (deadline Instant, held bool) {
	own := r.own()
	if own == nil || len(charges) == 0 || own.Generation != charges[0].Receipt.Generation {
		return 0, false
	}
	r.touch(at)
	r.countSlots()
	r.Latest = Latest(r.Latest, at)
	return r.own().Deadline, true
}

// View returns the limits of the record as they stand at an instant: slots without those
// of holders whose deadline is past.
func (r *Record) View(at Instant) []LimitState {
	limits := slices.Clone(r.Limits)
	for i := range limits {
		l := &limits[i]
		if l.State.Definition.Kind != Slots {
			continue
		}
		l.State.Used = 0
		for j := range r.Holders {
			if h := &r.Holders[j]; h.Live(at) {
				l.State.Used += h.Count(l.Name)
			}
		}
		l.State.Mark = int64(r.freeBy(l.Name, l.State.Definition.Burst-1, at, l.State.Definition.Period))
	}
	return limits
}
