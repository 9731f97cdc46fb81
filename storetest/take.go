package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func takeChecks() []check {
	return []check{
		{name: "a take charges every limit", run: chargesEveryLimit},
		{name: "a take charges all limits or none", run: allLimitsOrNone},
		{name: "a take charges all buckets or none", run: allBucketsOrNone},
		{name: "limits of one name in two buckets are two", run: bucketsApart},
		{name: "a full bucket gives its burst and no more", run: exactBurst},
		{name: "a refusal ends at the nanosecond it says", run: toTheNanosecond},
		{name: "refill is exact however often it is asked", run: exactRefill},
		{name: "asking for 0 takes nothing and is refused in debt", run: askedZero},
		{name: "a wait reserves what will have refilled", run: reserves},
		{name: "receipts and states are written", run: writesReceipts},
		{name: "limits that are not named stay", run: unnamedStay},
		{name: "nothing of a debit is kept by reference", run: keepsNoReference},
		{name: "instants before the epoch and long after it", run: farInstants},
		{name: "the largest numbers", run: largestNumbers},
		{name: "wrong arguments are validation errors", run: wrongArguments},
	}
}

func chargesEveryLimit(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	rpm, tpm := trickle(10), trickle(1000)

	s.admit(0, debit(k, ask("rpm", rpm, 3), ask("tpm", tpm, 400)))
	s.left(0, k, "rpm", rpm, 7)
	s.left(0, k, "tpm", tpm, 600)
	s.left(2*time.Second, k, "rpm", rpm, 9)
	s.admit(2*time.Second, debit(k, ask("tpm", tpm, 602), ask("rpm", rpm, 8))) // in any order
	s.left(2*time.Second, k, "rpm", rpm, 1)
	s.left(2*time.Second, k, "tpm", tpm, 0)
	return s.err
}

// allLimitsOrNone lets each of three limits be the one that refuses.
func allLimitsOrNone(ctx context.Context, e *env) error {
	s := e.script(ctx)
	names := []string{"a", "b", "c"}
	d := trickle(10)
	for refusing := range names {
		k := key(fmt.Sprintf("entity-%d", refusing))
		take := debit(k)
		for i, name := range names {
			n := int64(2)
			if i == refusing {
				n = 7
			}
			take.Charges = append(take.Charges, ask(name, d, n))
		}
		s.admit(0, debit(k, ask("a", d, 4), ask("b", d, 4), ask("c", d, 4)))
		s.refuse(0, take)
		for _, name := range names {
			s.left(0, k, name, d, 6)
		}
	}
	return s.err
}

// allBucketsOrNone is a cascade in which the child refuses, and then one in
// which the parent does.
func allBucketsOrNone(ctx context.Context, e *env) error {
	s := e.script(ctx)
	child, parent := key("child"), key("parent")
	small, large := trickle(5), trickle(10)

	s.admit(0, debit(child, ask("rpm", small, 3)), debit(parent, ask("rpm", large, 3)))
	s.left(0, child, "rpm", small, 2)
	s.left(0, parent, "rpm", large, 7)

	s.refuse(0, debit(child, ask("rpm", small, 3)), debit(parent, ask("rpm", large, 3)))
	s.refuse(0, debit(parent, ask("rpm", large, 3)), debit(child, ask("rpm", small, 3)))
	s.left(0, child, "rpm", small, 2)
	s.left(0, parent, "rpm", large, 7)

	s.admit(0, debit(parent, ask("rpm", large, 6)))
	s.refuse(0, debit(child, ask("rpm", small, 2)), debit(parent, ask("rpm", large, 2)))
	s.refuse(0, debit(parent, ask("rpm", large, 2)), debit(child, ask("rpm", small, 2)))
	s.left(0, child, "rpm", small, 2)
	s.left(0, parent, "rpm", large, 1)

	other := key("other-child") // which has no bucket yet
	s.refuse(0, debit(other, ask("rpm", small, 2)), debit(parent, ask("rpm", large, 2)))
	s.left(0, other, "rpm", small, 5)
	return s.err
}

