package protocol

import (
	"strconv"

	"github.com/zeroae/zael/internal/schema"
)

// Restorable reports whether a take that was applied, and has to be undone, has done more
// than a give undoes, and all of it is known: it changed definitions, from a state known
// exactly, or took tokens by a clock that is behind, which have refilled by another's. A
// write that may still be duplicated cannot be restored: a late copy would overwrite the id
// that reveals other writers.
func (w *BucketWrite) Restorable() bool {
	switch {
	case w.lost > 0 || len(w.sent) > 0:
		return false
	case w.Redefined():
		return w.ExactState
	}
	return w.At < w.Seen
}

// Restore returns the Update, with an id of its own, that brings the bucket back to where it
// was before a take that was applied, with the definitions that it had, if no other write
// has come since.
func (w *BucketWrite) Restore(id uint64) Update {
	b := newExpression(w.Key)
	b.where(b.name("#o", lastWriteAttribute), " = ", b.text(":last", IDText(w.ID)))
	b.last(id, w.known.keepsIDs())
	b.nextVersion()
	b.events(-w.Events)
	for i, o := range w.Overdrew(w.known) {
		n := strconv.Itoa(i)
		b.add(b.name("#i"+n, schema.Overdrawn+o.Name), " ", b.number(":i"+n, -o.N))
	}
	for i := range w.Charges {
		c, n := &w.Charges[i], strconv.Itoa(i)
		is, was := w.known.find(c.Name), w.planned.find(c.Name)
		if is == nil {
			continue
		}
		state := w.known.State(c.Name)
		state = state.Give(w.At, c.Amount, state.Receipt())
		back := limitUpdate{
			name: c.Name, ifPresent: true, mark: exactRow(0, state.Mark), used: exactRow(0, state.Used), oldKind: is.state.Definition.Kind, def: is.state.Definition,
			oldText: is.text, text: is.text, changes: true,
		}
		if was != nil && was.text != is.text {
			back.text, back.def = was.text, was.state.Definition
			if was.state.Generation != is.state.Generation { // the write was made from this very state: see ExactState
				back.mark, back.used = exactRow(0, was.state.Mark), exactRow(0, was.state.Used)
			}
		}
		back.update(b, n)
		if c.Amount > 0 {
			b.add(b.name("#c"+n, schema.Counter+c.Name), " ", b.number(":c"+n, -c.Amount))
		}
	}
	return b.done()
}
