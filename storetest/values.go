package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// valueChecks are those of BucketStore and of all kinds, asking TakeValues and AdjustValues
// first as a Limiter does, and some of their own.
func valueChecks() []check {
	checks := []check{
		{name: "an unanswered call by value changes nothing", run: unansweredValuesChangeNothing},
		{name: "calls by value do not pass settings by", also: []Role{AdminStore}, run: valuesHeedSettings},
	}
	for _, c := range append(bucketChecks(), kindChecks()...) {
		run := c.run
		c.run = func(ctx context.Context, e *env) error {
			e.values = role[zael.ValueStore](e)
			return run(ctx, e)
		}
		checks = append(checks, c)
	}
	return checks
}

// fewLimits is how many limits a ValueStore is asked for at most.
const fewLimits = 4

// byValue returns a call as a ValueStore takes it, if it is one: on one bucket, with
// few limits and amounts from least on. Slots are those of this process.
func byValue(now time.Time, debits []zael.Debit, least int64) (at bucket.Instant, p *zael.PolicyLimits, amounts [fewLimits]int64, ok bool) {
	at, err := bucket.At(now)
	if err != nil || len(debits) != 1 || len(debits[0].Charges) == 0 || len(debits[0].Charges) > fewLimits {
		return at, nil, amounts, false
	}
	p = &zael.PolicyLimits{Resource: debits[0].Key.Resource}
	for i, c := range debits[0].Charges {
		named := func(l bucket.Limit) bool { return l.Name == c.Name }
		if c.Definition.Kind == bucket.Slots && c.Amount != 0 && debits[0].Holder != "" {
			return at, nil, amounts, false
		}
		if c.Amount < least || c.Amount > bucket.MaxAmount || slices.ContainsFunc(p.Limits, named) {
			return at, nil, amounts, false
		}
		p.Limits = append(p.Limits, bucket.Limit{Name: c.Name, Definition: c.Definition})
		amounts[i] = c.Amount
	}
	return at, p, amounts, true
}

// takeValues is Take by TakeValues, if that answers.
func (e *env) takeValues(now time.Time, maxWait time.Duration, debits []zael.Debit) (answered bool, err error) {
	at, p, amounts, ok := byValue(now, debits, 0)
	if !ok || maxWait != 0 {
		return false, nil
	}
	v, outcome, ok := e.values.TakeValues(at, debits[0].Key.Entity, p, amounts)
	if !ok {
		return false, nil
	}
	for i := range debits[0].Charges {
		c := &debits[0].Charges[i]
		c.State = bucket.State{Definition: c.Definition, Mark: v.Marks[i], Used: v.Used[i], Generation: v.Generations[i]}
		if c.Receipt = c.State.Receipt(); outcome != bucket.Fits {
			c.Receipt = bucket.Receipt{}
		}
	}
	switch outcome {
	case bucket.Fits:
		return true, nil
	case bucket.Exceeds:
		return true, zael.ErrExceeded
	default:
		return true, fmt.Errorf("TakeValues: got the outcome %v, want Fits or Exceeds", outcome)
	}
}

// adjustValues is Adjust by AdjustValues, if that answers.
func (e *env) adjustValues(ctx context.Context, now time.Time, debits []zael.Debit) (answered bool, err error) {
	at, p, amounts, ok := byValue(now, debits, -bucket.MaxAmount)
	if !ok {
		return false, nil
	}
	var v zael.Values
	for i, c := range debits[0].Charges {
		v.Marks[i], v.Generations[i] = c.Receipt.Mark, c.Receipt.Generation
	}
	if !e.values.AdjustValues(at, debits[0].Key.Entity, p, amounts, v) {
		return false, nil
	}
	_, buckets, err := e.store.Buckets(ctx, now, []zael.Key{debits[0].Key})
	if err != nil {
		return true, err
	}
	for i := range debits[0].Charges {
		c := &debits[0].Charges[i]
		c.State = limitOf(buckets[0], c.Name)
	}
	return true, nil
}

// unansweredValuesChangeNothing asks by value only, of a bucket that is not there, has
// one of the limits, has both, and has one under another definition; what is not
// answered it then asks in full.
func unansweredValuesChangeNothing(ctx context.Context, e *env) error {
	e.values = role[zael.ValueStore](e)
	k, d, other := key("alice"), trickle(10), trickle(20)
	rpm, tpm := ask("rpm", d, 3), ask("tpm", d, 2)
	for i, charges := range [][]zael.Charge{{rpm}, {rpm, tpm}, {rpm, tpm}, {rpm, ask("tpm", d, 8)}, {ask("rpm", other, 1)}, {rpm}} {
		now := e.t0.Add(time.Duration(i) * time.Millisecond)
		debits := []zael.Debit{debit(k, charges...)}
		answered, err := e.leavesAlone(ctx, now, []zael.Key{k}, func() (bool, error) { return e.takeValues(now, 0, debits) })
		if err == nil && !answered {
			_, err = e.store.Take(ctx, now, 0, debits)
		}
		if err != nil && !errors.Is(err, zael.ErrExceeded) {
			return fmt.Errorf("TakeValues of %s: %w", debitsText(debits), err)
		}

		debits = []zael.Debit{debit(k, ask("rpm", d, 1), ask("late", d, int64(i%2)))}
		answered, err = e.leavesAlone(ctx, now, []zael.Key{k}, func() (bool, error) { return e.adjustValues(ctx, now, debits) })
		if err == nil && !answered {
			_, err = e.store.Adjust(ctx, now, debits)
		}
		if err != nil {
			return fmt.Errorf("AdjustValues of %s: %w", debitsText(debits), err)
		}
	}
	return nil
}

// valuesHeedSettings takes by value once somebody has stored settings.
func valuesHeedSettings(ctx context.Context, e *env) error {
	e.values = role[zael.ValueStore](e)
	s := e.script(ctx)
	k, d := key("alice"), trickle(10)
	s.admit(0, debit(k, ask("rpm", d, 1)))
	s.administer(e.switches(0, zael.Scope{Entity: "alice"}, zael.Disabled), nil)
	s.do(func() error {
		if answered, err := e.takeValues(e.t0, 0, []zael.Debit{debit(k, ask("rpm", d, 1))}); answered {
			return fmt.Errorf("TakeValues from a disabled bucket: got an answer (%w), want none", orNil(err))
		}
		return nil
	})
	s.left(0, k, "rpm", d, 9)
	return s.err
}
