package bucket_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
)

// The timelines below use ten instants, a step apart.
const (
	step = bucket.Instant(100 * time.Millisecond)
	t0   = bucket.Instant(0)
	t1   = t0 + 1*step
	t2   = t0 + 2*step
	t3   = t0 + 3*step
	t4   = t0 + 4*step
	t5   = t0 + 5*step
	t9   = t0 + 9*step
)

// An ask is one take on a timeline.
type ask struct {
	at        bucket.Instant
	available int64 // before it
	n         int64
	ok        bool
}

// run asks one after the other, from a full bucket, and shifts them all by an
// offset: the place on the axis must not matter.
func run(t *testing.T, d bucket.Definition, asks []ask) {
	t.Helper()
	trace, err := bucket.At(time.Date(2023, 11, 16, 18, 15, 46, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []bucket.Instant{0, trace, -t3, -bucket.MaxInstant, bucket.MaxInstant - t9 - 10*bucket.Instant(time.Second)} {
		s := full(d, asks[0].at+offset)
		for i, a := range asks {
			at := a.at + offset
			if got := s.Available(at); got != a.available {
				t.Errorf("from %v, ask %d: available: got %d, want %d", offset.Time(), i, got, a.available)
			}
			after, ok := s.Take(at, a.n, 0)
			if ok != a.ok {
				t.Errorf("from %v, ask %d: take %d: got %v, want %v", offset.Time(), i, a.n, ok, a.ok)
			}
			if !ok && after != s {
				t.Errorf("from %v, ask %d: refused: got %+v, want the state as it was, %+v", offset.Time(), i, after, s)
			}
			if fits := s.Wait(at, a.n) == 0; fits != a.ok {
				t.Errorf("from %v, ask %d: no wait: got %v, want %v", offset.Time(), i, fits, a.ok)
			}
			s = after
		}
	}
}

func TestTimelines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		d    bucket.Definition
		asks []ask
	}{
		{"burst 1", perSecond(10, 1), []ask{
			{t0, 1, 1, true},
			{t0, 0, 1, false},
			{t0, 0, 1, false},
			{t1, 1, 1, true},
			{t1, 0, 1, false},
			{t2 - 1, 0, 1, false},
			{t2, 1, 2, false}, // above the burst
			{t2, 1, 1, true},
			{t2, 0, 1, false},
		}},
		{"burst 3", perSecond(10, 3), []ask{
			{t0, 3, 2, true},
			{t0, 1, 2, false},
			{t0, 1, 1, true},
			{t0, 0, 1, false},
			{t1, 1, 4, false}, // above the burst
			{t2, 2, 1, true},
			{t3, 2, 1, true},
			{t4, 2, 1, true},
			{t4, 1, 1, true},
			{t4, 0, 1, false},
			{t4, 0, 1, false},
			{t9, 3, 3, true}, // full, and no more than that
			{t9, 0, 1, false},
		}},
		{"time goes backwards", perSecond(10, 2), []ask{
			{t1, 2, 1, true},
			{t0, 0, 1, false}, // seen from t0, the refill until t1 is missing as well
			{t1, 1, 1, true},
			{t0, -1, 0, false},
			{t1, 0, 1, false},
			{t2, 1, 1, true},
			{t1, -1, 0, false},
			{t2, 0, 0, true},
			{t4, 2, 2, true},
		}},
		{"smoothing: a burst below the rate", perSecond(30, 1), []ask{
			{t0, 1, 1, true},
			{t0 + 33_333_333, 0, 1, false},
			{t0 + 33_333_334, 1, 1, true}, // a third of t1
			{t0 + 50_000_000, 0, 1, false},
			{t1, 1, 1, true}, // 1 of the 2 that refilled since: the rest ran over
			{t1, 0, 1, false},
		}},
		{"asked 0", perSecond(10, 2), []ask{
			{t0, 2, 0, true},
			{t0, 2, 2, true},
			{t0, 0, 0, true}, // empty is no debt
			{t0, 0, 1, false},
		}},
		{"a large request does not stop a small one", perSecond(10, 5), []ask{
			{t0, 5, 4, true},
			{t0, 1, 2, false},
			{t0, 1, 1, true},
			{t2, 2, 3, false},
			{t2, 2, 2, true},
		}},
		{"whole tokens at above 1,000,000 a second", perSecond(20_000_000, 6), []ask{
			{t0, 6, 6, true},
			{t0 + 49, 0, 1, false},
			{t0 + 50, 1, 1, true},
			{t0 + 99, 0, 1, false},
			{t0 + 150, 2, 2, true},
			{t1, 6, 7, false},
			{t1, 6, 6, true},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run(t, c.d, c.asks)
		})
	}
}

