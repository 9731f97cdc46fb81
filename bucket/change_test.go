package bucket_test

import (
	"maps"
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/bucket"
)

// stored is d as a stored limit of a revision.
func stored(d bucket.Definition, rev int64) bucket.Definition {
	d.Rev = rev
	return d
}

// levelOf is what is taken and not yet refilled, in tokens.
func levelOf(s bucket.State, at bucket.Instant) *big.Rat {
	return greatest(whole(0), quo(sub(whole(s.Mark), whole(s.Definition.Drip(at))), whole(s.Definition.Unit())))
}

// TestRedefine checks what becomes of a level when the definition changes.
func TestRedefine(t *testing.T) {
	t.Parallel()
	const rate, fast = 10, 2_000_000 // below and above the rates that count whole tokens
	for _, c := range []struct {
		name           string
		old, d         bucket.Definition
		taken          int64
		want           int64 // available under d
		sameGeneration bool
	}{
		{"unused", perSecond(rate, 100), perSecond(rate, 50), 0, 50, false},
		{"raised", perSecond(rate, 100), perSecond(rate, 200), 60, 140, false},
		{"lowered", perSecond(rate, 100), perSecond(rate, 80), 60, 20, false},
		{"lowered below what was taken", perSecond(rate, 100), perSecond(rate, 50), 60, -10, false},
		{"faster", perSecond(rate, 100), perSecond(1000*rate, 100), 60, 40, false},
		{"slower", perSecond(rate, 100), bucket.Definition{Burst: 100, Amount: 1, Period: time.Hour, Capacity: 1}, 60, 40, false},
		{"in debt, raised", perSecond(rate, 100), perSecond(rate, 200), 260, -60, false},
		{"in debt, lowered", perSecond(rate, 100), perSecond(rate, 50), 160, -110, false},
		{"capacity", perSecond(rate, 100), bucket.Definition{Burst: 100, Amount: rate, Period: time.Second, Capacity: 7}, 60, 40, true},
		{"revision", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 100), 6), 60, 40, true},

		{"successor, lowered", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 50), 6), 60, 0, false},
		{"successor, lowered to more than was taken", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 50), 6), 30, 20, false},
		{"successor, lowered in debt", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 50), 6), 110, -10, false},
		{"successor, raised", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 200), 6), 60, 140, false},
		{"successor, raised in debt", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 200), 6), 110, 90, false},
		{"successor, raised in deep debt", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 200), 6), 230, -30, false},
		{"successor, another rate only", stored(perSecond(rate, 100), 5), stored(perSecond(2*rate, 100), 6), 160, -60, false},
		{"same revision, lowered", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 50), 5), 60, -10, false},
		{"older revision, lowered", stored(perSecond(rate, 100), 5), stored(perSecond(rate, 50), 4), 60, -10, false},
		{"the call's after a stored one", stored(perSecond(rate, 100), 5), perSecond(rate, 50), 60, -10, false},
		{"a stored one after the call's", perSecond(rate, 100), stored(perSecond(rate, 50), 5), 60, -10, false},

		{"to whole tokens", perSecond(rate, 100), perSecond(fast, 50), 30, 20, false},
		{"from whole tokens", perSecond(fast, 100), perSecond(rate, 50), 30, 20, false},
		{"successor, to whole tokens", stored(perSecond(rate, 100), 5), stored(perSecond(fast, 50), 6), 110, -10, false},
		{"successor, from whole tokens", stored(perSecond(fast, 100), 5), stored(perSecond(rate, 50), 6), 110, -10, false},
	} {
		for _, at := range []bucket.Instant{0, -bucket.MaxInstant, -1_234_567_890_123_456_789 / 2, 35_531_053_319_410_000} {
			s, err := full(c.old, at).Charge(at, c.taken)
			if err != nil {
				t.Fatal(err)
			}
			got, want := s.Redefine(c.d, at, 99), c.d
			if want.Rev == 0 {
				want.Rev = c.old.Rev // named by a call: keeps the revision
			}
			if got.Available(at) != c.want || got.Definition != want {
				t.Errorf("%s, at %d: got %d left, %+v, want %d, %+v", c.name, at, got.Available(at), got.Definition, c.want, want)
			}
			if c.sameGeneration != (got.Generation == s.Generation) || got.Generation == 99 {
				t.Errorf("%s: got generation %d after %d, want the same: %v", c.name, got.Generation, s.Generation, c.sameGeneration)
			}
			if again := got.Redefine(c.d, at+1, 99); again != got {
				t.Errorf("%s, again: got %+v, want %+v", c.name, again, got)
			}
		}
	}
}

