package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
)

func limitChecks() []check {
	return []check{
		{name: "limits come back as they were set", run: limitsComeBack},
		{name: "limits are replaced as a whole", run: limitsReplaced},
		{name: "revisions are the time in µs and always rise", run: revisionsRise},
		{name: "deleting leaves a revision", run: deletingLeavesRevision},
		{name: "deleting nothing changes nothing", run: deletingNothing},
		{name: "the four scopes are kept apart", run: scopesApart},
		{name: "limits are read in the order of scopes", run: limitsInOrder},
		{name: "scopes that differ in name are different scopes", run: scopeNamesApart},
		{name: "readers see whole sets, and what was finished before", run: wholeSets},
		{name: "writers get revisions of their own", run: writersApart},
		{name: "setting limits leaves buckets alone", run: bucketsLeftAlone},
		{name: "an entity's buckets are complete and in order", run: entityBuckets},
		{name: "deleting an entity removes its limits", also: []Role{EntityStore}, run: deletesLimits},
		{name: "a done context: all or nothing", run: limitsDone},
	}
}

// set stores limits, by a clock at after, and wants the revision.
func (s *script) set(after time.Duration, scope zael.Scope, want int64, limits ...zael.Limit) {
	s.do(func() error {
		rev, err := role[zael.LimitStore](s.e).SetLimits(s.ctx, scope, limits, s.e.event(after, zael.LimitsSet, scope.Entity, scope.Resource))
		if err != nil {
			return err
		}
		if rev != want {
			return fmt.Errorf("SetLimits of %s at %v: got revision %d, want %d", scope, after, rev, want)
		}
		return nil
	})
}

// unset deletes limits and wants the revision.
func (s *script) unset(after time.Duration, scope zael.Scope, want int64) {
	s.do(func() error {
		rev, err := role[zael.LimitStore](s.e).DeleteLimits(s.ctx, scope, s.e.event(after, zael.LimitsDeleted, scope.Entity, scope.Resource))
		if err != nil {
			return err
		}
		if rev != want {
			return fmt.Errorf("DeleteLimits of %s at %v: got revision %d, want %d", scope, after, rev, want)
		}
		return nil
	})
}

// limits reads a scope and wants its revision and its limits.
func (s *script) limits(scope zael.Scope, rev int64, want ...zael.Limit) {
	s.do(func() error {
		got, err := s.e.limitsOf(s.ctx, scope)
		if err != nil {
			return err
		}
		if got.Rev != rev || !slices.Equal(got.Limits, want) {
			return fmt.Errorf("Limits of %s: got %v at revision %d, want %v at %d", scope, got.Limits, got.Rev, want, rev)
		}
		return nil
	})
}

// limitsOf reads scopes in one call and wants the revision and the limits of each.
func (s *script) limitsOf(scopes []zael.Scope, want func(i int) (rev int64, limits []zael.Limit)) {
	s.do(func() error {
		got, err := role[zael.LimitStore](s.e).Limits(s.ctx, scopes)
		if err != nil {
			return err
		}
		if len(got) != len(scopes) {
			return fmt.Errorf("Limits of %d scopes: got %d", len(scopes), len(got))
		}
		for i, set := range got {
			if rev, limits := want(i); set.Rev != rev || !slices.Equal(set.Limits, limits) {
				return fmt.Errorf("Limits of %s in place %d: got %v at revision %d, want %v at %d", scopes[i], i, set.Limits, set.Rev, limits, rev)
			}
		}
		return nil
	})
}

func (e *env) limitsOf(ctx context.Context, scope zael.Scope) (zael.LimitSet, error) {
	got, err := role[zael.LimitStore](e).Limits(ctx, []zael.Scope{scope})
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("Limits of one scope: got %d sets", len(got))
	}
	if err != nil {
		return zael.LimitSet{}, err
	}
	return got[0], nil
}

func (e *env) micros(after time.Duration) int64 { return e.t0.Add(after).UnixMicro() }

