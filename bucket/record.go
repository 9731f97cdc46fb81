package bucket

import (
	"slices"
	"time"
)

// A Charge is what an operation does to one limit of a bucket. A store writes
// Receipt and State; it keeps no reference to any of it.
type Charge struct {
	Name       string     // of the limit
	Definition Definition // the limit as the caller knows it, valid
	Amount     int64      // tokens; below 0 only in an adjust, to give back
	Receipt    Receipt    // of the charge: written by a take, read by an adjust to give back
	State      State      // of the limit: written by a take that took nothing, and by an adjust
}

// Taken returns the state that a take which took left, by the receipt it wrote.
func (c *Charge) Taken() State {
	return State{Definition: c.Definition, Mark: c.Receipt.Mark, Generation: c.Receipt.Generation}
}

// A LimitState is one limit of a bucket.
type LimitState struct {
	Name  string
	State State
}

// A Record is one bucket as a store keeps it. The zero Record is a bucket that
// was never charged: a full one.
//
// With it a store is three steps, under one lock or in one transaction: it reads
// the Record of each bucket of the operation, calls Take or Adjust on each, and
// writes what Finish leaves. Take and Adjust change the charges and not the
// record, so that an operation on several buckets changes all of them or none:
//
//	outcome := bucket.Fits
//	for i, r := range records {
//		outcome = max(outcome, r.Take(charges[i], at, ahead, birth))
//	}
//	for i, r := range records {
//		if r.Finish(outcome, charges[i], at) {
//			// r has changed: write it
//		}
//	}
//
// A Record needs to hold only the limits that the charges name: an operation
// does nothing to the others.
type Record struct {
	Limits []LimitState // each name once, in any order
	Latest Instant      // the latest instant of a change; 0 if there was none

	// Forgotten is an instant by which every limit was full that the store has
	// forgotten of this bucket, or with it; 0 if there is none. By an older
	// clock such a limit is as full as it was then, and not fuller.
	Forgotten Instant
}

// An Outcome is what came out of a take. Of a take from several buckets it is
// the greatest of theirs.
type Outcome uint8

// The outcomes of a take.
const (
	Fits        Outcome = iota // all charges fit
	Exceeds                    // some do not
	StaleLimits                // the bucket stands under a newer revision of a stored limit: see State.Stale
)

// Take works out a take at an instant of charges that fit by ahead later. It
// writes into each charge the State after it and its Receipt, which hold if the
// take is kept. The amounts are in 0 to MaxAmount, the names differ. A limit
// that the record does not have begins full in generation birth, a random number.
func (r *Record) Take(charges []Charge, at Instant, ahead time.Duration, birth uint64) Outcome {
	outcome := Fits
	for i := range charges {
		c := &charges[i]
		switch l := r.find(c.Name, i); {
		case l != nil && l.State.Definition == c.Definition: // nearly always
			c.State = l.State
		case l == nil:
			c.State = r.begin(&c.Definition, at, birth)
		case l.State.Stale(c.Definition):
			return StaleLimits
		default:
			c.State = r.convert(&l.State, &c.Definition, at)
		}
		mark, fits := Take(&c.State.Definition, c.State.Mark, at, c.Amount, ahead)
		if !fits {
			outcome = Exceeds
		}
		c.State.Mark = mark
		c.Receipt = Receipt{mark, c.State.Generation}
	}
	return outcome
}

