package dynamostore

import (
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/schema"
)

// kind is what an op does.
type kind uint8

const (
	takes   kind = iota
	adjusts      // charges, gives, brings under definitions
	undoes       // gives what a take took, which then was none
	keeps        // after a refusal: definitions that would admit sooner
)

// maxCalls is how often an op asks the engine; padAfter is from which call on a
// take aims above a level that hovers around 0.
const (
	maxCalls = 8
	padAfter = 3
	padShare = 50 // of the burst
)

// An op is one operation on one bucket: the protocol without clock, network and
// library. Its owner asks plan what to do, does it, and tells the op what the
// engine answered, until plan has a verdict.
type op struct {
	kind    kind
	key     zael.Key
	charges []zael.Charge  // the op's own copy
	at      bucket.Instant // now
	seen    bucket.Instant // the latest known of the bucket, at or after now
	maxWait time.Duration
	stages  [][]coalesce.Stage // a take for several callers who wait for different times: instead of maxWait, of each charge
	events  int64              // takes that it counts for; below 0: that it takes back
	several bool               // for several callers: it changes no definition
	spaced  bool               // who runs it sees to it that a throttled bucket is left alone for a while
	id      uint64             // of the write, also when it is repeated
	index   string             // the bucket's key in the index
	birth   uint64             // undoes: of the bucket that it is for
	exact   bool               // change a definition only from a state that is known to the unit
	noTTL   bool

	known  *record // the bucket as it was last seen; nil if missing, or not known
	guess  *record // as it may have become since, for the next write; nil: as known
	before *record // what the last write was planned from
	fresh  bool    // known is what the engine said
	calls  int     // made so far
	unsure bool    // an earlier call may have been applied
	lost   int     // calls of which that is not known
}

// verdict is what is to be done next, or what came out.
type verdict uint8

const (
	send         verdict = iota // the write
	read                        // the item: what is known does not do
	applied                     // by the engine; known is the state since
	nothing                     // needs to be written: known is how it stands
	refused                     // a take does not fit
	stale                       // a take's limits are older than the bucket's
	outside                     // an amount leaves the range: see the error
	contended                   // maxCalls did not do
	apart                       // it has to be done caller by caller
	throttledNow                // by the engine: see the error
)

// answered notes what the engine said to a write, as it was before (failed) or
// since (applied).
func (o *op) answered(r *record, ok bool) (done bool) {
	o.calls++
	o.learn(r)
	// Its own id says that an earlier copy of the write was applied, and that
	// nothing has come since.
	return ok || r != nil && r.last == o.id
}

// learn notes what the engine said of the item.
func (o *op) learn(r *record) { o.known, o.guess, o.fresh = r, nil, true }

// A sketch is a plan on its way.
type sketch struct {
	steps   []step
	birth   uint64
	guessed bool // the birth is, from a receipt
	gives   bool // right only for the bucket of this birth
	fits    bool
	stale   bool
	blind   bool // whether a limit is there is not known, and matters
	err     error
}

// plan is what to do next.
func (o *op) plan() (write, verdict, error) {
	if o.calls >= maxCalls {
		return write{}, contended, nil
	}
	s := o.sketch()
	final := nothing
	switch {
	case s.blind:
	case s.err != nil:
		final = outside
	case s.stale:
		final = stale
	case !s.fits && o.fresh:
		final = refused
	case o.several && !o.unsure && s.changesDefinition(): // an earlier copy may be there: then not one by one
		return write{}, apart, nil
	case o.kind == takes || o.kind == undoes && s.gives || s.writes():
		o.before = o.known
		return o.write(&s), send, nil
	}
	if !o.fresh {
		return write{}, read, nil // it may be otherwise by now
	}
	return write{}, final, s.err
}

func (s *sketch) writes() bool {
	return slices.ContainsFunc(s.steps, func(s step) bool { return s.changes || s.count != 0 })
}

func (s *sketch) changesDefinition() bool {
	return slices.ContainsFunc(s.steps, func(s step) bool { return s.there && s.text != s.old })
}

