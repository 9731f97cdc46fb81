package bucket_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/bucket"
)

// drain takes all there is, a token at a time, and counts.
func drain(t *testing.T, s bucket.State, at bucket.Instant) (bucket.State, int64) {
	t.Helper()
	var n int64
	for s.Available(at) > 0 {
		s = take(t, s, at, 1)
		n++
	}
	return s, n
}

// TestHoarding takes a full burst each second, uses nothing of it, and gives
// all of it back at one instant. With gives that were not bound to the stretch
// of their charge that would be 10,000 tokens at once, on a burst of 10.
func TestHoarding(t *testing.T) {
	t.Parallel()
	const leases = 1000
	d := perSecond(10, 10)
	last := bucket.Instant(leases-1) * bucket.Instant(time.Second)
	for _, c := range []struct {
		name     string
		at       bucket.Instant
		backward bool // the newest first
		between  bool // take after each give, and not only after all
	}{
		{"at once", last, false, false},
		{"at once, the newest first", last, true, false},
		{"at once, taking in between", last, false, true},
		{"at once, the newest first, taking in between", last, true, true},
		{"half a second later", last + t5, false, false},
		{"half a second later, the newest first, taking in between", last + t5, true, true},
		{"a second later, taking in between", last + t5 + t5, false, true},
		{"an hour later, taking in between", last + bucket.Instant(time.Hour), true, true},
	} {
		s := full(d, 0)
		var receipts []bucket.Receipt
		for i := range bucket.Instant(leases) {
			s = take(t, s, i*bucket.Instant(time.Second), 10)
			receipts = append(receipts, s.Receipt())
		}
		if c.backward {
			slices.Reverse(receipts)
		}
		var used, n int64
		for _, r := range receipts {
			if s = s.Give(c.at, 10, r); s.Available(c.at) > 10 {
				t.Fatalf("%s: available after a give: got %d, want at most 10", c.name, s.Available(c.at))
			}
			if c.between {
				s, n = drain(t, s, c.at)
				used += n
			}
		}
		s, n = drain(t, s, c.at)
		if used += n; used != 10 {
			t.Errorf("%s: taken at one instant: got %d, want one burst, 10", c.name, used)
		}
		if got := s.Available(c.at); got != 0 {
			t.Errorf("%s: available at the end: got %d, want 0", c.name, got)
		}
	}
}

// TestOverlappingLeases is the worst case of what overlapping leases give back:
// ten leases are moved onto the top of the axis, and each gives its tokens back
// when only the last of them has not refilled. It is under two bursts, once.
func TestOverlappingLeases(t *testing.T) {
	t.Parallel()
	s := full(perSecond(10, 10), t0)
	var receipts []bucket.Receipt
	for range 10 {
		s = take(t, s, t0, 1)
		receipts = append(receipts, s.Receipt())
	}
	for i := range receipts { // given back from below, taken again on top
		s = take(t, s.Give(t0, 1, receipts[i]), t0, 1)
		receipts[i] = s.Receipt()
	}
	s, used := drain(t, s, t9) // 9 have refilled
	for _, r := range receipts {
		var n int64
		s, n = drain(t, s.Give(t9, 1, r), t9)
		used += n
	}
	if used != 19 { // all that were hoarded and then the burst: nothing was used before
		t.Errorf("taken at one instant: got %d, want 19", used)
	}
	for _, r := range receipts {
		if again := s.Give(t9+step, 1, r); again != s {
			t.Errorf("a give by %+v, whose stretch has refilled: got %+v, want the state as it was", r, again)
		}
	}
}