// Adjust works out an adjust at an instant: it charges amounts above 0 (into
// debt), gives back those below by their receipts, and brings a limit that the
// record has under the charge's definition where the amount is 0. A charge is
// made under its own definition, a stale one under the limit's; a give never
// changes a definition. Charges may name a limit any number of times and are
// applied in order. Adjust writes the State after each into the charge.
//
// The error matches ErrRange and is about charges[bad]; then nothing must be
// kept.
func (r *Record) Adjust(charges []Charge, at Instant, birth uint64) (bad int, err error) {
	for i := range charges {
		c := &charges[i]
		var s *State // as the charges before have left it; nil: absent
		if l := r.find(c.Name, i); l != nil {
			s = &l.State
		}
		for j := range i {
			if charges[j].Name == c.Name && !charges[j].State.Absent() {
				s = &charges[j].State
			}
		}
		switch {
		case s == nil && c.Amount <= 0:
			c.State = State{}
			continue
		case s == nil:
			c.State = r.begin(&c.Definition, at, birth)
		case c.Amount < 0:
			c.State = s.Give(later(at, r.Latest), -c.Amount, c.Receipt)
			continue
		case s.Stale(c.Definition):
			c.State = *s
		default:
			c.State = r.convert(s, &c.Definition, at)
		}
		if c.State, err = c.State.Charge(at, c.Amount); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// Finish completes a take, by the outcome of all buckets of the operation, or an
// adjust, for which that is Fits. It reports whether it has changed the record.
//
// If all fit, the limits of the record become the State of their charges; a
// charge of 0 or less adds no limit. If some do not fit, Finish writes into each
// charge the State as it is under the charge's definition, and no Receipt; the
// record keeps a definition under which a charge would fit sooner, and no other.
// If limits are stale, State is as the record has it.
func (r *Record) Finish(outcome Outcome, charges []Charge, at Instant) (changed bool) {
	switch outcome {
	case Fits:
		return r.keep(charges, at)
	case Exceeds:
		return r.refuse(charges, at)
	case StaleLimits:
		for i := range charges {
			charges[i].State, charges[i].Receipt = r.State(charges[i].Name), Receipt{}
		}
	}
	return false
}

// Forget drops the limits that have been full since an instant and that no charge
// names, see [State.Forgettable]; so limits that are named once do not add up. It
// returns how many there were, and notes the instant in Forgotten. The instant is
// to lie before that of the operation by as much as clocks differ.
func (r *Record) Forget(full Instant, except []Charge) int {
	before := len(r.Limits)
	r.Limits = slices.DeleteFunc(r.Limits, func(l LimitState) bool {
		return l.State.Forgettable(full) && !slices.ContainsFunc(except, func(c Charge) bool { return c.Name == l.Name })
	})
	if n := before - len(r.Limits); n > 0 {
		r.Forgotten = Latest(r.Forgotten, full)
		return n
	}
	return 0
}

func (r *Record) keep(charges []Charge, at Instant) (changed bool) {
	for i := range charges {
		c := &charges[i]
		if l := r.find(c.Name, i); l != nil {
			l.State = c.State
		} else if c.Amount > 0 {
			r.Limits = append(r.Limits, LimitState{c.Name, c.State})
		}
	}
	if len(r.Limits) == 0 {
		return false
	}
	r.Latest = Latest(r.Latest, at)
	return true
}

func (r *Record) refuse(charges []Charge, at Instant) (changed bool) {
	for i := range charges {
		c := &charges[i]
		c.Receipt = Receipt{}
		l := r.find(c.Name, i)
		if l == nil {
			c.State = r.begin(&c.Definition, at, 0)
			continue
		}
		c.State = r.convert(&l.State, &c.Definition, at)
		if l.State.Definition != c.State.Definition && c.State.Wait(at, c.Amount) < l.State.Wait(at, c.Amount) {
			l.State, changed = c.State, true
		}
	}
	return changed
}

// State returns a limit of the record, absent if there is none.
func (r *Record) State(name string) State {
	if l := r.find(name, 0); l != nil {
		return l.State
	}
	return State{}
}

// find returns a limit of the record, nil if there is none. It looks first where
// the limit is if limits and charges have one order.
func (r *Record) find(name string, place int) *LimitState {
	if place < len(r.Limits) && r.Limits[place].Name == name {
		return &r.Limits[place]
	}
	for i := range r.Limits {
		if r.Limits[i].Name == name {
			return &r.Limits[i]
		}
	}
	return nil
}

// convert brings a limit under a definition, at the latest instant known: at an
// older one the change would count for the time between.
func (r *Record) convert(s *State, d *Definition, at Instant) State {
	if s.Definition == *d {
		return *s
	}
	return s.Redefine(*d, later(at, r.Latest), 0)
}

// begin returns a limit that is not there: a full one. It may have been
// forgotten when it was full.
func (r *Record) begin(d *Definition, at Instant, birth uint64) State {
	return State{}.Redefine(*d, later(at, r.Forgotten), birth)
}

// later returns the later of an instant and one that is known, if it is not 0.
func later(at, known Instant) Instant {
	if known == 0 {
		return at
	}
	return max(at, known)
}

// Latest returns the later of an instant and the latest one known so far, which
// is 0 if there was none. It is what a store keeps, and never 0: in place of
// that instant it returns the next.
func Latest(known, at Instant) Instant {
	if at = later(at, known); at == 0 {
		return 1
	}
	return at
}
