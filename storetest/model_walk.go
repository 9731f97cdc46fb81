package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func modelChecks() []check {
	return []check{{name: "random operations against a model", run: randomOperations}}
}

// A walk is a random sequence of operations on a few buckets.
type walk struct {
	e       *env
	model   *model
	rng     *rand.Rand
	now     time.Duration // after env.t0; single operations go back behind it
	rev     int64
	current map[string]bucket.Definition // of each limit, for most calls
	leases  []lease
	trace   []string
}

// A lease is a charge that can be given back.
type lease struct {
	key    zael.Key
	charge zael.Charge
}

func randomOperations(ctx context.Context, e *env) error {
	w := &walk{
		e: e, model: newModel(), rng: rand.New(rand.NewPCG(e.seed, 0)), rev: 1,
		current: map[string]bucket.Definition{},
	}
	for i := range e.times(200) {
		if err := w.step(ctx); err != nil {
			const last = 12
			return fmt.Errorf("seed %d (%s=%d replays it), operation %d: %w\nthe last operations:\n%s",
				e.seed, SeedVariable, e.seed, i, err, strings.Join(w.trace[max(0, len(w.trace)-last):], "\n"))
		}
	}
	return nil
}

func (w *walk) step(ctx context.Context) error {
	w.pass()
	after := w.now
	if w.rng.IntN(6) == 0 {
		after -= w.upTo(5 * time.Second)
	}
	var keys []zael.Key
	var err error
	switch n := w.rng.IntN(20); {
	case n < 11:
		keys, err = w.take(ctx, after)
	case n < 17:
		keys, err = w.adjust(ctx, after)
	default:
		for i := range 4 {
			keys = append(keys, w.key(i))
		}
		w.trace = append(w.trace, fmt.Sprintf("  %v Buckets", w.now))
	}
	if err != nil {
		return err
	}
	at, got, err := w.e.read(ctx, w.e.t0.Add(w.now), keys...)
	if err != nil {
		return err
	}
	for _, b := range got {
		if err := w.model.settle(at, b); err != nil {
			return err
		}
	}
	return nil
}

// pass lets time go on: not at all, a little, or far enough to fill buckets.
func (w *walk) pass() {
	switch n := w.rng.IntN(20); {
	case n < 8:
		w.now += w.upTo(300 * time.Millisecond)
	case n < 13:
		w.now += w.upTo(3 * time.Second)
	case n == 13:
		w.now += w.upTo(2 * time.Hour)
	}
}

func (w *walk) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

func (w *walk) key(i int) zael.Key {
	return zael.Key{Entity: []string{"alice", "Alice", "team"}[i%3], Resource: []string{"gpt-4", "gpt-5"}[i%2]}
}

// definition is usually the one in force for a limit; now and then another, or
// an older revision.
func (w *walk) definition(name string) bucket.Definition {
	pool := []bucket.Definition{
		trickle(10), trickle(20), trickle(3),
		define(10, 10, time.Second), define(1000, 7, 3*time.Second), define(20, 3, 7*time.Second),
		define(100, 100, time.Minute), never(15),
		define(3_000_000, 2_000_000, time.Second), // counted in whole tokens
		define(3_000_000, 50_000, time.Second),
	}
	d, ok := w.current[name]
	if other := pool[w.rng.IntN(len(pool))]; !ok || w.rng.IntN(15) == 0 {
		d = other
		if w.rng.IntN(2) == 0 {
			w.rev++
			d.Rev = w.rev
		}
		w.current[name] = d
	} else if w.rng.IntN(12) == 0 {
		d = other
		if w.rng.IntN(2) == 0 {
			d.Rev = max(1, w.rev-w.rng.Int64N(3)) // often stale
		}
	}
	return d
}

