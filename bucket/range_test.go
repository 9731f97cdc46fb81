package bucket_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
)

// perSecond is n tokens a second with a burst.
func perSecond(n, burst int64) bucket.Definition {
	return bucket.Definition{Burst: burst, Amount: n, Period: time.Second, Capacity: 1}
}

// full is a full bucket at an instant.
func full(d bucket.Definition, at bucket.Instant) bucket.State {
	return bucket.State{}.Redefine(d, at, 1)
}

// take takes n tokens that must be there.
func take(t *testing.T, s bucket.State, at bucket.Instant, n int64) bucket.State {
	t.Helper()
	after, ok := s.Take(at, n, 0)
	if !ok {
		t.Fatalf("take %d of %d at %d: got false, want true", n, s.Available(at), at)
	}
	return after
}

func TestValidate(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	good := bucket.Definition{Burst: 10, Amount: 10, Period: time.Minute, Capacity: 10}
	with := func(change func(d *bucket.Definition)) bucket.Definition {
		d := good
		change(&d)
		return d
	}
	for _, c := range []struct {
		name string
		d    bucket.Definition
		want string // beginning of the message; empty: valid
	}{
		{"good", good, ""},
		{"zero", bucket.Definition{}, "burst 0 is not in 1 to 1000000000000000: "},
		{"burst 0", with(func(d *bucket.Definition) { d.Burst = 0 }), "burst 0 is not in 1 to 1000000000000000: "},
		{"burst 1", with(func(d *bucket.Definition) { d.Burst, d.Capacity = 1, 1 }), ""},
		{"burst 1e15", with(func(d *bucket.Definition) { d.Burst = 1e15 }), ""},
		{"burst 1e15+1", with(func(d *bucket.Definition) { d.Burst = 1e15 + 1 }), "burst 1000000000000001 is not in 1 to 1000000000000000: "},
		{"amount 0", with(func(d *bucket.Definition) { d.Amount = 0 }), "refill amount 0 is not in 1 to 1000000000000000: "},
		{"amount −1", with(func(d *bucket.Definition) { d.Amount = -1 }), "refill amount -1 is not in 1 to 1000000000000000: "},
		{"amount 1e15", with(func(d *bucket.Definition) { d.Amount, d.Period = 1e15, 2*day }), ""},
		{"amount 1e15+1", with(func(d *bucket.Definition) { d.Amount, d.Period = 1e15+1, 2*day }), "refill amount 1000000000000001 is not in 1 to 1000000000000000: "},
		{"period 0", with(func(d *bucket.Definition) { d.Period = 0 }), "refill period 0s is not in 1s to 8784h0m0s: "},
		{"period 1 s − 1 ns", with(func(d *bucket.Definition) { d.Period = time.Second - 1 }), "refill period 999.999999ms is not in 1s to 8784h0m0s: "},
		{"period 1 s", with(func(d *bucket.Definition) { d.Period = time.Second }), ""},
		{"period 366 d", with(func(d *bucket.Definition) { d.Amount, d.Period = 1, 366*day }), ""},
		{"period 366 d + 1 ns", with(func(d *bucket.Definition) { d.Period = 366*day + 1 }), "refill period 8784h0m0.000000001s is not in 1s to 8784h0m0s: "},
		{"rate 9e9/s", with(func(d *bucket.Definition) { d.Amount, d.Period = 9e9, time.Second }), ""},
		{"rate 9e9+1/s", with(func(d *bucket.Definition) { d.Amount, d.Period = 9e9+1, time.Second }), "rate 9000000001 per 1s is above 9000000000 tokens a second: "},
		{"rate 1e15/111111 s", with(func(d *bucket.Definition) { d.Amount, d.Period = 1e15, 111_111*time.Second }), "rate 1000000000000000 per 30h51m51s is above 9000000000 tokens a second: "},
		{"rate 1e15/111112 s", with(func(d *bucket.Definition) { d.Amount, d.Period = 1e15, 111_112*time.Second }), ""},
		{"capacity 0", with(func(d *bucket.Definition) { d.Capacity = 0 }), "capacity 0 is not in 1 to the burst, 10: "},
		{"capacity 1", with(func(d *bucket.Definition) { d.Capacity = 1 }), ""},
		{"capacity above burst", with(func(d *bucket.Definition) { d.Capacity = 11 }), "capacity 11 is not in 1 to the burst, 10: "},
		{"revision −1", with(func(d *bucket.Definition) { d.Rev = -1 }), "revision -1 is negative: "},
		{"revision 1", with(func(d *bucket.Definition) { d.Rev = 1 }), ""},
	} {
		err := c.d.Validate()
		switch {
		case c.want == "":
			if err != nil {
				t.Errorf("%s: got %v, want no error", c.name, err)
			}
		case err == nil || !errors.Is(err, bucket.ErrRange) || err.Error() != c.want+bucket.ErrRange.Error():
			t.Errorf("%s: got %v, want %q and ErrRange", c.name, err, c.want)
		}
	}
}