func limitsComeBack(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope := zael.Scope{Entity: "alice", Resource: "gpt-4"}
	limits := []zael.Limit{ // not in order of name
		zael.PerMinute("tpm", 10_000).WithBurst(20_000),
		{Name: "z/a.b-c_d", Capacity: 3, Burst: 50, RefillAmount: 7, RefillPeriod: 90 * time.Second},
		{Name: "slow", Capacity: 1, Burst: 1_000_000_000_000_000, RefillAmount: 1, RefillPeriod: 366 * 24 * time.Hour},
		{Name: "odd", Capacity: 1, Burst: 1, RefillAmount: 9_000_000_000, RefillPeriod: time.Second + 1},
		zael.PerSecond("RPM", 1), zael.PerSecond("rpm", 2),
	}

	s.limits(scope, 0)
	given := slices.Clone(limits)
	s.set(0, scope, e.micros(0), given...)
	given[0] = zael.PerDay("changed afterwards", 1)
	s.limits(scope, e.micros(0), limits...)
	s.do(func() error {
		got, err := e.limitsOf(ctx, scope)
		if err == nil {
			got.Limits[0] = zael.PerDay("changed by a reader", 1)
		}
		return err
	})
	s.limits(scope, e.micros(0), limits...)
	return s.err
}

func limitsReplaced(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope := zael.Scope{Resource: "gpt-4"}
	a, b, c := zael.PerMinute("a", 1), zael.PerMinute("b", 2), zael.PerMinute("c", 3)

	s.set(0, scope, e.micros(0), a, b, c)
	s.set(time.Second, scope, e.micros(time.Second), c)
	s.limits(scope, e.micros(time.Second), c)
	s.set(2*time.Second, scope, e.micros(2*time.Second), zael.PerHour("c", 4), a)
	s.limits(scope, e.micros(2*time.Second), zael.PerHour("c", 4), a)
	return s.err
}

// revisionsRise sets limits by clocks that stand still and go back.
func revisionsRise(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope, a := zael.Scope{Entity: "alice"}, zael.PerMinute("a", 1)
	now := 1500*time.Microsecond + 300*time.Nanosecond // whole µs count

	s.set(now, scope, e.micros(0)+1500, a)
	s.set(now, scope, e.micros(0)+1501, a)
	s.set(0, scope, e.micros(0)+1502, a)
	s.set(-time.Hour, scope, e.micros(0)+1503, a)
	s.unset(-time.Hour, scope, e.micros(0)+1504)
	s.set(-time.Hour, scope, e.micros(0)+1505, a)
	s.set(2*time.Millisecond, scope, e.micros(0)+2000, a)
	s.limits(scope, e.micros(0)+2000, a)
	s.set(0, zael.Scope{Entity: "bob"}, e.micros(0), a) // each scope has its own
	return s.err
}

func deletingLeavesRevision(ctx context.Context, e *env) error {
	s := e.script(ctx)
	a := zael.PerMinute("a", 1)
	for _, scope := range []zael.Scope{{}, {Resource: "gpt-4"}, {Entity: "alice"}, {Entity: "alice", Resource: "gpt-4"}} {
		s.set(0, scope, e.micros(0), a)
		s.unset(time.Second, scope, e.micros(time.Second))
		s.limits(scope, e.micros(time.Second))
		s.unset(2*time.Second, scope, e.micros(time.Second)) // there is nothing left
		s.limits(scope, e.micros(time.Second))
		s.set(0, scope, e.micros(time.Second)+1, a)
		s.unset(0, scope, e.micros(time.Second)+2)
		s.limits(scope, e.micros(time.Second)+2)
	}
	return s.err
}

func deletingNothing(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope, a := zael.Scope{Entity: "alice", Resource: "gpt-4"}, zael.PerMinute("a", 1)

	s.unset(time.Hour, scope, 0)
	s.limits(scope, 0)
	s.set(0, scope, e.micros(0), a)
	s.unset(time.Hour, zael.Scope{Entity: "alice"}, 0)
	s.unset(time.Hour, zael.Scope{Resource: "gpt-4"}, 0)
	s.unset(time.Hour, zael.Scope{}, 0)
	s.limits(scope, e.micros(0), a)
	return s.err
}

