package bucket

import "fmt"

// A Refill is one limit's part of a reset or a top-up.
type Refill struct {
	Name       string
	Definition Definition // of a limit that the record does not have
	Amount     int64      // tokens of a top-up
	State      State      // after it, written by Record.Reset and Record.TopUp
}

// Reset resets limits at an instant: see [State.Reset]. A limit that the record does not
// have is full, and stays absent.
func (r *Record) Reset(parts []Refill, at Instant) {
	for i := range parts {
		p := &parts[i]
		l := r.named(p.Name)
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
func (r *Record) TopUp(parts []Refill, at Instant, birth uint64) (err error) {
	for i := range parts {
		p := &parts[i]
		if l := r.named(p.Name); l != nil {
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
		l := r.named(p.Name)
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

// named returns the limit of a name, or nil; slots only if there is no other.
func (r *Record) named(name string) *LimitState {
	for _, slots := range []bool{false, true} {
		if l := r.find(name, slots, 0); l != nil {
			return l
		}
	}
	return nil
}