// sketch goes through the charges, limit by limit.
func (o *op) sketch() sketch {
	from := o.known
	if o.guess != nil && !o.exact {
		from = o.guess
	}
	s := sketch{fits: true}
	if from != nil {
		s.birth = from.birth
	}
	if o.kind == undoes {
		if from == nil || from.birth != o.birth {
			return s // it is gone
		}
		s.gives = true
	}
	var buf [1]zael.Charge
	for i := range o.charges {
		name := o.charges[i].Name
		if contains(o.charges[:i], name) {
			continue // done with the first of the name
		}
		own := buf[:0]
		for _, c := range o.charges[i:] {
			if c.Name == name {
				own = append(own, c)
			}
		}
		if st, ok := o.step(&s, from, own); ok {
			s.steps = append(s.steps, st)
		}
		if s.err != nil || s.stale {
			break
		}
	}
	return s
}

func contains(charges []zael.Charge, name string) bool {
	return slices.ContainsFunc(charges, func(c zael.Charge) bool { return c.Name == name })
}

// write is the update that does the steps.
func (o *op) write(s *sketch) write {
	w := newWriting(o.key)
	creates, joins, charges := !s.gives, false, o.kind == takes
	full := o.at
	for i := range s.steps {
		st := &s.steps[i]
		w.limit(strconv.Itoa(i), st)
		creates = creates && st.born
		joins = joins || st.born && st.joins && st.changes
		charges = charges || st.charges
		if st.charges {
			full = max(full, st.full())
		}
	}
	id := w.text(":id", idText(o.id))
	w.where("(attribute_not_exists(", w.name("#o", "o"), ") OR #o <> ", id, ")") // no copy that comes late
	w.set("#o = ", id)
	w.nextVersion()
	if s.gives {
		w.where(w.name("#b", "b"), " = ", w.text(":b", idText(s.birth)))
	}
	if o.events != 0 {
		w.add(w.name("#e", "e"), " ", w.number(":e", o.events))
	}
	if creates {
		w.set(w.name("#b", "b"), " = if_not_exists(#b, ", id, ")")
		w.set(w.name("#gp", "GSI1PK"), " = ", w.text(":gp", o.index))
		w.set(w.name("#gs", "GSI1SK"), " = ", w.text(":gs", o.key.Entity))
	}
	if joins {
		w.joined(o.known.removals)
	}
	if o.kind == takes {
		forgets := o.forgettable(len(s.steps))
		for i, l := range forgets {
			w.forget(strconv.Itoa(i), l)
		}
		if len(forgets) > 0 {
			w.add(w.name("#r", schema.Removals), " ", w.number(":removes", 1))
		}
	}
	if charges && !o.noTTL {
		ttl := w.number(":ttl", o.ttl(full))
		w.where("(attribute_not_exists(", w.name("#ttl", "ttl"), ") OR #ttl <= ", ttl, ")")
		w.set("#ttl = ", ttl)
	}
	return w.finish()
}

// Limits that had been full for an hour when the bucket was last seen, and are not
// named, are removed by takes, so that names that are used once do not add up: when
// there are so many that one write removes no more, or one has been full for a day.
// Usage has new items after each such write, so that few that remove many are better.
const (
	forgetAfter = bucket.Instant(time.Hour)
	forgetLate  = bucket.Instant(24 * time.Hour)
	mostForgets = 8
	mostNamed   = 32 // by a write that removes any: an expression has 300 operators
)

// forgettable returns the limits that a take of n others removes.
func (o *op) forgettable(n int) (limits []*limit) {
	if o.known == nil || n > mostNamed {
		return nil
	}
	late := false
	for i := range o.known.limits {
		l := &o.known.limits[i]
		state := o.known.state(l.name)
		if !l.counted || !state.Forgettable(o.at-forgetAfter) || contains(o.charges, l.name) {
			continue
		}
		late = late || state.Forgettable(o.at-forgetLate)
		if limits = append(limits, l); len(limits) == mostForgets {
			return limits
		}
	}
	if !late {
		return nil
	}
	return limits
}

// ttl is when the item may be deleted, in seconds since 1970: an hour after
// all its limits are full, in steps of a quarter of an hour. It never falls, so
// that it holds for the limits that the write does not touch.
func (o *op) ttl(full bucket.Instant) int64 {
	const step, margin = 900, 3600
	t := full.Time().Unix()/step*step + step + margin
	if o.known != nil {
		t = max(t, o.known.ttl)
	}
	return t
}
