package protocol

import (
	"fmt"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// A BucketWrite is the operation of a batch on its bucket, until it is finished. Its owner
// asks Plan what to do, does it, and reports the answer.
type BucketWrite struct {
	coalesce.Batch // what to do; At is now

	ID       uint64         // of the write, also when it is repeated
	Index    string         // the bucket's key in the index
	NoExpiry bool           // the item does not get a time when it expires
	Seen     bucket.Instant // the latest known of the bucket, At or later

	known    *Record // the bucket as last seen; nil if missing, or not known
	expected *Record // the bucket as expected now; nil: as known
	planned  *Record // what was known when the last Update was planned
	first    *Record // and when the first one was that may be applied
	fresh    bool    // known is an answer to this write
	calls    int     // that were answered
	lost     int     // calls that may have been applied, as their answers were lost

	held      Held           // what the Holder has of the bucket, before the write or, if it is applied, after it
	heldKnown bool           // or else what its entry says
	heldAfter bool           // held is what the Holder has after the write
	sent      []*slotsUpdate // parts that change slots, of all calls

	owed    []bucket.Count // what earlier writes of this process have counted wrong as overdrawn
	counted []overdrawn    // what the last Update counts
}

// An Action is what the owner of a BucketWrite has to do next.
type Action uint8

// The actions.
const (
	Send   Action = iota // the Update, and report the answer by Answered or Lost
	Read                 // the item, and report it by Learn
	Finish               // with the Outcome
)

// A Plan is what is to be done next.
type Plan struct {
	Action  Action
	Update  Update           // to send
	Outcome coalesce.Outcome // of the write: see Finish
	Err     error            // of the outcome Failed: matches zael.ErrContention, or is a *zael.ValidationError of an amount
}

// Begin starts a write from what was last seen of its bucket; o is nil if nothing was.
func (w *BucketWrite) Begin(o *Observation) {
	w.Seen = w.At
	if o != nil {
		w.known, w.expected, w.Seen, w.owed = o.Record, o.expected(w.At), max(w.At, o.Latest), o.owed
	}
}

// Plan returns what to do next.
func (w *BucketWrite) Plan() Plan {
	if w.calls >= MaxCalls {
		err := fmt.Errorf("dynamostore: %d calls for one write: %w", MaxCalls, zael.ErrContention)
		return Plan{Action: Finish, Outcome: coalesce.Failed, Err: err}
	}
	d := w.draft()
	final := Plan{Action: Finish, Outcome: coalesce.Applied}
	switch {
	case d.unknown:
	case d.outOfRange != nil && w.shared() && w.lost == 0: // the amount of one of them
		final.Outcome = coalesce.Split
	case d.outOfRange != nil:
		final.Outcome, final.Err = coalesce.Failed, d.outOfRange
	case d.stale:
		final.Outcome = coalesce.Stale
	case !d.fits && w.fresh:
		final.Outcome = coalesce.Refused
	case w.lost > 0 && w.Kind == coalesce.Undo && d.slots == nil: // nothing is given twice, nor counted
	case w.shared() && w.lost == 0 && d.redefines(): // after a lost answer it may stand for all of them
		return Plan{Action: Finish, Outcome: coalesce.Split}
	case w.Kind == coalesce.Take || w.Kind == coalesce.Undo && d.gives || d.writes():
		w.planned = w.known
		if w.lost == 0 {
			w.first = w.known
		}
		if d.slots != nil {
			w.sent = append(w.sent, d.slots)
		}
		return Plan{Action: Send, Update: w.update(&d)}
	}
	if !w.fresh {
		return Plan{Action: Read} // the bucket may have changed since
	}
	return final
}

// Answered reports the answer to an Update: r is the item after it if ok, and otherwise
// the item whose condition failed. It returns whether the write is applied.
func (w *BucketWrite) Answered(r *Record, ok bool) (applied bool) {
	was := w.planned
	w.Learn(r)
	switch {
	case ok:
		w.sentLast()
		w.compareOverdrawn()
	case w.sentEntry(r): // no two writes have equal entries
	case r == nil:
		return false
	case r.last == w.ID: // an earlier copy was applied, and no other write has come since
		w.sentLast()
		w.compareOverdrawn()
	case r.earlier[0] == w.ID || r.earlier[1] == w.ID:
		w.sentLast()
		w.known = w.receipts(r, was)
	default:
		return false
	}
	return true
}

// sentLast notes that the last update that was sent is applied.
func (w *BucketWrite) sentLast() {
	if n := len(w.sent); n > 0 {
		w.held, w.heldAfter = w.sent[n-1].held, true
	}
}

// sentEntry reports whether the own entry in a record is one that the write has sent.
func (w *BucketWrite) sentEntry(r *Record) bool {
	own := r.holder(w.Holder)
	for _, u := range w.sent {
		if own != nil && u.own != nil && own.text == u.own.text {
			w.held, w.heldAfter = u.held, true
			return true
		}
	}
	return false
}

// SetHeld tells the write what its Holder has of the bucket, by what this process knows: without
// what an Adjust is to release, which is not held whatever comes of it.
func (w *BucketWrite) SetHeld(h Held) { w.held, w.heldKnown = h, true }

// Held returns what the Holder has of the bucket when the write has ended. What an Undo was to
// release is not held even if the write was not applied: the next one puts the item right.
func (w *BucketWrite) Held() Held {
	if w.heldAfter || w.Kind != coalesce.Undo {
		return w.held
	}
	return w.held.Release(w.Charges)
}

// receipts returns a record, which others have written since the write, as one that gives
// only such receipts as are the write's for certain. Of a quota or session, that is if the
// start has not moved since. Of a rate in the generation from before the first copy, a
// take owns at least what is above the floor at its instant: the receipt is of that much.
// was is what the write was planned from.
func (w *BucketWrite) receipts(r, was *Record) *Record {
	owned := *r
	owned.limits = slices.Clone(r.limits)
	for i := range owned.limits {
		l := &owned.limits[i]
		d := &l.state.Definition
		switch {
		case periodic(d):
			_, from := d.Turn(w.At)
			start := int64(from)
			if before := was.find(l.name); before != nil {
				start = before.state.Mark
			}
			l.noReceipt = l.state.Generation != was.turnsOf(l.name, r) || l.state.Mark != start && l.state.Mark != int64(from)
		case w.Kind == coalesce.Take && l.state.Generation == w.first.turnsOf(l.name, r):
			l.state.Mark = min(l.state.Mark, d.Floor(w.At)+w.amountOf(l.name)*d.Unit())
		default:
			l.noReceipt = true
		}
	}
	return &owned
}

// turnsOf returns the turns of a limit, or those with which it began, as a later record
// shows, if it was not there.
func (r *Record) turnsOf(name string, later *Record) uint64 {
	if l := r.find(name); l != nil {
		return l.state.Generation
	}
	return later.removals << turnBits
}

// amountOf returns what the write takes of a limit.
func (w *BucketWrite) amountOf(name string) (sum int64) {
	for i := range w.Charges {
		if c := &w.Charges[i]; c.Name == name && !isSlots(c) {
			sum += c.Amount
		}
	}
	return sum
}

// Learn reports the item as it was read.
func (w *BucketWrite) Learn(r *Record) {
	w.calls++
	w.Know(r)
}

// Know sets what is known of the bucket, as of now.
func (w *BucketWrite) Know(r *Record) {
	if r != nil && w.Holder != "" {
		owned := *r
		owned.own = w.Holder
		r = &owned
	}
	w.known, w.expected, w.fresh = r, nil, true
}

// Lost reports that an Update was not answered, and may have been applied.
func (w *BucketWrite) Lost() { w.lost++ }

// LostAnswers returns how many Updates were not answered, and may have been applied.
func (w *BucketWrite) LostAnswers() int { return w.lost }

// Calls returns how many calls were answered.
func (w *BucketWrite) Calls() int { return w.calls }

// Known returns the bucket as it was last seen; nil if it is missing.
func (w *BucketWrite) Known() *Record { return w.known }

// Fits reports whether the charges of a take fit by what is known, which decides nothing.
func (w *BucketWrite) Fits() bool { return w.draft().fits }

// Repeats reports whether the write may be sent again when it is not known whether a first
// copy was applied. Gives may not: given twice they would make tokens, and lost ones
// refill.
func (w *BucketWrite) Repeats() bool {
	return w.Kind == coalesce.Take || len(w.sent) > 0 ||
		w.Kind == coalesce.Adjust && slices.ContainsFunc(w.Charges, func(c zael.Charge) bool { return c.Amount > 0 })
}

// Redefined reports whether a write that was applied has changed the definition of a limit.
func (w *BucketWrite) Redefined() bool {
	for i := range w.Charges {
		was, is := w.planned.find(w.Charges[i].Name), w.known.find(w.Charges[i].Name)
		if was != nil && is != nil && was.text != is.text {
			return true
		}
	}
	return false
}

// shared reports whether the write is one of several operations: it changes no definition.
func (w *BucketWrite) shared() bool { return w.Members > 1 }
