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
			fits = r.mayFit(c, holder, at)
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

// sift removes the operations whose callers have left, and those that the last answer
// decides, which it returns.
func (q *bucketQueue) sift(now time.Time) (woken []*Op) {
	last, gives := q.known.recalled(now), false
	q.ops = slices.DeleteFunc(q.ops, func(m *Op) bool {
		if m.gone() {
			return true
		}
		if q.answers(m, &last, now, gives) {
			woken = append(woken, m)
			return true
		}
		gives = gives || m.gives()
		return false
	})
	return woken
}

// gives reports whether m may make room for takes.
func (m *Op) gives() bool { return m.Kind != Read && m.Kind != Take }

// answers sets the answer of an operation that the last one decides, which is at most a second old. It
// reports whether it did. behind is set if a give is queued before m, which may make room.
func (q *bucketQueue) answers(m *Op, last *Recalled, now time.Time, behind bool) bool {
	if last.Bucket == nil || m.gives() {
		return false
	}
	at := max(m.at(now), q.known.at)
	outcome := Applied
	if m.Kind == Take {
		outcome = last.evaluate(m.Charges, m.Holder, at, m.MaxWait)
		if outcome != Stale && (outcome != Refused || behind) {
			return false
		}
	}
	m.Answer, m.state = Answer{Outcome: outcome, Bucket: last.Bucket, At: at, Seen: max(at, last.Seen)}, answered
	return true
}

// A row is one limit of a batch that is being put together.
type row struct {
	name string
	def  bucket.Definition
	sum  int64

	state      bucket.State // as the operations so far leave it; absent if it is not known
	mark, used int64        // of it, with the operation that is being looked at
}

// newRow returns the row of a limit that was not named before. Of a limit that is known not to
// be there the state is that of a full one.
func newRow(c *zael.Charge, last *Recalled, at bucket.Instant) row {
	r := row{name: c.Name, def: c.Definition}
	if last.Bucket == nil {
		return r
	}
	if r.state = StateOf(last.Bucket, c); r.state.Absent() && c.Definition.Kind != bucket.Slots {
		r.state = r.state.Redefine(c.Definition, at, 0)
	}
	return r
}

// refuses reports whether amounts of so much together are refused, whatever is left.
func (r *row) refuses(sum int64) bool {
	const never = bucket.Soft | bucket.Unlimited
	return r.def.Flags&never == 0 && r.def.Schedule == nil && sum > r.def.Burst || sum > bucket.MaxAmount
}

// row returns the row of a limit, or nil. It first looks at the place that the limit has if all
// operations name limits in the same order.
func (f *flight) row(name string, place int) *row {
	if place < len(f.rows) && f.rows[place].name == name {
		return &f.rows[place]
	}
	for i := range f.rows {
		if f.rows[i].name == name {
			return &f.rows[i]
		}
	}
	return nil
}

// single returns the flight of one operation.
func (q *bucketQueue) single(m *Op) *flight {
	f := &flight{epoch: q.epoch, Batch: Batch{
		Key: q.key, Kind: m.Kind, Charges: m.Charges, At: m.At, MaxWait: m.MaxWait, Settings: m.Settings, Holder: m.Holder, Birth: m.Birth, Events: m.Events, ExactState: m.ExactState, Overdrawn: m.Overdrawn, Members: 1,
	}}
	f.one[0] = m
	f.members = f.one[:]
	f.begin()
	return f
}

// nextBatch removes the next batch from the queue: its first operation, and all that can
// join it. It also removes the operations whose callers have left, and those that the last
// answer decides, which it returns.
func (q *bucketQueue) nextBatch(now time.Time, maxLimits int) (f *flight, woken []*Op) {
	last, gives, joinable := q.known.recalled(now), false, false
	stay := q.ops[:0]
	for _, m := range q.ops {
		if m.gone() {
			continue
		}
		begins := f == nil
		if begins {
			f = &flight{epoch: q.epoch, members: make([]*Op, 0, len(q.ops))}
			f.Key, f.Kind, f.Birth, f.At, f.Settings, f.Holder = q.key, m.Kind, m.Birth, m.at(now), m.Settings, m.Holder
		}
		joins := (begins || joinable) && !m.alone && f.tryJoin(m, &last, now, maxLimits)
		switch {
		case joins:
			f.members, joinable = append(f.members, m), true
		case q.answers(m, &last, now, gives):
			if woken = append(woken, m); begins {
				f = nil
			}
			continue
		case begins:
			f.members = append(f.members, m)
		default:
			stay = append(stay, m)
		}
		gives = gives || m.gives()
	}
	clear(q.ops[len(stay):])
	q.ops = stay
	switch {
	case f == nil:
	case len(f.members) == 1:
		m := f.members[0]
		f = q.single(m)
		f.At = m.at(now)
	default:
		f.sum()
		f.begin()
	}
	return f, woken
}

