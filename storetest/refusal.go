package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func refusalChecks() []check {
	return []check{
		{name: "a refusal tells the state of every charge", run: exactStatuses},
		{name: "a refusal keeps a definition that admits sooner", run: keepsSooner},
		{name: "a refusal keeps no other definition", run: keepsNoOther},
		{name: "stale limits change nothing", run: staleChangesNothing},
		{name: "revisions that are not stale", run: notStale},
	}
}

// exactStatuses compares all states of a refused take, of limits that refuse
// and that do not, with and without a bucket, on both sides of a cascade.
func exactStatuses(ctx context.Context, e *env) error {
	s := e.script(ctx)
	child, parent := key("child"), key("parent")
	d, wide := trickle(10), trickle(1000)
	after := 1500 * time.Millisecond

	s.admit(0, debit(child, ask("rpm", d, 8), ask("tpm", wide, 700)))
	s.admit(0, debit(parent, ask("rpm", wide, 20)))
	for _, amount := range []int64{9, 11} { // too many now, and for ever
		asked := []zael.Debit{
			debit(child, ask("new", d, 1), ask("tpm", wide, 100), ask("rpm", d, amount)),
			debit(parent, ask("rpm", wide, 1), ask("new", wide, 1)),
		}
		s.refuse(after, asked...)
		for _, want := range []struct {
			charge zael.Charge
			units  int64
			wait   time.Duration
		}{
			{asked[0].Charges[0], 0, 0},
			{asked[0].Charges[1], 698_500, 0},
			{asked[0].Charges[2], 6_500, map[int64]time.Duration{9: 5500 * time.Millisecond, 11: zael.Never}[amount]},
			{asked[1].Charges[0], 18_500, 0},
			{asked[1].Charges[1], 0, 0},
		} {
			s.do(func() error {
				at, err := bucket.At(e.t0.Add(after))
				if err != nil {
					return err
				}
				c := want.charge
				if units, wait := level(c.State, at), c.State.Wait(at, c.Amount); units != want.units || wait != want.wait {
					return fmt.Errorf("state of %q, asked %d: got %d units taken and a wait of %v, want %d and %v",
						c.Name, c.Amount, units, wait, want.units, want.wait)
				}
				return nil
			})
		}
	}
	return s.err
}

// keepsSooner: a caller that is refused under a faster definition is admitted at the
// time that the refusal named, so the bucket must have kept that definition.
func keepsSooner(ctx context.Context, e *env) error {
	s := e.script(ctx)
	slow, fast, large := trickle(10), define(10, 10, time.Second), trickle(20)
	full := func(after time.Duration, entity string) zael.Key {
		s.admit(after, debit(key(entity), ask("rpm", slow, 10), ask("tpm", slow, 1)))
		return key(entity)
	}

	k := full(0, "faster")
	asked := debit(k, ask("rpm", fast, 5))
	s.refuse(0, asked)
	s.left(0, k, "rpm", fast, 0)
	s.left(0, k, "tpm", slow, 9)
	s.refuse(500*time.Millisecond-1, asked)
	s.admit(500*time.Millisecond, asked)

	k = full(time.Second, "larger")
	asked = debit(k, ask("rpm", large, 12))
	s.refuse(time.Second, asked)
	s.left(time.Second, k, "rpm", large, 10)
	s.refuse(3*time.Second-1, asked)
	s.admit(3*time.Second, asked)

	k = full(4*time.Second, "stored")
	asked = debit(k, ask("rpm", stored(fast, 7), 5))
	s.refuse(4*time.Second, asked)
	s.left(4*time.Second, k, "rpm", stored(fast, 7), 0)
	s.admit(4500*time.Millisecond, asked)
	return s.err
}

// keepsNoOther: a refused take under a slower, smaller or equally fast definition does
// not leave it behind for others.
func keepsNoOther(ctx context.Context, e *env) error {
	s := e.script(ctx)
	old := define(10, 10, time.Second)
	for i, d := range []bucket.Definition{
		trickle(10),                // slower
		define(5, 10, time.Second), // smaller
		define(10, 5, time.Minute), // slower
		stored(old, 5),             // the same, with a revision
		{Burst: 10, Amount: 10, Period: time.Second, Capacity: 4}, // another capacity
		stored(define(9, 10, time.Second), 5),                     // smaller
	} {
		k := key(fmt.Sprintf("entity-%d", i))
		now := time.Duration(i) * time.Second
		s.admit(now, debit(k, ask("rpm", old, 10)))
		s.refuse(now, debit(k, ask("rpm", d, 5)))
		s.left(now, k, "rpm", old, 0)
		s.refuse(now, debit(k, ask("rpm", d, 50))) // never
		s.left(now, k, "rpm", old, 0)
		s.admit(now+500*time.Millisecond, debit(k, ask("rpm", old, 5)))
	}
	return s.err
}

func staleChangesNothing(ctx context.Context, e *env) error {
	s := e.script(ctx)
	child, parent := key("child"), key("parent")
	plain := trickle(10)
	newer, older := stored(trickle(10), 8), stored(define(100, 100, time.Second), 7)

	s.admit(0, debit(child, ask("rpm", newer, 3), ask("tpm", plain, 1)))
	asked := []zael.Debit{
		debit(parent, ask("rpm", plain, 4)),
		debit(child, ask("tpm", plain, 2), ask("rpm", older, 5)),
	}
	s.stale(asked...)
	s.do(func() error {
		at, err := bucket.At(e.t0)
		if err != nil {
			return err
		}
		if got := asked[1].Charges[1].State; got.Definition != newer || level(got, at) != 3000 {
			return fmt.Errorf("state under newer limits: got %s, want it as kept: 3000 units taken of %+v", stateText(got, at), newer)
		}
		return nil
	})
	s.stale(asked[1])
	s.stale(debit(child, ask("rpm", older, 0)))
	s.stale(debit(child, ask("rpm", older, 500)))
	s.left(0, parent, "rpm", plain, 10)
	s.left(0, child, "rpm", newer, 7)
	s.left(0, child, "tpm", plain, 9)
	return s.err
}

// notStale: equal and higher revisions bring a bucket under their definition,
// and so does a limit that the call names, which has none.
func notStale(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)

	s.admit(0, debit(k, ask("rpm", stored(d, 8), 1)))
	s.admit(0, debit(k, ask("rpm", stored(d, 8), 1)))
	s.admit(0, debit(k, ask("rpm", stored(d, 9), 1)))
	s.left(0, k, "rpm", stored(d, 9), 7)
	s.stale(debit(k, ask("rpm", stored(d, 8), 1)))
	s.admit(0, debit(k, ask("rpm", trickle(20), 1)))
	s.left(0, k, "rpm", trickle(20), 16)
	s.stale(debit(k, ask("rpm", stored(d, 8), 1))) // which revision it had stays known
	s.admit(0, debit(k, ask("rpm", stored(d, 9), 1)))
	s.left(0, k, "rpm", stored(d, 9), 5)
	s.admit(0, debit(k, ask("tpm", stored(d, 3), 1))) // each limit has its own
	s.left(0, k, "tpm", stored(d, 3), 9)
	return s.err
}
