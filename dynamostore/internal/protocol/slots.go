package protocol

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/schema"
)

// MaxReclaimed is how many holders whose deadline is past a write removes, all that are in
// the way of its take; a renewal, and one write of slots in tidyEvery, removes up to
// maxTidied, as they would pile up where the limit is never reached.
const (
	MaxReclaimed = 40
	maxTidied    = 4
	tidyEvery    = 16 // by the random ID
)

// Held is what a holder has of a bucket by what its process knows: the sum of what was taken
// and not released since. The entry in the item may say more, after a take whose answer was
// lost; the next write puts it right.
type Held struct {
	Generation uint64
	Counts     []bucket.Count // none of 0
}

// count returns how many slots of a limit are held.
func (h Held) count(name string) int64 {
	for _, c := range h.Counts {
		if c.Name == name {
			return c.N
		}
	}
	return 0
}

// add returns the counts with n more of a limit, 0 at least.
func (h Held) add(name string, n int64) Held {
	next := Held{Generation: h.Generation, Counts: slices.Clone(h.Counts)}
	i := slices.IndexFunc(next.Counts, func(c bucket.Count) bool { return c.Name == name })
	if i < 0 {
		i = len(next.Counts)
		next.Counts = append(next.Counts, bucket.Count{Name: name})
	}
	if next.Counts[i].N += n; next.Counts[i].N <= 0 {
		next.Counts = slices.Delete(next.Counts, i, i+1)
	}
	slices.SortFunc(next.Counts, func(a, b bucket.Count) int { return cmp.Compare(a.Name, b.Name) })
	return next
}

// Release returns what is held when the slots are released that charges name below 0, under
// their receipts.
func (h Held) Release(charges []zael.Charge) Held {
	for i := range charges {
		if c := &charges[i]; isSlots(c) && c.Amount < 0 && c.Receipt.Generation == h.Generation {
			h = h.add(c.Name, c.Amount)
		}
	}
	return h
}

// Without returns h without what was released since between before and now.
func (h Held) Without(before, now Held) Held {
	if h.Generation != before.Generation || h.Generation != now.Generation && len(now.Counts) > 0 {
		return h // it was of an entry that is gone
	}
	for _, c := range before.Counts {
		h = h.add(c.Name, now.count(c.Name)-c.N)
	}
	return h
}

// A slotsUpdate is the part of a write that changes slots.
type slotsUpdate struct {
	limits []slotLimitUpdate
	seen   *holder // the own entry as seen; nil if there is none
	own    *holder // what the write leaves of it; nil: none
	dead   []*holder
	held   Held           // by the holder afterwards
	until  bucket.Instant // the deadline
}

// A slotLimitUpdate is one limit's part of it.
type slotLimitUpdate struct {
	name    string
	takes   bool // there has to be room, under the definition
	changes bool // an adjust changes the definition
	soft    bool
	hold    time.Duration // under that definition
	room    int64         // how many may be held before the write
	delta   int64         // of the total
	absent  bool          // the limit may be missing
	present bool          // or there
	oldText string
	text    string
	tokens  int64 // for usage
}

// isSlots reports whether a charge is of slots.
func isSlots(c *zael.Charge) bool { return c.Definition.Kind == bucket.Slots }

// releases reports whether a charge gives slots back.
func releases(c *zael.Charge) bool { return isSlots(c) && c.Amount < 0 }

// anyCharge reports whether something is true of one of the charges.
func (w *BucketWrite) anyCharge(is func(*zael.Charge) bool) bool {
	for i := range w.Charges {
		if is(&w.Charges[i]) {
			return true
		}
	}
	return false
}

// draftSlots drafts what the charges of slots make of the slots in a record.
func (w *BucketWrite) draftSlots(d *draft, from *Record) {
	if w.Holder == "" && !w.anyCharge(isSlots) {
		return
	}
	u := &slotsUpdate{seen: from.holder(w.Holder), held: w.held}
	if !w.heldKnown && u.seen != nil {
		u.held = Held{Generation: u.seen.Generation, Counts: u.seen.Counts}
	}
	if u.seen == nil || u.seen.Generation != u.held.Generation { // removed as it was silent, or not there yet
		u.held = Held{Generation: w.ID}
		if u.seen != nil {
			u.held.Generation = u.seen.Generation
		}
	}
	asked := u.asked(w, d, from)
	if !asked && w.Kind != coalesce.Take && (w.Holder == "" || w.anyCharge(releases)) {
		d.unknown = !w.fresh // there may be an entry by now, or a limit whose definition changes
	}
	if d.stale || !asked {
		return
	}
	u.reclaim(w, from)
	u.sums(d, from)
	u.entry(w, from)
	d.slots = u
}

