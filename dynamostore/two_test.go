package dynamostore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// pair is two processes on one table.
func pair(t *testing.T) (a, b *dynamostore.Store, table *dynamofake.Table) {
	t.Helper()
	return pairOf(t, trial.Options{VirtualTime: true})
}

func pairOf(t *testing.T, options trial.Options) (a, b *dynamostore.Store, table *dynamofake.Table) {
	t.Helper()
	table = dynamofake.New()
	s1, err := dynamostore.NewTrial(table, "fake", patient(), options)
	opened(t, s1, err)
	s2, err := dynamostore.NewTrial(table, "fake", patient(), options)
	opened(t, s2, err)
	return s1, s2, table
}

func stored(d bucket.Definition, rev int64) bucket.Definition {
	d.Rev = rev
	return d
}

// A process that knows a bucket as exhausted asks all the same, and finds what
// another has given back, if refusals are not remembered.
func TestNothingIsRefusedFromMemory(t *testing.T) {
	t.Parallel()
	a, b, _ := pairOf(t, trial.Options{VirtualTime: true, Direct: true})
	d := define(10, 10, time.Hour)
	lease := debit("e", ask("rpm", d, 10))
	take(t, a, 0, nil, lease)
	take(t, b, 0, zael.ErrExceeded, debit("e", ask("rpm", d, 1)))
	adjust(t, a, debit("e", back(lease.Charges[0], 10)))
	take(t, b, 0, nil, debit("e", ask("rpm", d, 10)))
	take(t, a, 0, zael.ErrExceeded, debit("e", ask("rpm", d, 1)))
}

// A process gives back to a limit, and charges it in the same adjust, that it does not
// know to be there.
func TestGiveToUnknownLimit(t *testing.T) {
	t.Parallel()
	a, b, table := pair(t)
	d := define(10, 10, time.Second)
	take(t, b, 0, nil, debit("e", ask("tpm", d, 1)))
	lease := debit("e", ask("rpm", d, 5))
	take(t, a, -time.Hour, nil, lease)
	adjust(t, b, debit("e", back(lease.Charges[0], 2), ask("rpm", d, 1)))
	if c, ok := table.Get("E#e", "B#gpt-4")["c_rpm"].(*types.AttributeValueMemberN); !ok || c.Value != "4" {
		t.Errorf("counter of rpm after 5, 2 back and 1: got %v, want 4", c)
	}
}

// Nor is it called stale, or a place in line lost, from memory.
func TestMemoryDecidesNothing(t *testing.T) {
	t.Parallel()
	a, b, table := pair(t)
	d := define(10, 10, time.Hour)
	take(t, a, 0, nil, debit("e", ask("rpm", stored(d, 5), 3)))
	table.Delete("E#e", "B#gpt-4") // expired, say
	take(t, b, 0, nil, debit("e", ask("rpm", stored(d, 3), 3)))
	take(t, a, 0, nil, debit("e", ask("rpm", stored(d, 4), 3)))
	left(t, a, 0, "e", "rpm", 4)

	first, second := debit("line", ask("rpm", d, 5)), debit("line", ask("rpm", d, 5))
	take(t, a, 0, nil, debit("line", ask("rpm", d, 10)))
	for _, place := range []zael.Debit{first, second} {
		if _, err := b.Take(t.Context(), t0, time.Hour, []zael.Debit{place}); err != nil {
			t.Fatal(err)
		}
	}
	adjust(t, a, debit("line", back(second.Charges[0], 5)))
	adjust(t, b, debit("line", back(first.Charges[0], 5))) // which b remembers as one with another behind it
	left(t, a, 0, "line", "rpm", 0)
}