func TestDebtTimeline(t *testing.T) {
	t.Parallel()
	d := perSecond(10, 5)
	s := take(t, full(d, t0), t0, 3)
	s, err := s.Charge(t0, 4) // settled to 7: 2 more than there are
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at        bucket.Instant
		available int64
		zero      bool          // asked 0 fits
		wait0     time.Duration // until 0 fit
		wait1     time.Duration // until 1 fits
	}{
		{t0, -2, false, 200 * time.Millisecond, 300 * time.Millisecond},
		{t1, -1, false, 100 * time.Millisecond, 200 * time.Millisecond},
		{t2 - 1, -1, false, 1, 100*time.Millisecond + 1},
		{t2, 0, true, 0, 100 * time.Millisecond},
		{t3, 1, true, 0, 0},
		{t9, 5, true, 0, 0},
	} {
		if got := s.Available(c.at); got != c.available {
			t.Errorf("available at %d: got %d, want %d", c.at, got, c.available)
		}
		if after, ok := s.Take(c.at, 0, 0); ok != c.zero || after != s {
			t.Errorf("take 0 at %d: got %+v, %v, want the state as it was, %v", c.at, after, ok, c.zero)
		}
		if got := s.Wait(c.at, 0); got != c.wait0 {
			t.Errorf("wait for 0 at %d: got %v, want %v", c.at, got, c.wait0)
		}
		if got := s.Wait(c.at, 1); got != c.wait1 {
			t.Errorf("wait for 1 at %d: got %v, want %v", c.at, got, c.wait1)
		}
	}
}

func TestWaitTimeline(t *testing.T) {
	t.Parallel()
	third := bucket.Definition{Burst: 7, Amount: 2, Period: 3 * time.Second, Capacity: 1} // 1.5 s a token
	for _, c := range []struct {
		name  string
		d     bucket.Definition
		from  bucket.Instant
		taken int64 // then
		at    bucket.Instant
		n     int64
		want  time.Duration
	}{
		{"full", perSecond(10, 5), t0, 0, t0, 5, 0},
		{"what is left", perSecond(10, 5), t0, 3, t0, 2, 0},
		{"one more", perSecond(10, 5), t0, 3, t0, 3, 100 * time.Millisecond},
		{"all", perSecond(10, 5), t0, 5, t0, 5, 500 * time.Millisecond},
		{"later", perSecond(10, 5), t0, 5, t2, 5, 300 * time.Millisecond},
		{"a bit later", perSecond(10, 5), t0, 5, t2 + 7, 5, 300*time.Millisecond - 7},
		{"earlier", perSecond(10, 5), t2, 5, t0, 5, 700 * time.Millisecond},
		{"two in three seconds", third, t0, 7, t0, 1, 1500 * time.Millisecond},
		{"three a second, rounded up", perSecond(3, 7), t0, 7, t0, 1, 333_333_334},
		{"seven a second, rounded up", perSecond(7, 7), t0, 7, t0, 3, 428_571_429},
		{"across the epoch", perSecond(10, 7), -t5, 7, -t5, 7, 700 * time.Millisecond},
		{"before the epoch", perSecond(3, 7), -t9, 7, -t9, 1, 333_333_334}, // the axis is at −2700 units exactly
		{"a unit is near", perSecond(3, 7), -1, 7, -1, 1, 333_000_001},     // the first of 1000 drips at the epoch
		{"a thousandth of a nanosecond over", bucket.Definition{Burst: 1, Amount: 1, Period: time.Second + 1, Capacity: 1}, 1_000_001, 1, 1_000_001, 1, time.Second + 1},
		{"fastest", perSecond(9e9, 1e15), t0, 1e15, t0, 1e15, 111_111_111_111_112},
		{"slowest", bucket.Definition{Burst: 2, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1}, t0, 2, t0, 2, 2 * bucket.MaxPeriod},
	} {
		s := full(c.d, c.from)
		if c.taken > 0 {
			s = take(t, s, c.from, c.taken)
		}
		got := s.Wait(c.at, c.n)
		if got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if _, ok := s.Take(c.at.Add(got), c.n, 0); !ok {
			t.Errorf("%s: take after the wait: got false, want true", c.name)
		}
		if got == 0 {
			continue
		}
		if _, ok := s.Take(c.at.Add(got-1), c.n, 0); ok {
			t.Errorf("%s: take 1 ns earlier: got true, want false", c.name)
		}
	}
}
