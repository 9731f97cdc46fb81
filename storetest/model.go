package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A model is a store in its simplest form: the states of package bucket in a
// map, which forgets nothing. Where a contract leaves a store a choice it holds
// every state that would be right; a read afterwards settles which it is.
//
// What is full by the latest instant may have been forgotten. At an older one a
// store cannot know how full it was, and may say anything from what it really
// was down to what had refilled by the latest; more would be tokens given.
type model struct {
	buckets map[zael.Key]*modelBucket
	latest  bucket.Instant // that the store was told
}

type modelBucket struct {
	limits  map[string]bucket.State // settled, with the store's axes
	options map[string][]option     // of what the last operation touched
	seen    []seen                  // ever, and since each time that it may have been forgotten
}

// seen is the latest instants of a bucket.
type seen struct {
	wrote, saw bucket.Instant // of a change and of any call
}

func nothingSeen() seen { return seen{-bucket.MaxInstant, -bucket.MaxInstant} }

// An option is a state that would be right.
type option struct {
	bucket.State
	moved bool // to another axis, whose number is the store's to choose
}

func newModel() *model { return &model{buckets: map[zael.Key]*modelBucket{}} }

func (m *model) bucket(k zael.Key) *modelBucket {
	b := m.buckets[k]
	if b == nil {
		b = &modelBucket{
			limits: map[string]bucket.State{}, options: map[string][]option{},
			seen: []seen{nothingSeen()},
		}
		m.buckets[k] = b
	}
	return b
}

func (b *modelBucket) see(at bucket.Instant, wrote bool) {
	for i := range b.seen {
		s := &b.seen[i]
		s.saw = max(s.saw, at)
		if wrote {
			s.wrote = max(s.wrote, at)
		}
	}
	b.seen = slices.Compact(b.seen)
}

