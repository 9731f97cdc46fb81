package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func adjustChecks() []check {
	return []check{
		{name: "an adjust charges into debt", run: chargesIntoDebt},
		{name: "an adjust makes a bucket", run: adjustMakesBucket},
		{name: "an adjust of several buckets", run: adjustsSeveral},
		{name: "a charge of 0 brings a limit under its definition", run: zeroConverts},
		{name: "an adjust under stale limits keeps the bucket's", run: staleAdjust},
		{name: "charges of one limit apply in order", run: inOrderOfCharges},
		{name: "any number of charges of one limit", run: manyOfOneLimit},
		{name: "charges of one limit under two definitions make a bucket", run: twoDefinitions},
		{name: "an adjust writes states", run: adjustWritesStates},
	}
}

// twoDefinitions: the second charge finds what the first one made.
func twoDefinitions(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	small, large := trickle(10), trickle(20)
	s.adjust(0, debit(k, ask("rpm", small, 4), ask("rpm", large, 3), ask("rpm", small, 0)))
	s.left(0, k, "rpm", small, 3)
	return s.err
}

func chargesIntoDebt(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d, wide := trickle(10), trickle(1000)

	s.admit(0, debit(k, ask("rpm", d, 9)))
	s.adjust(0, debit(k, ask("rpm", d, 4), ask("tpm", wide, 100)))
	s.left(0, k, "rpm", d, -3)
	s.left(0, k, "tpm", wide, 900)
	s.adjust(0, debit(k, ask("rpm", d, 1_000_000))) // far above the burst
	s.left(0, k, "rpm", d, -1_000_003)
	s.refuse(0, debit(k, ask("rpm", d, 0)))
	debt := 1_000_003 * time.Second
	s.left(debt-time.Second, k, "rpm", d, -1)
	s.refuse(debt-1, debit(k, ask("rpm", d, 0)))
	s.admit(debt, debit(k, ask("rpm", d, 0)))
	s.refuse(debt, debit(k, ask("rpm", d, 1)))
	s.left(debt+4*time.Second, k, "rpm", d, 4)
	s.adjust(debt+4*time.Second, debit(k, ask("rpm", d, 1))) // counts from what has refilled
	s.left(debt+4*time.Second, k, "rpm", d, 3)
	return s.err
}

func adjustMakesBucket(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)

	s.adjust(0, debit(k, ask("rpm", d, 3)))
	s.left(0, k, "rpm", d, 7)
	s.refuse(0, debit(k, ask("rpm", d, 8)))
	s.adjust(time.Hour, debit(k, ask("rpm", d, 3))) // full by then: burst − 3, not more
	s.left(time.Hour, k, "rpm", d, 7)
	return s.err
}

func adjustsSeveral(ctx context.Context, e *env) error {
	s := e.script(ctx)
	child, parent := key("child"), key("parent")
	d := trickle(10)
	taken := []zael.Debit{debit(child, ask("rpm", d, 4), ask("tpm", d, 5)), debit(parent, ask("rpm", d, 4))}

	s.admit(0, taken...)
	s.adjust(0,
		debit(parent, back(taken[1].Charges[0], 3), ask("tpm", d, 20)),
		debit(child, back(taken[0].Charges[0], 3), ask("tpm", d, 2)))
	s.left(0, child, "rpm", d, 9)
	s.left(0, child, "tpm", d, 3)
	s.left(0, parent, "rpm", d, 9)
	s.left(0, parent, "tpm", d, -10)
	return s.err
}

// zeroConverts is how live buckets are told of new limits.
func zeroConverts(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := stored(trickle(10), 3)
	larger, older := stored(trickle(20), 4), stored(trickle(500), 2)

	s.admit(0, debit(k, ask("rpm", d, 4), ask("tpm", d, 1)))
	s.adjust(0, debit(k, ask("rpm", larger, 0), ask("other", larger, 0)))
	s.left(0, k, "rpm", larger, 16)
	s.left(0, k, "tpm", d, 9)
	s.left(0, k, "other", larger, 20) // the bucket has no such limit: none, or a full one
	s.adjust(0, debit(k, ask("rpm", older, 0), ask("tpm", d, 0)))
	s.left(0, k, "rpm", larger, 16)
	s.adjust(0, debit(k, ask("rpm", trickle(7), 0))) // a limit that the call names is not stale
	s.left(0, k, "rpm", trickle(7), 3)

	missing := key("bob")
	s.adjust(0, debit(missing, ask("rpm", d, 0)))
	s.left(0, missing, "rpm", d, 10)
	return s.err
}

