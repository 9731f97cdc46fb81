package bucket

import (
	"fmt"
	"slices"
	"time"
)

// A Charge is what an operation does to one limit of a bucket. A store writes
// Receipt and State, and keeps no reference to the charge.
type Charge struct {
	Name       string     // of the limit
	Definition Definition // the limit as the caller knows it, valid
	Amount     int64      // tokens; below 0 only in an adjust, to give back
	Receipt    Receipt    // of the charge: written by a take, read by an adjust to give back, and to charge more to the period of a take
	State      State      // of the limit: written by a take that took nothing or is of another kind than a plain rate, and by an adjust
}

// Taken returns the state of the limit after a take that fit, by what the take has
// written.
func (c *Charge) Taken() State {
	s := State{Definition: c.Definition, Mark: c.Receipt.Mark, Generation: c.Receipt.Generation}
	if !c.Definition.Plain() {
		s.Used = c.State.Used
	}
	return s
}

// Overdraws reports whether a take that fit, at an instant, has left its limit overdrawn: see
// [State.Overdrawn].
func (c *Charge) Overdraws(at Instant) bool {
	return c.Definition.Flags&Soft != 0 && !c.State.Absent() && c.State.Overdrawn(at)
}

// A LimitState is one limit of a bucket. Slots of a name are another limit than what else
// has the name.
type LimitState struct {
	Name  string
	State State
}

// A Record is one bucket as a store keeps it. The zero Record is a bucket that
// was never charged: a full one.
//
// A store makes an operation in three steps, under one lock or in one transaction. It
// reads the record of each bucket, calls Take or Adjust on each, and writes what
// Finish leaves. Take and Adjust change the charges and not the record, so that an
// operation on several buckets changes all of them or none:
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
// A Record needs to hold only the limits that the charges name: operations do not
// change the others. It needs all Holders, and all limits that are slots, if it has
// Holders: a write moves the deadline of all that a holder has.
type Record struct {
	Limits []LimitState // each name once, or twice if one is of slots; in any order
	Latest Instant      // the latest instant of a change; 0 if there is none

	Holders []Holder // of slots; each ID once, in any order
	Own     string   // the ID of the holder whose slots the operation takes or releases

	// Forgotten is an instant at which every limit was full that the store has
	// forgotten, of this bucket or with a bucket; 0 if there is none. By an
	// older clock, a limit that the record does not have is as full as it was
	// then.
	Forgotten Instant
}

// An Outcome is the result of a take. That of a take from several buckets is the
// greatest of theirs.
type Outcome uint8

// The outcomes of a take.
const (
	Fits        Outcome = iota // all charges fit
	Exceeds                    // some charges do not fit
	StaleLimits                // the bucket has a newer revision of a stored limit: see State.Stale
)

// Take evaluates a take of charges at an instant, of tokens that are there by ahead
// later. It writes the State after the take and the Receipt into each charge; they
// are valid if the outcome of all buckets is Fits. Amounts must be in 0 to MaxAmount,
// and the names must differ. A limit that the record does not have is full, and
// begins in generation birth, a random number.
func (r *Record) Take(charges []Charge, at Instant, ahead time.Duration, birth uint64) Outcome {
	outcome := Fits
	for i := range charges {
		c := &charges[i]
		switch l := r.find(c.Name, c.Definition.Kind == Slots, i); {
		case c.Definition.Kind == Slots:
			if l != nil && l.State.Stale(c.Definition) {
				return StaleLimits
			}
			c.State = r.slots(l, c, at)
			c.State.Generation = r.generation(birth)
		case l != nil && l.State.Definition == c.Definition: // nearly always
			c.State = l.State
		case l == nil:
			c.State = r.begin(&c.Definition, at, birth)
		case l.State.Stale(c.Definition):
			return StaleLimits
		default:
			c.State = r.redefine(&l.State, &c.Definition, at)
		}
		var fits bool
		if c.State, fits = c.State.Take(at, c.Amount, ahead); !fits {
			outcome = Exceeds
		}
		c.Receipt = c.State.Receipt()
	}
	return outcome
}

// generation returns that of the operation's holder, or birth if there is none yet.
func (r *Record) generation(birth uint64) uint64 {
	if own := r.own(); own != nil {
		return own.Generation
	}
	return birth
}