// latest are the instants that a store may take for the latest of a bucket, the
// earliest of them first.
func (b *modelBucket) latest() []bucket.Instant {
	var all []bucket.Instant
	for _, s := range b.seen {
		all = append(all, s.wrote, s.saw)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// begin prepares an operation: a bucket that is full may be forgotten.
func (m *model) begin(b *modelBucket) {
	for _, s := range b.limits {
		if !s.Full(m.latest) {
			return
		}
	}
	b.seen = append(b.seen, nothingSeen())
}

// under is bucket.State.Under.
func (o option) under(d bucket.Definition, at bucket.Instant) option {
	next := o.State.Under(d, at, 0)
	return option{next, o.moved || o.Absent() || next.Axis != o.Axis}
}

// axis tells whether a state's axis is right for an option that came from old.
func (o option) axis(got, old bucket.State) bool {
	if o.moved {
		return old.Absent() || got.Axis != old.Axis
	}
	return got.Axis == o.Axis
}

// A step is one charge of a take, and what it may find and leave.
type step struct {
	bucket *modelBucket
	charge *zael.Charge
	kept   bucket.State
	latest []bucket.Instant // of the bucket: see modelBucket.latest
	place  int              // of the bucket's digit in guess.latest

	old         option // kept, or none if it was forgotten
	under, next option
	fits        bool
}

// A guess is what a model cannot know of a store.
type guess struct {
	forgotten int // bit i: what step i charges was forgotten
	latest    int // a digit for each bucket: which of step.latest its definitions change by
}

// take compares what a store answered to a take. The answer has to be right by
// one guess.
func (m *model) take(at bucket.Instant, maxWait time.Duration, debits []zael.Debit, answer error) error {
	var steps []step
	full := 0 // bit i: what step i charges may have been forgotten
	choices := 1
	for _, d := range debits {
		b := m.bucket(d.Key)
		m.begin(b)
		latest := b.latest()
		for j := range d.Charges {
			kept := b.limits[d.Charges[j].Name]
			if kept.Full(m.latest) {
				full |= 1 << len(steps)
			}
			steps = append(steps, step{bucket: b, charge: &d.Charges[j], kept: kept, latest: latest, place: choices})
		}
		choices *= len(latest)
	}
	var first error
	for forgotten := range full + 1 {
		if forgotten&^full != 0 {
			continue
		}
		for latest := range choices {
			err := m.takeIf(guess{forgotten, latest}, steps, at, maxWait, answer)
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
		}
	}
	return first
}

func (m *model) takeIf(g guess, steps []step, at bucket.Instant, maxWait time.Duration, answer error) error {
	fits, stale := true, false
	for i := range steps {
		s := &steps[i]
		d := s.charge.Definition
		if s.old = (option{s.kept, false}); g.forgotten>>i&1 == 1 {
			s.old = option{}
			s.under = m.forgotten(s, at, answer == nil)
		} else {
			s.under = s.old.under(d, m.changedAt(g, s, at))
		}
		next, ok := s.under.Take(at, s.charge.Amount, maxWait)
		s.next, s.fits = option{next, s.under.moved}, ok
		fits, stale = fits && ok, stale || s.old.Stale(d)
	}
	var want error
	switch {
	case stale:
		want = zael.ErrStaleLimits
	case !fits:
		want = zael.ErrExceeded
	}
	if !errors.Is(answer, want) {
		return fmt.Errorf("got %w, want %w", orNil(answer), orNil(want))
	}
	for _, s := range steps {
		o := map[error]option{nil: s.next, zael.ErrStaleLimits: s.old, zael.ErrExceeded: s.under}[want]
		got := s.charge.State
		if want == nil && under(o.State, got.Definition) { // what the call named keeps a revision
			got.Definition = o.Definition
		}
		if !sameState(got, o.State, at) || want == nil && !got.Full(m.latest) && !o.axis(got, s.kept) {
			return fmt.Errorf("state of %q: got %s on axis %d, want %s from %d",
				s.charge.Name, stateText(got, at), got.Axis, stateText(o.State, at), s.kept.Axis)
		}
	}
	for _, s := range steps {
		s.bucket.see(at, want == nil)
		options := []option{{s.kept, false}}
		switch {
		case stale:
		case !fits:
			options = m.kept(g, s, at)
		case s.charge.Amount == 0 && s.kept.Full(m.latest):
			options = append(options, s.next) // nothing needs to be written
		default:
			s.next.Axis = s.charge.State.Axis
			options = []option{{s.next.State, false}}
		}
		if want == nil && s.charge.Definition.Rev == 0 && s.kept.Full(m.latest) {
			next := options[len(options)-1]
			for _, rev := range []int64{0, s.kept.Definition.Rev} { // forgotten or kept: the receipt does not tell
				next.Definition.Rev = rev
				options = append(options, next)
			}
		}
		s.bucket.options[s.charge.Name] = options
	}
	return nil
}

// changedAt is the instant by which a step changes a definition: not before any
// that the store has seen change the bucket.
func (m *model) changedAt(g guess, s *step, at bucket.Instant) bucket.Instant {
	if s.kept.Absent() {
		return at
	}
	return max(at, s.latest[g.latest/s.place%len(s.latest)])
}

// forgotten is a limit that the store has forgotten or never knew, as full as
// it may have been at an instant: as the charge says, within the bounds. Those
// are what it really was at that instant and when it was full.
func (m *model) forgotten(s *step, at bucket.Instant, taken bool) option {
	d := s.charge.Definition
	least, most := d.Drip(at), d.Drip(m.latest)
	if !s.kept.Full(at) {
		was := s.kept.Under(d, at, 0).Mark
		full := at.Add(s.kept.Wait(at, s.kept.Definition.Burst))
		least, most = min(was, d.Drip(full)), max(was, most)
	}
	said := s.charge.State.Mark
	if taken {
		said -= s.charge.Amount * d.Unit()
	}
	return option{bucket.State{Definition: d, Mark: min(max(said, least), most)}, true}
}

// kept is what may stand after a refusal: the definition of the charge if it
// would admit sooner, and only then. For a limit that does not refuse, and for
// a full one, it makes no difference.
func (m *model) kept(g guess, s step, at bucket.Instant) []option {
	old := option{s.kept, false}
	under := old.under(s.charge.Definition, m.changedAt(g, &s, at))
	if s.kept.Full(m.latest) { // and maybe forgotten, or under the definition as the charge says
		said := s.under
		said.Definition.Rev = under.Definition.Rev
		return []option{old, under, s.under, said}
	}
	sooner := under.Wait(at, s.charge.Amount) < old.Wait(at, s.charge.Amount)
	switch {
	case !sooner:
		return []option{old}
	case s.fits:
		return []option{old, under}
	}
	return []option{under}
}