func TestRedefineRoundsUpToWholeTokens(t *testing.T) {
	t.Parallel()
	fine, coarse := perSecond(1, 10), perSecond(2_000_000, 10)
	s := take(t, full(fine, 0), 0, 3)
	for _, c := range []struct {
		at   bucket.Instant
		want int64
	}{
		{0, 7},
		{1_000_000, 7}, // 2.999 are taken
		{999_000_000, 7},
		{1_000_000_000, 8},
		{2_999_000_000, 9},
		{3_000_000_000, 10},
	} {
		if got := s.Redefine(coarse, c.at, 0).Available(c.at); got != c.want {
			t.Errorf("available at %d: got %d, want %d", c.at, got, c.want)
		}
	}
}

func TestRedefineAbsent(t *testing.T) {
	t.Parallel()
	d := perSecond(10, 7)
	for _, at := range []bucket.Instant{0, t9, -t9, bucket.MaxInstant, -bucket.MaxInstant} {
		s := bucket.State{}.Redefine(d, at, 42)
		if s.Absent() || s.Definition != d || s.Generation != 42 || s.Available(at) != 7 || !s.Full(at) {
			t.Errorf("at %d: got %+v, %d left, want it full under %+v, in generation 42", at, s, s.Available(at), d)
		}
	}
	if !(bucket.State{}).Absent() {
		t.Error("the zero state is absent: got false, want true")
	}
}

func TestRedefineStaysAtInt64End(t *testing.T) {
	t.Parallel()
	const first = -bucket.MaxInstant
	coarse, fine := perSecond(9e9, 1e15), perSecond(1, 1)
	s := full(coarse, first)
	s.Mark = math.MaxInt64
	got := s.Redefine(fine, first, 0)
	if got.Mark != math.MaxInt64 || got.Wait(first, 1) != bucket.Never {
		t.Errorf("a level beyond int64: got %+v, wait %v, want the mark at its end, Never", got, got.Wait(first, 1))
	}
	if back := got.Redefine(coarse, first, 0); back.Available(first) > 0 {
		t.Errorf("available after the way back: got %d, want none", back.Available(first))
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	d := perSecond(10, 7)
	for _, c := range []struct {
		kept, asked int64
		want        bool
	}{
		{0, 0, false}, {0, 5, false}, {5, 0, false}, {5, 5, false}, {5, 6, false}, {6, 5, true}, {math.MaxInt64, 1, true},
	} {
		s := full(stored(d, c.kept), 0)
		if got := s.Stale(stored(d, c.asked)); got != c.want {
			t.Errorf("revision %d asked of %d: stale: got %v, want %v", c.asked, c.kept, got, c.want)
		}
	}
	// A limit named by a call keeps the revision before it.
	if s := full(stored(d, 6), 0).Redefine(d, 0, 0); !s.Stale(stored(d, 5)) || s.Stale(stored(d, 6)) {
		t.Error("asked after a limit named by a call: stale: want revision 5 to be, and 6 not")
	}
	if (bucket.State{}).Stale(stored(d, 5)) {
		t.Error("asked of a limit that was never charged: stale: got true, want false")
	}
}

// TestFlipping changes the definition back and forth at one instant and takes
// all there is each time. Keeping the fraction of the burst, or cutting the
// level at each lower burst, would make 990 tokens at each turn.
func TestFlipping(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		a, b bucket.Definition
		want int64
	}{
		{"1000 and 10", perSecond(10, 1000), perSecond(10, 10), 1000},
		{"10 and 1000", perSecond(10, 10), perSecond(10, 1000), 1000},
		{"another rate", perSecond(10, 1000), perSecond(7, 10), 1000},
		{"the same burst, another rate", perSecond(10, 100), perSecond(999, 100), 100},
		{"over the change of unit", perSecond(10, 1000), perSecond(3_000_001, 10), 1000},
		{"a stored one and the call's", stored(perSecond(10, 1000), 5), perSecond(10, 10), 1000},
		{"the call's and a stored one", perSecond(10, 1000), stored(perSecond(10, 10), 5), 1000},
		{"two stored ones, the lower one is newer", stored(perSecond(10, 1000), 5), stored(perSecond(10, 10), 6), 1000},
		{"two stored ones, the higher one is newer", stored(perSecond(10, 10), 5), stored(perSecond(10, 1000), 6), 1000},
		{"two stored ones of one revision", stored(perSecond(10, 1000), 5), stored(perSecond(10, 10), 5), 1000},
	} {
		for _, at := range []bucket.Instant{0, -35_531_053_319_410_000, 987_654_321_987_654_321 / 2} {
			s := bucket.State{}
			total := int64(0)
			for range 100 {
				for _, d := range []bucket.Definition{c.a, c.b} {
					if s.Stale(d) {
						continue
					}
					s = s.Redefine(d, at, 1)
					if n := s.Available(at); n > 0 {
						s = take(t, s, at, n)
						total += n
					}
				}
			}
			if total != c.want {
				t.Errorf("%s, at %d: taken in all: got %d, want %d", c.name, at, total, c.want)
			}
		}
	}
}

