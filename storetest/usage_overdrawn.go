package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func overdrawnChecks() []check {
	return []check{
		{name: "takes that leave a soft limit overdrawn are counted", also: []Role{Kinds}, run: countsOverdrawn},
		{name: "what is charged and given back is not counted as overdrawn", also: []Role{Kinds}, run: countsTakesAlone},
		{name: "each limit of a bucket and of its parent's is overdrawn by itself", also: []Role{Kinds}, run: countsEachOverdrawn},
		{name: "concurrent takes that overdraw are all counted", also: []Role{Kinds}, run: countsOverdrawnConcurrent},
		{name: "callers who leave overdraw nothing", also: []Role{Kinds}, run: leaversOverdrawNothing},
	}
}

// softly is a definition that never refuses.
func softly(d bucket.Definition) bucket.Definition {
	d.Flags |= bucket.Soft
	return d
}

// overdrew is used with acquires that left limits overdrawn.
func (e *env) overdrew(hour int, events int64, amounts zael.Amounts, overdrawn map[string]int64) zael.UsageRecord {
	r := e.used(hour, events, amounts)
	r.Overdrawn = overdrawn
	return r
}

func countsOverdrawn(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := softly(never(10))
	q := zael.UsageQuery{Entity: "alice"}

	s.admit(0, debit(k, ask("tpm", d, 10))) // all that is there
	s.usage(q, e.used(14, 1, zael.Amounts{"tpm": 10}))
	s.admit(0, debit(k, ask("tpm", d, 1)))
	s.usage(q, e.overdrew(14, 2, zael.Amounts{"tpm": 11}, map[string]int64{"tpm": 1}))
	s.admit(0, debit(k, ask("tpm", d, 500)))
	s.usage(q, e.overdrew(14, 3, zael.Amounts{"tpm": 511}, map[string]int64{"tpm": 2}))
	s.admit(0, debit(k, ask("tpm", d, 0))) // leaves the debt that there is
	s.usage(q, e.overdrew(14, 4, zael.Amounts{"tpm": 511}, map[string]int64{"tpm": 3}))
	s.admit(time.Minute, debit(k, ask("rpm", d, 1))) // another limit
	s.usage(q, e.overdrew(14, 5, zael.Amounts{"rpm": 1, "tpm": 511}, map[string]int64{"tpm": 3}))
	s.admit(time.Hour, debit(k, ask("tpm", d, 1)))
	s.usage(q, e.overdrew(14, 5, zael.Amounts{"rpm": 1, "tpm": 511}, map[string]int64{"tpm": 3}),
		e.overdrew(15, 1, zael.Amounts{"tpm": 1}, map[string]int64{"tpm": 1}))
	day := e.overdrew(0, 6, zael.Amounts{"rpm": 1, "tpm": 512}, map[string]int64{"tpm": 4})
	day.Window = zael.Daily
	s.usage(zael.UsageQuery{Entity: "alice", Window: zael.Daily}, day)

	refills := softly(define(10, 10, time.Second))
	s.admit(2*time.Hour, debit(key("bob"), ask("tpm", refills, 15)))
	s.admit(2*time.Hour+time.Minute, debit(key("bob"), ask("tpm", refills, 5))) // the debt has refilled
	bob := e.overdrew(16, 2, zael.Amounts{"tpm": 20}, map[string]int64{"tpm": 1})
	bob.Entity = "bob"
	s.usage(zael.UsageQuery{Entity: "bob"}, bob)
	return s.err
}

func countsTakesAlone(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	soft, hard := softly(never(10)), never(3)
	q := zael.UsageQuery{Entity: "alice"}
	taken := debit(k, ask("rpm", hard, 1), ask("tpm", soft, 15))

	s.admit(0, taken)
	want := map[string]int64{"tpm": 1}
	s.adjust(0, debit(k, back(taken.Charges[1], 12))) // the take has overdrawn it all the same
	s.usage(q, e.overdrew(14, 1, zael.Amounts{"rpm": 1, "tpm": 3}, want))
	s.adjust(0, debit(k, ask("tpm", soft, 20)))
	s.usage(q, e.overdrew(14, 1, zael.Amounts{"rpm": 1, "tpm": 23}, want))
	s.refuse(0, debit(k, ask("rpm", hard, 3), ask("tpm", soft, 1)))
	s.usage(q, e.overdrew(14, 1, zael.Amounts{"rpm": 1, "tpm": 23}, want))
	passed := debit(k, ask("rpm", hard, 1), ask("tpm", soft, 1)) // changes no limit
	passed.Bypass = true
	s.admit(0, passed)
	s.usage(q, e.overdrew(14, 2, zael.Amounts{"rpm": 2, "tpm": 24}, want))
	s.adjust(0, debit(k, ask("rpm", hard, 5))) // hard limits are in debt, but not overdrawn
	s.usage(q, e.overdrew(14, 2, zael.Amounts{"rpm": 7, "tpm": 24}, want))
	return s.err
}