func scopesApart(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scopes := []zael.Scope{
		{},
		{Resource: "x"},
		{Entity: "x"},
		{Entity: "x", Resource: "x"},
		{Resource: "default"},
		{Entity: "default"},
		{Resource: "SYSTEM"},
		{Entity: "SYSTEM"},
		{Entity: "SYSTEM", Resource: "META"},
		{Entity: "x", Resource: "default"},
		{Entity: "x", Resource: "y"},
		{Resource: "y"},
		{Entity: "y"},
		{Entity: "y", Resource: "x"},
	}
	for i, scope := range scopes {
		s.set(time.Duration(i)*time.Second, scope, e.micros(time.Duration(i)*time.Second), zael.PerMinute("a", int64(i)+1))
	}
	left := func(gone int) {
		s.limitsOf(scopes, func(i int) (int64, []zael.Limit) {
			if i < gone {
				return e.micros(time.Minute), nil
			}
			return e.micros(time.Duration(i) * time.Second), []zael.Limit{zael.PerMinute("a", int64(i)+1)}
		})
	}
	left(0)
	for i, scope := range scopes {
		s.limits(scope, e.micros(time.Duration(i)*time.Second), zael.PerMinute("a", int64(i)+1))
	}
	for i, scope := range scopes[:4] {
		s.unset(time.Minute, scope, e.micros(time.Minute))
		left(i + 1)
	}
	return s.err
}

// limitsInOrder reads more scopes than engines answer in one batch.
func limitsInOrder(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var scopes []zael.Scope
	for i := range 130 {
		n := fmt.Sprintf("n-%d", (i*37)%130)
		scopes = append(scopes, []zael.Scope{{Entity: n}, {Resource: n}, {Entity: n, Resource: "gpt-4"}, {Entity: "alice", Resource: n}}[i%4])
		if i%3 == 0 {
			s.set(0, scopes[i], e.micros(0), zael.PerMinute("a", int64(i)+1))
		}
	}
	s.limitsOf(scopes, func(i int) (int64, []zael.Limit) {
		if i%3 > 0 {
			return 0, nil
		}
		return e.micros(0), []zael.Limit{zael.PerMinute("a", int64(i)+1)}
	})
	s.do(func() error {
		none, err := role[zael.LimitStore](e).Limits(ctx, nil)
		if err != nil || len(none) > 0 {
			return fmt.Errorf("Limits of no scopes: got %d and %w, want none", len(none), orNil(err))
		}
		return nil
	})
	return s.err
}

// scopeNamesApart sets other limits for each hostile pair of names.
func scopeNamesApart(ctx context.Context, e *env) error {
	store := role[zael.LimitStore](e)
	var kept []zael.Scope
	var want []zael.Limit
	for i, k := range e.hostileKeys() {
		if k.Resource == zael.DefaultResource {
			continue // the entity's default by another name
		}
		scope, limit := zael.Scope(k.Key), zael.PerMinute("a", int64(i)+1)
		_, err := store.SetLimits(ctx, scope, []zael.Limit{limit}, e.event(0, zael.LimitsSet, scope.Entity, scope.Resource))
		refused, err := refuses("SetLimits of "+keyText(k.Key), k.plain, err)
		if err != nil {
			return err
		}
		if !refused {
			kept, want = append(kept, scope), append(want, limit)
		}
	}
	s := e.script(ctx)
	s.limitsOf(kept, func(i int) (int64, []zael.Limit) { return e.micros(0), want[i : i+1] })
	return s.err
}