// creates reports whether the update may make the item.
func (u *slotsUpdate) creates() bool {
	return u.seen == nil && len(u.dead) == 0 && !slices.ContainsFunc(u.limits, func(lu slotLimitUpdate) bool { return !lu.absent })
}

// asked follows the charges, and reports whether there is anything to write.
func (u *slotsUpdate) asked(w *BucketWrite, d *draft, from *Record) (writes bool) {
	renews := w.Kind == coalesce.Renew
	if u.seen != nil && !slices.Equal(u.seen.Counts, u.held.Counts) {
		writes = true // to be put right
	}
	for i := range w.Charges {
		c := &w.Charges[i]
		if !isSlots(c) {
			continue
		}
		l := from.slotLimit(c.Name)
		if l != nil && w.Kind == coalesce.Take && (bucket.State{Definition: l.def}).Stale(c.Definition) {
			d.stale = true
			return false
		}
		switch {
		case w.Kind == coalesce.Adjust && c.Amount == 0:
			if l == nil || (bucket.State{Definition: l.def}).Stale(c.Definition) {
				continue
			}
			if text := definitionText(c.Definition, 0); text != l.text {
				lu := u.limit(c.Name)
				lu.changes, lu.oldText, lu.text, writes = true, l.text, text, true
			}
		case renews && u.seen != nil && u.held.Generation == c.Receipt.Generation:
			writes = true
		case c.Amount > 0 && w.Kind == coalesce.Take:
			u.held, writes = u.held.add(c.Name, c.Amount), true
			lu := u.limit(c.Name)
			lu.takes, lu.soft, lu.hold = true, c.Definition.Flags&bucket.Soft != 0, c.Definition.Period
			def := c.Definition
			if lu.room, lu.present, lu.absent = def.Burst, true, true; l != nil {
				if def.Rev == 0 {
					def.Rev = l.def.Rev
				}
				lu.oldText = l.text
				lu.absent = definitionText(def, 0) == l.text
			} else {
				lu.oldText = definitionText(def, 0)
			}
			lu.text = definitionText(def, 0)
			lu.tokens += c.Amount
		case w.Kind == coalesce.Adjust && w.heldKnown: // which is without them by now
			d.gives = d.gives || writes
		case c.Amount < 0 && u.seen != nil && c.Receipt.Generation == u.held.Generation && w.Kind != coalesce.Take:
			n := min(-c.Amount, u.held.count(c.Name))
			u.held, writes, d.gives = u.held.add(c.Name, -n), true, true
			if lu := u.limit(c.Name); w.Kind == coalesce.Undo { // a release gives nothing back
				lu.tokens -= n
			}
		}
	}
	return writes
}

// limit returns the part of a limit, new if there is none.
func (u *slotsUpdate) limit(name string) *slotLimitUpdate {
	for i := range u.limits {
		if u.limits[i].name == name {
			return &u.limits[i]
		}
	}
	u.limits = append(u.limits, slotLimitUpdate{name: name})
	return &u.limits[len(u.limits)-1]
}

// reclaim removes holders whose deadline is past: all of them if they are in the way, so that
// many that wait do not hinder each other, or a few now and then.
func (u *slotsUpdate) reclaim(w *BucketWrite, from *Record) {
	if from == nil {
		return
	}
	most, fit := 0, max(maxTidied, min(MaxReclaimed, (260-10*len(w.Charges))/2)) // an expression has 300 operators
	if w.Kind == coalesce.Renew || w.ID%tidyEvery == 0 {
		most = min(maxTidied, fit)
	}
	for i := range u.limits {
		lu := &u.limits[i]
		if l := from.slotLimit(lu.name); l != nil && lu.takes && !lu.soft && l.held+u.more(lu.name) > lu.room {
			most = fit
		}
	}
	for i := range from.holders {
		if h := &from.holders[i]; len(u.dead) < most && h.ID != w.Holder && !h.Live(w.At) {
			u.dead = append(u.dead, h)
		}
	}
}

// more returns how many slots of a limit the holder will have more than its entry says.
func (u *slotsUpdate) more(name string) int64 {
	n := u.held.count(name)
	if u.seen != nil {
		n -= u.seen.Count(name)
	}
	return n
}

