package postgresstore

import (
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// sharedFor is how long a bucket counts as one that other processes write, too.
const sharedFor = 10 * time.Second

// isShared reports whether other processes seem to write the bucket.
func (r *row) isShared() bool { return !r.shared.IsZero() && time.Since(r.shared) < sharedFor }

// An offer is what takes from a bucket of plain rates are in numbers, for writeFunction to make
// them of the bucket as it is.
type offer struct {
	sums        []int64 // tokens of each limit
	named       []bool  // limits that a take names, if only with 0
	first, last bucket.Instant
	maxWait     time.Duration
	takes       int64 // how many
}

// offer has the takes from a row, of which arrays were just added, offered in numbers too, if
// others write the bucket or nothing is known of it, and if all of them are plain.
func (w *writing) offer(known, r *row) {
	if !known.read.IsZero() && !known.isShared() {
		return
	}
	o, ok := w.offered(r)
	if !ok || !known.read.IsZero() && len(known.Limits) != len(r.Limits) {
		return
	}
	n := len(r.Limits)
	drips, rooms, adds, counts := make([]*int64, n), make([]*int64, n), make([]*int64, n), make([]*int64, n)
	lasts := bucket.Instant(0)
	for j := range r.Limits {
		d := &r.Limits[j].State.Definition
		lasts = max(lasts, o.last.Add(o.maxWait).Add(fill(d)).Add(margin))
		if !o.named[j] {
			continue
		}
		drip := d.Drip(o.last)
		room := d.Ceiling(o.first.Add(o.maxWait)) - o.sums[j]*d.Unit()
		drips[j], rooms[j] = &drip, &room
		if o.sums[j] > 0 {
			add := o.sums[j] * d.Unit()
			adds[j], counts[j] = &add, &o.sums[j]
		}
	}
	a, i := &w.args, len(w.args.entities)-1
	a.drips[i], a.rooms[i], a.adds[i] = arrayText(drips), arrayText(rooms), arrayText(adds)
	if w.store.config.Usage {
		a.counts[i], a.takes[i] = arrayText(counts), o.takes
	}
	if rest := lasts % expiryStep; lasts < bucket.MaxInstant-expiryStep {
		lasts += expiryStep - rest
	}
	a.lasts[i] = int64(lasts)
}

// fill returns the time in which a rate refills from nothing.
func fill(d *bucket.Definition) time.Duration {
	empty := bucket.State{Definition: *d, Mark: d.Burst * d.Unit()}
	return empty.WaitFull(0)
}

// offered returns the takes from a row; ok is false if not all of its ops are takes of plain rates
// under the very definitions of the bucket, which fit.
func (w *writing) offered(r *row) (o offer, ok bool) {
	if len(r.Holders) > 0 || r.Forgotten != 0 {
		return o, false
	}
	for i := range r.Limits {
		if !r.Limits[i].State.Definition.Plain() {
			return o, false
		}
	}
	o.sums, o.named, o.first = make([]int64, len(r.Limits)), make([]bool, len(r.Limits)), bucket.MaxInstant
	last := -bucket.MaxInstant
	for p := range w.opsOf(r) {
		if p.kind != takeOp || p.debits[0].Bypass || p.err != nil || o.takes > 0 && p.maxWait != o.maxWait {
			return o, false
		}
		o.maxWait, o.first, last = p.maxWait, min(o.first, p.at), max(last, p.at)
		o.takes++
		for k := range p.charges {
			c := &p.charges[k]
			j := r.index(c)
			if j < 0 {
				return o, false
			}
			o.sums[j], o.named[j] = o.sums[j]+c.Amount, true
			if o.sums[j] > r.Limits[j].State.Definition.Burst {
				return o, false
			}
		}
	}
	o.last = last
	return o, o.takes > 0
}

// opsOf iterates the ops on a row, in order.
func (w *writing) opsOf(r *row) func(yield func(*op) bool) {
	return func(yield func(*op) bool) {
		for _, o := range w.batch.ops {
			if o.debits[0].Key == r.key && !yield(o) {
				return
			}
		}
	}
}

// index returns the place of the limit that a charge is about, -1 if the bucket has it under
// another definition or not at all.
func (r *row) index(c *zael.Charge) int { return r.indexOf(c.Name, &c.Definition) }

func (r *row) indexOf(name string, d *bucket.Definition) int {
	return slices.IndexFunc(r.Limits, func(l bucket.LimitState) bool { return l.Name == name && l.State.Definition == *d })
}

// settle writes into the takes from a row what they are, when they were made of the bucket as
// another process had left it. now is the bucket after them, or, if their answer was lost, some time
// later: then it may have been written since, and their marks are no greater than was computed, so
// that no more is given back than was taken. Of a limit that has gone since, or is under another
// definition, nothing is given back.
func (w *writing) settle(r, now *row) {
	if now.version() != w.id {
		for i := range now.Limits {
			l := &now.Limits[i]
			if j := r.indexOf(l.Name, &l.State.Definition); j >= 0 {
				l.State.Mark = min(l.State.Mark, r.Limits[j].State.Mark)
			}
		}
		w.store.queue.forget(r.key)
	} else {
		if now.shared = r.shared; len(now.ids) > 1 && now.ids[1] != w.base[r.key] {
			now.shared = now.read
		}
		w.store.queue.learn(now)
	}
	behind := make([]int64, len(now.Limits))
	for _, o := range slices.Backward(slices.Collect(w.opsOf(r))) {
		for k := range o.charges {
			c := &o.charges[k]
			j := now.index(c)
			if j < 0 {
				c.Receipt = bucket.Receipt{}
				continue
			}
			c.State = now.Limits[j].State
			c.State.Mark -= behind[j]
			c.Receipt = c.State.Receipt()
		}
		for k := range o.charges {
			c := &o.charges[k]
			if j := now.index(c); j >= 0 {
				behind[j] += c.Amount * c.Definition.Unit()
			}
		}
	}
}

// arrayText returns an array as PostgreSQL writes it.
func arrayText(values []*int64) *string {
	b := append(make([]byte, 0, 64), '{')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if v == nil {
			b = append(b, "NULL"...)
			continue
		}
		b = strconv.AppendInt(b, *v, 10)
	}
	text := string(append(b, '}'))
	return &text
}
