package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A kindsWalk is a random sequence of operations on buckets that mix all kinds of limits, which
// become each other. What a store answers is compared with keptBuckets.
type kindsWalk struct {
	e       *env
	rng     *rand.Rand
	p       profile
	h       *horizon
	now     time.Time
	rev     int64
	buckets map[zael.Key]*keptBucket
	current map[string]bucket.Definition
	leases  []*keptLease
	trace   []string
}

// A keptLease is a charge that can be given back.
type keptLease struct {
	key     zael.Key
	holder  string
	charge  zael.Charge
	left    int64
	receipt keptReceipt
	life    int // of the holder of slots
}

// A profile is when a walk takes place, and under which limits.
type profile struct {
	grain  time.Duration // all instants are multiples of it
	steps  []time.Duration
	pool   []bucket.Definition
	begin  time.Time
	until  time.Duration // the walk ends then
	around time.Duration // before and after it, what has begun earlier and ends later counts
}

// randomKinds leads a store and keptBuckets through the same operations.
func randomKinds(ctx context.Context, e *env) error {
	rng := rand.New(rand.NewPCG(e.seed, 1))
	p := fastProfile(rng)
	if e.seed%2 == 1 {
		p = slowProfile(rng)
	}
	e.t0 = p.begin
	w := &kindsWalk{
		e: e, rng: rng, p: p, now: p.begin, rev: 1,
		h:       newHorizon(p.begin.Add(-p.around), p.begin.Add(p.until+p.around)),
		buckets: map[zael.Key]*keptBucket{}, current: map[string]bucket.Definition{},
	}
	for i := range e.fewer(150) {
		if w.now.Sub(p.begin) > p.until {
			break
		}
		if err := w.step(ctx); err != nil {
			const last = 14
			return fmt.Errorf("seed %d (%s=%d replays it), operation %d: %w\nthe last operations:\n%s",
				e.seed, SeedVariable, e.seed, i, err, strings.Join(w.trace[max(0, len(w.trace)-last):], "\n"))
		}
	}
	return nil
}

func (w *kindsWalk) step(ctx context.Context) error {
	if w.rng.IntN(5) > 0 {
		w.now = w.now.Add(w.upTo(w.p.steps[w.rng.IntN(len(w.p.steps))]))
	}
	switch n := w.rng.IntN(20); {
	case n < 11 || len(w.buckets) == 0:
		return w.take(ctx)
	case n < 17:
		return w.adjust(ctx)
	case n < 19:
		return w.refill(ctx)
	}
	return w.read(ctx, w.key(0), w.key(1))
}

func (w *kindsWalk) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(d/w.p.grain)+1)) * w.p.grain
}

func (w *kindsWalk) logf(format string, args ...any) {
	w.trace = append(w.trace, "  "+clock(w.now)+" "+fmt.Sprintf(format, args...))
}

func (w *kindsWalk) key(i int) zael.Key { return key([]string{"alice", "team"}[i]) }

func (w *kindsWalk) bucket(k zael.Key) *keptBucket {
	if w.buckets[k] == nil {
		w.buckets[k] = newKeptBucket(w.h)
	}
	return w.buckets[k]
}

// definition is usually the one in force for a name; now and then another.
func (w *kindsWalk) definition(name string) bucket.Definition {
	d, ok := w.current[name]
	if ok && w.rng.IntN(8) > 0 {
		return d
	}
	rev := d.Rev
	d = w.p.pool[w.rng.IntN(len(w.p.pool))]
	if w.rng.IntN(3) == 0 {
		w.rev++
		rev = w.rev
	}
	if d.Rev = rev; w.rng.IntN(4) == 0 {
		d.Rev = 0
	}
	w.current[name] = d
	return d
}

func (w *kindsWalk) slotsDefinition(name string) bucket.Definition {
	d, ok := w.current[name+" slots"]
	if ok && w.rng.IntN(8) > 0 {
		return d
	}
	d = slotsOf(1 + w.rng.Int64N(5))
	if d.Period = time.Duration(1+w.rng.IntN(3)) * time.Minute; w.rng.IntN(6) == 0 {
		d.Flags = bucket.Soft
	}
	w.current[name+" slots"] = d
	return d
}

func (w *kindsWalk) amount(d bucket.Definition) int64 {
	switch w.rng.IntN(10) {
	case 0:
		return 0
	case 1:
		return d.Burst
	case 2:
		return d.Burst + 1
	case 3:
		return d.Burst / 3
	}
	return 1 + w.rng.Int64N(min(d.Burst, 6))
}