func countsEachOverdrawn(ctx context.Context, e *env) error {
	s := e.script(ctx)
	child, parent := key("alice"), key("parent")
	quota := softly(quotaOf("Europe/Berlin"))
	session, slots := sessionOf(10, time.Hour, bucket.Soft), softly(slotsOf(2))
	tight, wide := softly(never(10)), softly(never(100))
	take := debit(child, ask("day", quota, quota.Burst+1), ask("five", session, 10), ask("parallel", slots, 2), ask("tpm", tight, 20))
	take.Holder = "holder-1"
	amounts := zael.Amounts{"day": quota.Burst + 1, "five": 10, "parallel": 2, "tpm": 20}

	s.admit(0, take, debit(parent, ask("tpm", wide, 20)))
	s.usage(zael.UsageQuery{Entity: "alice"}, e.overdrew(14, 1, amounts, map[string]int64{"day": 1, "tpm": 1}))
	up := e.used(14, 1, zael.Amounts{"tpm": 20})
	up.Entity = "parent"
	s.usage(zael.UsageQuery{Entity: "parent"}, up)

	take.Charges = []zael.Charge{ask("five", session, 1), ask("parallel", slots, 1)}
	s.admit(time.Second, take, debit(parent, ask("tpm", wide, 81)))
	amounts["five"], amounts["parallel"] = 11, 3
	s.usage(zael.UsageQuery{Entity: "alice"}, e.overdrew(14, 2, amounts, map[string]int64{"day": 1, "tpm": 1, "five": 1, "parallel": 1}))
	up.Events, up.Amounts, up.Overdrawn = 2, zael.Amounts{"tpm": 101}, map[string]int64{"tpm": 1}
	s.usage(zael.UsageQuery{Entity: "parent"}, up)
	return s.err
}

// countsOverdrawnConcurrent has so many callers take of a soft limit that a known number of them
// leaves it overdrawn, in whatever order they come.
func countsOverdrawnConcurrent(ctx context.Context, e *env) error {
	const callers, free = 200, 120
	k := key("alice")
	d, hard := softly(never(free)), never(callers)
	var admitted, told atomic.Int64
	err := together(callers, func(int) error {
		take := debit(k, ask("rpm", hard, 1), ask("tpm", d, 1))
		at, err := e.take(ctx, e.t0, 0, take)
		if err != nil {
			return err
		}
		admitted.Add(1)
		if take.Charges[1].Overdraws(at) {
			told.Add(1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if want := admitted.Load() - free; told.Load() != want {
		return fmt.Errorf("%d takes of a soft limit of %d: %d callers were told that it is overdrawn, want %d", admitted.Load(), free, told.Load(), want)
	}
	// What a store has expected otherwise, the next take puts right.
	if _, err := e.take(ctx, e.t0, 0, debit(k, ask("rpm", hard, 0), ask("tpm", d, 1))); err != nil {
		return err
	}
	got, err := overdrawnOf(ctx, e, k)
	if want := told.Load() + 1; err == nil && got != want {
		return fmt.Errorf("takes that left a limit overdrawn: got %d counted, want the %d of which callers were told", got, want)
	}
	return err
}

func overdrawnOf(ctx context.Context, e *env, k zael.Key) (n int64, err error) {
	records, err := collect(role[zael.UsageStore](e).Usage(ctx, zael.UsageQuery{Entity: k.Entity}))
	for _, r := range records {
		n += r.Overdrawn["tpm"]
	}
	return n, err
}

// leaversOverdrawNothing has callers leave who overdraw a limit: of those who stay each is
// counted.
func leaversOverdrawNothing(ctx context.Context, e *env) error {
	k, d := key("alice"), softly(never(1))
	if _, err := e.take(ctx, e.t0, 0, debit(k, ask("tpm", d, 2))); err != nil {
		return err
	}
	const callers = 100
	told := atomic.Int64{}
	told.Store(1)
	err := together(callers, func(i int) error {
		stays, cancel := context.WithTimeout(ctx, time.Duration(i)*leaveLongest/callers)
		defer cancel()
		take := debit(k, ask("tpm", d, 2))
		switch _, err := e.take(stays, e.t0, 0, take); {
		case err == nil:
			told.Add(1)
		case stays.Err() == nil:
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return soon(ctx, func(ctx context.Context) error {
		got, err := overdrawnOf(ctx, e, k)
		if err == nil && got != told.Load() {
			err = fmt.Errorf("usage of callers of whom %d were told that they took: got %d takes that left the limit overdrawn", told.Load(), got)
		}
		return err
	})
}
