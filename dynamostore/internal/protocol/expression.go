package protocol

import (
	"math"
	"strconv"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/schema"
)

// A Value is the value of an attribute: a text, or a number in decimal digits.
type Value struct {
	Text     string
	IsNumber bool
}

// number returns a number, 0 if the value is none. For a number beyond int64 it returns the
// nearest int64 and an error that matches strconv.ErrRange.
func (v Value) number() (int64, error) {
	if !v.IsNumber {
		return 0, nil
	}
	return strconv.ParseInt(v.Text, 10, 64)
}

// An Update is one conditional update of a bucket's item. The expressions refer to
// attributes and values by placeholders only.
type Update struct {
	Key       zael.Key
	Condition string
	Update    string
	Names     map[string]string // attributes by placeholder
	Values    []Binding
}

// A Binding is the value of a placeholder.
type Binding struct {
	Placeholder string
	Value       Value
}

// An expressionBuilder puts an Update together.
type expressionBuilder struct {
	Update
	conditions, sets, adds, removes clause
}

// A clause is the text of a part of an expression.
type clause []byte

func (c *clause) add(separator string, parts []string) {
	if len(*c) > 0 {
		*c = append(*c, separator...)
	}
	for _, p := range parts {
		*c = append(*c, p...)
	}
}

func newExpression(key zael.Key) *expressionBuilder {
	b := &expressionBuilder{Update: Update{Key: key, Names: make(map[string]string, 12), Values: make([]Binding, 0, 12)}}
	b.conditions, b.sets, b.adds = make(clause, 0, 256), make(clause, 0, 128), make(clause, 0, 64)
	return b
}

// name makes a placeholder stand for an attribute, and returns it.
func (b *expressionBuilder) name(placeholder, attribute string) string {
	b.Names[placeholder] = attribute
	return placeholder
}

// number makes a placeholder stand for a number, and returns it.
func (b *expressionBuilder) number(placeholder string, n int64) string {
	b.Values = append(b.Values, Binding{placeholder, Value{strconv.FormatInt(n, 10), true}})
	return placeholder
}

// text makes a placeholder stand for a text, and returns it.
func (b *expressionBuilder) text(placeholder, s string) string {
	b.Values = append(b.Values, Binding{placeholder, Value{s, false}})
	return placeholder
}

func (b *expressionBuilder) where(parts ...string)  { b.conditions.add(" AND ", parts) }
func (b *expressionBuilder) set(parts ...string)    { b.sets.add(", ", parts) }
func (b *expressionBuilder) add(parts ...string)    { b.adds.add(", ", parts) }
func (b *expressionBuilder) remove(parts ...string) { b.removes.add(", ", parts) }

// done returns the Update.
func (b *expressionBuilder) done() Update {
	b.Condition = string(b.conditions)
	if len(b.sets) > 0 {
		b.Update.Update = "SET " + string(b.sets)
	}
	if len(b.adds) > 0 {
		b.Update.Update += " ADD " + string(b.adds)
	}
	if len(b.removes) > 0 {
		b.Update.Update += " REMOVE " + string(b.removes)
	}
	return b.Update
}

// onPiece returns the condition, to be joined to another, that a number lies on the piece;
// "" if every number does. n tells the limit from the others of the write.
func (b *expressionBuilder) onPiece(placeholder, attribute, n string, p *piece) string {
	if !p.bounded() {
		return ""
	}
	b.name(placeholder, attribute)
	if p.lo == p.hi {
		return " AND " + placeholder + " = " + b.number(":l"+n, p.lo)
	}
	condition := ""
	if p.lo != math.MinInt64 {
		condition += " AND " + placeholder + " >= " + b.number(":l"+n, p.lo)
	}
	if p.hi != math.MaxInt64 {
		condition += " AND " + placeholder + " <= " + b.number(":h"+n, p.hi)
	}
	return condition
}

// apply makes of a number what the piece makes of it.
func (b *expressionBuilder) apply(placeholder, attribute, n string, p *piece) {
	switch {
	case p.set:
		b.set(b.name(placeholder, attribute), " = ", b.number(":v"+n, p.n))
	case p.n != 0:
		b.set(b.name(placeholder, attribute), " = ", placeholder, " + ", b.number(":v"+n, p.n))
	}
}

