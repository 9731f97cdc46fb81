package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// An env is what a check works with.
type env struct {
	store  zael.Store      // new and empty
	local  zael.LocalStore // asked before store.Take, if not nil
	values zael.ValueStore // asked before both, if not nil
	t0     time.Time       // when the check begins: a full hour
	seed   uint64
	short  bool
	long   int          // how many times as many operations as usual a check makes
	latest atomic.Int64 // the latest instant that the store was told
}

func newEnv(store zael.Store, seed uint64) *env {
	e := &env{
		store: store,
		t0:    time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC),
		seed:  seed,
		long:  1,
		short: testing.Short(),
	}
	e.latest.Store(math.MinInt64)
	return e
}

// times returns how many operations to make where n are usual.
func (e *env) times(n int) int { return n * e.long }

// fewer returns how many to make where n are usual and a third is enough with -short.
func (e *env) fewer(n int) int {
	if n = e.times(n); e.short {
		n /= 3
	}
	return n
}

// see notes that the store is about to be told now.
func (e *env) see(now time.Time) {
	at, err := bucket.At(now)
	if err != nil {
		return
	}
	for {
		old := e.latest.Load()
		if int64(at) <= old || e.latest.CompareAndSwap(old, int64(at)) {
			return
		}
	}
}

// counted checks the instant that a store says it counted by: now, or a later
// one that it was told before.
func (e *env) counted(method string, now, counted time.Time) (bucket.Instant, error) {
	at, err := bucket.At(counted)
	if err != nil {
		return 0, fmt.Errorf("%s at %s: the instant that counted: %w", method, clock(now), err)
	}
	if counted.Before(now) || int64(at) > e.latest.Load() {
		return 0, fmt.Errorf("%s at %s: got %s as the instant that counted, want that, or a later one that the store was told",
			method, clock(now), clock(counted))
	}
	return at, nil
}

// ask is Store.Take, or what a Limiter does with a LocalStore or a ValueStore.
func (e *env) ask(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if e.values != nil {
		if answered, err := e.takeValues(now, maxWait, debits); answered {
			return now, err
		}
	}
	if e.local != nil {
		if at, answered, err := e.local.TakeLocal(now, maxWait, debits); answered {
			return at, err
		}
	}
	return e.store.Take(ctx, now, maxWait, debits)
}

// take is Store.Take. An error that is neither a refusal nor about stale limits
// comes with no instant.
func (e *env) take(ctx context.Context, now time.Time, maxWait time.Duration, debits ...zael.Debit) (bucket.Instant, error) {
	for _, d := range debits {
		for i := range d.Charges { // what was there before must not matter
			d.Charges[i].Receipt = bucket.Receipt{Mark: math.MinInt64, Generation: 13}
			d.Charges[i].State = bucket.State{Mark: math.MinInt64, Generation: 13}
		}
	}
	e.see(now)
	counted, err := e.ask(ctx, now, maxWait, debits)
	if err != nil && !errors.Is(err, zael.ErrExceeded) && !errors.Is(err, zael.ErrStaleLimits) {
		return 0, err
	}
	at, wrong := e.counted("Take", now, counted)
	if wrong != nil {
		return 0, wrong
	}
	if err == nil { // the receipts say it; what a store writes into State does not count
		for _, d := range debits {
			for i := range d.Charges {
				d.Charges[i].State = d.Charges[i].Taken()
			}
		}
	}
	return at, err
}

// adjust is Store.Adjust.
func (e *env) adjust(ctx context.Context, now time.Time, debits ...zael.Debit) (bucket.Instant, error) {
	for _, d := range debits {
		for i := range d.Charges {
			d.Charges[i].State = bucket.State{Mark: math.MinInt64, Generation: 13}
		}
	}
	e.see(now)
	counted, err := e.askAdjust(ctx, now, debits)
	if err != nil {
		return 0, err
	}
	return e.counted("Adjust", now, counted)
}

// askAdjust is Store.Adjust, or what a Limiter does with a LocalStore or a ValueStore.
func (e *env) askAdjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	if e.values != nil {
		if answered, err := e.adjustValues(ctx, now, debits); answered {
			return now, err
		}
	}
	if e.local != nil {
		if at, answered, err := e.local.AdjustLocal(now, debits); answered {
			return at, err
		}
	}
	return e.store.Adjust(ctx, now, debits)
}

// read is Store.Buckets; it checks the keys and the order of the limits.
func (e *env) read(ctx context.Context, now time.Time, keys ...zael.Key) (bucket.Instant, []zael.Bucket, error) {
	e.see(now)
	counted, got, err := e.store.Buckets(ctx, now, keys)
	if err != nil {
		return 0, nil, err
	}
	at, err := e.counted("Buckets", now, counted)
	if err != nil {
		return 0, nil, err
	}
	if len(got) != len(keys) {
		return 0, nil, fmt.Errorf("Buckets of %d keys: got %d", len(keys), len(got))
	}
	for i, b := range got {
		if b.Key != keys[i] {
			return 0, nil, fmt.Errorf("Buckets: got %s in place %d, want %s", keyText(b.Key), i, keyText(keys[i]))
		}
		if err := inOrder(b); err != nil {
			return 0, nil, err
		}
	}
	return at, got, nil
}