// staleAdjust: a lease that was taken before the limits changed settles under
// the new ones.
func staleAdjust(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	older, newer := stored(trickle(10), 3), stored(trickle(20), 4)

	s.admit(0, debit(k, ask("rpm", newer, 5)))
	s.adjust(0, debit(k, ask("rpm", older, 3)))
	s.left(0, k, "rpm", newer, 12)

	// Only the revision differs: the charge is still of the bucket's generation.
	k = key("bob")
	same := stored(older, 4)
	taken := debit(k, ask("rpm", older, 6))
	s.admit(0, taken)
	s.adjust(0, debit(k, ask("rpm", same, 0)))
	s.adjust(0, debit(k, back(taken.Charges[0], 2)))
	s.left(0, k, "rpm", same, 6)
	return s.err
}

func inOrderOfCharges(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := trickle(10)
	first, second := debit(key("alice"), ask("rpm", d, 3)), debit(key("alice"), ask("rpm", d, 4))

	s.admit(0, first)
	s.admit(0, second)
	s.adjust(0, debit(first.Key, back(first.Charges[0], 2), back(second.Charges[0], 3)))
	s.left(0, first.Key, "rpm", d, 8)
	s.adjust(0, debit(first.Key, ask("rpm", d, 5), ask("tpm", d, 1), ask("rpm", d, 6)))
	s.left(0, first.Key, "rpm", d, -3)
	s.left(0, first.Key, "tpm", d, 9)

	// A give is bounded by what is taken when its turn comes.
	taken := debit(key("bob"), ask("rpm", d, 4))
	s.admit(0, taken)
	s.adjust(0, debit(taken.Key, ask("rpm", d, 5), back(taken.Charges[0], 10)))
	s.left(0, taken.Key, "rpm", d, 5)
	taken = debit(key("carol"), ask("rpm", d, 4))
	s.admit(0, taken)
	s.adjust(0, debit(taken.Key, back(taken.Charges[0], 10), back(taken.Charges[0], 10), ask("rpm", d, 5)))
	s.left(0, taken.Key, "rpm", d, 5)

	// A definition, and then a charge under it.
	k := key("dave")
	s.admit(0, debit(k, ask("rpm", stored(d, 3), 1)))
	s.adjust(0, debit(k, ask("rpm", stored(trickle(20), 4), 0), ask("rpm", stored(d, 3), 2)))
	s.left(0, k, "rpm", stored(trickle(20), 4), 17)
	return s.err
}

// manyOfOneLimit is the end of a lease that took more very often.
func manyOfOneLimit(ctx context.Context, e *env) error {
	s := e.script(ctx)
	const n, each = 300, 10 // of a take
	k, d := key("alice"), trickle(1000)
	var gives, charges []zael.Charge
	for range n / each {
		taken := debit(k, ask("rpm", d, each), ask("tpm", d, 2*each))
		s.admit(0, taken)
		for range each {
			gives = append(gives, back(taken.Charges[0], 1), back(taken.Charges[1], 2))
			charges = append(charges, ask("rpm", d, 3), ask("tpm", d, 1))
		}
	}
	s.adjust(0, debit(k, gives...))
	s.left(0, k, "rpm", d, 1000)
	s.left(0, k, "tpm", d, 1000)
	s.adjust(0, debit(k, charges...))
	s.left(0, k, "rpm", d, 1000-3*n)
	s.left(0, k, "tpm", d, 1000-n)
	return s.err
}

func adjustWritesStates(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d, older, newer := trickle(10), stored(trickle(10), 3), stored(trickle(20), 4)
	taken := debit(k, ask("rpm", d, 6), ask("tpm", newer, 1))

	s.admit(0, taken)
	settle := debit(k, back(taken.Charges[0], 2), ask("tpm", older, 3), ask("new", d, 7))
	s.adjust(0, settle)
	s.do(func() error {
		at, err := bucket.At(e.t0)
		if err != nil {
			return err
		}
		for i, want := range []struct {
			d     bucket.Definition
			units int64
		}{{d, 4000}, {newer, 4000}, {d, 7000}} {
			c := settle.Charges[i]
			if c.State.Definition != want.d || level(c.State, at) != want.units {
				return fmt.Errorf("state of %q after Adjust: got %s, want %d units taken under %+v", c.Name, stateText(c.State, at), want.units, want.d)
			}
			if c.Name == "rpm" && c.State.Generation != taken.Charges[0].State.Generation {
				return fmt.Errorf("state of %q after Adjust: got generation %d, want %d as before", c.Name, c.State.Generation, taken.Charges[0].State.Generation)
			}
		}
		return nil
	})
	return s.err
}
