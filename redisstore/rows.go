package redisstore

import (
	"math"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// A row is one limit of a write by take.lua, which has the meaning of its fields.
type row struct {
	texts     *limitTexts
	period    bool
	want, def string
	lo, hi, n int64
	set       int64
	sets      bool         // set is allowed
	last      bucket.State // the latest by which it is full is that of this state
}

// rowsOf appends the rows of a part, as far as take.lua can make it. ok is false if it has to
// be made by write.lua: see package comment.
func (p *part) rowsOf(before []row, shelf *limitShelf) (rows []row, ok bool) {
	rows = before
	switch {
	case p.bypass:
		return rows, true
	case p.kind != coalesce.Take && p.kind != coalesce.Adjust && p.kind != coalesce.Undo, p.known != nil && p.forgets():
		return rows, false
	}
	for i := range p.charges {
		c := &p.charges[i]
		r, ok := p.rowOf(c, i, shelf)
		if !ok || slices.ContainsFunc(rows[len(before):], func(other row) bool { return other.texts.limit.name == c.Name }) {
			return rows, false
		}
		rows = append(rows, r)
	}
	return rows, true
}

// rowOf returns the row of a charge.
func (p *part) rowOf(c *zael.Charge, i int, shelf *limitShelf) (r row, ok bool) {
	d := &c.Definition
	if d.Flags != 0 || d.Kind == bucket.Slots {
		return r, false
	}
	switch {
	case p.kind == coalesce.Take && d.Kind == bucket.Rate:
		r, ok = p.takeRow(c, i)
	case p.kind == coalesce.Take:
		r, ok = p.periodRow(c)
	case d.Kind != bucket.Rate:
		return r, false
	case c.Amount >= 0:
		r, ok = p.chargeRow(c)
	default:
		if r, ok = p.giveRow(c); ok {
			r.texts, p.texts = p.texts.of(c, shelf)
		}
		return r, ok
	}
	if !ok {
		return r, false
	}
	r.texts, p.texts = p.texts.of(c, shelf)
	r.want = r.texts.want
	if p.known == nil && c.Amount > 0 {
		r.def = definitionText(d, p.birth)
	}
	return r, true
}

// takeRow is the row of a take from a rate.
func (p *part) takeRow(c *zael.Charge, i int) (r row, ok bool) {
	d := &c.Definition
	hi := int64(math.MaxInt64)
	for _, stage := range p.stagesOf(c, i) {
		then := p.at.Add(stage.Wait)
		room := d.Ceiling(then) - stage.Sum*d.Unit()
		if d.Schedule != nil && d.Floor(then) > room {
			return r, false
		}
		hi = min(hi, room)
	}
	lo := d.Floor(p.at)
	if hi < lo || c.Amount > d.Burst && d.Schedule == nil {
		return r, false // not even from a full bucket
	}
	return rateRow(d, lo, hi, c.Amount), true
}

// stagesOf returns the stages of a take's charge; one, if it has no others.
func (p *part) stagesOf(c *zael.Charge, i int) []coalesce.Stage {
	if p.stages != nil {
		return p.stages[i]
	}
	return []coalesce.Stage{{Sum: c.Amount, Wait: p.maxWait}}
}

func rateRow(d *bucket.Definition, lo, hi, tokens int64) row {
	n := tokens * d.Unit()
	return row{lo: lo, hi: hi, n: n, set: lo + n, sets: true, last: bucket.State{Definition: *d, Mark: hi + n}}
}

// chargeRow is the row of a charge to a rate. It has an upper end, or nobody would know when
// the bucket is full: two bursts above the place of the refill, with what is charged.
func (p *part) chargeRow(c *zael.Charge) (r row, ok bool) {
	d := &c.Definition
	lo, unit := d.Floor(p.at), d.Unit()
	if lo > math.MaxInt64/4 || c.Amount > bucket.MaxAmount {
		return r, false
	}
	return rateRow(d, lo, lo+2*d.Burst*unit, c.Amount), true
}

// giveRow is the row of a give to a rate, as bucket.State.Give makes it of a mark that has not
// fallen below what is given. The receipt is of the generation that was last seen, or
// write.lua has to look.
func (p *part) giveRow(c *zael.Charge) (r row, ok bool) {
	s := p.known.find(c.Name, false)
	if s == nil || s.Generation != c.Receipt.Generation || s.Definition.Kind != bucket.Rate || s.Definition.Flags != 0 || c.Amount < -bucket.MaxAmount {
		return r, false
	}
	d := &s.Definition
	at := max(p.at, p.latest)
	lo, unit := d.Floor(at), d.Unit()
	left := c.Receipt.Mark - lo
	if c.Receipt.Mark < lo {
		left = 0
	}
	if left < 0 || left > d.Ceiling(at)-lo { // a place in line, or beyond int64
		return r, false
	}
	n := min(-c.Amount*unit, left)
	return row{want: definitionText(d, s.Generation), lo: lo + n, hi: math.MaxInt64, n: -n, sets: n == 0, last: *s}, true
}

// periodRow is the row of a take from a quota or session.
func (p *part) periodRow(c *zael.Charge) (r row, ok bool) {
	d := &c.Definition
	if c.Amount > d.Burst {
		return r, false
	}
	since, from := d.Turn(p.at)
	return row{
		period: true, lo: int64(since), hi: d.Burst - c.Amount, n: c.Amount, set: int64(from), sets: true,
		last: bucket.State{Definition: *d, Mark: int64(from), Used: d.Burst},
	}, true
}

// pack packs a row as take.lua reads it.
func (r *row) pack(s *arguments) {
	s.pack(r.texts.define)
	s.pack(r.texts.mark)
	if r.period {
		s.pack(r.texts.used)
	} else {
		s.pack("")
	}
	s.pack(r.want)
	s.pack(r.def)
	s.packNumber(r.lo)
	s.packNumber(r.hi)
	s.packNumber(r.n)
	if r.sets {
		s.packNumber(r.set)
	} else {
		s.pack("")
	}
}
