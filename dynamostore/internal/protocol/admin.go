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
	id := b.once(c.ID)
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

// Refill returns the update that brings limits of a bucket from the record to what they are
// in after, if any differs. It is right for exactly those limits as they were read.
func (r *Record) Refill(key zael.Key, after []bucket.LimitState) (u Update, changes bool) {
	b := newExpression(key)
	for i, is := range after {
		was := r.find(is.Name)
		if was == nil || r.State(is.Name) == is.State {
			continue
		}
		n := strconv.Itoa(i)
		mark, def := b.name("#m"+n, markAttribute+is.Name), b.name("#d"+n, definitionAttribute+is.Name)
		b.where(mark, " = ", b.number(":o"+n, was.state.Mark), " AND ", def, " = ", b.text(":d"+n, was.text))
		b.set(mark, " = ", b.number(":m"+n, is.State.Mark))
		if turns := is.State.Generation - r.birth; turns != was.state.Generation {
			b.set(def, " = ", b.text(":t"+n, definitionText(was.state.Definition, turns)))
		}
		changes = true
	}
	b.nextVersion()
	return b.done(), changes
}
