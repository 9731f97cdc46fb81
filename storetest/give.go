package storetest

import (
	"context"
	"time"

	"github.com/zeroae/zael"
)

func giveChecks() []check {
	return []check{
		{name: "a give returns what was taken", run: givesBack},
		{name: "a give never goes above the burst", run: givesTwice},
		{name: "what has refilled is not given back", run: givesAfterRefill},
		{name: "hoarded leases make no tokens", run: hoarding},
		{name: "a give of another generation gives nothing", run: givesOfOtherGeneration},
		{name: "a give to a missing bucket does nothing", run: givesToMissing},
		{name: "a give after the bucket was deleted gives nothing", also: []Role{EntityStore}, run: givesToBornAnew},
		{name: "a place in line is given back only at its end", run: givesPlace},
		{name: "a give counts by the latest instant seen", run: givesBySeen},
	}
}

func givesBack(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	taken := debit(k, ask("rpm", d, 6), ask("tpm", d, 2))

	s.admit(0, taken)
	s.adjust(0, debit(k, back(taken.Charges[0], 4)))
	s.left(0, k, "rpm", d, 8)
	s.left(0, k, "tpm", d, 8)
	s.admit(0, debit(k, ask("rpm", d, 8)))
	s.adjust(0, debit(k, back(taken.Charges[0], 2), back(taken.Charges[1], 2)))
	s.left(0, k, "rpm", d, 2)
	s.left(0, k, "tpm", d, 10)
	return s.err
}

// givesTwice gives more than was taken: never above the burst, and never more
// at once than the receipt's stretch.
func givesTwice(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	first, second := debit(k, ask("rpm", d, 3)), debit(k, ask("rpm", d, 5))

	s.admit(0, first)
	s.admit(0, second)
	s.adjust(0, debit(k, back(first.Charges[0], 1000)))
	s.left(0, k, "rpm", d, 5)
	for range 4 {
		s.adjust(0, debit(k, back(second.Charges[0], 1000)))
	}
	s.left(0, k, "rpm", d, 10)
	s.admit(0, debit(k, ask("rpm", d, 10)))
	s.refuse(0, debit(k, ask("rpm", d, 1)))
	s.left(time.Hour, k, "rpm", d, 10)
	s.adjust(time.Hour, debit(k, back(second.Charges[0], 5))) // of a full bucket
	s.admit(time.Hour, debit(k, ask("rpm", d, 10)))
	s.refuse(time.Hour, debit(k, ask("rpm", d, 1)))
	return s.err
}

func givesAfterRefill(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	first := debit(k, ask("rpm", d, 6))

	s.admit(0, first)
	s.admit(4*time.Second, debit(k, ask("rpm", d, 8)))
	s.left(4*time.Second, k, "rpm", d, 0)
	s.adjust(4*time.Second, debit(k, back(first.Charges[0], 6))) // 4 of the 6 have refilled
	s.left(4*time.Second, k, "rpm", d, 2)
	s.adjust(6*time.Second, debit(k, back(first.Charges[0], 6))) // and now all
	s.left(6*time.Second, k, "rpm", d, 4)
	s.refuse(6*time.Second, debit(k, ask("rpm", d, 5)))
	return s.err
}

// hoarding takes the whole burst in each period and keeps the leases; at the end
// only the last can be given back.
func hoarding(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	var leases []zael.Debit
	now := -10 * time.Second
	for range 12 {
		now += 10 * time.Second
		lease := debit(k, ask("rpm", d, 10))
		s.admit(now, lease)
		leases = append(leases, lease)
	}
	for _, lease := range leases[:11] {
		s.adjust(now, debit(k, back(lease.Charges[0], 10)))
		s.refuse(now, debit(k, ask("rpm", d, 1)))
	}
	s.adjust(now, debit(k, back(leases[11].Charges[0], 10)))
	s.admit(now, debit(k, ask("rpm", d, 10)))
	s.refuse(now, debit(k, ask("rpm", d, 1)))
	return s.err
}

