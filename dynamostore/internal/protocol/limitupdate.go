package protocol

import (
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/schema"
)

// A limitUpdate is one limit's part of a write: a row of the table in docs/dynamodb.md.
type limitUpdate struct {
	name      string
	ifPresent bool // it may be applied to a limit of oldText whose mark lies on the piece
	ifAbsent  bool // it may be applied if there is no such limit
	joins     bool // such a limit begins in an item that is there; otherwise it may begin with the item
	mark      piece
	oldText   string // of the definition
	text      string // of the definition after the write
	def       bucket.Definition

	changes bool  // the mark or the definition
	raises  bool  // the bucket may be full later than before
	tokens  int64 // for usage: net
}

// write writes the condition and the update down; n tells the limit from the others of the
// write.
func (u *limitUpdate) write(b *expressionBuilder, n string) {
	b.where(u.condition(b, n))
	u.update(b, n)
	if u.tokens != 0 {
		b.add(b.name("#c"+n, schema.Counter+u.name), " ", b.number(":c"+n, u.tokens))
	}
}

// condition returns the condition of a rate: its mark lies on the piece, under the definition
// that the piece is for.
func (u *limitUpdate) condition(b *expressionBuilder, n string) string {
	mark := "#m" + n
	if !u.ifPresent || u.ifAbsent || u.mark.bounded() {
		b.name(mark, markAttribute+u.name)
	}
	missing := "attribute_not_exists(" + mark + ")"
	if u.ifAbsent && !u.joins && u.changes {
		missing = "attribute_not_exists(" + b.name("#b", schema.Birth) + ")" // the item
	}
	if !u.ifPresent {
		return missing
	}
	present := b.name("#d"+n, definitionAttribute+u.name) + " = " + b.text(":d"+n, u.oldText) + b.onPiece(mark, n, &u.mark)
	if u.ifAbsent {
		return "(" + missing + " OR (" + present + "))"
	}
	return present
}

// update updates the mark of a rate, and its definition.
func (u *limitUpdate) update(b *expressionBuilder, n string) {
	if !u.changes {
		return
	}
	b.apply(b.name("#m"+n, markAttribute+u.name), n, &u.mark)
	if u.ifAbsent || u.text != u.oldText {
		b.set(b.name("#d"+n, definitionAttribute+u.name), " = ", b.text(":t"+n, u.text))
	}
}

// full returns when the limit has refilled, at the latest.
func (u *limitUpdate) full() bucket.Instant {
	top := bucket.State{Definition: u.def, Mark: u.mark.of(u.mark.hi)}
	wait := top.Wait(0, u.def.Burst)
	if wait == bucket.Never {
		return bucket.MaxInstant
	}
	return bucket.Instant(0).Add(wait)
}

// leaves reports whether the update leaves a limit that is not there in a state.
func (u *limitUpdate) leaves(absent bucket.State) bool {
	if absent.Absent() {
		return u.mark.keeps() && u.text == u.oldText && !u.mark.empty()
	}
	return u.mark.set && u.mark.n == absent.Mark && u.text == definitionText(absent.Definition, absent.Generation)
}

// draftLimit drafts what own, all charges of one limit, make of it. It returns false if
// nothing is to be done or required.
func (w *BucketWrite) draftLimit(d *draft, from *Record, own []zael.Charge) (u limitUpdate, ok bool) {
	have := from.find(own[0].Name)
	missing, byReceipt := have == nil, false
	gives := hasAmount(own, func(n int64) bool { return n < 0 })
	if missing {
		if have, byReceipt = w.assumed(d, from, own); have == nil {
			d.limitUnknown = d.limitUnknown || !w.fresh && gives
			// Nothing to do, if the limit is still not there when the rest is written.
			return limitUpdate{name: own[0].Name, ifAbsent: true}, w.Kind == coalesce.Adjust && hasAmount(own, func(n int64) bool { return n == 0 })
		}
	}
	g := guess{state: have.state, mark: identity()}
	tokens, ok := w.follow(d, &g, own, missing && !byReceipt)
	if !ok {
		return limitUpdate{}, false
	}
	gives = gives && w.lost == 0
	d.limitUnknown = d.limitUnknown || gives && missing && !byReceipt && !w.fresh // it may be there, and be given nothing
	u = limitUpdate{
		name: have.name, mark: g.mark, oldText: have.text, text: definitionText(g.state.Definition, g.state.Generation), def: g.state.Definition, tokens: tokens,
		joins: missing && from != nil,
	}
	u.changes = !u.mark.keeps() || u.text != u.oldText
	u.raises = u.changes && hasAmount(own, func(n int64) bool { return n >= 0 })

	into := from
	if !u.joins {
		into = nil // the limit begins with the item
	}
	absent, fits, err := w.begun(into, own)
	u.cover(absent, fits && err == nil, missing && !byReceipt, gives)
	return u, true
}

// cover sets whether the update is for a limit that is there, for one that is not, or for
// both: that is if it leaves both in the same state. absent is the state in which the charges
// leave a limit that is not there, if they can. An update that gives is not for both.
func (u *limitUpdate) cover(absent bucket.State, can, missing, gives bool) {
	alike := can && u.leaves(absent)
	switch {
	case !missing || !can:
		u.ifPresent, u.ifAbsent = true, alike && !gives
	case alike:
		u.ifPresent, u.ifAbsent = !gives, true
	default:
		u.ifAbsent = true
		u.mark = exactRow(absent.Mark, absent.Mark)
		u.def, u.text = absent.Definition, definitionText(absent.Definition, absent.Generation)
	}
}

