package protocol

import (
	"strconv"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/schema"
)

// SettingsRev returns the revision of the settings that hold for the bucket, as far as it was
// told; 0 if it was told of none.
func (r *Record) SettingsRev() int64 {
	if r == nil {
		return 0
	}
	return r.settings
}

// sameSettings requires that the bucket was told of no settings newer than a revision.
func (b *expressionBuilder) sameSettings(rev int64) {
	x := b.name("#x", schema.SettingsRev)
	if rev == 0 {
		b.where("attribute_not_exists(", x, ")")
		return
	}
	b.where("(attribute_not_exists(", x, ") OR ", x, " <= ", b.number(":x", rev), ")")
}

// TellSettings returns the update that tells a bucket the revision of its settings, if the
// bucket has an item and that knows none as new.
func TellSettings(key zael.Key, rev int64) Update {
	b := newExpression(key)
	b.where("attribute_exists(", b.name("#b", schema.Birth), ")")
	x, now := b.name("#x", schema.SettingsRev), b.number(":x", rev)
	b.where("(attribute_not_exists(", x, ") OR ", x, " < ", now, ")")
	b.set(x, " = ", now)
	b.nextVersion()
	return b.done()
}

// A Count is an update that adds to the counters of a bucket, from which usage is derived,
// and changes nothing else.
type Count struct {
	Key      zael.Key
	Charges  []zael.Charge
	Events   int64  // how many takes it counts for
	Settings int64  // of a take: the revision of the settings under which it is made
	ID       uint64 // of the write
	Index    string // the bucket's key in the index
	Expiry   int64  // when an item that is made may be deleted, in seconds since 1970; 0: never
}

// Update returns the update. It makes an item that is missing, without limits: that is a
// full bucket still.
func (c *Count) Update() Update {
	b := newExpression(c.Key)
	id := b.once(c.ID, false)
	if c.Events > 0 {
		b.sameSettings(c.Settings)
	}
	b.create(id, c.Index)
	if c.Expiry != 0 {
		b.set(b.name("#ttl", expiryAttribute), " = if_not_exists(#ttl, ", b.number(":ttl", c.Expiry), ")")
	}
	b.nextVersion()
	b.events(c.Events)
	for i := range c.Charges {
		name := c.Charges[i].Name
		if contains(c.Charges[:i], name) {
			continue // added with the first of that name
		}
		sum := int64(0)
		for _, other := range c.Charges[i:] {
			if other.Name == name {
				sum += other.Amount
			}
		}
		if n := strconv.Itoa(i); sum != 0 {
			b.add(b.name("#c"+n, schema.Counter+name), " ", b.number(":c"+n, sum))
		}
	}
	return b.done()
}

// A Fill is a reset or a top-up of limits, right for exactly those as they were read.
type Fill struct {
	Key      zael.Key
	Before   *Record             // as it was read
	After    []bucket.LimitState // what the write leaves
	At       bucket.Instant
	ID       uint64 // of the write, if it makes the item
	Index    string // the bucket's key in the index
	NoExpiry bool   // the item does not get a time when it expires
}

// Update returns the update, and whether there is anything to change. Limits that were not
// there, a quota with more than its amount, begin with it.
func (f *Fill) Update() (u Update, changes bool) {
	b := newExpression(f.Key)
	r, begins, full := f.Before, false, f.At
	for i, is := range f.After {
		was, n, def := r.find(is.Name), strconv.Itoa(i), is.State.Definition
		if def.Kind == bucket.Slots {
			continue // which are neither reset nor topped up
		}
		l := limitUpdate{
			name: is.Name, mark: exactRow(is.State.Mark, is.State.Mark), used: exactRow(is.State.Used, is.State.Used), def: def,
			expected: is.State, changes: true,
		}
		switch {
		case was == nil:
			l.ifAbsent, l.joins, l.text = true, r != nil, definitionText(def, r.Removals()<<turnBits)
			begins = true
		case r.State(is.Name) == is.State:
			continue
		default:
			l.mark.lo, l.mark.hi, l.used.lo, l.used.hi = was.state.Mark, was.state.Mark, was.state.Used, was.state.Used
			l.ifPresent, l.oldText, l.oldKind = true, was.text, was.state.Definition.Kind
			l.text = definitionText(def, is.State.Generation-r.birth)
		}
		b.where(l.condition(b, n))
		l.update(b, n)
		full, changes = max(full, l.full(f.At)), true
	}
	switch {
	case begins && r == nil:
		b.create(b.last(f.ID, false), f.Index)
	case begins:
		b.sameRemovals(r.removals)
	}
	if changes && !f.NoExpiry {
		b.expire(expiry(r, full))
	}
	b.nextVersion()
	return b.done(), changes
}