// givesOfOtherGeneration: after the definition changed, and after it changed back,
// marks can't be compared with the receipt's.
func givesOfOtherGeneration(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d, fast := trickle(10), define(10, 100, time.Second)
	take := func(entity string) (zael.Key, zael.Charge) {
		taken := debit(key(entity), ask("rpm", d, 6))
		s.admit(0, taken)
		return taken.Key, taken.Charges[0]
	}

	k, taken := take("changed")
	s.adjust(0, debit(k, ask("rpm", fast, 0)))
	give := back(taken, 6)
	s.adjust(0, debit(k, give))
	s.left(0, k, "rpm", fast, 4) // nor does a give change the definition

	k, taken = take("changed-back")
	s.adjust(0, debit(k, ask("rpm", fast, 0)))
	s.admit(100*time.Millisecond, debit(k, ask("rpm", fast, 10))) // all of the 6 has refilled
	s.adjust(100*time.Millisecond, debit(k, ask("rpm", d, 0)))
	s.left(100*time.Millisecond, k, "rpm", d, 0)
	s.adjust(100*time.Millisecond, debit(k, back(taken, 6)))
	s.left(100*time.Millisecond, k, "rpm", d, 0)

	k, taken = take("forged")
	forged := back(taken, 6)
	forged.Receipt.Generation ^= 1 << 40
	s.adjust(100*time.Millisecond, debit(k, forged))
	s.left(100*time.Millisecond, k, "rpm", d, 4)
	return s.err
}

func givesToMissing(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := trickle(10)
	taken := debit(key("alice"), ask("rpm", d, 6))

	s.admit(0, taken)
	s.adjust(0, debit(key("bob"), back(taken.Charges[0], 6)))
	s.left(0, key("bob"), "rpm", d, 10)
	s.admit(0, debit(key("bob"), ask("rpm", d, 10)))
	s.refuse(0, debit(key("bob"), ask("rpm", d, 1)))

	none := back(taken.Charges[0], 6)
	none.Name = "tpm" // a limit that the bucket does not have
	s.adjust(0, debit(key("alice"), none))
	s.left(0, key("alice"), "tpm", d, 10)
	s.left(0, key("alice"), "rpm", d, 4)
	return s.err
}

func givesToBornAnew(ctx context.Context, e *env) error {
	s := e.script(ctx)
	entities := role[zael.EntityStore](e)
	d := never(10)
	k := key("alice")
	for range 5 {
		taken := debit(k, ask("rpm", d, 6))
		s.admit(0, taken)
		s.do(func() error { return entities.DeleteEntity(ctx, "alice", e.event(0, zael.EntityDeleted, "alice", "")) })
		s.left(0, k, "rpm", d, 10)
		s.adjust(0, debit(k, back(taken.Charges[0], 6)))
		s.admit(0, debit(k, ask("rpm", d, 7)))
		s.adjust(0, debit(k, back(taken.Charges[0], 6)))
		s.left(0, k, "rpm", d, 3)
		s.do(func() error { return entities.DeleteEntity(ctx, "alice", e.event(0, zael.EntityDeleted, "alice", "")) })
	}
	return s.err
}

// givesPlace gives up places in line: one that others stand behind stays, or
// they would be admitted at times that were promised to nobody.
func givesPlace(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	first, second := debit(k, ask("rpm", d, 5)), debit(k, ask("rpm", d, 5))

	s.admit(0, debit(k, ask("rpm", d, 10)))
	s.admitWithin(0, time.Minute, first)
	s.admitWithin(0, time.Minute, second)
	s.adjust(0, debit(k, back(first.Charges[0], 5)))
	s.left(0, k, "rpm", d, -10)
	s.adjust(0, debit(k, back(second.Charges[0], 5)))
	s.left(0, k, "rpm", d, -5)
	s.adjust(0, debit(k, back(first.Charges[0], 5))) // now the last
	s.left(0, k, "rpm", d, 0)
	return s.err
}

// givesBySeen gives by a clock that is behind: what had refilled by the
// instants that the store has seen has refilled.
func givesBySeen(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	first, second := debit(k, ask("rpm", d, 10)), debit(k, ask("rpm", d, 10))

	s.admit(0, first)
	s.admit(10*time.Second, second)
	s.adjust(0, debit(k, back(first.Charges[0], 10)))
	s.left(10*time.Second, k, "rpm", d, 0)
	s.refuse(10*time.Second, debit(k, ask("rpm", d, 1)))
	s.admit(15*time.Second, debit(k, ask("rpm", d, 5)))
	s.adjust(9*time.Second, debit(k, back(second.Charges[0], 10))) // 5 of the 10 have refilled
	s.left(15*time.Second, k, "rpm", d, 5)
	return s.err
}