func TestUnit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		amount int64
		period time.Duration
		want   int64
	}{
		{1, 366 * 24 * time.Hour, 1000},
		{1_000_000, time.Second, 1000},
		{1_000_001, time.Second, 1},
		{1_000_001, time.Second + 1000, 1000}, // 1,000,000 a second
		{1_000_001, time.Second + 999, 1},
		{60_000_000, time.Minute, 1000},
		{60_000_001, time.Minute, 1},
		{60_000_001, time.Minute + 1000, 1000},
		{9e9, time.Second, 1},
	} {
		d := bucket.Definition{Burst: 1, Amount: c.amount, Period: c.period, Capacity: 1}
		if got := d.Unit(); got != c.want {
			t.Errorf("unit of %d per %v: got %d, want %d", c.amount, c.period, got, c.want)
		}
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	const years29 = 29 * 365 * 24 * time.Hour
	if got, want := time.Duration(bucket.MaxInstant), years29; got != want {
		t.Fatalf("MaxInstant: got %v, want %v", got, want)
	}
	epoch := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := bucket.Epoch(); got != epoch {
		t.Fatalf("epoch: got %v, want %v", got, epoch)
	}
	for _, c := range []struct {
		name string
		t    time.Time
		want bucket.Instant
		ok   bool
	}{
		{"the epoch", epoch, 0, true},
		{"1 ns after", epoch.Add(1), 1, true},
		{"1 ns before", epoch.Add(-1), -1, true},
		{"in another zone", epoch.Add(1).In(time.FixedZone("", 19_800)), 1, true},
		{"a trace of 2023", time.Date(2023, 11, 16, 18, 15, 46, 680_590_000, time.UTC), -35_531_053_319_410_000, true},
		{"29 years after", epoch.Add(years29), bucket.MaxInstant, true},
		{"29 years and 1 ns after", epoch.Add(years29 + 1), 0, false},
		{"29 years and 1 s after", epoch.Add(years29 + time.Second), 0, false},
		{"29 years before", epoch.Add(-years29), -bucket.MaxInstant, true},
		{"29 years and 1 ns before", epoch.Add(-years29 - 1), 0, false},
		{"29 years and 1 s before", epoch.Add(-years29 - time.Second), 0, false},
		{"the zero time", time.Time{}, 0, false},
		{"the first time", time.Unix(math.MinInt64, 0), 0, false},
		{"the last time", time.Unix(math.MaxInt64, 0), 0, false},
	} {
		got, err := bucket.At(c.t)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: got %d, %v, want %d, ok %v", c.name, got, err, c.want, c.ok)
		}
		if c.ok && !got.Time().Equal(c.t) {
			t.Errorf("%s: back to a time: got %v, want %v", c.name, got.Time(), c.t)
		}
		if !c.ok && (!errors.Is(err, bucket.ErrRange) || !strings.Contains(err.Error(), "more than 29 years from 2025-01-01")) {
			t.Errorf("%s: got %v, want ErrRange that says the range", c.name, err)
		}
	}
	if got := bucket.Instant(5).Time().Location(); got != time.UTC {
		t.Errorf("zone: got %v, want UTC", got)
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	const edge = bucket.MaxInstant
	for _, c := range []struct {
		at   bucket.Instant
		d    time.Duration
		want bucket.Instant
	}{
		{0, 0, 0},
		{0, 5, 5},
		{-7, 5, -2},
		{-edge, 0, -edge},
		{-edge, time.Duration(edge), 0},
		{-edge, 2 * time.Duration(edge), edge},
		{-edge, 2*time.Duration(edge) + 1, edge},
		{edge - 1, 1, edge},
		{edge - 1, 2, edge},
		{edge, 1, edge},
		{-edge, math.MaxInt64, edge},
		{edge, math.MaxInt64, edge},
	} {
		if got := c.at.Add(c.d); got != c.want {
			t.Errorf("%d + %d: got %d, want %d", c.at, c.d, got, c.want)
		}
	}
}

