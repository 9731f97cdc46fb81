package protocol

import (
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/schema"
)

// A limitUpdate is one limit's part of a write: a row of the table in docs/dynamodb.md.
type limitUpdate struct {
	name      string
	ifPresent bool   // it may be applied to a limit of oldText whose numbers lie on the pieces
	ifAbsent  bool   // it may be applied if there is no such limit
	joins     bool   // such a limit begins in an item that is there; otherwise it may begin with the item
	mark      piece  // of the mark, or of the start of a quota or session
	used      piece  // of what is used of a quota or session
	oldText   string // of the definition
	oldKind   bucket.Kind
	text      string // of the definition after the write
	def       bucket.Definition
	expected  bucket.State // after the write, as guessed

	changes bool  // the state or the definition
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

// condition returns the condition of the limit: its numbers lie on the pieces, under the
// definition that the pieces are for. A limit is there if its definition is, of whatever
// kind.
func (u *limitUpdate) condition(b *expressionBuilder, n string) string {
	missing := "attribute_not_exists(#b)"
	if u.ifAbsent && !u.joins && u.changes {
		b.name("#b", schema.Birth) // the item
	} else if !u.ifPresent || u.ifAbsent {
		missing = "attribute_not_exists(" + b.name("#d"+n, definitionAttribute+u.name) + ")"
	}
	if !u.ifPresent {
		return missing
	}
	present := b.name("#d"+n, definitionAttribute+u.name) + " = " + b.text(":d"+n, u.oldText)
	if periodic(&bucket.Definition{Kind: u.oldKind}) {
		present += b.onPiece("#p"+n, startAttribute+u.name, n, &u.mark) + b.onPiece("#u"+n, usedAttribute+u.name, "u"+n, &u.used)
	} else {
		present += b.onPiece("#m"+n, markAttribute+u.name, n, &u.mark)
	}
	if u.ifAbsent {
		return "(" + missing + " OR (" + present + "))"
	}
	return present
}

// update updates the numbers of the limit, and its definition. Of a limit that becomes of
// another kind it removes the old numbers.
func (u *limitUpdate) update(b *expressionBuilder, n string) {
	if !u.changes {
		return
	}
	was, is := periodic(&bucket.Definition{Kind: u.oldKind}), periodic(&u.def)
	if is {
		b.apply("#p"+n, startAttribute+u.name, n, &u.mark)
		b.apply("#u"+n, usedAttribute+u.name, "u"+n, &u.used)
	} else {
		b.apply("#m"+n, markAttribute+u.name, n, &u.mark)
	}
	switch {
	case !u.ifPresent || was == is:
	case is:
		b.remove(b.name("#m"+n, markAttribute+u.name))
	default:
		b.remove(b.name("#p"+n, startAttribute+u.name), ", ", b.name("#u"+n, usedAttribute+u.name))
	}
	if u.ifAbsent || u.text != u.oldText {
		b.set(b.name("#d"+n, definitionAttribute+u.name), " = ", b.text(":t"+n, u.text))
	}
}

// full returns when the limit is full, at the latest; at is the instant of the write.
func (u *limitUpdate) full(at bucket.Instant) bucket.Instant {
	var wait time.Duration
	if periodic(&u.def) {
		top := bucket.State{Definition: u.def, Mark: int64(u.latestStart(at)), Used: max(1, u.used.of(u.used.hi))}
		wait = top.WaitFull(at)
	} else {
		top := bucket.State{Definition: u.def, Mark: u.mark.of(u.mark.hi)}
		if u.def.Schedule == nil {
			at = 0
		}
		wait = top.WaitFull(at)
	}
	if wait == bucket.Never {
		return bucket.MaxInstant
	}
	return at.Add(wait)
}

// latestStart returns a start that the period after the write has at the latest; at is the
// instant of the write. A later one, which somebody has begun whose clock is ahead, is not
// counted: that write has set the time of expiry for all that is used in it up to the
// amount. Where more may be used, debt that is carried, the next period counts.
func (u *limitUpdate) latestStart(at bucket.Instant) bucket.Instant {
	start := bucket.Instant(u.expected.Mark)
	switch {
	case u.mark.hi != math.MaxInt64:
		start = max(start, bucket.Instant(u.mark.of(u.mark.hi)))
	case u.def.Flags&bucket.CarryDebt != 0 && !u.mark.set:
		_, start = u.def.Calendar.Period(max(at, start))
	}
	if since, _ := u.def.Turn(at); u.def.Kind == bucket.Quota {
		start = max(start, since) // of one that was never begun
	}
	return start
}

// leaves reports whether the update leaves a limit that is not there in a state.
func (u *limitUpdate) leaves(absent bucket.State) bool {
	if absent.Absent() {
		return u.mark.keeps() && u.used.keeps() && u.text == u.oldText && !u.mark.empty() && !u.used.empty()
	}
	if !u.mark.set || u.mark.n != absent.Mark || u.text != definitionText(absent.Definition, absent.Generation) {
		return false
	}
	return !periodic(&u.def) || u.used.set && u.used.n == absent.Used
}

// draftLimit drafts what own, all charges of one limit, make of it. It returns false if
// nothing is to be done or required.
func (w *BucketWrite) draftLimit(d *draft, from *Record, own []zael.Charge) (u limitUpdate, ok bool) {
	have := from.find(own[0].Name)
	missing, byReceipt := have == nil, false
	gives := hasAmount(own, func(n int64) bool { return n < 0 })
	if missing {
		if have, byReceipt = w.assumed(d, from, own); have == nil {
			d.unknown = d.unknown || !w.fresh && gives
			// Nothing to do, if the limit is still not there when the rest is written.
			return limitUpdate{name: own[0].Name, ifAbsent: true}, w.Kind == coalesce.Adjust && hasAmount(own, func(n int64) bool { return n == 0 })
		}
	}
	g := newGuess(have.state)
	tokens, ok := w.follow(d, &g, own, missing && !byReceipt)
	if !ok {
		return limitUpdate{}, false
	}
	gives = gives && (w.lost == 0 || d.slots != nil)
	d.unknown = d.unknown || gives && missing && !byReceipt && !w.fresh // it may be there, and be given nothing
	u = limitUpdate{
		name: have.name, mark: g.mark, used: g.used, oldText: have.text, oldKind: have.state.Definition.Kind, text: definitionText(g.state.Definition, g.state.Generation),
		def: g.state.Definition, expected: g.state, tokens: tokens, joins: missing && from != nil,
	}
	u.changes = !u.mark.keeps() || !u.used.keeps() || u.text != u.oldText

	into := from
	if !u.joins {
		into = nil // the limit begins with the item
	}
	absent, fits, err := w.begun(into, own)
	u.cover(absent, fits && err == nil, missing && !byReceipt, gives)
	u.raises = u.changes && hasAmount(own, func(n int64) bool { return n >= 0 })
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
		u.ifAbsent, u.changes = true, u.changes || !absent.Absent()
		u.mark, u.used, u.expected = exactRow(absent.Mark, absent.Mark), exactRow(absent.Used, absent.Used), absent
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
			if c := &own[i]; c.Amount < 0 || settles(c) {
				if d.birthGuessed && d.birth != c.Receipt.Generation {
					d.unknown = true // one of two receipts is of another bucket, or both are
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
			text := definitionText(s.Definition, s.Generation)
			if periodic(&s.Definition) {
				s.Mark = math.MinInt64 // or one that is there, and whose period is over
			}
			return &limit{name: c.Name, text: text, state: s}, false
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
			if !w.take(g, c) {
				d.fits = false
			}
		case w.Kind == coalesce.StoreDefinitions:
			if !sooner(state, c, w.At, w.Seen) {
				return 0, false
			}
			w.redefine(g, c.Definition)
			continue
		case c.Amount < 0:
			if w.lost > 0 && d.slots == nil || missing {
				continue // it may have been given, unless its slots say not; or there is nothing to give to
			}
			d.gives = true
			if turn := c.Receipt.Generation - d.birth; turn > g.state.Generation || turn>>turnBits != g.state.Generation>>turnBits {
				continue // of another bucket, or of a limit of that name that was removed
			}
			if state.Generation == c.Receipt.Generation && c.Definition.Flags&bucket.Unlimited == 0 { // which charged nothing
				g.give(w.Seen, -c.Amount, c.Receipt.Mark)
			}
		default:
			if settles(c) && missing { // its period is gone: it counts as usage alone, of a full limit
				tokens += c.Amount
				d.unknown = d.unknown || !w.fresh
				continue
			}
			if !state.Stale(c.Definition) {
				w.redefine(g, c.Definition)
			}
			if err := w.charge(d, g, c); err != nil {
				d.outOfRange = &zael.ValidationError{Field: "amount of " + c.Name, Value: c.Amount, Reason: err.Error()}
				return 0, false
			}
		}
		tokens += c.Amount
	}
	return tokens, true
}

// take follows a guess through the charge of a take, and reports whether it fits.
func (w *BucketWrite) take(g *guess, c *zael.Charge) (fits bool) {
	switch d := &g.state.Definition; {
	case d.Plain():
		return g.take(w.At, c.Amount, w.room(*d, c), w.pad(*d, c.Amount))
	case d.Flags&bucket.Soft != 0:
		g.bound(c.Amount)
	}
	room := int64(0)
	if g.state.Definition.Kind == bucket.Rate {
		room = w.room(g.state.Definition, c)
	}
	return g.takeKind(w.At, c.Amount, room)
}

// settles reports whether a charge of an adjust counts in the period of a take alone.
func settles(c *zael.Charge) bool {
	return c.Amount > 0 && periodic(&c.Definition) && c.Receipt.Generation != 0
}

// charge follows a guess through a charge of an adjust.
func (w *BucketWrite) charge(d *draft, g *guess, c *zael.Charge) error {
	if !settles(c) {
		return g.charge(w.At, c.Amount)
	}
	d.gives = true // it is right only for this bucket
	if d.birth+g.state.Generation != c.Receipt.Generation || !periodic(&g.state.Definition) {
		return nil
	}
	if _, err := g.state.Charge(w.Seen, c.Amount); err != nil || g.state.Definition.Flags&bucket.Unlimited != 0 {
		return err
	}
	g.settlePeriod(w.Seen, c.Amount, c.Receipt.Mark)
	return nil
}

// redefine brings a guess under a definition, at the latest instant known.
func (w *BucketWrite) redefine(g *guess, d bucket.Definition) {
	was := g.state
	g.redefine(d, w.Seen)
	if w.ExactState && g.state.Generation != was.Generation {
		g.mark.lo, g.mark.hi = was.Mark, was.Mark
		if periodic(&was.Definition) {
			g.used.lo, g.used.hi = was.Used, was.Used
		}
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
			if settles(c) {
				continue // to a period that is gone
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