// once makes id the id of the item's last write, unless the item says that the write was
// applied: a late copy does nothing. It returns the placeholder of the id. With more, the item
// keeps the ids of three writes.
func (b *expressionBuilder) once(id uint64, more bool) string {
	b.where("(attribute_not_exists(", b.name("#o", lastWriteAttribute), ") OR #o <> :id)")
	if more {
		b.where("(attribute_not_exists(", b.name("#o1", earlierAttribute), ") OR #o1 <> :id)")
		b.where("(attribute_not_exists(", b.name("#o2", earliestAttribute), ") OR #o2 <> :id)")
	}
	return b.last(id, more)
}

// last makes id the id of the item's last write. With more, the ids before go back by one
// place.
func (b *expressionBuilder) last(id uint64, more bool) string {
	if more {
		none := b.text(":none", IDText(0))
		b.set(b.name("#o2", earliestAttribute), " = if_not_exists(", b.name("#o1", earlierAttribute), ", ", none, ")")
		b.set("#o1 = if_not_exists(", b.name("#o", lastWriteAttribute), ", ", none, ")")
	}
	text := b.text(":id", IDText(id))
	b.set(b.name("#o", lastWriteAttribute), " = ", text)
	return text
}

// create makes the item if it is missing: the write's id, in placeholder id, is its birth.
func (b *expressionBuilder) create(id, index string) {
	b.set(b.name("#b", schema.Birth), " = if_not_exists(#b, ", id, ")")
	b.set(b.name("#gp", "GSI1PK"), " = ", b.text(":gp", index))
	b.set(b.name("#gs", "GSI1SK"), " = ", b.text(":gs", b.Key.Entity))
}

// nextVersion adds 1 to the item's version, by which usage knows the order of writes.
func (b *expressionBuilder) nextVersion() {
	b.add(b.name("#v", schema.ItemVersion), " ", b.number(":one", 1))
}

// events adds to the number of takes that the item counts.
func (b *expressionBuilder) events(n int64) {
	if n != 0 {
		b.add(b.name("#e", schema.BucketEvents), " ", b.number(":e", n))
	}
}

// forget removes a limit and its counter if it is as it was seen, or gone; n tells it
// from the others of the write.
func (b *expressionBuilder) forget(n string, l *limit) {
	def, count := b.name("#fd"+n, definitionAttribute+l.name), b.name("#fc"+n, schema.Counter+l.name)
	condition := def + " = " + b.text(":fd"+n, l.text) + " AND " + count + " = " + b.number(":fc"+n, l.count)
	if periodic(&l.state.Definition) {
		start, used := b.name("#fp"+n, startAttribute+l.name), b.name("#fu"+n, usedAttribute+l.name)
		condition += " AND " + start + " = " + b.number(":fp"+n, l.state.Mark) + " AND " + used + " = " + b.number(":fu"+n, l.state.Used)
		b.remove(start, ", ", used)
	} else {
		mark := b.name("#fm"+n, markAttribute+l.name)
		condition += " AND " + mark + " = " + b.number(":fm"+n, l.state.Mark)
		b.remove(mark)
	}
	b.where("(attribute_not_exists(", def, ") OR (", condition, "))")
	b.remove(def, ", ", count)
	b.forgetOverdrawn(n, l.name, l.over || l.state.Definition.Flags&bucket.Soft != 0)
}

// forgetOverdrawn removes what is counted of a limit that is removed, if anything may be: no
// condition says whether it is.
func (b *expressionBuilder) forgetOverdrawn(n, name string, maybe bool) {
	if maybe {
		b.remove(b.name("#fi"+n, schema.Overdrawn+name))
	}
}

// forgetSlots removes slots that nobody has.
func (b *expressionBuilder) forgetSlots(n string, l *slotLimit) {
	def, held := b.name("#fd"+n, slotsDefinitionAttribute+l.name), b.name("#fm"+n, slotsAttribute+l.name)
	count := b.name("#fc"+n, schema.Counter+l.name)
	b.where("(attribute_not_exists(", def, ") OR (", def, " = ", b.text(":fd"+n, l.text), " AND ", held, " = ", b.number(":fm"+n, 0),
		" AND ", count, " = ", b.number(":fc"+n, l.count), "))")
	b.remove(def, ", ", held, ", ", count)
	b.forgetOverdrawn(n, l.name, true)
}

// sameRemovals requires that limits were removed from the item as often as is known: only then
// it is known at which turn a limit begins that the item does not have.
func (b *expressionBuilder) sameRemovals(removals uint64) {
	r := b.name("#r", schema.Removals)
	if removals == 0 {
		b.where("attribute_not_exists(", r, ")")
		return
	}
	b.where(r, " = ", b.number(":r", int64(removals)))
}