// TestUsedBetweenAnyTwoInstants gives back whole leases, each once. Tokens of
// leases that were taken and not given back between two instants are used
// between them: at most the burst, the refill, and under two bursts.
func TestUsedBetweenAnyTwoInstants(t *testing.T) {
	t.Parallel()
	type lease struct {
		taken, given int // calls; given 0: kept
		at           bucket.Instant
		n            int64
		receipt      bucket.Receipt
	}
	rapid.Check(t, func(t *rapid.T) {
		d := perSecond(rapid.Int64Range(1, 50).Draw(t, "rate"), rapid.Int64Range(1, 12).Draw(t, "burst"))
		at := rapid.SampledFrom([]bucket.Instant{0, -t5, 1_000_000_007}).Draw(t, "start")
		s := full(d, at)
		var leases []*lease
		calls := rapid.IntRange(2, 60).Draw(t, "calls")
		instantOf := make([]bucket.Instant, calls+1)
		for call := 1; call <= calls; call++ {
			at += bucket.Instant(rapid.SampledFrom([]int64{0, 0, 0, 1, 5, 10, 50}).Draw(t, "passes, in hundredths of a token") * int64(time.Second) / d.Amount / 100)
			instantOf[call] = at
			if open := slices.DeleteFunc(slices.Clone(leases), func(l *lease) bool { return l.given > 0 }); len(open) > 0 && rapid.Bool().Draw(t, "give") {
				l := rapid.SampledFrom(open).Draw(t, "lease")
				s = s.Give(at, l.n, l.receipt)
				l.given = call
				continue
			}
			n := rapid.Int64Range(1, d.Burst).Draw(t, "n")
			if after, ok := s.Take(at, n, 0); ok {
				s = after
				leases = append(leases, &lease{taken: call, at: at, n: n, receipt: s.Receipt()})
			}
		}
		unit := d.Unit()
		for from := 1; from <= calls; from++ {
			used := make([]int64, calls+2) // by call, the sum of what starts and ends there
			for _, l := range leases {
				if l.taken < from {
					continue
				}
				used[l.taken] += l.n
				if l.given > 0 {
					used[l.given] -= l.n
				}
			}
			sum := int64(0)
			for to := from; to <= calls; to++ {
				sum += used[to]
				most := 3*d.Burst*unit + d.Drip(instantOf[to]) - d.Drip(instantOf[from])
				if sum*unit >= most {
					t.Fatalf("used from call %d to %d: got %d units, want under %d", from, to, sum*unit, most)
				}
			}
		}
	})
}

// TestGiveNeverAboveBurst gives to buckets that have nothing to get.
func TestGiveNeverAboveBurst(t *testing.T) {
	t.Parallel()
	d := perSecond(10, 5)
	for _, start := range []bucket.Instant{t0, -t9} {
		fresh := full(d, start)
		taken := take(t, fresh, start, 5)
		for _, c := range []struct {
			name string
			s    bucket.State
			at   bucket.Instant
			n    int64
			want int64 // available after
		}{
			{"full, never taken", fresh, start, 5, 5},
			{"empty, all", taken, start, 5, 5},
			{"empty, more than was taken", taken, start, 1e15, 5},
			{"empty, some", taken, start, 2, 2},
			{"half refilled, all", taken, start + 2*step + step/2, 5, 5},
			{"half refilled, what is left", taken, start + 2*step, 3, 5},
			{"refilled", taken, start + t5, 5, 5},
			{"refilled long ago", taken, start + bucket.Instant(time.Hour), 5, 5},
		} {
			after := c.s.Give(c.at, c.n, taken.Receipt())
			if got := after.Available(c.at); got != c.want {
				t.Errorf("from %d, %s: available: got %d, want %d", start, c.name, got, c.want)
			}
			if _, n := drain(t, after, c.at); n != c.want {
				t.Errorf("from %d, %s: taken after: got %d, want %d", start, c.name, n, c.want)
			}
		}
	}
}

// TestGiveOnlyWhatHasNotRefilled: a lease given back late gives the rest.
func TestGiveOnlyWhatHasNotRefilled(t *testing.T) {
	t.Parallel()
	d := perSecond(10, 10)
	first := take(t, full(d, t0), t0, 4)
	s := take(t, first, t0, 6) // the first owns 0 to 4, this 4 to 10
	for _, c := range []struct {
		at        bucket.Instant
		receipt   bucket.Receipt
		n         int64
		available int64 // before and after
		after     int64
	}{
		{t1, first.Receipt(), 4, 1, 4}, // 1 has refilled
		{t3, first.Receipt(), 4, 3, 4},
		{t4, first.Receipt(), 4, 4, 4},
		{t1, s.Receipt(), 6, 1, 7},
		{t5, s.Receipt(), 6, 5, 10}, // 5 of the 6 are left
		{t9, s.Receipt(), 6, 9, 10},
		{t9 + step, s.Receipt(), 6, 10, 10},
	} {
		if got := s.Available(c.at); got != c.available {
			t.Errorf("available at %d: got %d, want %d", c.at, got, c.available)
		}
		if got := s.Give(c.at, c.n, c.receipt).Available(c.at); got != c.after {
			t.Errorf("available after a give of %d at %d: got %d, want %d", c.n, c.at, got, c.after)
		}
	}
}