// Adjust evaluates an adjust at an instant. It charges positive amounts, into debt if
// need be, and gives back negative ones by their receipts. An amount of 0 redefines a
// limit that the record has. A charge is made under its own definition, or under that
// of the limit if its own is stale; giving back does not change the definition. A charge to
// a quota or session that has the Receipt of a take counts in the period of that take: if
// it is over, nothing is charged. Slots can
// only be given back: to those that the record's Own holder has under their receipt, whose
// generation the State then has.
// Charges may name a limit any number of times, and are applied in order. Adjust
// writes the State after each of them into the charge.
//
// The error matches ErrRange and is about charges[bad]; the adjust must then not be
// finished.
func (r *Record) Adjust(charges []Charge, at Instant, birth uint64) (bad int, err error) {
	for i := range charges {
		c := &charges[i]
		var s *State // as the charges before have left it; nil: absent
		if l := r.find(c.Name, c.Definition.Kind == Slots, i); l != nil {
			s = &l.State
		}
		for j := range i {
			if charges[j].names(c) && !charges[j].State.Absent() {
				s = &charges[j].State
			}
		}
		switch {
		case c.Definition.Kind == Slots && c.Amount > 0:
			return i, fmt.Errorf("slots cannot be charged, only taken: %w", ErrRange)
		case c.Definition.Kind == Slots:
			c.State = State{}
			if s != nil {
				if c.State = *s; c.Amount == 0 && !s.Stale(c.Definition) {
					c.State = s.Redefine(c.Definition, at, 0)
				}
				c.State.Generation = 0
				if own := r.own(); own != nil && own.Generation == c.Receipt.Generation {
					c.State.Generation = own.Generation
					c.State.Used = max(0, c.State.Used+max(c.Amount, -own.Count(c.Name)))
				}
			}
			continue
		case s == nil && (c.Amount <= 0 || settles(&c.Definition, c.Amount, c.Receipt)):
			c.State = State{}
			continue
		case s == nil:
			c.State = r.begin(&c.Definition, at, birth)
		case c.Amount < 0 || s.Stale(c.Definition):
			c.State = *s
		default:
			c.State = r.redefine(s, &c.Definition, at)
		}
		if err = Adjust(&c.State, &c.Definition, at, later(at, r.Latest), c.Amount, c.Receipt); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// Finish completes a take with the outcome of all buckets of the operation, or an
// adjust with Fits. It reports whether the record has changed.
//
// With Fits, the limits of the record get the State of their charges; a charge of 0
// or less adds no limit. With Exceeds, Finish writes into each charge the State as it
// is, under the charge's definition, and no Receipt; the record gets a definition only
// if the charge would fit sooner under it. With StaleLimits, the State is that of the
// record.
func (r *Record) Finish(outcome Outcome, charges []Charge, at Instant) (changed bool) {
	switch outcome {
	case Fits:
		return r.keep(charges, at)
	case Exceeds:
		return r.refuse(charges, at)
	case StaleLimits:
		for i := range charges {
			c := &charges[i]
			c.State, c.Receipt = State{}, Receipt{}
			if l := r.find(c.Name, c.Definition.Kind == Slots, 0); l != nil {
				c.State = l.State
			}
		}
	}
	return false
}

// Forget drops the limits that can be forgotten (see [State.Forgettable]) and that no
// charge names, so that names that are used once do not add up, and the holders that were
// dead. It returns how many limits there were, and notes the instant in Forgotten. The
// instant should be before that of the operation by as much as clocks differ.
func (r *Record) Forget(full Instant, except []Charge) int {
	r.Bury(full)
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
	slots := false
	for i := range charges {
		c := &charges[i]
		slots = slots || c.Definition.Kind == Slots
		if l := r.find(c.Name, c.Definition.Kind == Slots, i); l != nil {
			l.State = c.State
		} else if c.Amount > 0 && !c.State.Absent() { // a settle of a limit that is gone leaves none
			r.Limits = append(r.Limits, LimitState{c.Name, c.State})
		}
	}
	if len(r.Limits) == 0 {
		return false
	}
	if slots {
		r.keepSlots(charges, at)
	}
	r.Latest = Latest(r.Latest, at)
	return true
}

func (r *Record) refuse(charges []Charge, at Instant) (changed bool) {
	for i := range charges {
		c := &charges[i]
		c.Receipt = Receipt{}
		l := r.find(c.Name, c.Definition.Kind == Slots, i)
		switch {
		case c.Definition.Kind == Slots:
			c.State = r.slots(l, c, at)
			continue
		case l == nil:
			c.State = r.begin(&c.Definition, at, 0)
			continue
		}
		c.State = r.redefine(&l.State, &c.Definition, at)
		if l.State.Definition != c.State.Definition && c.State.Wait(at, c.Amount) < l.State.Wait(at, c.Amount) {
			l.State, changed = c.State, true
		}
	}
	return changed
}

// State returns the state of a limit, absent if the record does not have it. If slots have
// the same name, it is that of the other one.
func (r *Record) State(name string) State {
	for _, slots := range []bool{false, true} {
		if l := r.find(name, slots, 0); l != nil {
			return l.State
		}
	}
	return State{}
}

// names reports whether c and other are about one limit.
func (c *Charge) names(other *Charge) bool {
	return c.Name == other.Name && (c.Definition.Kind == Slots) == (other.Definition.Kind == Slots)
}

// find returns a limit of the record, or nil. It first looks at the place that the
// limit has if limits and charges are in the same order.
func (r *Record) find(name string, slots bool, place int) *LimitState {
	if place < len(r.Limits) && r.Limits[place].is(name, slots) {
		return &r.Limits[place]
	}
	for i := range r.Limits {
		if r.Limits[i].is(name, slots) {
			return &r.Limits[i]
		}
	}
	return nil
}

func (l *LimitState) is(name string, slots bool) bool {
	return l.Name == name && (l.State.Definition.Kind == Slots) == slots
}

// redefine returns a limit under a definition, at the latest instant known: at an
// older one the change would count for the time between.
func (r *Record) redefine(s *State, d *Definition, at Instant) State {
	if s.Definition == *d {
		return *s
	}
	return s.Redefine(*d, later(at, r.Latest), 0)
}

// begin returns a limit that the record does not have: a full one, which may have
// been forgotten.
func (r *Record) begin(d *Definition, at Instant, birth uint64) State {
	return newState(*d, at, r.Forgotten, birth)
}

// later returns the later of an instant and one that is known, if it is not 0.
func later(at, known Instant) Instant {
	if known == 0 {
		return at
	}
	return max(at, known)
}

// Latest returns the later of an instant and the latest one known so far, where 0 is
// none. Stores keep the result; it is never 0: instead of that instant it is the
// next.
func Latest(known, at Instant) Instant {
	if at = later(at, known); at == 0 {
		return 1
	}
	return at
}