func TestDripEdges(t *testing.T) {
	t.Parallel()
	const edge = bucket.MaxInstant
	const seconds = 29 * 365 * 86_400
	year := bucket.Definition{Burst: 1, Amount: 1, Period: 366 * 24 * time.Hour, Capacity: 1}
	for _, c := range []struct {
		name string
		d    bucket.Definition
		at   bucket.Instant
		want int64
	}{
		{"fastest, last", perSecond(9e9, 1), edge, 9e9 * seconds},
		{"fastest, first", perSecond(9e9, 1), -edge, -9e9 * seconds},
		{"fastest, a nanosecond", perSecond(9e9, 1), 1, 9},
		{"fastest, a nanosecond before", perSecond(9e9, 1), -1, -9},
		{"slowest, last", year, edge, 1000 * 29 * 365 / 366},
		{"slowest, first", year, -edge, -(1000*29*365/366 + 1)},
		{"slowest, a nanosecond", year, 1, 0},
		{"slowest, a nanosecond before", year, -1, -1},
		{"1,000,000 a second, last", perSecond(1e6, 1), edge, 1e9 * seconds},
		{"just above, last", perSecond(1e6+1, 1), edge, (1e6 + 1) * seconds},
		{"floor after", perSecond(1, 1), 1_999_999, 1},
		{"floor before", perSecond(1, 1), -1_000_001, -2},
		{"whole before", perSecond(1, 1), -1_000_000, -1},
		{"the epoch", perSecond(7, 1), 0, 0},
	} {
		if got := c.d.Drip(c.at); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestLargestAmounts(t *testing.T) {
	t.Parallel()
	for _, d := range []bucket.Definition{
		perSecond(9e9, 1e15),
		perSecond(1e6, 1e15),
		{Burst: 1e15, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1e15},
		{Burst: 1e15, Amount: 1e15, Period: bucket.MaxPeriod, Capacity: 1e15},
	} {
		for _, at := range []bucket.Instant{-bucket.MaxInstant, -1, 0, 1, bucket.MaxInstant} {
			s := full(d, at)
			if got := s.Available(at); got != 1e15 {
				t.Errorf("%+v at %d: available: got %d, want 1e15", d, at, got)
			}
			if _, ok := s.Take(at, 1e15+1, bucket.Never); ok {
				t.Errorf("%+v at %d: take above the burst: got true, want false", d, at)
			}
			taken := take(t, s, at, 1e15)
			if got := taken.Available(at); got != 0 {
				t.Errorf("%+v at %d: available after all: got %d, want 0", d, at, got)
			}
			owing, err := taken.Charge(at, 1e15)
			if got := owing.Available(at); err != nil || got != -1e15 {
				t.Errorf("%+v at %d: available after a charge: got %d, %v, want -1e15", d, at, got, err)
			}
			if got := owing.Give(at, 1e15, owing.Receipt()).Give(at, 1e15, taken.Receipt()); got.Available(at) != 1e15 {
				t.Errorf("%+v at %d: available after both came back: got %d, want 1e15", d, at, got.Available(at))
			}
		}
	}
}

func TestNever(t *testing.T) {
	t.Parallel()
	slowest := bucket.Definition{Burst: 1e15, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1}
	const half = bucket.Instant(bucket.MaxPeriod / 2)
	empty := take(t, full(slowest, 0), 0, 1e15)
	for _, c := range []struct {
		name string
		s    bucket.State
		at   bucket.Instant
		n    int64
		want time.Duration
	}{
		{"above the burst, full", full(perSecond(1, 10), 0), 0, 11, bucket.Never},
		{"above the burst, far above", full(perSecond(1, 10), 0), 0, math.MaxInt64, bucket.Never},
		{"at the burst, full", full(perSecond(1, 10), 0), 0, 10, 0},
		{"at the burst, empty", take(t, full(perSecond(1, 10), 0), 0, 10), 0, 10, 10 * time.Second},
		{"slowest, one token", empty, 0, 1, bucket.MaxPeriod},
		{"slowest, all of 1e15", empty, 0, 1e15, bucket.Never},
		{"slowest, before the epoch", take(t, full(slowest, -bucket.MaxInstant), -bucket.MaxInstant, 1e15), -bucket.MaxInstant, 1e15, bucket.Never},
		// 1 per 366 days for 291 and 292 times 366 days: int64 ends between them.
		{"the longest", empty, 0, 291, 291 * bucket.MaxPeriod},
		{"beyond the longest", empty, 0, 292, bucket.Never},
		{"beyond, from before the epoch", take(t, full(slowest, -bucket.MaxInstant), -bucket.MaxInstant, 1e15), -bucket.MaxInstant, 295, bucket.Never},
		{"beyond, from the last instant", take(t, full(slowest, bucket.MaxInstant), bucket.MaxInstant, 1e15), bucket.MaxInstant, 1e15, bucket.Never},
		// 583.5 tokens up the axis, which times the period is just beyond 64 bits by the rate.
		{"at the edge of a division", take(t, full(slowest, half), half, 1e15), half, 583, bucket.Never},
	} {
		if got := c.s.Wait(c.at, c.n); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	if _, ok := full(perSecond(1, 10), 0).Take(0, 11, bucket.Never); ok {
		t.Error("take above the burst, however long ahead: got true, want false")
	}
}

func TestMarkWouldLeaveInt64(t *testing.T) {
	t.Parallel()
	s := full(perSecond(1, 10), 0)
	for i := range 10 { // 1e15 tokens are 1e18 units: the tenth does not fit
		after, err := s.Charge(0, 1e15)
		if got, want := errors.Is(err, bucket.ErrRange), i == 9; got != want {
			t.Fatalf("charge %d: got %v, want ErrRange: %v", i, err, want)
		}
		if err != nil && after != s {
			t.Fatalf("state after the error: got %+v, want %+v", after, s)
		}
		s = after
	}
	if got := s.Available(0); got != 10-9e15 {
		t.Errorf("available: got %d, want %d", got, int64(10-9e15))
	}
	// To the last unit.
	last := (math.MaxInt64 - s.Mark) / 1000
	if _, err := s.Charge(0, last+1); !errors.Is(err, bucket.ErrRange) {
		t.Errorf("a charge of one token too many: got %v, want ErrRange", err)
	}
	if _, err := s.Charge(0, last); err != nil {
		t.Errorf("a charge of all that can be counted: got %v, want no error", err)
	}
	for _, n := range []int64{-1, math.MinInt64, 1e15 + 1, math.MaxInt64} {
		if after, err := s.Charge(0, n); !errors.Is(err, bucket.ErrRange) || after != s {
			t.Errorf("charge %d: got %+v, %v, want the state as it was and ErrRange", n, after, err)
		}
	}
}

func TestAmountsOutOfRange(t *testing.T) {
	t.Parallel()
	s := take(t, full(perSecond(1, 10), 0), 0, 5)
	for _, n := range []int64{-1, math.MinInt64, 11, 1e15 + 1, math.MaxInt64} {
		if after, ok := s.Take(0, n, 0); ok || after != s {
			t.Errorf("take %d: got %+v, %v, want the state as it was, false", n, after, ok)
		}
	}
	for _, ahead := range []time.Duration{-1, math.MinInt64} {
		if after, ok := s.Take(0, 1, ahead); ok || after != s {
			t.Errorf("take ahead by %d: got %+v, %v, want the state as it was, false", ahead, after, ok)
		}
	}
	for _, n := range []int64{0, -1, math.MinInt64, 1e15 + 1, math.MaxInt64} {
		if after := s.Give(0, n, s.Receipt()); after != s {
			t.Errorf("give %d: got %+v, want the state as it was", n, after)
		}
	}
	if after := (bucket.State{}).Give(0, 1, bucket.Receipt{Mark: 5000}); after != (bucket.State{}) {
		t.Errorf("give to a limit that was never charged: got %+v, want the zero state", after)
	}
	if !(bucket.State{}).Full(0) {
		t.Error("a limit that was never charged is full: got false, want true")
	}
}