// Every order of change, seen by a process that remembers the bucket as it was.
func TestChangesOfStoredLimits(t *testing.T) {
	t.Parallel()
	base := define(10, 10, time.Hour)
	raised, lowered, faster := define(20, 10, time.Hour), define(4, 10, time.Hour), define(10, 3600, time.Hour)
	for name, tt := range map[string]struct {
		taken  int64 // before
		change bucket.Definition
		left   int64 // after
	}{
		"raise":              {5, raised, 15},
		"raise in debt":      {25, raised, -5},
		"raise, exhausted":   {10, raised, 10},
		"lower":              {5, lowered, 0}, // capped, once
		"lower to more":      {2, lowered, 2},
		"lower in debt":      {13, lowered, -3},
		"lower, exhausted":   {10, lowered, 0},
		"faster":             {5, faster, 5},
		"faster in debt":     {15, faster, -5},
		"faster, exhausted":  {10, faster, 0},
		"the same":           {5, base, 5},
		"the same, no token": {10, base, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, _ := pair(t)
			adjust(t, a, debit("e", ask("rpm", stored(base, 5), tt.taken)))
			left(t, b, 0, "e", "rpm", 10-tt.taken)
			adjust(t, a, debit("e", ask("rpm", stored(tt.change, 6), 0))) // SetLimits in a
			late := debit("e", ask("rpm", stored(base, 5), 1))
			take(t, b, 0, zael.ErrStaleLimits, late)
			if got := late.Charges[0].State.Definition; got != stored(tt.change, 6) {
				t.Errorf("state under newer limits: got %+v, want %+v", got, tt.change)
			}
			left(t, b, 0, "e", "rpm", tt.left)
			want := error(nil)
			if tt.left < 1 {
				want = zael.ErrExceeded
			}
			take(t, b, 0, want, debit("e", ask("rpm", stored(tt.change, 6), 1)))
			adjust(t, a, debit("e", ask("rpm", stored(base, 5), 1))) // a lease of before settles under the bucket's
			if got := state(t, a, "e", "rpm").Definition; got != stored(tt.change, 6) {
				t.Errorf("definition after a late charge: got %+v, want %+v", got, tt.change)
			}
		})
	}
}

// A limit that one process adds starts full; one that it no longer names stays
// for processes that do.
func TestLimitAddedAndRemoved(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	d := stored(define(10, 10, time.Hour), 5)
	take(t, a, 0, nil, debit("e", ask("rpm", d, 10)))
	take(t, b, 0, zael.ErrExceeded, debit("e", ask("rpm", d, 1), ask("tpm", d, 1)))
	take(t, b, 0, nil, debit("e", ask("tpm", d, 4)))
	take(t, a, 0, nil, debit("e", ask("tpm", d, 6)))
	take(t, b, 0, zael.ErrExceeded, debit("e", ask("tpm", d, 1)))
	left(t, a, 0, "e", "rpm", 0)
}

// A cascade that is refused leaves both buckets as they were: the definitions
// too, and by a clock that is behind.
func TestRefusedCascadeLeavesNothing(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	old, slower := define(10, 10, time.Hour), define(5, 5, time.Hour)
	take(t, a, 0, nil, debit("child", ask("rpm", old, 1)), debit("parent", ask("rpm", old, 1)))
	before := state(t, a, "child", "rpm")
	take(t, a, 0, zael.ErrExceeded, debit("child", ask("rpm", slower, 1)), debit("parent", ask("rpm", slower, 5)))
	if got := state(t, a, "child", "rpm"); got != before {
		t.Errorf("child after a refusal of its parent: got %+v, want %+v", got, before)
	}
	if got := state(t, a, "parent", "rpm"); got.Definition != old {
		t.Errorf("parent after its refusal: got %+v, want it under %+v", got, old)
	}

	// b has never seen the parent refuse, so that it asks both.
	take(t, a, 10*time.Hour, nil, debit("kid", ask("rpm", old, 1)), debit("dad", ask("rpm", old, 10)))
	kid := state(t, a, "kid", "rpm")
	take(t, a, 20*time.Hour, nil, debit("kid", ask("rpm", old, 0)))
	if _, _, err := b.Buckets(t.Context(), t0.Add(20*time.Hour), []zael.Key{{Entity: "kid", Resource: "gpt-4"}}); err != nil {
		t.Fatal(err)
	}
	take(t, b, 10*time.Hour, zael.ErrExceeded, debit("kid", ask("rpm", old, 3)), debit("dad", ask("rpm", old, 3)))
	if got := state(t, b, "kid", "rpm"); got.Mark != kid.Mark {
		t.Errorf("kid after a refusal by a clock behind: got mark %d, want %d", got.Mark, kid.Mark)
	}
}

