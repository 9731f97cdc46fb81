package coalesce

import (
	"context"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// Evaluate returns the outcome of a take from a bucket in a known state: Applied,
// Refused, Stale, or UnknownDefinition if a limit has another definition there, or if the
// take is of slots, of which others may have died or come. A limit that the bucket does not
// have is full.
func Evaluate(b Bucket, charges []zael.Charge, at bucket.Instant, maxWait time.Duration) Outcome {
	return (&Recalled{Bucket: b}).evaluate(charges, "", at, maxWait)
}

// A Recalled is a bucket as it was less than a second ago, with all that was done since
// through Do.
type Recalled struct {
	Bucket Bucket
	Seen   bucket.Instant // the latest instant known of the bucket
	Slots  bool           // the slots are remembered as well
}

// Refuses reports whether a take, of a holder if it is of slots, is refused by what is
// remembered. ok is false if only the Engine can tell.
func (r *Recalled) Refuses(charges []zael.Charge, holder string, at bucket.Instant, maxWait time.Duration) (refuses, ok bool) {
	switch r.evaluate(charges, holder, at, maxWait) {
	case Refused:
		return true, true
	case Applied:
		return false, true
	}
	return false, false
}

func (r *Recalled) evaluate(charges []zael.Charge, holder string, at bucket.Instant, maxWait time.Duration) Outcome {
	refuses, differs, slots := false, false, false
	for i := range charges {
		c := &charges[i]
		s := StateOf(r.Bucket, c)
		fits := true
		switch {
		case c.Definition.Kind == bucket.Slots && !s.Stale(c.Definition):
			slots = slots || c.Amount > 0
			fits = !r.Slots || !refusesSlots(r.Bucket, c, holder, at)
		case s.Absent():
			_, fits = s.Redefine(c.Definition, at, 0).Take(at, c.Amount, maxWait)
		case s.Stale(c.Definition):
			return Stale
		case !keepsDefinition(&s.Definition, &c.Definition):
			differs = true
		default:
			_, fits = s.Take(at, c.Amount, maxWait)
		}
		refuses = refuses || !fits
	}
	switch {
	case differs:
		return UnknownDefinition
	case refuses:
		return Refused
	case slots:
		return UnknownDefinition
	}
	return Applied
}

// Differs reports whether a take would change the definition of a limit that a bucket has.
func Differs(b Bucket, charges []zael.Charge) bool {
	return slices.ContainsFunc(charges, func(c zael.Charge) bool {
		s := StateOf(b, &c)
		return c.Definition.Kind != bucket.Slots && !s.Absent() && !s.Stale(c.Definition) && !keepsDefinition(&s.Definition, &c.Definition)
	})
}

func refusesSlots(b Bucket, c *zael.Charge, holder string, at bucket.Instant) bool {
	s, ok := b.(SlotBucket)
	return ok && s.RefusesSlots(c, holder, at)
}

// keepsDefinition reports whether a limit with definition kept keeps it in a charge under d.
func keepsDefinition(kept, d *bucket.Definition) bool {
	return kept.SameRefill(*d) && kept.Capacity == d.Capacity && (d.Rev == 0 || d.Rev == kept.Rev)
}

// clear removes the operations whose callers have left, or are about to.
func (q *bucketQueue) clear() {
	q.ops = slices.DeleteFunc(q.ops, func(m *Op) bool { return m.state != queued || m.ctx.Err() != nil })
}

// answerFromLast answers queued operations that the last answer already decides; it is
// at most a second old. Takes queued behind a give are never refused here: the give may
// make room.
func (q *bucketQueue) answerFromLast(now time.Time) (woken []*Op) {
	k := &q.known
	if k.bucket == nil || !now.Before(k.until) {
		return nil
	}
	gives, last := false, k.recalled(now)
	for _, m := range q.ops {
		if m.state != queued {
			continue
		}
		at := max(m.at(now), k.at)
		a := Answer{Bucket: k.bucket, At: at, Seen: max(at, k.seen)}
		switch m.Kind {
		case Read:
			a.Outcome = Applied
		case Take:
			a.Outcome = last.evaluate(m.Charges, m.Holder, at, m.MaxWait)
			if a.Outcome != Stale && (a.Outcome != Refused || gives) {
				continue
			}
		default:
			gives = true
			continue
		}
		m.Answer, m.state = a, answered
		woken = append(woken, m)
	}
	return woken
}

// A row is one limit of a batch that is being put together.
type row struct {
	name string
	def  bucket.Definition
	sum  int64

	known bool         // the state is
	state bucket.State // as the operations so far leave it
}

// refuses reports whether amounts of so much together are refused, whatever is left.
func (r *row) refuses(sum int64) bool {
	const never = bucket.Soft | bucket.Unlimited
	return r.def.Flags&never == 0 && r.def.Schedule == nil && sum > r.def.Burst || sum > bucket.MaxAmount
}

func (f *flight) row(name string) int {
	return slices.IndexFunc(f.rows, func(r row) bool { return r.name == name })
}

// single returns the flight of one operation.
func (q *bucketQueue) single(m *Op) *flight {
	f := &flight{epoch: q.epoch, Batch: Batch{
		Key: q.key, Kind: m.Kind, Charges: m.Charges, At: m.At, MaxWait: m.MaxWait, Settings: m.Settings, Holder: m.Holder, Birth: m.Birth, Events: m.Events, ExactState: m.ExactState, Members: 1,
	}}
	f.one[0] = m
	f.members = f.one[:]
	f.begin()
	return f
}

// nextBatch removes the next batch from the queue: its first operation, and all that can
// join it.
func (q *bucketQueue) nextBatch(now time.Time, maxLimits int) *flight {
	var k Bucket
	if now.Before(q.known.until) {
		k = q.known.bucket
	}
	first := q.ops[0]
	f := &flight{epoch: q.epoch}
	f.Key, f.Kind, f.Birth, f.At, f.Settings, f.Holder = q.key, first.Kind, first.Birth, first.at(now), first.Settings, first.Holder
	alone := first.alone || !f.tryJoin(first, k, now, maxLimits)
	stay := q.ops[:0]
	for i, m := range q.ops {
		switch {
		case i == 0:
			f.members = append(f.members, m)
		case !alone && !m.alone && f.tryJoin(m, k, now, maxLimits):
			f.members = append(f.members, m)
		default:
			stay = append(stay, m)
		}
	}
	clear(q.ops[len(stay):])
	q.ops = stay
	if len(f.members) == 1 {
		f = q.single(first)
		f.At = first.at(now)
		return f
	}
	f.sum()
	f.begin()
	return f
}

// changes reports whether a charge would change the definition of its limit, or is too
// old to be taken: such an operation is written alone. A give, or a charge under limits
// older than the bucket's, leaves the definition as it is.
func (k Kind) changes(s bucket.State, c *zael.Charge) bool {
	switch {
	case k == Undo || s.Absent() || keepsDefinition(&s.Definition, &c.Definition):
		return false
	case k == Adjust:
		return c.Amount >= 0 && !s.Stale(c.Definition)
	}
	return true
}

// tryJoin adds m to the rows of a batch, unless it has to be written alone or does not
// fit behind the operations that are there.
func (f *flight) tryJoin(m *Op, known Bucket, now time.Time, maxLimits int) bool {
	if m.Kind != f.Kind || m.Birth != f.Birth || m.Settings != f.Settings || m.Holder != f.Holder || m.Kind == Renew {
		return false
	}
	at := max(f.At, m.at(now))
	rows := f.rows
	for i := range m.Charges {
		c := &m.Charges[i]
		if known != nil && f.Kind.changes(StateOf(known, c), c) {
			return false
		}
		j := slices.IndexFunc(rows, func(r row) bool { return r.name == c.Name })
		if j < 0 {
			if len(rows) >= maxLimits {
				return false
			}
			r := row{name: c.Name, def: c.Definition}
			if known != nil {
				r.state = known.State(c.Name)
				r.known = !r.state.Absent() && c.Definition.Kind != bucket.Slots
			}
			rows, j = append(rows, r), len(rows)
		}
		r := &rows[j]
		switch {
		case f.Kind == Undo:
		case r.def != c.Definition:
			return false
		case f.Kind == Take:
			if r.refuses(c.Amount + r.sum) {
				return false
			}
			if r.known {
				if _, fits := r.state.Take(at, c.Amount, m.MaxWait); !fits {
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
				r.state, _ = r.state.Take(at, c.Amount, m.MaxWait)
			}
		}
	}
	return true
}

// sum sets the batch of several operations.
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

// stage sets the stages of takes that wait for different times. A stage that a later one
// implies is left out.
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

// giveBack queues, before all others, an operation that gives back the takes whose
// callers have left. A trace shows it where it shows their write.
func (q *bucketQueue) giveBack(g *Coalescer, f *flight, a *Answer, begun time.Time) {
	u := &Op{Kind: Undo, Holder: f.Holder, Birth: a.Birth, At: a.Seen, ours: true, ctx: context.WithoutCancel(f.ctx)}
	if g.config.AdvanceWhileQueued {
		u.since = begun
	}
	for i, m := range slices.Backward(f.members) {
		if m.state != left {
			continue
		}
		u.Events -= m.Events
		var behind []int64
		if f.behind != nil {
			behind = f.behind[i]
		}
		u.Charges = append(u.Charges, Back(m.Charges, a.Bucket, behind)...)
	}
	q.ops = slices.Insert(q.ops, 0, u)
}

// Back returns the charges that give back a take that was applied. behind is what the
// takes behind it took of each limit; nil if there were none.
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

// Receipt returns the receipt of a take's charge i, which was applied; b and behind are
// as in Back.
func Receipt(c *zael.Charge, b Bucket, behind []int64, i int) bucket.Receipt {
	state := StateOf(b, c)
	r := state.Receipt()
	if behind != nil && state.Definition.Kind == bucket.Rate && state.Definition.Flags&bucket.Unlimited == 0 {
		r.Mark -= behind[i] * state.Definition.Unit()
	}
	return r
}

// Taken returns the state of a limit just after a take's charge i, which was applied; b and
// behind are as in Back.
func Taken(c *zael.Charge, b Bucket, behind []int64, i int) bucket.State {
	state := StateOf(b, c)
	state.Mark = Receipt(c, b, behind, i).Mark
	if behind != nil && state.Definition.Kind != bucket.Rate && state.Definition.Flags&bucket.Unlimited == 0 {
		state.Used -= behind[i]
	}
	return state
}
