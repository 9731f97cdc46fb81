package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/zeroae/zael/bucket"
)

func definitionChecks() []check {
	return []check{
		{name: "a changed limit keeps the tokens taken", run: keepsTaken},
		{name: "flipping two definitions makes no tokens", run: flips},
		{name: "a limit raised or lowered in debt", run: changedInDebt},
		{name: "a stored limit replaced caps once", run: successorCaps},
		{name: "a change of the unit keeps the tokens taken", run: unitChange},
		{name: "two call sites with different limits", run: subsets},
		{name: "a limit added to a live bucket starts full", run: addedLimit},
		{name: "a change at an older instant makes no tokens", run: changedInThePast},
	}
}

func keepsTaken(ctx context.Context, e *env) error {
	s := e.script(ctx)
	old := trickle(100)
	for i, tt := range []struct {
		d    bucket.Definition
		left int64 // after 60 of 100 were taken, and one more under d
	}{
		{trickle(200), 139},
		{trickle(61), 0},
		{define(100, 100, time.Second), 39},
		{define(100, 1, time.Hour), 39},
		{define(1000, 7, 3*time.Second), 939},
	} {
		k := key(fmt.Sprintf("entity-%d", i))
		s.admit(0, debit(k, ask("rpm", old, 60)))
		s.admit(0, debit(k, ask("rpm", tt.d, 1)))
		s.left(0, k, "rpm", tt.d, tt.left)
		s.refuse(0, debit(k, ask("rpm", tt.d, tt.left+1)))
		if tt.left > 0 {
			s.admit(0, debit(k, ask("rpm", tt.d, tt.left)))
		}
		s.adjust(0, debit(k, ask("rpm", old, 0)))
		s.left(0, k, "rpm", old, 100-61-tt.left)
	}
	k := key("too-small") // 60 taken do not fit a burst of 50: debt
	s.admit(0, debit(k, ask("rpm", old, 60)))
	s.refuse(0, debit(k, ask("rpm", trickle(50), 0)))
	s.left(0, k, "rpm", old, 40)
	return s.err
}

// flips goes from one definition to another and back; keeping the fraction of
// the burst, or cutting at it, makes tokens.
func flips(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	large, small := trickle(1000), trickle(10)

	s.admit(0, debit(k, ask("rpm", large, 1000)))
	for range 5 {
		s.adjust(0, debit(k, ask("rpm", small, 0)))
		s.left(0, k, "rpm", small, -990)
		s.adjust(0, debit(k, ask("rpm", large, 0)))
		s.left(0, k, "rpm", large, 0)
		s.refuse(0, debit(k, ask("rpm", small, 1)))
		s.refuse(0, debit(k, ask("rpm", large, 1)))
	}
	s.admit(3*time.Second, debit(k, ask("rpm", large, 3)))
	s.refuse(3*time.Second, debit(k, ask("rpm", large, 1)))

	// Half taken of the small one is not half taken of the large one.
	k = key("bob")
	s.admit(0, debit(k, ask("rpm", small, 5)))
	s.admit(0, debit(k, ask("rpm", large, 95)))
	s.left(0, k, "rpm", large, 900)
	s.adjust(0, debit(k, ask("rpm", small, 0)))
	s.left(0, k, "rpm", small, -90)
	return s.err
}

// changedInDebt: debt is neither forgiven nor kept for ever.
func changedInDebt(ctx context.Context, e *env) error {
	s := e.script(ctx)
	old := trickle(10)
	for i, tt := range []struct {
		d     bucket.Definition
		debt  int64         // left, just after the change
		after time.Duration // when one token can be had
	}{
		{trickle(20), -5, 6 * time.Second},
		{trickle(5), -20, 21 * time.Second},
		{trickle(100), 75, 0},
		{define(10, 10, time.Second), -15, 1600 * time.Millisecond},
	} {
		k := key(fmt.Sprintf("entity-%d", i))
		now := time.Duration(i) * time.Hour
		one := debit(k, ask("rpm", tt.d, 1))
		s.adjust(now, debit(k, ask("rpm", old, 25)))
		s.left(now, k, "rpm", old, -15)
		s.adjust(now, debit(k, ask("rpm", tt.d, 0)))
		s.left(now, k, "rpm", tt.d, tt.debt)
		if tt.after > 0 {
			s.refuse(now+tt.after-1, one)
		}
		s.admit(now+tt.after, one)
	}
	return s.err
}