// TestEachSuccessorCapsOnce: lowering a stored limit forgives what is above it,
// raising it again makes that available, for each revision once.
func TestEachSuccessorCapsOnce(t *testing.T) {
	t.Parallel()
	large, small := perSecond(10, 1000), perSecond(10, 10)
	s := bucket.State{}
	total := int64(0)
	use := func(d bucket.Definition) {
		if s.Stale(d) {
			return
		}
		s = s.Redefine(d, 0, 1)
		if n := s.Available(0); n > 0 {
			s = take(t, s, 0, n)
			total += n
		}
	}
	for rev := int64(1); rev < 20; rev += 2 {
		use(stored(large, rev))
		use(small) // named by a call: never caps
		use(stored(large, rev))
		for range 5 {
			use(stored(small, rev+1))
			use(small)              // forgets nothing
			use(stored(large, rev)) // stale
		}
		use(small)
		use(stored(small, rev+1))
	}
	if want := int64(1000 + 9*990); total != want {
		t.Errorf("taken in all: got %d, want %d: a burst, and 990 for each time the limit was raised", total, want)
	}
}

// TestFlippingThroughTime changes definitions at random and takes at random, at
// instants that may be older than what the bucket has seen. Nobody gets more
// than the largest burst, the fastest refill, and less than a unit a change;
// what successors forgive comes on top, once for each revision.
func TestFlippingThroughTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		revisions := rapid.SampledFrom([][]int64{{0}, {0, 5}, {1, 2, 3, 4}}).Draw(t, "revisions")
		pool := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) bucket.Definition {
			d := perSecond(rapid.SampledFrom([]int64{1, 7, 10, 999, 1_000_000, 1_000_001, 3_000_000}).Draw(t, "rate"), rapid.SampledFrom([]int64{1, 2, 10, 1000}).Draw(t, "burst"))
			d.Rev = rapid.SampledFrom(revisions).Draw(t, "revision")
			return d
		}), 2, 4).Draw(t, "definitions")
		best := pool[0]
		for _, d := range pool {
			best.Burst, best.Amount = max(best.Burst, d.Burst), max(best.Amount, d.Amount)
		}
		m := newMeter(best)
		seen := rapid.SampledFrom([]bucket.Instant{-t5, 0, 123_456_789}).Draw(t, "start")
		s := full(pool[0], seen)
		caps := map[int64]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			at := seen + bucket.Instant(rapid.SampledFrom([]int64{0, 1, 1000, 1_000_000, 142_857_142, 1e9, -1000, -1e8}).Draw(t, "passes"))
			seen = max(seen, at)
			if d := rapid.SampledFrom(pool).Draw(t, "definition"); s.Definition != d && !s.Stale(d) {
				before := s
				s = s.Redefine(d, seen, 0)
				if s.Generation != before.Generation { // the drip was rounded
					m.count(seen, quo(whole(-1), whole(before.Definition.Unit())))
				}
				if forgiven := sub(levelOf(before, seen), levelOf(s, seen)); forgiven.Sign() > 0 {
					if caps[d.Rev] || d.Rev <= before.Definition.Rev || before.Definition.Rev == 0 {
						t.Fatalf("from %+v to %+v: got %s tokens forgiven, want none", before.Definition, d, forgiven.FloatString(3))
					}
					caps[d.Rev] = true
					m.count(seen, new(big.Rat).Neg(forgiven))
				}
			}
			n := rapid.OneOf(rapid.Int64Range(1, 3), rapid.Just(max(1, s.Available(at)))).Draw(t, "n")
			after, ok := s.Take(at, n, 0)
			if !ok {
				continue
			}
			s = after
			m.count(at, whole(n))
			if over, unit := m.over(seen), quo(whole(1), whole(s.Definition.Unit())); over.Cmp(unit) >= 0 {
				t.Fatalf("take %d at %d: got %s tokens more than the largest burst and the fastest refill, want under %s", n, at, over.FloatString(3), unit.FloatString(3))
			}
		}
	})
}