// changes reports whether a charge would change the definition of its limit, or is too
// old to be taken: such an operation is written alone. A give, or a charge under limits
// older than the bucket's, leaves the definition as it is.
func (k Kind) changes(s *bucket.State, c *zael.Charge) bool {
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
func (f *flight) tryJoin(m *Op, last *Recalled, now time.Time, maxLimits int) bool {
	if m.Kind != f.Kind || m.Birth != f.Birth || m.Settings != f.Settings || m.Holder != f.Holder || m.Kind == Renew {
		return false
	}
	at, rows := max(f.At, m.at(now)), len(f.rows)
	for i := range m.Charges {
		c := &m.Charges[i]
		r := f.row(c.Name, i)
		if r == nil && len(f.rows) < maxLimits {
			f.rows = append(f.rows, newRow(c, last, at))
			r = &f.rows[len(f.rows)-1]
		}
		joins := r != nil && !f.Kind.changes(&r.state, c) && (f.Kind == Undo || r.def == c.Definition)
		if joins && f.Kind == Take {
			joins = r.fits(c, at, m.MaxWait) && last.mayFit(c, m.Holder, at)
		}
		if !joins {
			f.rows = f.rows[:rows]
			return false
		}
	}
	f.At = at
	if f.Kind != Take {
		return true
	}
	m.through = m.through[:0]
	for i := range m.Charges {
		c := &m.Charges[i]
		r := f.row(c.Name, i)
		r.sum, r.state.Mark, r.state.Used = r.sum+c.Amount, r.mark, r.used
		m.through = append(m.through, r.sum)
	}
	return true
}

// fits reports whether a charge fits behind the operations that are there, as far as that is
// known, and notes what it would leave.
func (r *row) fits(c *zael.Charge, at bucket.Instant, maxWait time.Duration) (fits bool) {
	if r.refuses(c.Amount + r.sum) {
		return false
	}
	if r.state.Absent() || r.def.Kind == bucket.Slots {
		r.mark, r.used = r.state.Mark, r.state.Used
		return true
	}
	r.mark, r.used, fits = bucket.Take(&r.state.Definition, r.state.Mark, r.state.Used, at, c.Amount, maxWait)
	return fits
}

// mayFit reports false if a charge is of slots, and what is remembered refuses it.
func (r *Recalled) mayFit(c *zael.Charge, holder string, at bucket.Instant) bool {
	return c.Definition.Kind != bucket.Slots || !r.Slots || !refusesSlots(r.Bucket, c, holder, at)
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
			f.Overdrawn = append(f.Overdrawn, m.Overdrawn...)
		}
		return
	}
	for i := range f.rows {
		r := &f.rows[i]
		f.Charges = append(f.Charges, zael.Charge{Name: r.name, Definition: r.def, Amount: r.sum})
	}
	f.follow()
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
func (q *bucketQueue) giveBack(g *Coalescer, f *flight, begun time.Time) {
	a := &f.answer
	u := &Op{Kind: Undo, Holder: f.Holder, Birth: a.Birth, At: a.Seen, ours: true, ctx: context.WithoutCancel(f.ctx)}
	if g.config.AdvanceWhileQueued {
		u.since = begun
	}
	for _, m := range slices.Backward(f.members) {
		if m.state != left {
			continue
		}
		u.Events -= m.Events
		var behind []int64
		if f.Members > 1 {
			behind = f.behind(m)
		}
		u.Charges = append(u.Charges, Back(m.Charges, a.Bucket, behind)...)
		u.Overdrawn = append(u.Overdrawn, Overdrew(m.Charges, a.Bucket, behind, a.At)...)
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
		c.Receipt = Taken(&c, b, behind, i).Receipt()
		c.Amount = -c.Amount
		back = append(back, c)
	}
	return back
}

// Taken returns the state of a limit just after a take's charge i, which was applied; b and
// behind are as in Back. It is absent if the limit is, of which nothing was taken then.
func Taken(c *zael.Charge, b Bucket, behind []int64, i int) bucket.State {
	state := StateOf(b, c)
	switch d := &state.Definition; {
	case behind == nil || d.Flags&bucket.Unlimited != 0:
	case d.Kind == bucket.Rate:
		state.Mark -= behind[i] * d.Unit()
	default:
		state.Used -= behind[i]
	}
	return state
}