// inOrder checks that the limits of a bucket stand in order of name, each once. Slots are
// another limit than what else has their name.
func inOrder(b zael.Bucket) error {
	slots := func(l zael.LimitState) bool { return l.State.Definition.Kind == bucket.Slots }
	for i := 1; i < len(b.Limits); i++ {
		before, l := b.Limits[i-1], b.Limits[i]
		if before.Name >= l.Name && (before.Name != l.Name || slots(before) == slots(l)) {
			return fmt.Errorf("bucket %s: got limit %q before %q, want them in order of name",
				keyText(b.Key), b.Limits[i-1].Name, b.Limits[i].Name)
		}
	}
	return nil
}

// limitOf is the state of a limit in a bucket, absent if it is not there.
func limitOf(b zael.Bucket, name string) bucket.State {
	for _, l := range b.Limits {
		if l.Name == name {
			return l.State
		}
	}
	return bucket.State{}
}

// sameState reports whether two states are equal at an instant: they have the same
// definition and the same level, or both are full and one of them is absent.
func sameState(a, b bucket.State, at bucket.Instant) bool {
	if a.Absent() || b.Absent() {
		return a.Full(at) && b.Full(at)
	}
	return a.Definition == b.Definition && level(a, at) == level(b, at)
}

// under reports whether a state is under a definition. A definition without a
// revision, named by a call, keeps the revision of the state.
func under(s bucket.State, d bucket.Definition) bool {
	if d.Rev == 0 {
		d.Rev = s.Definition.Rev
	}
	return s.Definition == d
}

// level is what is taken and not yet refilled, in units.
func level(s bucket.State, at bucket.Instant) int64 {
	if s.Full(at) {
		return 0
	}
	return s.Mark - s.Definition.Drip(at)
}

// collect reads an iterator to its end or its error.
func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}

// define is a definition named by the call.
func define(burst, amount int64, period time.Duration) bucket.Definition {
	return bucket.Definition{Burst: burst, Amount: amount, Period: period, Capacity: min(burst, amount)}
}

// trickle holds burst tokens and gets one a second.
func trickle(burst int64) bucket.Definition { return define(burst, 1, time.Second) }

// never holds burst tokens and refills none within a check.
func never(burst int64) bucket.Definition { return define(burst, 1, bucket.MaxPeriod) }

// stored is a definition that comes from the store at a revision.
func stored(d bucket.Definition, rev int64) bucket.Definition {
	d.Rev = rev
	return d
}

func key(entity string) zael.Key { return zael.Key{Entity: entity, Resource: "gpt-4"} }

func ask(name string, d bucket.Definition, n int64) zael.Charge {
	return zael.Charge{Name: name, Definition: d, Amount: n}
}

// back gives n tokens of a charge back.
func back(c zael.Charge, n int64) zael.Charge {
	return zael.Charge{Name: c.Name, Definition: c.Definition, Amount: -n, Receipt: c.Receipt}
}

func debit(k zael.Key, charges ...zael.Charge) zael.Debit {
	return zael.Debit{Key: k, Charges: charges}
}

// event is one that a Limiter would record.
func (e *env) event(after time.Duration, action zael.AuditAction, entity, resource string) zael.AuditEvent {
	return zael.AuditEvent{
		Time: e.t0.Add(after), Action: action, Principal: "storetest", Entity: entity, Resource: resource,
		Details: map[string]string{"after": after.String()},
	}
}

// role is the store in a role that it has.
func role[T any](e *env) T {
	s, ok := e.store.(T)
	if !ok {
		panic(fmt.Sprintf("%T lacks a role of the check", e.store)) // Run asks before
	}
	return s
}

// Texts for messages.

func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999999Z") }

func keyText(k zael.Key) string { return quote(k.Entity) + " on " + quote(k.Resource) }

func quote(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", s[:40], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func stateText(s bucket.State, at bucket.Instant) string {
	if s.Absent() {
		return "none"
	}
	d := s.Definition
	return fmt.Sprintf("%d units taken of %d tokens at %d/%v rev %d", level(s, at), d.Burst, d.Amount, d.Period, d.Rev)
}

func debitsText(debits []zael.Debit) string {
	var b strings.Builder
	for i, d := range debits {
		if i > 0 {
			b.WriteString(" and ")
		}
		b.WriteString(keyText(d.Key) + ":")
		for i, c := range d.Charges {
			if i == 8 {
				fmt.Fprintf(&b, " and %d more", len(d.Charges)-i)
				break
			}
			fmt.Fprintf(&b, " %s %+d of %d at %d/%v rev %d", quote(c.Name), c.Amount,
				c.Definition.Burst, c.Definition.Amount, c.Definition.Period, c.Definition.Rev)
		}
	}
	return b.String()
}