// wholeSets reads while another goroutine sets and deletes.
func wholeSets(ctx context.Context, e *env) error {
	store := role[zael.LimitStore](e)
	scope := zael.Scope{Entity: "alice"}
	sets := make([][]zael.Limit, 3) // the last is empty: deleted
	for i, name := range strings.Split("a b c d e f", " ") {
		sets[0] = append(sets[0], zael.PerMinute(name, 1))
		if i%2 == 0 {
			sets[1] = append(sets[1], zael.PerMinute(name, 2))
		}
	}
	var finished atomic.Int64 // the revision of the last change that has ended
	var writing atomic.Bool
	writing.Store(true)
	return together(4, func(i int) error {
		if i == 0 {
			defer writing.Store(false)
			for j := range e.fewer(21) {
				var rev int64
				var err error
				if limits := sets[j%3]; limits != nil {
					rev, err = store.SetLimits(ctx, scope, limits, e.event(0, zael.LimitsSet, "alice", ""))
				} else {
					rev, err = store.DeleteLimits(ctx, scope, e.event(0, zael.LimitsDeleted, "alice", ""))
				}
				if err != nil {
					return err
				}
				if want := e.micros(0) + int64(j); rev != want {
					return fmt.Errorf("change %d: got revision %d, want %d", j, rev, want)
				}
				finished.Store(rev)
				if got, err := e.limitsOf(ctx, scope); err != nil || got.Rev != rev {
					return fmt.Errorf("Limits just after change %d: got revision %d and %w, want %d", j, got.Rev, orNil(err), rev)
				}
			}
			return nil
		}
		for writing.Load() {
			before := finished.Load()
			got, err := e.limitsOf(ctx, scope)
			if err != nil {
				return err
			}
			if got.Rev < before {
				return fmt.Errorf("Limits after revision %d was set: got revision %d", before, got.Rev)
			}
			var want []zael.Limit
			if got.Rev > 0 {
				want = sets[(got.Rev-e.micros(0))%3]
			}
			if !slices.Equal(got.Limits, want) {
				return fmt.Errorf("Limits at revision %d: got %v, want %v", got.Rev, got.Limits, want)
			}
		}
		return nil
	})
}

// writersApart sets by many writers at one instant: no revision is given twice,
// and the highest one's limits stay.
func writersApart(ctx context.Context, e *env) error {
	const writers = 10
	scope := zael.Scope{Resource: "gpt-4"}
	revs := make([]int64, writers)
	err := together(writers, func(i int) error {
		limits := []zael.Limit{zael.PerMinute("a", int64(i)+1)}
		var err error
		revs[i], err = role[zael.LimitStore](e).SetLimits(ctx, scope, limits, e.event(0, zael.LimitsSet, "", "gpt-4"))
		return err
	})
	if err != nil {
		return err
	}
	last := slices.Index(revs, slices.Max(revs))
	s := e.script(ctx)
	s.limits(scope, e.micros(0)+writers-1, zael.PerMinute("a", int64(last)+1))
	slices.Sort(revs)
	for i, rev := range revs {
		if want := e.micros(0) + int64(i); rev != want {
			return fmt.Errorf("revisions of %d writers at one instant: got %d in place %d, want %d", writers, rev, i, want)
		}
	}
	return s.err
}

func bucketsLeftAlone(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := trickle(10)
	s.admit(0, debit(k, ask("rpm", d, 4)))
	s.set(0, zael.Scope{Entity: "alice", Resource: k.Resource}, e.micros(0), zael.PerSecond("rpm", 500), zael.PerSecond("tpm", 5))
	s.left(0, k, "rpm", d, 6)
	s.unset(0, zael.Scope{Entity: "alice", Resource: k.Resource}, e.micros(0)+1)
	s.left(0, k, "rpm", d, 6)
	return s.err
}

