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
	limits  map[string]bucket.State // settled, with the store's generations
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
	moved bool // to another generation, whose number is the store's to choose
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

// generation reports whether a state's generation is right for an option that came
// from old.
func (o option) generation(got, old bucket.State) bool {
	if o.moved {
		return old.Absent() || got.Generation != old.Generation
	}
	return got.Generation == o.Generation
}

// A step is one charge of a take, and what it may find and leave.
type step struct {
	bucket *modelBucket
	charge *zael.Charge
	kept   bucket.State
}

// A part is the steps of a take on one bucket.
type part struct {
	steps  []step
	latest []bucket.Instant // of the bucket: see modelBucket.latest
}

// A guess is what a model cannot know of a store.
type guess struct {
	forgotten int // bit i: what step i of all charges was forgotten
	latest    int // a digit for each part: which of its latest instants definitions change by
}

// take compares what a store answered to a take. The answer has to be right by
// one guess.
func (m *model) take(at bucket.Instant, maxWait time.Duration, debits []zael.Debit, answer error) error {
	var parts []part
	n, full := 0, 0 // bit i of full: what step i charges may have been forgotten
	choices := 1
	for _, d := range debits {
		b := m.bucket(d.Key)
		m.begin(b)
		p := part{latest: b.latest()}
		for j := range d.Charges {
			kept := b.limits[d.Charges[j].Name]
			if kept.Full(m.latest) {
				full |= 1 << n
			}
			p.steps = append(p.steps, step{b, &d.Charges[j], kept})
			n++
		}
		choices *= len(p.latest)
		parts = append(parts, p)
	}
	var first error
	for forgotten := range full + 1 {
		if forgotten&^full != 0 {
			continue
		}
		for latest := range choices {
			err := m.takeIf(guess{forgotten, latest}, parts, at, maxWait, answer)
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

// A try is a part by one guess.
type try struct {
	part
	record  bucket.Record // as found; in the end as left
	charges []zael.Charge // as they should be answered
	fits    []bool        // each charge alone
}

func (m *model) takeIf(g guess, parts []part, at bucket.Instant, maxWait time.Duration, answer error) error {
	outcome := bucket.Fits
	tries := make([]try, len(parts))
	for i, p := range parts {
		t := try{part: p, record: bucket.Record{Latest: p.latest[g.latest%len(p.latest)]}}
		g.latest /= len(p.latest)
		for _, s := range p.steps {
			found := s.kept
			if g.forgotten&1 == 1 {
				found = m.forgotten(s, at, answer == nil)
			}
			g.forgotten >>= 1
			if !found.Absent() {
				t.record.Limits = append(t.record.Limits, bucket.LimitState{Name: s.charge.Name, State: found})
			}
			t.charges = append(t.charges, *s.charge)
		}
		for j := range t.charges {
			t.fits = append(t.fits, t.record.Take(t.charges[j:j+1], at, maxWait, 0) == bucket.Fits)
		}
		outcome = max(outcome, t.record.Take(t.charges, at, maxWait, 0))
		tries[i] = t
	}
	want := []error{bucket.Fits: nil, bucket.Exceeds: zael.ErrExceeded, bucket.StaleLimits: zael.ErrStaleLimits}[outcome]
	if !errors.Is(answer, want) {
		return fmt.Errorf("got %w, want %w", orNil(answer), orNil(want))
	}
	for i := range tries {
		t := &tries[i]
		t.record.Finish(outcome, t.charges, at)
		for j, s := range t.steps {
			right := t.charges[j].State
			if outcome == bucket.StaleLimits && right.Generation == s.kept.Generation+newGeneration {
				right = bucket.State{} // forgotten: there is nothing to show
			}
			if err := m.compare(s, right, at, want == nil); err != nil {
				return err
			}
		}
	}
	for i := range tries {
		for j, s := range tries[i].steps {
			s.bucket.see(at, want == nil)
			s.bucket.options[s.charge.Name] = m.left(&tries[i], j, outcome, at)
		}
	}
	return nil
}

// became is what became of the limit of a step.
func (s step) became(state bucket.State) option {
	return option{state, s.kept.Absent() || state.Generation != s.kept.Generation}
}

// compare compares what a store answered to a charge with the right state.
func (m *model) compare(s step, right bucket.State, at bucket.Instant, taken bool) error {
	got := s.charge.State
	if taken && under(right, got.Definition) { // what the call named keeps a revision
		got.Definition = right.Definition
	}
	if !sameState(got, right, at) || taken && !got.Full(m.latest) && !s.became(right).generation(got, s.kept) {
		return fmt.Errorf("state of %q: got %s in generation %d, want %s from %d",
			s.charge.Name, stateText(got, at), got.Generation, stateText(right, at), s.kept.Generation)
	}
	return nil
}

// forgotten is a limit that the store has forgotten or never knew, as full as
// it may have been at an instant: as the charge says, within the bounds. Those
// are what it really was at that instant and when it was full.
func (m *model) forgotten(s step, at bucket.Instant, taken bool) bucket.State {
	d := s.charge.Definition
	least, most := d.Drip(at), d.Drip(m.latest)
	if !s.kept.Full(at) {
		was := s.kept.Redefine(d, at, 0).Mark
		full := at.Add(s.kept.Wait(at, s.kept.Definition.Burst))
		least, most = min(was, d.Drip(full)), max(was, most)
	}
	said := s.charge.State.Mark
	if taken {
		said -= s.charge.Amount * d.Unit()
	}
	return bucket.State{Definition: d, Mark: min(max(said, least), most), Generation: s.kept.Generation + newGeneration}
}

// newGeneration is the distance from the generation of a limit to that of a limit that
// takes its place.
const newGeneration = 1 << 40

// left is what may stand of the limit of a step when the take has its answer.
func (m *model) left(t *try, place int, outcome bucket.Outcome, at bucket.Instant) []option {
	s, c := t.steps[place], t.charges[place]
	old := option{s.kept, false}
	options := []option{old}
	switch full := s.kept.Full(m.latest); {
	case outcome == bucket.StaleLimits && full: // and maybe forgotten, and full under the charge's definition
		return append(options, option{})
	case outcome == bucket.StaleLimits:
		return options
	case outcome == bucket.Exceeds:
		return m.refused(t, place, at)
	case c.Amount == 0 && full:
		options = append(options, s.became(c.State)) // nothing needs to be written
	default:
		next := c.State
		next.Generation = s.charge.State.Generation
		options[0] = option{next, false}
	}
	if s.charge.Definition.Rev == 0 && s.kept.Full(m.latest) {
		next := options[len(options)-1]
		for _, rev := range []int64{0, s.kept.Definition.Rev} { // forgotten or kept: the receipt does not tell
			next.Definition.Rev = rev
			options = append(options, next)
		}
	}
	return options
}

// refused is what may stand after a refusal: the definition of the charge if it
// would admit sooner, and only then. For a limit that does not refuse, and for
// a full one, it makes no difference.
func (m *model) refused(t *try, place int, at bucket.Instant) []option {
	s, shown := t.steps[place], t.charges[place].State
	old := option{s.kept, false}
	if s.kept.Full(m.latest) { // and maybe forgotten, or under the definition as the charge says
		under := s.became(s.kept.Redefine(s.charge.Definition, max(at, t.record.Latest), 0))
		said := shown
		said.Definition.Rev = under.Definition.Rev
		return []option{old, under, s.became(shown), s.became(said)}
	}
	next := s.became(t.record.State(s.charge.Name))
	switch {
	case next == old:
		return []option{old}
	case t.fits[place]:
		return []option{old, next}
	}
	return []option{next}
}