func bucketsApart(ctx context.Context, e *env) error {
	s := e.script(ctx)
	child, parent := key("child"), key("parent")
	small, large := trickle(5), define(100, 60, time.Minute)
	takeBoth := []zael.Debit{
		debit(parent, ask("tpm", large, 1), ask("rpm", large, 20)), // not in order of key or name
		debit(child, ask("rpm", small, 2)),
	}

	s.admit(0, takeBoth...)
	s.left(0, child, "rpm", small, 3)
	s.left(0, parent, "rpm", large, 80)
	s.left(0, parent, "tpm", large, 99)
	s.left(0, zael.Key{Entity: "child", Resource: "gpt-5"}, "rpm", small, 5)
	return s.err
}

func exactBurst(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)

	s.refuse(0, debit(k, ask("rpm", d, 11)))
	s.admit(0, debit(k, ask("rpm", d, 10)))
	s.refuse(0, debit(k, ask("rpm", d, 1)))
	s.left(time.Hour, k, "rpm", d, 10)
	never := debit(k, ask("rpm", d, 11))
	s.refuse(time.Hour, never)
	s.refuseWithin(time.Hour, 24*time.Hour, never)
	s.do(func() error {
		if got := never.Charges[0].State.Wait(0, 11); got != zael.Never {
			return fmt.Errorf("wait for 11 of a burst of 10: got %v, want Never", got)
		}
		return nil
	})
	s.admit(time.Hour, debit(k, ask("rpm", d, 10)))
	s.refuse(time.Hour, debit(k, ask("rpm", d, 1)))
	return s.err
}

// toTheNanosecond asks again one nanosecond before the time that a refusal
// gives, and then at that time.
func toTheNanosecond(ctx context.Context, e *env) error {
	s := e.script(ctx)
	after := 100*time.Millisecond + 1
	for i, d := range []bucket.Definition{
		trickle(10),
		define(7, 7, 3*time.Second),
		define(20, 1, 7*time.Second),
		define(3, 3, 366*24*time.Hour),
		define(1000, 999, time.Minute),
		define(5_000_000, 2_000_000, time.Second), // counted in whole tokens
	} {
		k := key(fmt.Sprintf("entity-%d", i))
		s.admit(after, debit(k, ask("rpm", d, d.Burst)))
		for n := int64(1); n <= 3 && s.err == nil; n++ {
			again := debit(k, ask("rpm", d, n))
			s.refuse(after, again)
			at, err := bucket.At(e.t0.Add(after))
			if err != nil {
				return err
			}
			wait := again.Charges[0].State.Wait(at, n)
			s.do(func() error {
				pace := d.Period / time.Duration(d.Amount)
				if low, high := time.Duration(n)*pace-pace, time.Duration(n)*pace+pace; wait < low || wait > high {
					return fmt.Errorf("wait for %d of %+v: got %v, want %v to %v", n, d, wait, low, high)
				}
				return nil
			})
			s.refuse(after+wait-1, again)
			s.admit(after+wait, again)
			after += wait
		}
	}
	return s.err
}

// exactRefill asks for odd amounts at odd instants, each time the same of the
// store and of package bucket.
func exactRefill(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := define(7, 3, time.Second)
	want := bucket.State{}
	after := time.Duration(0)
	for i := range e.times(90) {
		n := int64(i%3) + 1
		at, err := bucket.At(e.t0.Add(after))
		if err != nil {
			return err
		}
		next, fits := want.Redefine(d, at, 1).Take(at, n, 0)
		if fits {
			s.admit(after, debit(k, ask("rpm", d, n)))
			want = next
		} else {
			s.refuse(after, debit(k, ask("rpm", d, n)))
		}
		after += time.Duration(i%7)*173*time.Millisecond + 7
	}
	s.holds(after, k, "rpm", want)
	return s.err
}

func askedZero(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	none := debit(k, ask("rpm", d, 0), ask("tpm", d, 0))

	s.admit(0, none)
	s.left(0, k, "rpm", d, 10)
	s.admit(0, debit(k, ask("rpm", d, 10)))
	s.admit(0, none) // nothing left, and no debt
	s.left(0, k, "rpm", d, 0)
	s.adjust(0, debit(k, ask("rpm", d, 2)))
	s.refuse(0, none)
	s.refuse(0, debit(k, ask("rpm", d, 0), ask("tpm", d, 1)))
	s.left(0, k, "tpm", d, 10)
	s.refuse(2*time.Second-1, none)
	s.admitWithin(time.Second, time.Second, none)
	s.admit(2*time.Second, none)
	s.left(2*time.Second, k, "rpm", d, 0)
	return s.err
}

