package memstore_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// limitsOf returns the limits that a bucket has.
func limitsOf(t *testing.T, s *memstore.Store, entity string) []zael.LimitState {
	t.Helper()
	_, b, err := s.Buckets(t.Context(), t0, []zael.Key{{Entity: entity, Resource: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	return b[0].Limits
}

// Names of limits that are used once do not add up in a bucket that stays in use,
// while they come and when no more come.
func TestNamesUsedOnceAreForgotten(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	now := t0
	const n = 2000
	for i := range n {
		now = now.Add(50 * time.Millisecond)
		if i%100 == 0 {
			mustAdjust(t, s, now, debit("a", "r", 1, "busy", "hot")) // ever more in debt
		}
		mustTake(t, s, now, debit("a", "r", 1, fmt.Sprint("once-", i))) // full again after 6 s
	}
	// 7 s of names may be there, and as many again that were not looked at yet.
	if got := len(limitsOf(t, s, "a")); got > 2*140+100 {
		t.Errorf("after %d names in %v: got %d limits kept, want those of 7 s and not more than as many again", n, now.Sub(t0), got)
	}
	now = now.Add(10 * time.Second)
	for range 2048 {
		mustAdjust(t, s, now, debit("a", "r", 0, "busy"))
	}
	if got := limitsOf(t, s, "a"); len(got) != 2 || got[0].Name != "busy" || got[1].Name != "hot" {
		t.Errorf("when no more names come: got %d limits, want busy and hot", len(got))
	}
}

// A limit that was forgotten was full then, and not before: a clock that is behind
// gets nothing out of it.
func TestForgottenLimitMintsNothing(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	mustTake(t, s, t0, debit("a", "r", 10, "rpm")) // full again after 60 s
	mustTake(t, s, t0, debit("a", "r", 10, "busy"))
	now := t0.Add(61 * time.Second)
	for i := 0; ; i++ {
		if i == 1000 {
			t.Fatal("the limit is not forgotten")
		}
		mustTake(t, s, now, debit("a", "r", 1, fmt.Sprint("x", i)))
		mustAdjust(t, s, now, debit("a", "r", 1, "busy")) // the bucket stays
		if !hasLimit(limitsOf(t, s, "a"), "rpm") {
			break
		}
	}
	for _, c := range []struct {
		at   time.Duration
		want int64
	}{{0, 0}, {30 * time.Second, 5}, {60 * time.Second, 10}} {
		d := debit("a", "r", 0, "rpm")
		if _, err := s.Take(t.Context(), t0.Add(c.at), 0, d); err != nil {
			t.Fatal(err)
		}
		at, err := bucket.At(t0.Add(c.at))
		if err != nil {
			t.Fatal(err)
		}
		if got := d[0].Charges[0].State.Available(at); got != c.want {
			t.Errorf("available at +%v: got %d, want %d", c.at, got, c.want)
		}
	}
}

func hasLimit(limits []zael.LimitState, name string) bool {
	for _, l := range limits {
		if l.Name == name {
			return true
		}
	}
	return false
}

func mustAdjust(t *testing.T, s *memstore.Store, now time.Time, d []zael.Debit) {
	t.Helper()
	if _, err := s.Adjust(t.Context(), now, d); err != nil {
		t.Fatal(err)
	}
}

// Whatever order limits come and go in, none that counts is lost, and each is
// found.
func TestLimitsComeAndGo(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 1) {
		limitsComeAndGo(t, seed)
	}
}

func limitsComeAndGo(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	s := memstore.New(nil)
	now := t0
	left := map[string]bucket.State{} // as package bucket has it, which forgets nothing
	takes := 20_000
	if testing.Short() {
		takes /= 3
	}
	for i := range takes {
		if rng.IntN(3) == 0 {
			now = now.Add(time.Duration(rng.Int64N(int64(4 * time.Second))))
		}
		at, err := bucket.At(now)
		if err != nil {
			t.Fatal(err)
		}
		d := debit("a", "r", 1+rng.Int64N(3), fmt.Sprint(rng.IntN(40)), fmt.Sprint("n", rng.IntN(40)))
		_, err = s.Take(t.Context(), now, 0, d)
		fits := true
		var next []bucket.State
		for _, c := range d[0].Charges {
			state, ok := left[c.Name].Redefine(c.Definition, at, 1).Take(at, c.Amount, 0)
			next, fits = append(next, state), fits && ok
		}
		if fits != (err == nil) {
			t.Fatalf("seed %d, take %d: got %v, want it to fit: %v", seed, i, err, fits)
		}
		if err != nil {
			continue
		}
		for j, c := range d[0].Charges {
			if got := c.Taken().Mark; got != next[j].Mark {
				t.Fatalf("seed %d, take %d of %s: got mark %d, want %d", seed, i, c.Name, got, next[j].Mark)
			}
			left[c.Name] = next[j]
		}
	}
}
