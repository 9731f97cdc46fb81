package dynamostore

import (
	"math"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// A value is a number or a text of an item.
type value struct {
	placeholder string

	text   string
	number int64
	isText bool
}

// A write is one conditional update of a bucket's item, in the engine's terms
// but without its library. Names and values go through placeholders always.
type write struct {
	key       zael.Key
	condition string
	update    string
	names     map[string]string
	values    []value
}

// A writing puts a write together.
type writing struct {
	write
	conditions, sets, adds, removes list
}

// A list is the text of a part of an expression.
type list []byte

func (l *list) add(separator string, parts []string) {
	if len(*l) > 0 {
		*l = append(*l, separator...)
	}
	for _, p := range parts {
		*l = append(*l, p...)
	}
}

func newWriting(key zael.Key) *writing {
	w := &writing{write: write{key: key, names: make(map[string]string, 12), values: make([]value, 0, 12)}}
	w.conditions, w.sets, w.adds = make(list, 0, 256), make(list, 0, 128), make(list, 0, 64)
	return w
}

// name is the placeholder of an attribute.
func (w *writing) name(placeholder, attribute string) string {
	w.names[placeholder] = attribute
	return placeholder
}

func (w *writing) number(placeholder string, n int64) string {
	w.values = append(w.values, value{placeholder: placeholder, number: n})
	return placeholder
}

func (w *writing) text(placeholder, s string) string {
	w.values = append(w.values, value{placeholder: placeholder, text: s, isText: true})
	return placeholder
}

func (w *writing) where(parts ...string)  { w.conditions.add(" AND ", parts) }
func (w *writing) set(parts ...string)    { w.sets.add(", ", parts) }
func (w *writing) add(parts ...string)    { w.adds.add(", ", parts) }
func (w *writing) remove(parts ...string) { w.removes.add(", ", parts) }

// nextVersion adds 1 to the item's version, by which usage knows the order of writes.
func (w *writing) nextVersion() { w.add(w.name("#v", schema.ItemVersion), " ", w.number(":one", 1)) }

func (w *writing) finish() write {
	w.condition = string(w.conditions)
	if len(w.sets) > 0 {
		w.update = "SET " + string(w.sets)
	}
	if len(w.adds) > 0 {
		w.update += " ADD " + string(w.adds)
	}
	if len(w.removes) > 0 {
		w.update += " REMOVE " + string(w.removes)
	}
	return w.write
}

// limit adds the condition and the changes of one limit; n tells it from the
// others of the write.
func (w *writing) limit(n string, s *step) {
	mark, def := "#m"+n, "#d"+n
	w.where(s.condition(w, n))
	if s.changes {
		w.name(mark, "m_"+s.name)
		if s.set {
			w.set(mark, " = ", w.number(":v"+n, s.n))
		} else if s.n != 0 {
			w.set(mark, " = ", mark, " + ", w.number(":v"+n, s.n))
		}
		if s.born || s.text != s.old {
			w.set(w.name(def, "d_"+s.name), " = ", w.text(":t"+n, s.text))
		}
	}
	if s.count != 0 {
		w.add(w.name("#c"+n, "c_"+s.name), " ", w.number(":c"+n, s.count))
	}
}

// forget removes a limit and its counter, if it is as it was seen, or gone; n
// tells it from the others of the write.
func (w *writing) forget(n string, l *limit) {
	mark, def, count := w.name("#fm"+n, "m_"+l.name), w.name("#fd"+n, "d_"+l.name), w.name("#fc"+n, schema.Counter+l.name)
	w.where("(attribute_not_exists(", mark, ") OR (", mark, " = ", w.number(":fm"+n, l.mark),
		" AND ", def, " = ", w.text(":fd"+n, l.text), " AND ", count, " = ", w.number(":fc"+n, l.count), "))")
	w.remove(mark, ", ", def, ", ", count)
}

// joined requires that the item's limits were removed as often as is known: only
// then it is known at which turn a limit that it has not begins.
func (w *writing) joined(removals uint64) {
	r := w.name("#r", schema.Removals)
	if removals == 0 {
		w.where("attribute_not_exists(", r, ")")
		return
	}
	w.where(r, " = ", w.number(":r", int64(removals)))
}

// condition is true if the mark lies on the step's piece, under the definition
// that the piece is for.
func (s *step) condition(w *writing, n string) string {
	mark := "#m" + n
	missing := "attribute_not_exists(" + mark + ")"
	if s.born && !s.joins && s.changes {
		missing = "attribute_not_exists(" + w.name("#b", schema.Birth) + ")" // the item
	}
	if !s.there {
		w.name(mark, "m_"+s.name)
		return missing
	}
	is := w.name("#d"+n, "d_"+s.name) + " = " + w.text(":d"+n, s.old)
	if s.lo == s.hi {
		is += " AND " + mark + " = " + w.number(":l"+n, s.lo)
	} else {
		if s.lo != math.MinInt64 {
			is += " AND " + mark + " >= " + w.number(":l"+n, s.lo)
		}
		if s.hi != math.MaxInt64 {
			is += " AND " + mark + " <= " + w.number(":h"+n, s.hi)
		}
	}
	if s.born || s.lo != math.MinInt64 || s.hi != math.MaxInt64 {
		w.name(mark, "m_"+s.name)
	}
	if s.born {
		return "(" + missing + " OR (" + is + "))"
	}
	return is
}
