package bucket

import "fmt"

// A Fill is one limit's part of a reset or a top-up.
type Fill struct {
	Name       string
	Slots      bool       // the limit is the one of slots that has the name
	Definition Definition // of a limit that the record does not have
	Amount     int64      // tokens of a top-up
	State      State      // after it, written by Record.Reset and Record.TopUp
}

// Reset resets limits at an instant: see [State.Reset]. A limit that the record does not
// have is full, and stays absent.
func (r *Record) Reset(parts []Fill, at Instant) {
	for i := range parts {
		p := &parts[i]
		l := r.find(p.Name, p.Slots, 0)
		if l == nil {
			p.State = r.begin(&p.Definition, at, 0)
			continue
		}
		l.State = l.State.Reset(later(at, r.Latest))
		p.State = l.State
		r.Latest = Latest(r.Latest, at)
	}
}

// TopUp gives tokens to limits at an instant, to all or to none: see [State.TopUp]. A limit
// that the record does not have is full, and begins in generation birth, a random
// number, if it is of a kind that can have more. The error matches ErrRange.
func (r *Record) TopUp(parts []Fill, at Instant, birth uint64) (err error) {
	for i := range parts {
		p := &parts[i]
		if l := r.find(p.Name, p.Slots, 0); l != nil {
			p.State = l.State
		} else {
			p.State = r.begin(&p.Definition, at, birth)
		}
		if p.State, err = p.State.TopUp(later(at, r.Latest), p.Amount); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	for i := range parts {
		p := &parts[i]
		l := r.find(p.Name, p.Slots, 0)
		switch {
		case l != nil:
			l.State = p.State
		case p.State.Full(at):
			continue // as it is without
		default:
			r.Limits = append(r.Limits, LimitState{p.Name, p.State})
		}
		r.Latest = Latest(r.Latest, at)
	}
	return nil
}

// IsSlots reports whether a name of the record means slots, where nothing else says which
// limit is meant and another one has the name as well: the one with the higher revision, or
// slots if some are held.
func (r *Record) IsSlots(name string) bool {
	slots, other := r.find(name, true, 0), r.find(name, false, 0)
	switch {
	case slots == nil || other == nil:
		return slots != nil
	case slots.State.Definition.Rev != other.State.Definition.Rev:
		return slots.State.Definition.Rev > other.State.Definition.Rev
	}
	return slots.State.Used > 0
}

// Has reports whether the record has a limit: the one of slots that has the name, or the
// other one.
func (r *Record) Has(name string, slots bool) bool { return r.find(name, slots, 0) != nil }