// TestDebtIsKeptAndPaid changes a limit in debt, to any other: the debt stays,
// and time pays it.
func TestDebtIsKeptAndPaid(t *testing.T) {
	t.Parallel()
	draw := rapid.Custom(func(t *rapid.T) bucket.Definition {
		return bucket.Definition{
			Burst:  rapid.Int64Range(1, 1000).Draw(t, "burst"),
			Amount: rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(1, 9e9)).Draw(t, "amount"),
			Period: time.Duration(near(int64(time.Second), int64(time.Hour), int64(time.Second), int64(time.Minute)).Draw(t, "period")),
			Rev:    rapid.Int64Range(0, 2).Draw(t, "revision"), Capacity: 1,
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		old, d := draw.Draw(t, "definition"), draw.Draw(t, "new definition")
		at := bucket.Instant(rapid.Int64Range(-1e18, 1e17).Draw(t, "at"))
		at = max(at, -bucket.MaxInstant)
		debt := rapid.Int64Range(1, 1000).Draw(t, "debt")
		s, err := full(old, at).Charge(at, old.Burst+debt)
		if err != nil {
			t.Fatal(err)
		}
		after := s.Redefine(d, at, 0)
		want := d.Burst - old.Burst - debt // tokens taken stay taken
		if old.Rev > 0 && d.Rev > old.Rev {
			// What was not debt fits, and fills the burst; debt is what was above both.
			want = max(d.Burst-old.Burst, 0) - debt
			if want > 0 {
				want = d.Burst - min(old.Burst+debt, d.Burst)
			}
		}
		if got := after.Available(at); got != want {
			t.Fatalf("available: got %d, want %d", got, want)
		}
		n := rapid.Int64Range(0, d.Burst).Draw(t, "n")
		wait := after.Wait(at, n)
		// n and the debt refill in that time, and no later.
		longest := add(refillTime(d, max(0, n-want)), whole(1))
		if !atMost(whole(int64(wait)), longest) {
			t.Fatalf("wait for %d with %d available: got %v, want at most %s ns", n, want, wait, longest.FloatString(0))
		}
		if _, ok := after.Take(at.Add(wait), n, 0); !ok {
			t.Fatalf("take %d after the wait, %v: got false, want true", n, wait)
		}
	})
}

// refillTime is how long n tokens take to refill, in nanoseconds.
func refillTime(d bucket.Definition, n int64) *big.Rat {
	return quo(mul(whole(n), whole(int64(d.Period))), whole(d.Amount))
}

// TestCallSitesNameDifferentLimits keeps a bucket of two limits as a store does,
// each beside its definition, and has two call sites that name different ones.
func TestCallSitesNameDifferentLimits(t *testing.T) {
	t.Parallel()
	limits := map[string]bucket.State{}
	call := func(at bucket.Instant, n int64, named map[string]bucket.Definition) bool {
		next := map[string]bucket.State{}
		for name, d := range named {
			s, ok := limits[name].Redefine(d, at, 1).Take(at, n, 0)
			if !ok {
				return false
			}
			next[name] = s
		}
		maps.Copy(limits, next)
		return true
	}
	small, large := perSecond(1, 5), perSecond(1, 100)
	one := map[string]bucket.Definition{"rpm": large}
	other := map[string]bucket.Definition{"rpm": small, "tpm": small}

	if !call(0, 5, other) {
		t.Fatal("the first call: got false, want true")
	}
	kept := limits["tpm"]
	for range 10 { // brings rpm to and fro
		if !call(0, 5, one) {
			t.Fatal("a call that names rpm alone: got false, want true")
		}
		if limits["tpm"] != kept {
			t.Fatalf("tpm after a call that does not name it: got %+v, want %+v", limits["tpm"], kept)
		}
		if call(0, 1, other) {
			t.Fatal("a call that names tpm, of which nothing is left: got true, want false")
		}
	}
	if got := limits["rpm"].Available(0); got != 100-55 {
		t.Errorf("rpm available: got %d, want %d", got, 100-55)
	}
}