// charges are one to four limits in random order. Slots are called like another limit, too.
func (w *kindsWalk) charges() []zael.Charge {
	names := []string{"a", "b", "c", "d"}
	w.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var all []zael.Charge
	for _, name := range names[:1+w.rng.IntN(3)] {
		d := w.definition(name)
		all = append(all, ask(name, d, w.amount(d)))
	}
	for _, name := range []string{"s", "d"} {
		if w.rng.IntN(4) == 0 && !slices.ContainsFunc(all, func(c zael.Charge) bool { return c.Name == name }) {
			d := w.slotsDefinition(name)
			all = append(all, ask(name, d, 1+w.rng.Int64N(3)))
		}
	}
	return all
}

func (w *kindsWalk) holder() string { return []string{"A", "B", "C"}[w.rng.IntN(3)] }

// behind is an instant by a clock that is behind, if nothing that is named is full or
// changes: what is full a store may have forgotten.
func (w *kindsWalk) behind(debits []zael.Debit) time.Time {
	if w.rng.IntN(5) > 0 {
		return w.now
	}
	at := w.now.Add(-w.upTo(w.p.steps[w.rng.IntN(len(w.p.steps))]))
	for _, d := range debits {
		b := w.bucket(d.Key)
		for i := range d.Charges {
			c := &d.Charges[i]
			if c.Definition.Kind == bucket.Slots || b.full(c.Name, w.now) {
				return w.now
			}
			if k := b.limits[c.Name]; k == nil || b.under(c.Name, c.Definition, w.now).def != k.def {
				return w.now
			}
		}
	}
	return at
}

func (w *kindsWalk) take(ctx context.Context) error {
	var debits []zael.Debit
	keys := []zael.Key{w.key(w.rng.IntN(2))}
	if w.rng.IntN(4) == 0 {
		keys = []zael.Key{w.key(0), w.key(1)}
	}
	for _, k := range keys {
		debits = append(debits, zael.Debit{Key: k, Charges: w.charges(), Holder: w.holder()})
	}
	if len(w.buckets) < 2 { // the first of a bucket has another kind than a plain rate
		debits = nil
		for i := range 2 {
			w.bucket(w.key(i))
			debits = append(debits, zael.Debit{Key: w.key(i), Holder: "A", Charges: []zael.Charge{ask("s", slotsOf(3), 1)}})
		}
	}
	ahead := time.Duration(0)
	if w.rng.IntN(5) == 0 {
		ahead = w.upTo(w.p.steps[0])
	}
	at := w.behind(debits)
	w.avoidStale(debits)
	counted, err := w.e.take(ctx, at, ahead, debits...)
	w.logf("Take at %s within %v %s: %v", clock(at), ahead, kindsText(debits), orNil(err))
	if err != nil && !errors.Is(err, zael.ErrExceeded) {
		return err
	}
	return w.taken(ctx, counted.Time(), ahead, debits, err == nil)
}

// avoidStale takes the revision from definitions that a full limit may know to be stale or
// may have forgotten.
func (w *kindsWalk) avoidStale(debits []zael.Debit) {
	for _, d := range debits {
		for i := range d.Charges {
			c := &d.Charges[i]
			if k := w.bucket(d.Key).limits[c.Name]; k != nil && c.Definition.Kind != bucket.Slots && k.def.Rev > c.Definition.Rev {
				c.Definition.Rev = 0
			}
		}
	}
}

// taken compares the answer to a take with what it should be.
func (w *kindsWalk) taken(ctx context.Context, at time.Time, ahead time.Duration, debits []zael.Debit, admitted bool) error {
	before, after := make([]*keptBucket, len(debits)), make([]*keptBucket, len(debits))
	tight := ""
	for i, d := range debits {
		before[i] = w.alive(d, admitted)
		var name string
		if after[i], name = before[i].take(d, at, ahead); name != "" {
			tight = name
		}
	}
	fits := tight == ""
	if fits != admitted {
		return fmt.Errorf("got it admitted: %v, want %v: %q", admitted, fits, tight)
	}
	var keys []zael.Key
	for i, d := range debits {
		if keys = append(keys, d.Key); !fits {
			if err := w.refused(before[i], d, at); err != nil {
				return err
			}
			continue
		}
		w.buckets[d.Key] = after[i]
		w.lease(after[i], d)
	}
	return w.read(ctx, keys...)
}

