package dynamostore

import (
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// A step is what a write does to one limit, and where that is right.
type step struct {
	name  string
	there bool // right for a limit under old whose mark is on the piece
	piece
	old   string // text of the definition
	born  bool   // right for a limit that is not there
	joins bool   // the item is known to have no such limit: it is born into it, else with it
	text  string // of the definition afterwards
	def   bucket.Definition

	changes bool  // mark or definition
	charges bool  // tokens, or the definition: the bucket may be full later than before
	count   int64 // tokens, for usage
}

// full is when the limit has refilled, at the latest.
func (s *step) full() bucket.Instant {
	top := bucket.State{Definition: s.def, Mark: s.of(s.hi)}
	wait := top.Wait(0, s.def.Burst)
	if wait == bucket.Never {
		return bucket.MaxInstant
	}
	return bucket.Instant(0).Add(wait)
}

// step plans for one limit from what is known, or from what is likely if
// nothing is. It returns false if nothing is to be done or required.
func (o *op) step(s *sketch, from *record, own []zael.Charge) (step, bool) {
	have := from.find(own[0].Name)
	missing, receipt := have == nil, false
	if missing {
		if have, receipt = o.likely(s, from, own); have == nil {
			s.blind = s.blind || !o.fresh && some(own, func(n int64) bool { return n < 0 })
			// Nothing to be done, if it is still so when the rest is written.
			return step{name: own[0].Name, born: true}, o.kind == adjusts && some(own, func(n int64) bool { return n == 0 })
		}
	}
	p := path{piece: identity(), mark: have.mark, def: have.def, turns: have.turns}
	st := step{name: have.name, old: have.text, joins: missing && from != nil}
	if !o.follow(s, &p, &st, own, missing && !receipt) {
		return step{}, false
	}
	gives := !o.unsure && some(own, func(n int64) bool { return n < 0 })
	s.blind = s.blind || gives && missing && !receipt && !o.fresh // else it may be there, and given nothing
	rises := some(own, func(n int64) bool { return n >= 0 })
	st.piece, st.def, st.text = p.piece, p.def, textOf(p.def, p.turns)
	st.changes = !p.keeps() || st.text != st.old
	st.charges = st.changes && rises

	into := from
	if !st.joins {
		into = nil // it is born with the item
	}
	absent, fits, err := o.absent(into, own)
	alike := fits && err == nil && st.does(absent)
	switch {
	case !missing || receipt || !fits || err != nil:
		st.there, st.born = true, alike && !gives
	case alike:
		st.there, st.born = !gives, true
	default: // for a limit that is not there alone
		st.born = true
		st.piece = piece{lo: absent.Mark, hi: absent.Mark, set: true, n: absent.Mark}
		st.def, st.text = absent.Definition, textOf(absent.Definition, absent.Generation)
	}
	return st, true
}

func some(charges []zael.Charge, is func(amount int64) bool) bool {
	return slices.ContainsFunc(charges, func(c zael.Charge) bool { return is(c.Amount) })
}

// likely is how a limit of which nothing is known may stand: as a receipt says,
// or full and new, as one that is not there. It is nil if the limit is not there
// and will not be.
func (o *op) likely(s *sketch, from *record, own []zael.Charge) (l *limit, receipt bool) {
	if o.kind == keeps {
		return nil, false
	}
	if from == nil && !o.fresh && o.kind != takes {
		for i := range own {
			if c := &own[i]; c.Amount < 0 {
				if s.guessed && s.birth != c.Receipt.Generation {
					s.blind = true // one of two receipts is of another bucket, or both are
					return nil, false
				}
				s.birth, s.guessed = c.Receipt.Generation, true
				return &limit{name: c.Name, text: textOf(c.Definition, 0), def: c.Definition, mark: c.Receipt.Mark}, true
			}
		}
	}
	for i := range own {
		if c := &own[i]; c.Amount > 0 || o.kind == takes {
			state := from.join(c.Definition, o.at)
			return &limit{name: c.Name, text: textOf(state.Definition, state.Generation), def: state.Definition, turns: state.Generation, mark: state.Mark}, false
		}
	}
	return nil, false
}

// follow leads the guess through the charges of its limit; to a limit that is not
// there nothing is given. It returns false if there is no step to be made of it.
func (o *op) follow(s *sketch, p *path, st *step, own []zael.Charge, missing bool) bool {
	o.bound(p, own)
	for i := range own {
		c := &own[i]
		state := bucket.State{Definition: p.def, Mark: p.mark, Generation: s.birth + p.turns}
		switch {
		case o.kind == takes:
			if state.Stale(c.Definition) {
				s.stale = true
				return false
			}
			o.redefine(p, c.Definition)
			if !p.take(o.at, c.Amount, o.room(p.def, c), o.pad(p.def, c.Amount)) {
				s.fits = false
			}
		case o.kind == keeps:
			if !sooner(state, c, o.at, o.seen) {
				return false
			}
			o.redefine(p, c.Definition)
			continue
		case c.Amount < 0:
			if o.unsure || missing {
				continue // may have been given; or there is nothing of it
			}
			s.gives = true
			if turn := c.Receipt.Generation - s.birth; turn > p.turns || turn>>turnBits != p.turns>>turnBits {
				continue // of another bucket, or of a limit of that name that was removed
			}
			if state.Generation == c.Receipt.Generation {
				p.give(o.seen, -c.Amount, c.Receipt.Mark)
			}
		default:
			if !state.Stale(c.Definition) {
				o.redefine(p, c.Definition)
			}
			if err := p.charge(o.at, c.Amount); err != nil {
				s.err = &zael.ValidationError{Field: "amount of " + c.Name, Value: c.Amount, Reason: err.Error()}
				return false
			}
		}
		st.count += c.Amount
	}
	return true
}

// room is the highest mark from which a take's charge fits.
func (o *op) room(d bucket.Definition, c *zael.Charge) int64 {
	unit := d.Unit()
	if o.stages == nil {
		return roomFor(d, o.at, c.Amount, o.maxWait)
	}
	i := slices.IndexFunc(o.charges, func(own zael.Charge) bool { return own.Name == c.Name })
	room := int64(math.MaxInt64)
	for _, s := range o.stages[i] {
		room = min(room, d.Drip(o.at.Add(s.Wait))+(d.Burst-s.Sum)*unit)
	}
	return room
}

func roomFor(d bucket.Definition, at bucket.Instant, n int64, ahead time.Duration) int64 {
	return d.Drip(at.Add(ahead)) + (d.Burst-n)*d.Unit()
}

// bound gives the marks for which a charge is right an upper end: a take has
// one, as it may not fit, and without one nobody knows when the bucket is full.
func (o *op) bound(p *path, own []zael.Charge) {
	if o.kind == takes {
		return
	}
	room, charges := p.def.Burst*p.def.Unit(), o.kind == keeps
	for i := range own {
		if c := &own[i]; c.Amount >= 0 {
			room, charges = saturate.Add(room, c.Amount*p.def.Unit()), true
		}
	}
	if charges {
		p.within(math.MinInt64, saturate.Add(p.mark, room))
	}
}

// pad is how far above the drip a take aims that has failed before: so far that
// others have not gone beyond it meanwhile, and 0 if n would not fit then.
func (o *op) pad(d bucket.Definition, n int64) int64 {
	if o.calls+1 < padAfter {
		return 0
	}
	return padFor(d, n)
}

func padFor(d bucket.Definition, n int64) int64 {
	unit := d.Unit()
	pad := d.Burst * unit / padShare
	if n > d.Burst || n*unit > d.Burst*unit-pad {
		return 0
	}
	return pad
}

// redefine brings the path under a definition, at the latest instant known.
func (o *op) redefine(p *path, d bucket.Definition) {
	turns, mark := p.turns, p.mark
	p.under(d, o.seen)
	if o.exact && p.turns != turns {
		p.lo, p.hi = mark, mark
	}
}

// sooner tells whether a refused charge would fit sooner under its definition.
func sooner(kept bucket.State, c *zael.Charge, at, seen bucket.Instant) bool {
	next := kept.Redefine(c.Definition, seen, 0)
	return !kept.Stale(c.Definition) && next.Definition != kept.Definition && next.Wait(at, c.Amount) < kept.Wait(at, c.Amount)
}

// absent is what the charges make of a limit that is not there, but joins a
// record, or is made with it. One of 0 makes none.
func (o *op) absent(into *record, own []zael.Charge) (state bucket.State, fits bool, err error) {
	for i := range own {
		c := &own[i]
		switch {
		case o.kind == takes:
			next, fits := into.join(c.Definition, o.at).Take(o.at, c.Amount, o.maxWait)
			if !fits || c.Amount == 0 {
				return state, fits, nil
			}
			return next, true, nil
		case c.Amount > 0:
			switch {
			case state.Absent():
				state = into.join(c.Definition, o.at)
			case !state.Stale(c.Definition):
				state = state.Redefine(c.Definition, o.at, 0)
			}
			if state, err = state.Charge(o.at, c.Amount); err != nil {
				return state, true, err
			}
		case c.Amount == 0 && !state.Absent() && !state.Stale(c.Definition):
			state = state.Redefine(c.Definition, o.at, 0)
		}
	}
	return state, true, nil
}

// does tells whether the step would leave a limit that is not there in this state.
func (s *step) does(absent bucket.State) bool {
	if absent.Absent() {
		return s.keeps() && s.text == s.old && s.lo <= s.hi
	}
	return s.set && s.n == absent.Mark && s.text == textOf(absent.Definition, absent.Generation)
}