func entityBuckets(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	want := map[string][]string{}
	debts := map[zael.Key]int64{}
	for i := range 108 {
		entity := []string{"alice", "alice", "alice", "Alice", "alice-2", "al"}[i%6]
		k := zael.Key{Entity: entity, Resource: fmt.Sprintf("%s%d", []string{"r-", "R.", "r/", "r_", "a"}[i%5], (i*17)%108)}
		want[entity] = append(want[entity], k.Resource)
		s.admit(0, debit(k, ask("rpm", d, int64(len(k.Resource))), ask("tpm", d, 1)))
		if i%3 == 0 { // debt is live too
			debts[k] = 20
			s.adjust(0, debit(k, ask("rpm", d, 20)))
		}
	}
	for entity, resources := range want {
		slices.Sort(resources)
		s.do(func() error {
			list, err := collect(role[zael.LimitStore](e).EntityBuckets(ctx, entity))
			if err != nil {
				return err
			}
			var got []string
			at := mustAt(e.t0)
			for _, b := range list {
				got = append(got, b.Key.Resource)
				if b.Key.Entity != entity {
					return fmt.Errorf("EntityBuckets of %s: got %s", entity, keyText(b.Key))
				}
				rpm, tpm := level(limitOf(b, "rpm"), at), level(limitOf(b, "tpm"), at)
				if want := (int64(len(b.Key.Resource)) + debts[b.Key]) * 1000; rpm != want || tpm != 1000 || len(b.Limits) != 2 {
					return fmt.Errorf("EntityBuckets, %s: got %+v, want %d and 1000 units taken", keyText(b.Key), b.Limits, want)
				}
				if err := inOrder(b); err != nil {
					return err
				}
			}
			return sameList("EntityBuckets of "+entity, got, resources)
		})
	}
	s.do(func() error {
		if list, err := collect(role[zael.LimitStore](e).EntityBuckets(ctx, "nobody")); err != nil || len(list) > 0 {
			return fmt.Errorf("EntityBuckets of nobody: got %d and %w, want none", len(list), orNil(err))
		}
		return nil
	})
	return s.err
}

// deletesLimits: an entity's limits and their revisions go with it, and are
// enough to find it by.
func deletesLimits(ctx context.Context, e *env) error {
	s := e.script(ctx)
	a := zael.PerMinute("a", 1)
	one, two, both := zael.Scope{Entity: "alice"}, zael.Scope{Entity: "alice", Resource: "x"}, []zael.Scope{{Resource: "alice"}, {Entity: "alice-2"}}
	for _, scope := range append(both, one, two) {
		s.set(time.Minute, scope, e.micros(time.Minute), a)
	}
	s.unset(time.Minute, two, e.micros(time.Minute)+1)
	s.remove("alice", nil)
	s.limits(one, 0)
	s.limits(two, 0)
	s.limits(both[0], e.micros(time.Minute), a)
	s.limits(both[1], e.micros(time.Minute), a)
	s.remove("alice", zael.ErrEntityNotFound)

	s.set(0, two, e.micros(0), a)
	s.unset(0, two, e.micros(0)+1)
	s.remove("alice", nil) // there was a tombstone
	s.limits(two, 0)
	s.remove("alice", zael.ErrEntityNotFound)
	return s.err
}

func limitsDone(ctx context.Context, e *env) error {
	store := role[zael.LimitStore](e)
	a, b := zael.PerMinute("a", 1), zael.PerMinute("b", 1)
	for name, gone := range done(ctx) {
		s := e.script(ctx)
		scope := zael.Scope{Entity: name}
		s.set(0, scope, e.micros(0), a)
		_, err := store.SetLimits(gone, scope, []zael.Limit{b, a}, e.event(time.Second, zael.LimitsSet, name, ""))
		made, err := heeds(gone, "SetLimits", err)
		if err != nil {
			return err
		}
		if made {
			s.limits(scope, e.micros(time.Second), b, a)
		} else {
			s.limits(scope, e.micros(0), a)
		}

		s.set(time.Minute, scope, e.micros(time.Minute), a)
		_, err = store.DeleteLimits(gone, scope, e.event(time.Hour, zael.LimitsDeleted, name, ""))
		if made, err = heeds(gone, "DeleteLimits", err); err != nil {
			return err
		}
		if made {
			s.limits(scope, e.micros(time.Hour))
		} else {
			s.limits(scope, e.micros(time.Minute), a)
		}

		_, err = store.Limits(gone, []zael.Scope{scope})
		if _, err = heeds(gone, "Limits", err); err != nil {
			return err
		}
		_, err = collect(store.EntityBuckets(gone, name))
		if _, err = heeds(gone, "EntityBuckets", err); err != nil {
			return err
		}
		if s.err != nil {
			return s.err
		}
	}
	return nil
}