// sums sets the changes of the totals, and whether all fits.
func (u *slotsUpdate) sums(d *draft, from *Record) {
	if from != nil {
		for i := range from.slots {
			u.limit(from.slots[i].name)
		}
	}
	kept := u.limits[:0]
	for i := range u.limits {
		lu := &u.limits[i]
		lu.delta = u.more(lu.name)
		for _, h := range u.dead {
			lu.delta -= h.Count(lu.name)
		}
		if lu.takes && !lu.soft {
			held := int64(0)
			if l := from.slotLimit(lu.name); l != nil {
				held = l.held
			}
			lu.absent = lu.absent && lu.delta <= lu.room // which a limit that is missing has no condition for
			lu.room -= lu.delta
			d.fits = d.fits && held <= lu.room
		}
		if lu.takes || lu.changes || lu.delta != 0 || lu.tokens != 0 {
			kept = append(kept, *lu)
		}
	}
	u.limits = kept
}

// entry sets the own entry, with a deadline after the one that was seen.
func (u *slotsUpdate) entry(w *BucketWrite, from *Record) {
	if len(u.held.Counts) == 0 {
		return
	}
	hold := bucket.MinHold
	for _, c := range u.held.Counts {
		if i := slices.IndexFunc(u.limits, func(lu slotLimitUpdate) bool { return lu.name == c.Name && lu.takes }); i >= 0 {
			hold = max(hold, u.limits[i].hold)
		} else if l := from.slotLimit(c.Name); l != nil {
			hold = max(hold, l.def.Period)
		}
	}
	h := bucket.Holder{ID: w.Holder, Deadline: w.At.Add(hold), Generation: u.held.Generation, Counts: u.held.Counts}
	if u.seen != nil {
		h.Deadline = max(h.Deadline, u.seen.Deadline+deadlineUnit)
	}
	u.own, u.until = &holder{Holder: h, text: holderText(&h, w.ID)}, h.Deadline
}

// write writes the conditions and the updates down.
func (u *slotsUpdate) write(b *expressionBuilder, id string) {
	for i := range u.limits {
		u.limits[i].write(b, strconv.Itoa(i))
	}
	u.writeOwn(b, id)
	for i, h := range u.dead {
		n := strconv.Itoa(i)
		name := b.name("#hd"+n, holderAttribute+h.ID)
		b.where(name, " = ", b.text(":hd"+n, h.text))
		b.remove(name)
	}
}

// writeOwn writes the holder's entry down, under the condition that it is as it was seen.
func (u *slotsUpdate) writeOwn(b *expressionBuilder, id string) {
	if id == "" { // none: definitions change
		return
	}
	own := b.name("#h", holderAttribute+id)
	if u.seen == nil {
		b.where("attribute_not_exists(", own, ")")
	} else {
		b.where(own, " = ", b.text(":h", u.seen.text))
	}
	if u.own != nil {
		b.set(own, " = ", b.text(":hn", u.own.text))
	} else if u.seen != nil {
		b.remove(own)
	}
}

func (lu *slotLimitUpdate) write(b *expressionBuilder, n string) {
	held := b.name("#n"+n, slotsAttribute+lu.name)
	if lu.delta != 0 {
		b.add(held, " ", b.number(":n"+n, lu.delta))
	}
	if lu.takes {
		def := b.name("#s"+n, slotsDefinitionAttribute+lu.name)
		present := def + " = " + b.text(":s"+n, lu.oldText)
		if !lu.soft {
			present += " AND " + held + " <= " + b.number(":r"+n, lu.room)
		}
		if lu.absent {
			present = "(attribute_not_exists(" + def + ") OR (" + present + "))"
		}
		b.where(present)
		if lu.absent || lu.text != lu.oldText {
			b.set(def, " = ", b.text(":sn"+n, lu.text))
		}
	}
	if lu.changes && !lu.takes {
		def := b.name("#s"+n, slotsDefinitionAttribute+lu.name)
		b.where(def, " = ", b.text(":s"+n, lu.oldText))
		b.set(def, " = ", b.text(":sn"+n, lu.text))
	}
	if lu.delta == 0 && (!lu.takes || lu.soft) {
		delete(b.Names, held)
	}
	if lu.tokens != 0 {
		b.add(b.name("#cs"+n, schema.Counter+lu.name), " ", b.number(":cs"+n, lu.tokens))
	}
}