func (w *walk) amount(d bucket.Definition) int64 {
	switch w.rng.IntN(8) {
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

// names are one to three limits in random order.
func (w *walk) names() []string {
	all := []string{"rpm", "tpm", "in-flight"}
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+w.rng.IntN(3)]
}

// keys are one or two buckets.
func (w *walk) keys() []zael.Key {
	first := w.rng.IntN(4)
	keys := []zael.Key{w.key(first)}
	if w.rng.IntN(3) == 0 {
		keys = append(keys, w.key((first+1+w.rng.IntN(3))%4))
	}
	return keys
}

func (w *walk) take(ctx context.Context, after time.Duration) ([]zael.Key, error) {
	maxWait := time.Duration(0)
	if w.rng.IntN(4) == 0 {
		maxWait = w.upTo(4 * time.Second)
	}
	keys := w.keys()
	var debits []zael.Debit
	for _, k := range keys {
		d := debit(k)
		for _, name := range w.names() {
			def := w.definition(name)
			d.Charges = append(d.Charges, ask(name, def, w.amount(def)))
		}
		debits = append(debits, d)
	}
	at, err := w.e.take(ctx, w.e.t0.Add(after), maxWait, debits...)
	w.trace = append(w.trace, fmt.Sprintf("  %v Take within %v %s: %v", after, maxWait, debitsText(debits), orNil(err)))
	if err != nil && !errors.Is(err, zael.ErrExceeded) && !errors.Is(err, zael.ErrStaleLimits) {
		return nil, err
	}
	w.model.latest = bucket.Instant(w.e.latest.Load())
	if wrong := w.model.take(at, maxWait, debits, err); wrong != nil {
		return nil, wrong
	}
	if err == nil {
		w.lease(debits)
		return keys, nil
	}
	return keys, nil
}

// lease keeps the charges of a take, to give some of them back.
func (w *walk) lease(debits []zael.Debit) {
	for _, d := range debits {
		for _, c := range d.Charges {
			if c.Amount == 0 {
				continue
			}
			w.leases = append(w.leases, lease{d.Key, c})
		}
	}
	if most := 32; len(w.leases) > most {
		w.leases = w.leases[len(w.leases)-most:]
	}
}

func (w *walk) adjust(ctx context.Context, after time.Duration) ([]zael.Key, error) {
	var keys []zael.Key
	var debits []zael.Debit
	if len(w.leases) > 0 && w.rng.IntN(5) < 3 { // a lease settles, of which some is kept to be given again
		i := w.rng.IntN(len(w.leases))
		l := w.leases[i]
		n := w.amount(l.charge.Definition)
		if w.rng.IntN(2) == 0 {
			n = l.charge.Amount
			w.leases = append(w.leases[:i], w.leases[i+1:]...)
		}
		keys = []zael.Key{l.key}
		debits = []zael.Debit{debit(l.key, back(l.charge, max(n, 1)))}
	} else {
		keys = w.keys()
		for _, k := range keys {
			debits = append(debits, debit(k))
		}
	}
	for i := range debits {
		names := w.names()
		if len(debits[i].Charges) > 0 {
			names = names[1:]
		}
		for _, name := range names {
			d := w.definition(name)
			debits[i].Charges = append(debits[i].Charges, ask(name, d, w.amount(d)))
		}
	}
	if !w.live(debits) { // what a store forgot it may take for emptier at an older instant
		after = w.now
	}
	now, err := bucket.At(w.e.t0.Add(after))
	if err != nil {
		return nil, err
	}
	at, err := w.e.adjust(ctx, w.e.t0.Add(after), debits...)
	w.trace = append(w.trace, fmt.Sprintf("  %v Adjust %s: %v", after, debitsText(debits), orNil(err)))
	if err != nil {
		return nil, err
	}
	w.model.latest = bucket.Instant(w.e.latest.Load())
	w.model.adjust(now, at, debits)
	return keys, nil
}

// live reports whether none of the limits can have been forgotten.
func (w *walk) live(debits []zael.Debit) bool {
	for _, d := range debits {
		for _, c := range d.Charges {
			if w.model.bucket(d.Key).limits[c.Name].Full(mustAt(w.e.t0.Add(w.now))) {
				return false
			}
		}
	}
	return true
}