// TestGivePlaceInLine: tokens reserved ahead come back only if nobody stands
// behind them.
func TestGivePlaceInLine(t *testing.T) {
	t.Parallel()
	d := perSecond(10, 10)
	reserve := func(s bucket.State, n int64, ahead time.Duration) bucket.State {
		t.Helper()
		after, ok := s.Take(t0, n, ahead)
		if !ok {
			t.Fatalf("take %d ahead by %v: got false, want true", n, ahead)
		}
		return after
	}
	served := reserve(full(d, t0), 10, 0)
	second := reserve(served, 10, time.Second)
	third := reserve(second, 5, 2*time.Second)
	if got := third.Available(t0); got != -15 {
		t.Fatalf("available with a line: got %d, want -15", got)
	}

	if got := third.Give(t0, 10, second.Receipt()); got != third {
		t.Errorf("a place with somebody behind: got %+v, want the state as it was", got)
	}
	if got, want := third.Give(t0, 5, third.Receipt()), second; got != want {
		t.Errorf("the last place: got %+v, want %+v", got, want)
	}
	if got, want := third.Give(t0, 5, third.Receipt()).Give(t0, 10, second.Receipt()), served; got != want {
		t.Errorf("the last place, then the one before: got %+v, want %+v", got, want)
	}
	// When its time has come it gives as any charge.
	if got := third.Give(t9+step, 10, second.Receipt()).Available(t9 + step); got != 5 {
		t.Errorf("available after a give whose time has come: got %d, want 5", got)
	}
	if got := third.Give(t9+step-1, 10, second.Receipt()); got != third {
		t.Errorf("1 ns before its time: got %+v, want the state as it was", got)
	}
	// What was served gives, though a line stands.
	if got := third.Give(t0, 10, served.Receipt()).Available(t0); got != -5 {
		t.Errorf("available after a give ahead of the line: got %d, want -5", got)
	}
}

// TestGiveOfAnotherGeneration: after a change of the limit, or of another birth,
// receipts are worth nothing.
func TestGiveOfAnotherGeneration(t *testing.T) {
	t.Parallel()
	a, b := perSecond(10, 10), perSecond(20, 20)
	s := take(t, full(a, t0), t0, 10)
	r := s.Receipt()

	other := take(t, bucket.State{}.Redefine(a, t0, 2), t0, 10)
	if got := other.Give(t0, 10, r); got != other {
		t.Errorf("born anew: got %+v, want the state as it was, %+v", got, other)
	}
	changed := s.Redefine(b, t0, 0)
	if got := changed.Give(t0, 10, r); got != changed {
		t.Errorf("another definition: got %+v, want the state as it was, %+v", got, changed)
	}
	back := changed.Redefine(a, t0, 0)
	if got := back.Give(t0, 10, r); got != back {
		t.Errorf("the first definition again: got %+v, want the state as it was, %+v", got, back)
	}
	// Another capacity or revision is no change.
	same := a
	same.Rev, same.Capacity = 7, 3
	if got := s.Redefine(same, t0, 0).Give(t0, 10, r).Available(t0); got != 10 {
		t.Errorf("available after a give, only the revision changed: got %d, want 10", got)
	}
}

// TestGiveTwice: giving one receipt back several times is the caller's mistake. All
// gives together give what has not refilled of its stretch, no more, and leave
// at most a full bucket. (With takes in between, that for each give, until the
// stretch has refilled.)
func TestGiveTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := definitions().Draw(t, "definition")
		at := instants().Draw(t, "at")
		s := states(d, at).Draw(t, "state")
		r := s.Receipt()
		now := later(at).Draw(t, "now")
		given := whole(0)
		for range rapid.IntRange(1, 20).Draw(t, "gives") {
			after := s.Give(now, amounts(d).Draw(t, "n"), r)
			given = sub(given, back(s, after))
			s = after
		}
		if got := s.Available(now); got > d.Burst {
			t.Fatalf("available: got %d, want at most the burst, %d", got, d.Burst)
		}
		m := modelOf(bucket.State{Definition: d, Mark: r.Mark, Generation: r.Generation})
		if level := m.level(instant(now)); !atMost(given, level) {
			t.Fatalf("given in all: got %s tokens, want at most what had not refilled, %s", given, level)
		}
	})
}
