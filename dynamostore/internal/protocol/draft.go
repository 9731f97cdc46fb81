package protocol

import (
	"slices"
	"strconv"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/saturate"
	"github.com/zeroae/zael/internal/schema"
)

// A draft is a write of a bucket before it is written down.
type draft struct {
	limits       []limitUpdate
	slots        *slotsUpdate // nil if none change
	birth        uint64       // of the bucket
	birthGuessed bool         // from a receipt
	gives        bool         // right only for the bucket of this birth
	fits         bool         // all charges of a take
	stale        bool         // a take's definition, or its settings
	unknown      bool         // whether a limit, or the holder's entry, is there is not known, and matters
	outOfRange   error        // an amount takes a mark out of its range
}

// writes reports whether there is anything to write.
func (d *draft) writes() bool {
	return d.slots != nil || slices.ContainsFunc(d.limits, func(u limitUpdate) bool { return u.changes || u.tokens != 0 })
}

// redefines reports whether the definition of a limit that is there changes.
func (d *draft) redefines() bool {
	return slices.ContainsFunc(d.limits, func(u limitUpdate) bool { return u.ifPresent && u.text != u.oldText })
}

// draft drafts the write from what is known, or expected, of the bucket.
func (w *BucketWrite) draft() draft {
	from := w.known
	if w.expected != nil && !w.ExactState {
		from = w.expected
	}
	d := draft{fits: true, birth: from.Birth()}
	if w.Kind == coalesce.Undo {
		if from == nil || from.birth != w.Birth {
			return d // the bucket that was taken from is gone
		}
		d.gives = true
	}
	d.stale = w.Kind == coalesce.Take && w.known.SettingsRev() > w.Settings
	if w.draftSlots(&d, from); d.stale {
		return d
	}
	var buf [1]zael.Charge
	for i := range w.Charges {
		name := w.Charges[i].Name
		if contains(w.Charges[:i], name) || isSlots(&w.Charges[i]) {
			continue // drafted with the first charge of that name
		}
		own := buf[:0]
		for _, c := range w.Charges[i:] {
			if c.Name == name && !isSlots(&c) {
				own = append(own, c)
			}
		}
		if u, ok := w.draftLimit(&d, from, own); ok {
			d.limits = append(d.limits, u)
		}
		if d.outOfRange != nil || d.stale {
			break
		}
	}
	return d
}

func contains(charges []zael.Charge, name string) bool {
	return slices.ContainsFunc(charges, func(c zael.Charge) bool { return c.Name == name && !isSlots(&c) })
}

// mergeCounters has slots counted with another limit of their name, if the write has one: they
// share a counter, which a write can change once.
func (d *draft) mergeCounters() {
	if d.slots == nil {
		return
	}
	for i := range d.slots.limits {
		lu := &d.slots.limits[i]
		j := slices.IndexFunc(d.limits, func(u limitUpdate) bool { return u.name == lu.name })
		if j >= 0 {
			d.limits[j].tokens, lu.tokens = saturate.Add(d.limits[j].tokens, lu.tokens), 0
		}
	}
}

// update writes a draft down.
func (w *BucketWrite) update(d *draft) Update {
	b := newExpression(w.Key)
	creates, joins, raises, more := !d.gives, false, w.Kind == coalesce.Take, false
	full := w.At
	d.mergeCounters()
	w.countOverdrawn(d)
	for i := range d.limits {
		u := &d.limits[i]
		u.write(b, strconv.Itoa(i))
		creates = creates && u.ifAbsent
		joins = joins || u.ifAbsent && u.joins && u.changes
		raises = raises || u.raises
		more = more || periodic(&u.def)
		if u.raises {
			full = max(full, u.full(w.At))
		}
	}
	if d.slots != nil {
		d.slots.write(b, w.Holder)
		creates = creates && d.slots.creates()
		if d.slots.own != nil {
			raises, full = true, max(full, d.slots.until)
		}
	}
	w.addOverdrawn(b)
	more = more || w.known.keepsIDs()
	id := b.once(w.ID, more)
	b.nextVersion()
	if d.gives {
		b.where(b.name("#b", schema.Birth), " = ", b.text(":b", IDText(d.birth)))
	}
	b.events(w.Events)
	if creates {
		b.create(id, w.Index)
	}
	if joins {
		b.sameRemovals(w.known.Removals())
	}
	if w.Kind == coalesce.Take {
		b.sameSettings(w.Settings)
		w.forget(b, len(d.limits))
	}
	if raises && !w.NoExpiry {
		b.expire(expiry(w.known, full))
	}
	return b.done()
}

// expire has the item expire at a time, in seconds since 1970, which must not fall.
func (b *expressionBuilder) expire(at int64) {
	ttl := b.number(":ttl", at)
	b.where("(attribute_not_exists(", b.name("#ttl", expiryAttribute), ") OR #ttl <= ", ttl, ")")
	b.set("#ttl = ", ttl)
}

// expiry returns when an item that is known may be deleted, in seconds since 1970: an hour after all its
// limits are full, in steps of a quarter of an hour. It never falls, so that it holds for
// the limits that the write does not name.
func expiry(known *Record, full bucket.Instant) int64 {
	const step, margin = 900, 3600
	t := full.Time().Unix()/step*step + step + margin
	if known != nil {
		t = max(t, known.ttl)
	}
	return t
}