// The same when another process has charged the child meanwhile: under limits of
// another rate, and under such as differ in name only.
func TestRefusedCascadeRestoresWhatIsThere(t *testing.T) {
	t.Parallel()
	old := define(10, 10, time.Hour)
	renamed := old
	renamed.Capacity = 5
	for name, changed := range map[string]bucket.Definition{"rate": define(8, 5, time.Hour), "capacity": renamed, "revision": stored(old, 7)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, _ := pair(t)
			take(t, a, 0, nil, debit("child", ask("rpm", old, 1)), debit("parent", ask("rpm", old, 1)))
			take(t, b, 0, nil, debit("child", ask("rpm", old, 5)), debit("parent", ask("rpm", old, 9)))
			take(t, a, 0, zael.ErrExceeded, debit("child", ask("rpm", changed, 1)), debit("parent", ask("rpm", old, 1)))
			if got := state(t, a, "child", "rpm"); got.Definition != old {
				t.Errorf("child after a refusal of its parent: got %+v, want it under %+v", got, old)
			}
			left(t, a, 0, "child", "rpm", 4)
		})
	}
}

// A limit that a process has not seen on a bucket that it remembers gets what
// is given back to it.
func TestGiveToLimitNotSeen(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	d := define(10, 10, time.Hour)
	take(t, a, 0, nil, debit("e", ask("rpm", d, 1)))
	lease := debit("e", ask("tpm", d, 6))
	take(t, b, 0, nil, lease)
	adjust(t, a, debit("e", back(lease.Charges[0], 4), ask("rpm", d, 2)))
	left(t, a, 0, "e", "tpm", 8)
	left(t, a, 0, "e", "rpm", 7)
}

// What this process has seen of a bucket stays seen when an older instant comes.
func TestLatestInstantStays(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t)
	d := define(10, 3600, time.Hour)
	lease := debit("e", ask("rpm", d, 10))
	take(t, a, 0, nil, lease)
	take(t, a, 6*time.Second, nil, debit("e", ask("rpm", d, 6)))
	take(t, a, 0, zael.ErrExceeded, debit("e", ask("rpm", d, 1))) // seen at 0 again
	adjust(t, a, debit("e", back(lease.Charges[0], 10)))          // 6 of the 10 have refilled
	left(t, a, 6*time.Second, "e", "rpm", 4)
}

// Two programs with limits of their own for one bucket get the larger burst at
// most, and a second call at each change of hands.
func TestTwoDefinitionsTakeTurns(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	small, large := define(10, 10, time.Hour), define(20, 10, time.Hour)
	admitted := 0
	for i := range 100 {
		s, d := a, small
		if i%2 == 1 {
			s, d = b, large
		}
		_, err := s.Take(t.Context(), t0, 0, []zael.Debit{debit("e", ask("rpm", d, 1))})
		if err == nil {
			admitted++
		} else if !errors.Is(err, zael.ErrExceeded) {
			t.Fatal(err)
		}
	}
	if admitted != 20 {
		t.Errorf("admitted: got %d, want the larger burst, 20", admitted)
	}
	if got := a.Stats().Conversions + b.Stats().Conversions; got < 5 {
		t.Errorf("conversions: got %d, want them counted", got)
	}
}

// An index that is behind names a child that has another parent by now.
func TestChildrenOfIndexBehind(t *testing.T) {
	t.Parallel()
	a, _, table := pair(t)
	event := zael.AuditEvent{Time: t0, Action: zael.EntityCreated}
	for _, e := range []zael.Entity{{ID: "x", ParentID: "p", CreatedAt: t0}, {ID: "y", ParentID: "p", CreatedAt: t0}} {
		if err := a.CreateEntity(t.Context(), e, event); err != nil {
			t.Fatal(err)
		}
	}
	moved := table.Get("E#x", "#META")
	moved["parent"] = table.Get("E#y", "#META")["GSI1SK"] // "y"
	table.Put(moved)
	var got []string
	for e, err := range a.Children(t.Context(), "p") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.ID)
	}
	if len(got) != 1 || got[0] != "y" {
		t.Errorf("children: got %q, want y alone", got)
	}
}