func hasAmount(charges []zael.Charge, is func(amount int64) bool) bool {
	return slices.ContainsFunc(charges, func(c zael.Charge) bool { return is(c.Amount) })
}

// assumed returns a starting guess for an unknown limit: the state in a receipt, or a full
// new limit; nil if the operation will not create it.
func (w *BucketWrite) assumed(d *draft, from *Record, own []zael.Charge) (l *limit, byReceipt bool) {
	if w.Kind == coalesce.StoreDefinitions {
		return nil, false
	}
	if from == nil && !w.fresh && w.Kind != coalesce.Take {
		for i := range own {
			if c := &own[i]; c.Amount < 0 {
				if d.birthGuessed && d.birth != c.Receipt.Generation {
					d.limitUnknown = true // one of two receipts is of another bucket, or both are
					return nil, false
				}
				d.birth, d.birthGuessed = c.Receipt.Generation, true
				return &limit{name: c.Name, text: definitionText(c.Definition, 0), state: bucket.State{Definition: c.Definition, Mark: c.Receipt.Mark}}, true
			}
		}
	}
	for i := range own {
		if c := &own[i]; c.Amount > 0 || w.Kind == coalesce.Take {
			s := from.begin(c.Definition, w.At)
			return &limit{name: c.Name, text: definitionText(s.Definition, s.Generation), state: s}, false
		}
	}
	return nil, false
}

// follow leads a guess through the charges of its limit; a limit that is missing is given
// nothing. It returns the net tokens, and false if the draft ends here or the limit stays as
// it is.
func (w *BucketWrite) follow(d *draft, g *guess, own []zael.Charge, missing bool) (tokens int64, ok bool) {
	w.boundCharges(g, own)
	for i := range own {
		c := &own[i]
		state := g.state
		state.Generation += d.birth
		switch {
		case w.Kind == coalesce.Take:
			if state.Stale(c.Definition) {
				d.stale = true
				return 0, false
			}
			w.redefine(g, c.Definition)
			if !g.take(w.At, c.Amount, w.room(g.state.Definition, c), w.pad(g.state.Definition, c.Amount)) {
				d.fits = false
			}
		case w.Kind == coalesce.StoreDefinitions:
			if !sooner(state, c, w.At, w.Seen) {
				return 0, false
			}
			w.redefine(g, c.Definition)
			continue
		case c.Amount < 0:
			if w.lost > 0 || missing {
				continue // it may have been given; or there is nothing to give to
			}
			d.gives = true
			if turn := c.Receipt.Generation - d.birth; turn > g.state.Generation || turn>>turnBits != g.state.Generation>>turnBits {
				continue // of another bucket, or of a limit of that name that was removed
			}
			if state.Generation == c.Receipt.Generation {
				g.give(w.Seen, -c.Amount, c.Receipt.Mark)
			}
		default:
			if !state.Stale(c.Definition) {
				w.redefine(g, c.Definition)
			}
			if err := g.charge(w.At, c.Amount); err != nil {
				d.outOfRange = &zael.ValidationError{Field: "amount of " + c.Name, Value: c.Amount, Reason: err.Error()}
				return 0, false
			}
		}
		tokens += c.Amount
	}
	return tokens, true
}

// redefine brings a guess under a definition, at the latest instant known.
func (w *BucketWrite) redefine(g *guess, d bucket.Definition) {
	was := g.state
	g.redefine(d, w.Seen)
	if w.ExactState && g.state.Generation != was.Generation {
		g.mark.lo, g.mark.hi = was.Mark, was.Mark
	}
}

// sooner reports whether a refused charge would fit sooner under its own definition.
func sooner(kept bucket.State, c *zael.Charge, at, seen bucket.Instant) bool {
	next := kept.Redefine(c.Definition, seen, 0)
	return !kept.Stale(c.Definition) && next.Definition != kept.Definition && next.Wait(at, c.Amount) < kept.Wait(at, c.Amount)
}

// begun returns what the charges make of a limit that is not there, and begins in a record
// or with it. A charge of 0 begins none.
func (w *BucketWrite) begun(into *Record, own []zael.Charge) (state bucket.State, fits bool, err error) {
	for i := range own {
		c := &own[i]
		switch {
		case w.Kind == coalesce.Take:
			next, fits := into.begin(c.Definition, w.At).Take(w.At, c.Amount, w.MaxWait)
			if !fits || c.Amount == 0 {
				return state, fits, nil
			}
			return next, true, nil
		case c.Amount > 0:
			switch {
			case state.Absent():
				state = into.begin(c.Definition, w.At)
			case !state.Stale(c.Definition):
				state = state.Redefine(c.Definition, w.At, 0)
			}
			if state, err = state.Charge(w.At, c.Amount); err != nil {
				return state, true, err
			}
		case c.Amount == 0 && !state.Absent() && !state.Stale(c.Definition):
			state = state.Redefine(c.Definition, w.At, 0)
		}
	}
	return state, true, nil
}
