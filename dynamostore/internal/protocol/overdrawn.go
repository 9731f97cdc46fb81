package protocol

import (
	"slices"
	"strconv"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/schema"
)

// How many takes leave a soft limit overdrawn is counted in the item, by the write that takes. No
// condition asks for it, as a wrong one would cost a call: the write counts what its guess says.
// The answer shows what was right, and the process owes the difference to the item: its next write
// that names the limit pays it.

// An overdrawn is what an Update counts of one limit.
type overdrawn struct {
	name  string
	takes int64 // of this write, by its guess
	paid  int64 // of what was owed
	wrong int64 // by so much takes is too low, as the answer shows
}

// countOverdrawn finds how many takes leave limits overdrawn by the draft, for the update to count.
func (w *BucketWrite) countOverdrawn(d *draft) {
	w.counted = w.counted[:0]
	if w.Kind == coalesce.StoreDefinitions {
		return
	}
	if w.Kind == coalesce.Take {
		for _, c := range w.Overdrew(&Pinned{limits: d.limits, slots: d.slots, from: w.known, id: w.ID}) {
			if d.keeps(c.Name) {
				w.counts(c.Name).takes += c.N
			}
		}
	}
	for _, c := range w.Overdrawn {
		if d.keeps(c.Name) {
			w.counts(c.Name).takes -= c.N
		}
	}
	for _, c := range w.owed {
		if d.keeps(c.Name) {
			w.counts(c.Name).paid += c.N
		}
	}
}

// addOverdrawn writes down what the update counts.
func (w *BucketWrite) addOverdrawn(b *expressionBuilder) {
	for i := range w.counted {
		o := &w.counted[i]
		if n, sum := strconv.Itoa(i), o.takes+o.paid; sum != 0 {
			b.add(b.name("#i"+n, schema.Overdrawn+o.name), " ", b.number(":i"+n, sum))
		}
	}
}

// keeps reports whether a soft limit, of which something is to be counted, is in the item once the
// update is applied: one that is not has no count. An update that suits a limit that is there and
// one that is not then is for the former alone.
func (d *draft) keeps(name string) bool {
	for i := range d.limits {
		if u := &d.limits[i]; u.name == name && u.def.Flags&bucket.Soft != 0 {
			u.ifAbsent = u.ifAbsent && (u.changes || !u.ifPresent)
			return u.changes || !u.ifAbsent
		}
	}
	if d.slots == nil {
		return false
	}
	for i := range d.slots.limits {
		if u := &d.slots.limits[i]; u.name == name {
			u.absent = u.absent && (u.delta != 0 || !u.present)
			return u.delta != 0 || !u.absent
		}
	}
	return false
}

// counts returns what the update counts of a limit.
func (w *BucketWrite) counts(name string) *overdrawn {
	i := slices.IndexFunc(w.counted, func(o overdrawn) bool { return o.name == name })
	if i < 0 {
		i = len(w.counted)
		w.counted = append(w.counted, overdrawn{name: name})
	}
	return &w.counted[i]
}

// compareOverdrawn compares what a take has counted, which is applied and the last write of the
// bucket, with what the answer shows. If an answer was lost, another copy may be applied, which has
// counted by another guess.
func (w *BucketWrite) compareOverdrawn() {
	if w.Kind != coalesce.Take {
		return
	}
	for _, c := range w.Overdrew(w.known) {
		w.counts(c.Name).wrong += c.N
	}
	for i := range w.counted {
		w.counted[i].wrong -= w.counted[i].takes
	}
}

// Owes returns by how much what the process owes to the counts changes with the write, which was
// applied.
func (w *BucketWrite) Owes() (changes []bucket.Count) {
	for i := range w.counted {
		if o := &w.counted[i]; o.wrong != o.paid {
			changes = append(changes, bucket.Count{Name: o.name, N: o.wrong - o.paid})
		}
	}
	return changes
}

// Owing returns the observation of a process that owes more, or less, to the counts of overdrawn
// takes.
func (o *Observation) Owing(changes []bucket.Count) *Observation {
	next := *o
	next.owed = slices.Clone(o.owed)
	for _, c := range changes {
		i := slices.IndexFunc(next.owed, func(have bucket.Count) bool { return have.Name == c.Name })
		if i < 0 {
			i = len(next.owed)
			next.owed = append(next.owed, bucket.Count{Name: c.Name})
		}
		if next.owed[i].N += c.N; next.owed[i].N == 0 {
			next.owed = slices.Delete(next.owed, i, i+1)
		}
	}
	return &next
}
