package coalesce

import (
	"context"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// An Outcome is what a known bucket says to a take.
type Outcome uint8

// The outcomes.
const (
	Fits              Outcome = iota
	Exceeds                   // a limit, for certain
	StaleLimits               // a limit of the take is older than the bucket's
	UnknownDefinition         // a limit stands under another definition: it has to be asked
)

// Evaluate returns what a known bucket says to a take. A limit that the bucket does not
// have is full.
func Evaluate(b Bucket, charges []zael.Charge, at bucket.Instant, maxWait time.Duration) Outcome {
	refuses, differs := false, false
	for i := range charges {
		c := &charges[i]
		s := b.State(c.Name)
		fits := c.Amount <= c.Definition.Burst
		switch {
		case s.Absent():
		case s.Stale(c.Definition):
			return StaleLimits
		case !keepsDefinition(&s.Definition, &c.Definition):
			differs = true
		default:
			_, fits = bucket.Take(&s.Definition, s.Mark, at, c.Amount, maxWait)
		}
		refuses = refuses || !fits
	}
	switch {
	case differs:
		return UnknownDefinition
	case refuses:
		return Exceeds
	}
	return Fits
}

// keepsDefinition tells whether a limit under kept stays as it is under d.
func keepsDefinition(kept, d *bucket.Definition) bool {
	return kept.SameRefill(*d) && kept.Capacity == d.Capacity && (d.Rev == 0 || d.Rev == kept.Rev)
}

// clear takes those out of the line who have left it, or are about to.
func (s *bucketQueue) clear() {
	s.line = slices.DeleteFunc(s.line, func(m *Op) bool { return m.place != inLine || m.ctx.Err() != nil })
}

// answerFromLast answers those in line to whom the last answer says all. What it says is
// no older than the time that they wait, or a second. Who stands behind a give may
// fit by it: nobody is refused there.
func (s *bucketQueue) answerFromLast(now time.Time) (woken []*Op) {
	k := &s.known
	if k.bucket == nil || !now.Before(k.until) {
		return nil
	}
	gives := false
	for _, m := range s.line {
		if m.place != inLine {
			continue
		}
		at := max(m.at(now), k.at)
		a := Answer{Bucket: k.bucket, At: at, Seen: max(at, k.seen)}
		switch m.Kind {
		case Read:
			a.Verdict = Applied
		case Take:
			switch Evaluate(k.bucket, m.Charges, at, m.MaxWait) {
			case Exceeds:
				if gives {
					continue
				}
				a.Verdict = Refused
			case StaleLimits:
				a.Verdict = Stale
			default:
				continue
			}
		default:
			gives = true
			continue
		}
		m.Answer, m.place = a, answered
		woken = append(woken, m)
	}
	return woken
}

// A row is one limit of a batch that is being formed.
type row struct {
	name string
	def  bucket.Definition
	sum  int64

	known bool // there is a mark, as the ops so far leave it
	mark  int64
}

func (f *flight) row(name string) int {
	return slices.IndexFunc(f.rows, func(r row) bool { return r.name == name })
}

// single is the flight of one op.
func (s *bucketQueue) single(m *Op) *flight {
	f := &flight{epoch: s.epoch, Batch: Batch{
		Key: s.key, Kind: m.Kind, Charges: m.Charges, At: m.At, MaxWait: m.MaxWait, Birth: m.Birth, Events: m.Events, Exact: m.Exact, Members: 1,
	}}
	f.one[0] = m
	f.members = f.one[:]
	f.begin()
	return f
}

// nextBatch makes the next batch: the first in line, and all that can go with it. The
// others keep their places.
func (s *bucketQueue) nextBatch(now time.Time, maxLimits int) *flight {
	var k Bucket
	if now.Before(s.known.until) {
		k = s.known.bucket
	}
	first := s.line[0]
	f := &flight{epoch: s.epoch}
	f.Key, f.Kind, f.Birth, f.At = s.key, first.Kind, first.Birth, first.at(now)
	alone := first.alone || !f.tryJoin(first, k, now, maxLimits)
	stay := s.line[:0]
	for i, m := range s.line {
		switch {
		case i == 0:
			f.members = append(f.members, m)
		case !alone && !m.alone && f.tryJoin(m, k, now, maxLimits):
			f.members = append(f.members, m)
		default:
			stay = append(stay, m)
		}
	}
	clear(s.line[len(stay):])
	s.line = stay
	if len(f.members) == 1 {
		f = s.single(first)
		f.At = first.at(now)
		return f
	}
	f.sum()
	f.begin()
	return f
}

// changes tells whether a charge would bring its limit under another definition,
// or is too old to be taken: that is written alone. What is given back, or charged
// under limits older than the bucket's, leaves the definition as it is.
func (k Kind) changes(s bucket.State, c *zael.Charge) bool {
	switch {
	case k == Undo || s.Absent() || keepsDefinition(&s.Definition, &c.Definition):
		return false
	case k == Adjust:
		return c.Amount >= 0 && !s.Stale(c.Definition)
	}
	return true
}

// tryJoin adds m to the rows of a batch if it can be one of several, and fits
// behind those that are there.
func (f *flight) tryJoin(m *Op, known Bucket, now time.Time, maxLimits int) bool {
	if m.Kind != f.Kind || m.Birth != f.Birth {
		return false
	}
	at := max(f.At, m.at(now))
	rows := f.rows
	for i := range m.Charges {
		c := &m.Charges[i]
		if known != nil && f.Kind.changes(known.State(c.Name), c) {
			return false
		}
		j := slices.IndexFunc(rows, func(r row) bool { return r.name == c.Name })
		if j < 0 {
			if len(rows) >= maxLimits {
				return false
			}
			r := row{name: c.Name, def: c.Definition}
			if known != nil {
				s := known.State(c.Name)
				r.known, r.mark = !s.Absent(), s.Mark
			}
			rows, j = append(rows, r), len(rows)
		}
		r := &rows[j]
		switch {
		case f.Kind == Undo:
		case r.def != c.Definition:
			return false
		case f.Kind == Take:
			if c.Amount > r.def.Burst-r.sum {
				return false
			}
			if r.known {
				if _, fits := bucket.Take(&r.def, r.mark, at, c.Amount, m.MaxWait); !fits {
					return false
				}
			}
		}
	}
	f.rows, f.At = rows, at
	if f.Kind == Take {
		for i := range m.Charges {
			c := &m.Charges[i]
			r := &f.rows[f.row(c.Name)]
			if r.sum += c.Amount; r.known {
				r.mark, _ = bucket.Take(&r.def, r.mark, at, c.Amount, m.MaxWait)
			}
		}
	}
	return true
}

// sum makes the batch of several ops.
func (f *flight) sum() {
	f.Members = len(f.members)
	for _, m := range f.members {
		f.Events += m.Events
	}
	if f.Kind != Take {
		for _, m := range f.members {
			f.Charges = append(f.Charges, m.Charges...)
		}
		return
	}
	for i := range f.rows {
		r := &f.rows[i]
		f.Charges = append(f.Charges, zael.Charge{Name: r.name, Definition: r.def, Amount: r.sum})
	}
	f.MaxWait = f.members[0].MaxWait
	if slices.ContainsFunc(f.members, func(m *Op) bool { return m.MaxWait != f.MaxWait }) {
		f.stage()
	}
}

// stage works out how far the batch may go for ops who wait for different
// times. A stage that a later one implies is left out.
func (f *flight) stage() {
	f.Stages = make([][]Stage, len(f.rows))
	for i := range f.rows {
		name, sum := f.rows[i].name, f.rows[i].sum
		for _, m := range slices.Backward(f.members) {
			k := slices.IndexFunc(m.Charges, func(c zael.Charge) bool { return c.Name == name })
			if k < 0 {
				continue
			}
			st := f.Stages[i]
			if len(st) == 0 || m.MaxWait < st[len(st)-1].Wait {
				f.Stages[i] = append(st, Stage{Sum: sum, Wait: m.MaxWait})
			}
			sum -= m.Charges[k].Amount
		}
	}
}

// giveBack puts at the head of the line what gives back the takes of those who
// have left. It shows in the trace in which their write does.
func (s *bucketQueue) giveBack(g *Coalescer, f *flight, a *Answer, begun time.Time) {
	u := &Op{Kind: Undo, Birth: a.Birth, At: a.Seen, ours: true, ctx: context.WithoutCancel(f.ctx)}
	if g.config.AdvanceWhileQueued {
		u.since = begun
	}
	for i, m := range slices.Backward(f.members) {
		if m.place != left {
			continue
		}
		u.Events -= m.Events
		var behind []int64
		if f.behind != nil {
			behind = f.behind[i]
		}
		u.Charges = append(u.Charges, Back(m.Charges, a.Bucket, behind)...)
	}
	s.line = slices.Insert(s.line, 0, u)
}

// Back are the charges that give back a take that was applied. behind is what
// those after it took of each limit, nil if nobody.
func Back(charges []zael.Charge, b Bucket, behind []int64) []zael.Charge {
	var back []zael.Charge
	for i, c := range charges {
		if c.Amount == 0 {
			continue
		}
		c.Receipt = Receipt(&c, b, behind, i)
		c.Amount = -c.Amount
		back = append(back, c)
	}
	return back
}

// Receipt is that of charge number i of a take that was applied.
func Receipt(c *zael.Charge, b Bucket, behind []int64, i int) bucket.Receipt {
	state := b.State(c.Name)
	r := state.Receipt()
	if behind != nil {
		r.Mark -= behind[i] * state.Definition.Unit()
	}
	return r
}