func reserves(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	five := debit(k, ask("rpm", d, 5))

	s.admit(0, debit(k, ask("rpm", d, 8)))
	s.refuseWithin(0, 3*time.Second-1, five)
	s.left(0, k, "rpm", d, 2)
	s.admitWithin(0, 3*time.Second, five)
	s.left(0, k, "rpm", d, -3)
	s.refuseWithin(0, 8*time.Second-1, five) // behind the first
	s.admitWithin(0, 8*time.Second, five)
	s.left(0, k, "rpm", d, -8)
	s.refuse(7*time.Second, debit(k, ask("rpm", d, 0))) // others wait
	s.refuseWithin(0, 24*time.Hour, debit(k, ask("rpm", d, 11)))
	s.left(8*time.Second, k, "rpm", d, 0)

	// One limit that can wait and one that has no need to.
	both := debit(key("bob"), ask("rpm", d, 10), ask("tpm", d, 1))
	s.admit(0, both)
	s.refuseWithin(0, 10*time.Second-1, both)
	s.left(0, both.Key, "tpm", d, 9)
	s.admitWithin(0, 10*time.Second, both)
	s.left(0, both.Key, "rpm", d, -10)
	s.left(0, both.Key, "tpm", d, 8)
	return s.err
}

func writesReceipts(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d, fast := trickle(10), define(100, 1000, time.Second)
	first := []zael.Debit{
		debit(key("child"), ask("rpm", d, 4), ask("tpm", fast, 30)),
		debit(key("parent"), ask("rpm", d, 1)),
	}
	second := debit(key("child"), ask("rpm", d, 2), ask("tpm", fast, 5))

	s.admit(time.Millisecond/2, first...)
	s.admit(time.Millisecond, second)
	s.do(func() error {
		at, err := bucket.At(e.t0.Add(time.Millisecond))
		if err != nil {
			return err
		}
		for i, want := range []int64{6000, 35_000} { // 6 and 35 taken, after half a millisecond
			c := second.Charges[i]
			got, dripped := level(c.State, at), c.Definition.Drip(at)-c.Definition.Drip(at-bucket.Instant(time.Millisecond/2))
			if got != want-dripped {
				return fmt.Errorf("state of %q after the second take: got %d units taken, want %d", c.Name, got, want-dripped)
			}
			if a, b := first[0].Charges[i].Receipt.Generation, c.Receipt.Generation; a != b {
				return fmt.Errorf("receipts of two takes of %q: got generations %d and %d, want the same", c.Name, a, b)
			}
		}
		return nil
	})
	s.stands(time.Millisecond, key("child"), second.Charges[0])
	s.stands(time.Millisecond, key("child"), second.Charges[1])
	s.stands(time.Millisecond, key("parent"), first[1].Charges[0])
	return s.err
}

func unnamedStay(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)

	s.admit(0, debit(k, ask("rpm", d, 10)))
	s.admit(0, debit(k, ask("tpm", d, 1)))
	s.refuse(0, debit(k, ask("rpm", d, 1)))
	s.adjust(0, debit(k, ask("in-flight", d, 3)))
	s.refuse(0, debit(k, ask("tpm", d, 10)))
	s.left(0, k, "rpm", d, 0)
	s.left(0, k, "tpm", d, 9)
	s.left(0, k, "in-flight", d, 7)
	s.admit(3*time.Second, debit(k, ask("tpm", d, 1)))
	s.left(3*time.Second, k, "rpm", d, 3)
	return s.err
}

func keepsNoReference(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	spoil := func(x zael.Debit) {
		for i := range x.Charges {
			x.Charges[i] = ask("spoilt", define(99, 99, time.Minute), 99)
		}
	}
	taken := debit(k, ask("rpm", d, 4), ask("tpm", d, 2))
	charged := debit(k, ask("rpm", d, 1))

	s.admit(0, taken)
	spoil(taken)
	s.left(0, k, "rpm", d, 6)
	s.left(0, k, "tpm", d, 8)
	s.adjust(0, charged)
	spoil(charged)
	s.left(0, k, "rpm", d, 5)
	s.do(func() error {
		_, got, err := e.read(ctx, e.t0, k)
		if err != nil {
			return err
		}
		for i := range got[0].Limits {
			got[0].Limits[i] = zael.LimitState{Name: "spoilt"}
		}
		return nil
	})
	s.left(0, k, "rpm", d, 5)
	s.left(0, k, "spoilt", d, 10)
	return s.err
}

