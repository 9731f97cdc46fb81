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
	case w.lost > 0:
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
	b.set("#o = ", b.text(":id", IDText(id)))
	b.nextVersion()
	b.events(-w.Events)
	for i := range w.Charges {
		c, n := &w.Charges[i], strconv.Itoa(i)
		is, was := w.known.find(c.Name), w.planned.find(c.Name)
		if is == nil {
			continue
		}
		state := w.known.State(c.Name)
		mark, text := state.Give(w.At, c.Amount, state.Receipt()).Mark, is.text
		if was != nil && was.text != is.text {
			text = was.text
			if was.state.Generation != is.state.Generation { // the write was made from this very mark: see ExactState
				mark = was.state.Mark
			}
		}
		b.set(b.name("#m"+n, markAttribute+c.Name), " = ", b.number(":v"+n, mark))
		b.set(b.name("#d"+n, definitionAttribute+c.Name), " = ", b.text(":t"+n, text))
		if c.Amount > 0 {
			b.add(b.name("#c"+n, schema.Counter+c.Name), " ", b.number(":c"+n, -c.Amount))
		}
	}
	return b.done()
}
