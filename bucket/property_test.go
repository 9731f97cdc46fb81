package bucket_test

import (
	"errors"
	"flag"
	"math"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/bucket"
)

// TestMain asks rapid for more than its 100 checks a property, as these are
// cheap. RAPID_CHECKS and -rapid.checks still decide.
func TestMain(m *testing.M) {
	if os.Getenv("RAPID_CHECKS") == "" {
		if err := flag.Set("rapid.checks", "400"); err != nil {
			panic(err)
		}
	}
	m.Run()
}

func TestDripAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := definitions().Draw(t, "definition")
		at := instants().Draw(t, "at")
		if err := d.Validate(); err != nil {
			t.Fatalf("got %v, want a valid definition", err)
		}
		unit := whole(d.Unit())
		if unit.Cmp(unitOf(d)) != 0 {
			t.Fatalf("unit: got %s, want %s", unit, unitOf(d))
		}
		got, want := quo(whole(d.Drip(at)), unit), dripOf(d, whole(int64(at)))
		if got.Cmp(want) != 0 {
			t.Fatalf("drip: got %s tokens, want %s", got, want)
		}
		if next := later(at).Draw(t, "next"); d.Drip(next) < d.Drip(at) {
			t.Fatalf("drip falls: got %d at %d, then %d at %d", d.Drip(at), at, d.Drip(next), next)
		}
	})
}

func TestValidateAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		around := func(name string, edges ...int64) int64 {
			return near(math.MinInt64, math.MaxInt64, edges...).Draw(t, name)
		}
		d := bucket.Definition{
			Burst:    around("burst", 1, bucket.MaxAmount),
			Amount:   around("amount", 1, 9e9, bucket.MaxAmount),
			Capacity: around("capacity", 1),
			Rev:      around("rev", 0),
		}
		if rapid.Bool().Draw(t, "plausible") {
			d = definitions().Draw(t, "definition")
			d.Amount = around("another amount", d.Amount, 9*int64(d.Period))
		} else {
			d.Period = time.Duration(around("period", int64(bucket.MinPeriod), int64(bucket.MaxPeriod)))
		}
		in := func(n, lo, hi int64) bool { return lo <= n && n <= hi }
		want := in(d.Burst, 1, 1e15) && in(d.Amount, 1, 1e15) && in(int64(d.Period), 1e9, 366*86400*1e9) &&
			atMost(tokensPerSecond(d), whole(9e9)) && in(d.Capacity, 1, d.Burst) && d.Rev >= 0
		err := d.Validate()
		if got := err == nil; got != want {
			t.Fatalf("%+v is valid: got %v (%v), want %v", d, got, err, want)
		}
		if err != nil && !errors.Is(err, bucket.ErrRange) {
			t.Fatalf("got %v, want an error matching ErrRange", err)
		}
	})
}

func TestReadingAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		s := states(definitions().Draw(t, "definition"), at).Draw(t, "state")
		m := modelOf(s)
		if got, want := s.Available(at), m.available(at); got != want {
			t.Fatalf("available: got %d, want %d", got, want)
		}
		if got, want := s.Full(at), m.full(at); got != want {
			t.Fatalf("full: got %v, want %v", got, want)
		}
	})
}

func TestTakeAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		s := states(definitions().Draw(t, "definition"), at).Draw(t, "state")
		n := anyAmounts(s.Definition).Draw(t, "n")
		ahead := aheads().Draw(t, "ahead")
		got, ok := s.Take(at, n, ahead)
		want, wantOK := modelOf(s).take(at, n, int64(ahead))
		if ok != wantOK {
			t.Fatalf("take: got %v, want %v", ok, wantOK)
		}
		want.same(t, "take", got)
	})
}

func TestChargeAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		s := states(definitions().Draw(t, "definition"), at).Draw(t, "state")
		n := anyAmounts(s.Definition).Draw(t, "n")
		got, err := s.Charge(at, n)
		want, ok := modelOf(s).charge(at, n)
		if (err == nil) != ok {
			t.Fatalf("charge: got %v, want an error: %v", err, !ok)
		}
		if err != nil && !errors.Is(err, bucket.ErrRange) {
			t.Fatalf("charge: got %v, want an error matching ErrRange", err)
		}
		want.same(t, "charge", got)
	})
}

func TestGiveAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		s := states(definitions().Draw(t, "definition"), at).Draw(t, "state")
		n := anyAmounts(s.Definition).Draw(t, "n")
		r := states(s.Definition, at).Draw(t, "receipt").Receipt()
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			r = s.Receipt()
		case 1, 2:
			r.Generation = s.Generation
		}
		got := s.Give(at, n, r)
		modelOf(s).give(at, n, r).same(t, "give", got)
		if got.Available(at) > max(s.Available(at), s.Definition.Burst) {
			t.Fatalf("available after a give: got %d, want at most the burst, %d", got.Available(at), s.Definition.Burst)
		}
	})
}

func TestWaitAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		s := states(definitions().Draw(t, "definition"), at).Draw(t, "state")
		n := rapid.OneOf(amounts(s.Definition), rapid.Just(int64(math.MaxInt64))).Draw(t, "n")
		wait := s.Wait(at, n)
		modelOf(s).waited(t, at, n, int64(wait))
		if n > s.Definition.Burst && wait != bucket.Never {
			t.Fatalf("wait for more than the burst: got %v, want Never", wait)
		}
		if wait > time.Duration(bucket.MaxInstant-at) {
			return
		}
		// Take agrees with Wait, there and ahead.
		if _, ok := s.Take(at, n, wait); !ok {
			t.Fatalf("take ahead by the wait, %v: got false, want true", wait)
		}
		if _, ok := s.Take(at.Add(wait), n, 0); !ok {
			t.Fatalf("take after the wait, %v: got false, want true", wait)
		}
		if wait == 0 {
			return
		}
		if _, ok := s.Take(at, n, wait-1); ok {
			t.Fatalf("take ahead by 1 ns less than the wait, %v: got true, want false", wait)
		}
		if _, ok := s.Take(at.Add(wait-1), n, 0); ok {
			t.Fatalf("take 1 ns before the wait, %v, ends: got true, want false", wait)
		}
	})
}

func TestRedefineAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		s := states(definitions().Draw(t, "definition"), at).Draw(t, "state")
		d := definitions().Draw(t, "new definition")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			s = bucket.State{}
		case 1: // the same but for revision and capacity
			d.Burst, d.Amount, d.Period = s.Definition.Burst, s.Definition.Amount, s.Definition.Period
			d.Capacity = min(d.Capacity, d.Burst)
		case 2: // another burst
			d.Amount, d.Period = s.Definition.Amount, s.Definition.Period
		case 3: // the successor
			d.Rev, s.Definition.Rev = max(d.Rev, s.Definition.Rev, 2), 1
		}
		birth := rapid.Uint64().Draw(t, "birth")
		got := s.Redefine(d, at, birth)
		modelOf(s).under(d, at, birth).same(t, "under", got)
		if again := got.Redefine(d, at, birth+1); again != got {
			t.Fatalf("under the same definition again: got %+v, want %+v", again, got)
		}
	})
}

// TestLifeAgainstModel leads a bucket and its model through the same calls, at
// instants that sometimes go backwards.
func TestLifeAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, life)
}

func life(t *rapid.T) {
	at := instants().Draw(t, "at")
	definition := definitions().Draw(t, "definition")
	s := bucket.State{}.Redefine(definition, at, 1)
	m := model{}.under(definition, at, 1)
	receipts := []bucket.Receipt{{}}
	t.Repeat(map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			m.same(t, "state", s)
			if got, want := s.Available(at), m.available(at); got != want {
				t.Fatalf("available: got %d, want %d", got, want)
			}
		},
		"time passes": func(t *rapid.T) { at = later(at).Draw(t, "at") },
		"time jumps":  func(t *rapid.T) { at = instants().Draw(t, "at") },
		"a moment passes": func(t *rapid.T) {
			moment := rapid.Int64Range(0, 2*int64(s.Definition.Period)/s.Definition.Amount).Draw(t, "moment")
			at = at.Add(time.Duration(moment))
		},
		"take": func(t *rapid.T) {
			n := amounts(s.Definition).Draw(t, "n")
			ahead := time.Duration(near(0, math.MaxInt64, 0).Draw(t, "ahead"))
			var got, want bool
			s, got = s.Take(at, n, ahead)
			m, want = m.take(at, n, int64(ahead))
			if got != want {
				t.Fatalf("take %d: got %v, want %v", n, got, want)
			}
			if got {
				receipts = append(receipts, s.Receipt())
			}
		},
		"charge": func(t *rapid.T) {
			n := amounts(s.Definition).Draw(t, "n")
			var err error
			var ok bool
			s, err = s.Charge(at, n)
			m, ok = m.charge(at, n)
			if (err == nil) != ok {
				t.Fatalf("charge %d: got %v, want an error: %v", n, err, !ok)
			}
			receipts = append(receipts, s.Receipt())
		},
		"give": func(t *rapid.T) {
			n := amounts(s.Definition).Draw(t, "n")
			r := rapid.SampledFrom(receipts).Draw(t, "receipt")
			s, m = s.Give(at, n, r), m.give(at, n, r)
		},
		"wait": func(t *rapid.T) {
			n := amounts(s.Definition).Draw(t, "n")
			m.waited(t, at, n, int64(s.Wait(at, n)))
		},
		"under": func(t *rapid.T) {
			d := definitions().Draw(t, "new definition")
			if !s.Stale(d) {
				s, m = s.Redefine(d, at, 2), m.under(d, at, 2)
			}
		},
	})
}