// successorCaps: a lowered burst does not turn into debt what was rightly
// taken, once for each revision, and debt stays debt.
func successorCaps(ctx context.Context, e *env) error {
	s := e.script(ctx)
	for i, tt := range []struct{ taken, burst, left int64 }{
		{60, 50, 0},
		{60, 10, 0},
		{5, 10, 5},
		{60, 200, 140},
		{120, 50, -20}, // 20 were debt before
		{120, 110, -10},
	} {
		k := key(fmt.Sprintf("entity-%d", i))
		old, successor := stored(trickle(100), 5), stored(trickle(tt.burst), 6)
		s.adjust(0, debit(k, ask("rpm", old, tt.taken)))
		s.adjust(0, debit(k, ask("rpm", successor, 0)))
		s.left(0, k, "rpm", successor, tt.left)
	}
	k := key("by-take")
	s.admit(0, debit(k, ask("rpm", stored(trickle(100), 5), 60)))
	s.admit(0, debit(k, ask("rpm", stored(trickle(50), 6), 0)))
	s.left(0, k, "rpm", stored(trickle(50), 6), 0)
	s.admit(0, debit(k, ask("rpm", stored(trickle(100), 7), 50)))
	s.refuse(0, debit(k, ask("rpm", stored(trickle(100), 7), 1)))
	return s.err
}

// unitChange goes over 1,000,000 tokens a second, where whole tokens are
// counted, and back.
func unitChange(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	slow, fast := define(2_000_000, 1_000_000, time.Second), define(2_000_000, 1_000_001, time.Second)

	s.admit(0, debit(k, ask("rpm", slow, 1_500_000)))
	s.admit(0, debit(k, ask("rpm", fast, 100_000)))
	s.left(0, k, "rpm", fast, 400_000)
	s.admit(0, debit(k, ask("rpm", slow, 100_000)))
	s.left(0, k, "rpm", slow, 300_000)
	s.refuse(0, debit(k, ask("rpm", fast, 300_001)))
	s.admit(0, debit(k, ask("rpm", fast, 300_000)))
	s.left(time.Second, k, "rpm", fast, 1_000_001)
	return s.err
}

// subsets: call sites that name different limits of one bucket do not switch
// each other's off.
func subsets(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(5)
	admitted := map[string]int64{}
	for i := range 20 {
		name := []string{"rpm", "tpm"}[i%2]
		one := debit(k, ask("shared", trickle(7), 1), ask(name, d, 1))
		if admitted["rpm"]+admitted["tpm"] < 7 {
			s.admit(0, one)
			admitted[name]++
		} else {
			s.refuse(0, one)
		}
		s.left(0, k, "rpm", d, 5-admitted["rpm"])
		s.left(0, k, "tpm", d, 5-admitted["tpm"])
	}
	s.left(0, k, "shared", trickle(7), 0)
	return s.err
}

func addedLimit(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)

	s.admit(0, debit(k, ask("rpm", d, 10)))
	s.refuse(0, debit(k, ask("rpm", d, 1), ask("tpm", d, 4)))
	s.admit(time.Second, debit(k, ask("rpm", d, 1), ask("tpm", d, 10)))
	s.refuse(2*time.Second, debit(k, ask("rpm", d, 1), ask("tpm", d, 2)))
	s.left(2*time.Second, k, "rpm", d, 1)
	s.left(2*time.Second, k, "tpm", d, 1)
	s.adjust(2*time.Second, debit(k, ask("in-flight", d, 12)))
	s.left(2*time.Second, k, "in-flight", d, -2)
	return s.err
}

// changedInThePast changes a limit to a faster one by a call whose clock is
// behind: what refilled since by the new rate was never there.
func changedInThePast(ctx context.Context, e *env) error {
	slow, fast := trickle(1000), define(1000, 100, time.Second)
	now := 10 * time.Second
	for i, change := range []func(*script, string){
		func(s *script, entity string) { s.adjust(0, debit(key(entity), ask("rpm", fast, 0))) },
		func(s *script, entity string) { s.takeEither(0, debit(key(entity), ask("rpm", fast, 1))) },
		func(s *script, entity string) { s.takeEither(0, debit(key(entity), ask("rpm", fast, 900))) },
	} {
		s := e.script(ctx)
		k := key(fmt.Sprintf("entity-%d", i))
		s.admit(now, debit(k, ask("rpm", slow, 900)))
		change(s, k.Entity)
		got, at := s.state(now, k, "rpm")
		s.do(func() error {
			if got.Full(at) || got.Available(at) > 100 {
				return fmt.Errorf("100 tokens were left at %v, then the limit was changed at 0: got %s at %v, want at most 100 left",
					now, stateText(got, at), now)
			}
			return nil
		})
		s.refuse(now, debit(k, ask("rpm", fast, 101)))
		if s.err != nil {
			return s.err
		}
	}
	return nil
}