// alive is the bucket of a take as it was found: a holder of which the deadline is past
// may have been removed by anybody. The answer tells.
func (w *kindsWalk) alive(d zael.Debit, admitted bool) *keptBucket {
	b := w.bucket(d.Key)
	own := b.holders[d.Holder]
	if own == nil || own.deadline.After(w.now) || !admitted {
		return b
	}
	for _, c := range d.Charges {
		if c.Definition.Kind != bucket.Slots || c.Amount == 0 {
			continue
		}
		if c.Receipt.Generation == own.known {
			return b // it goes on
		}
		b = b.clone()
		delete(b.holders, d.Holder)
		return b
	}
	return b
}

// lease keeps the charges of a take, to give them back.
func (w *kindsWalk) lease(b *keptBucket, d zael.Debit) {
	for _, c := range d.Charges {
		if c.Amount == 0 {
			continue
		}
		l := &keptLease{key: d.Key, holder: d.Holder, charge: c, left: c.Amount}
		if c.Definition.Kind == bucket.Slots {
			own := b.holders[d.Holder]
			l.life, own.known = own.life, c.Receipt.Generation
		} else {
			l.receipt = b.limits[c.Name].receipt()
		}
		w.leases = append(w.leases, l)
	}
	if most := 24; len(w.leases) > most {
		w.leases = w.leases[len(w.leases)-most:]
	}
}

// refused compares the states of a refusal, and has the model keep a definition that would
// admit sooner, and no other.
func (w *kindsWalk) refused(b *keptBucket, d zael.Debit, at time.Time) error {
	for i := range d.Charges {
		c := &d.Charges[i]
		instant := mustAt(at)
		if c.Definition.Kind == bucket.Slots {
			wait, dead := b.free(c, d.Holder, at), b.holders[d.Holder]
			if dead != nil && !dead.deadline.After(at) {
				continue // it may have been removed
			}
			if got := c.State.Wait(instant, c.Amount); got != wait {
				return fmt.Errorf("refused: slots %q: got a wait of %v, want %v", c.Name, got, wait)
			}
			continue
		}
		under := b.under(c.Name, c.Definition, at)
		now := under.seen(b.h, at)
		if got := c.State.Available(instant); got != now.available() {
			return fmt.Errorf("refused: %q: got %d available, want %d", c.Name, got, now.available())
		}
		if at.Before(w.now) {
			continue
		}
		wait := now.wait(b.h, at, c.Amount)
		if got := c.State.Wait(instant, c.Amount); got != wait && (got < wait || at.Add(wait).Before(b.h.to)) {
			return fmt.Errorf("refused: %q: got a wait of %v, want %v", c.Name, got, wait)
		}
		if old := b.limits[c.Name]; old != nil && old.def != under.def {
			if was := old.at(b.h, at); wait < was.wait(b.h, at, c.Amount) {
				b.limits[c.Name] = under
			}
		}
	}
	w.buckets[d.Key] = b
	return nil
}

func kindsText(debits []zael.Debit) string {
	var b strings.Builder
	for _, d := range debits {
		fmt.Fprintf(&b, "%s by %s:", quote(d.Key.Entity), d.Holder)
		for _, c := range d.Charges {
			fmt.Fprintf(&b, " %s %+d of %s;", c.Name, c.Amount, kindText(c.Definition))
		}
	}
	return b.String()
}

func kindText(d bucket.Definition) string {
	text := fmt.Sprintf("%v %d", d.Kind, d.Burst)
	switch {
	case d.Calendar != nil:
		text += fmt.Sprintf(" %+v", d.Calendar.Spec())
	case d.Kind == bucket.Rate:
		text += fmt.Sprintf(" %d/%v", d.Amount, d.Period)
	default:
		text += fmt.Sprintf(" %v", d.Period)
	}
	if d.Schedule != nil {
		text += " by wall clock"
	}
	for _, f := range []struct {
		flag bucket.Flags
		name string
	}{{bucket.Soft, "soft"}, {bucket.CarryDebt, "carries"}, {bucket.Block, "blocked"}, {bucket.Unlimited, "unlimited"}} {
		if d.Flags&f.flag != 0 {
			text = fmt.Sprintf("%s %s", text, f.name)
		}
	}
	return fmt.Sprintf("%s rev %d", text, d.Rev)
}