// farInstants works before the epoch, where drips are negative, and decades
// after it.
func farInstants(ctx context.Context, e *env) error {
	for i, year := range []int{1996, 2024, 2053} {
		t0 := e.t0
		e.t0 = time.Date(year, time.November, 30, 23, 59, 59, 999_999_999, time.UTC)
		s := e.script(ctx)
		k := key(fmt.Sprintf("entity-%d", i))
		d := define(7, 7, 3*time.Second)
		s.admit(0, debit(k, ask("rpm", d, 7)))
		s.refuse(400*time.Millisecond, debit(k, ask("rpm", d, 1)))
		s.admit(429*time.Millisecond, debit(k, ask("rpm", d, 1)))
		s.left(429*time.Millisecond+3*time.Second, k, "rpm", d, 7)
		e.t0 = t0
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

func largestNumbers(ctx context.Context, e *env) error {
	s := e.script(ctx)
	for i, d := range []bucket.Definition{
		define(bucket.MaxAmount, bucket.MaxAmount, bucket.MaxPeriod),
		define(bucket.MaxAmount, bucket.MaxRate, time.Second),
		define(bucket.MaxAmount, 1, bucket.MaxPeriod),
		define(1, bucket.MaxRate, time.Second),
	} {
		k := key(fmt.Sprintf("entity-%d", i))
		s.admit(0, debit(k, ask("rpm", d, d.Burst)))
		s.refuse(0, debit(k, ask("rpm", d, 1)))
		s.adjust(0, debit(k, ask("rpm", d, bucket.MaxAmount)))
		s.left(0, k, "rpm", d, -bucket.MaxAmount)
	}
	return s.err
}

// wrongArguments are instants and sums out of range: nothing may change.
func wrongArguments(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	s.admit(0, debit(k, ask("rpm", d, 4)))

	for _, now := range []time.Time{
		time.Date(1900, time.January, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2090, time.January, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9000, time.January, 1, 0, 0, 0, 0, time.UTC),
		{},
	} {
		_, takeErr := e.ask(ctx, now, 0, []zael.Debit{debit(k, ask("rpm", d, 1))})
		_, adjustErr := e.store.Adjust(ctx, now, []zael.Debit{debit(k, ask("rpm", d, 1))})
		_, _, readErr := e.store.Buckets(ctx, now, []zael.Key{k})
		for method, err := range map[string]error{"Take": takeErr, "Adjust": adjustErr, "Buckets": readErr} {
			s.do(func() error { return wantInvalid(method+" at "+clock(now), err) })
		}
	}

	_, err := e.ask(ctx, e.t0, 0, []zael.Debit{debit(k, ask("rpm", d, -1))})
	s.do(func() error {
		if err == nil {
			return errors.New("Take of -1: got it admitted, want an error")
		}
		return nil
	})
	s.left(0, k, "rpm", d, 6)

	// A sum that leaves int64, beside a charge that would be fine.
	owing := zael.Key{Entity: "bob", Resource: "gpt-4"}
	huge := define(bucket.MaxAmount, 1, bucket.MaxPeriod)
	for range math.MaxInt64 / (bucket.MaxAmount * 1000) {
		s.adjust(0, debit(owing, ask("tpm", huge, bucket.MaxAmount)))
	}
	before, _ := s.state(0, owing, "tpm")
	_, err = e.store.Adjust(ctx, e.t0, []zael.Debit{debit(owing, ask("rpm", d, 1), ask("tpm", huge, bucket.MaxAmount))})
	s.do(func() error { return wantInvalid("Adjust beyond int64", err) })
	s.holds(0, owing, "tpm", before)
	s.left(0, owing, "rpm", d, 10)
	return s.err
}

func wantInvalid(what string, err error) error {
	if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
		return fmt.Errorf("%s: got %w, want a *zael.ValidationError", what, orNil(err))
	}
	return nil
}
