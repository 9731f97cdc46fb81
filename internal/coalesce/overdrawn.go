package coalesce

import (
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// Overdrew returns, by limit, how many takes of a batch have left it overdrawn; after is the bucket
// as the batch has left it, or is expected to.
func (b *Batch) Overdrew(after Bucket) (counts []bucket.Count) {
	if b.Kind != Take {
		return nil
	}
	for i := range b.Charges {
		c := &b.Charges[i]
		if c.Definition.Flags&bucket.Soft == 0 {
			continue
		}
		behind := none
		if b.behind != nil {
			behind = b.behind[i]
		}
		n := int64(0)
		for _, taken := range behind {
			if overdraws(c, after, taken, b.At) {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, bucket.Count{Name: c.Name, N: n})
		}
	}
	return counts
}

// none is what those behind a take took that is alone.
//
//nolint:gochecknoglobals // a constant
var none = []int64{0}

// Overdrew returns 1 for each limit that a take has left overdrawn at an instant, which was applied.
// b and behind are as in Back.
func Overdrew(charges []zael.Charge, b Bucket, behind []int64, at bucket.Instant) (counts []bucket.Count) {
	for i := range charges {
		taken := int64(0)
		if behind != nil {
			taken = behind[i]
		}
		if overdraws(&charges[i], b, taken, at) {
			counts = append(counts, bucket.Count{Name: charges[i].Name, N: 1})
		}
	}
	return counts
}

// overdraws reports whether a take's charge has left its limit overdrawn; others have taken so much
// since.
func overdraws(c *zael.Charge, after Bucket, taken int64, at bucket.Instant) bool {
	if c.Definition.Flags&bucket.Soft == 0 {
		return false
	}
	state := StateOf(after, c)
	if state.Absent() {
		return false
	}
	if state.Definition.Kind == bucket.Rate {
		state.Mark -= taken * state.Definition.Unit()
	} else {
		state.Used -= taken
	}
	return state.Overdrawn(at)
}

// follow sets what of each soft limit the takes of a batch took that are behind each one.
func (f *flight) follow() {
	if !slices.ContainsFunc(f.rows, func(r row) bool { return r.def.Flags&bucket.Soft != 0 }) {
		return
	}
	f.Batch.behind = make([][]int64, len(f.rows))
	for i := range f.rows {
		r := &f.rows[i]
		if r.def.Flags&bucket.Soft == 0 {
			continue
		}
		left := r.sum
		for _, m := range f.members {
			k := slices.IndexFunc(m.Charges, func(c zael.Charge) bool { return c.Name == r.name })
			if k < 0 {
				continue
			}
			left -= m.Charges[k].Amount
			f.Batch.behind[i] = append(f.Batch.behind[i], left)
		}
	}
}
