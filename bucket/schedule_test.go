package bucket_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/zoneinfo"
)

func scheduled(tb testing.TB, rate bucket.Definition, windows ...bucket.ScheduleWindow) bucket.Definition {
	tb.Helper()
	sc, err := bucket.NewSchedule(rate, windows)
	if err != nil {
		tb.Fatal(err)
	}
	rate.Schedule = sc
	if err := rate.Validate(); err != nil {
		tb.Fatal(err)
	}
	return rate
}

// office is the rate of timeline 8 of the design.
func office(tb testing.TB) bucket.Definition {
	tb.Helper()
	rate := bucket.Definition{Burst: 100, Amount: 100, Period: time.Minute, Capacity: 100}
	return scheduled(tb, rate,
		bucket.ScheduleWindow{Days: 0x1f, From: 9 * 60, To: 18 * 60, Zone: "Europe/Berlin", Times: 500},
		bucket.ScheduleWindow{Days: 0x60, From: 0, To: 1440, Zone: "Europe/Berlin", Burst: 500})
}

// TestScheduleTimeline is timeline 8 of the design, with and without asks in between.
func TestScheduleTimeline(t *testing.T) {
	t.Parallel()
	d := office(t)
	for _, asks := range []bool{false, true} {
		s := bucket.State{}.Redefine(d, utc(t, "2026-06-10T05:00:00Z"), 1)
		for _, c := range []struct {
			at        string
			available int64
		}{
			{"2026-06-10T06:59:59Z", 100},
			{"2026-06-10T07:00:00Z", 50},
			{"2026-06-10T15:59:59Z", 50},
			{"2026-06-10T16:00:15Z", 75},
			{"2026-06-10T16:00:30Z", 100},
		} {
			at := utc(t, c.at)
			if got := s.Available(at); got != c.available {
				t.Errorf("%s: available: got %d, want %d", c.at, got, c.available)
			}
			if asks {
				s, _ = s.Take(at, 0, 0)
			}
		}
	}
	at := utc(t, "2026-06-11T06:59:30Z")
	s, ok := bucket.State{}.Redefine(d, at, 1).Take(at, 100, 0)
	if !ok {
		t.Fatal("take 100: got false")
	}
	at = utc(t, "2026-06-11T07:00:00Z")
	if got := s.Available(at); got != 50 {
		t.Errorf("half a minute after it was empty: got %d, want 50", got)
	}
	if got := s.Wait(at, 90); got != 32_424*time.Second {
		t.Errorf("wait for 90: got %v, want 32424s", got)
	}
	if got := s.Wait(at-bucket.Instant(30*time.Second), 90); got != 32_454*time.Second {
		t.Errorf("wait for 90 from 06:59:30Z: got %v, want 32454s", got)
	}
	if got := s.Wait(at, 600); got != bucket.Never {
		t.Errorf("wait for 600: got %v, want Never", got)
	}
	if got := s.Wait(at, 400); got == bucket.Never || got > 4*24*time.Hour {
		t.Errorf("wait for 400, which weekends have: got %v", got)
	}
}

func TestWrongSchedules(t *testing.T) {
	t.Parallel()
	rate := perSecond(1, 10)
	good := bucket.ScheduleWindow{Days: 1, To: 60, Times: 500}
	for name, change := range map[string]func(*bucket.ScheduleWindow){
		"no days":                  func(w *bucket.ScheduleWindow) { w.Days = 0 },
		"an eighth day":            func(w *bucket.ScheduleWindow) { w.Days = 0x80 },
		"a time of day":            func(w *bucket.ScheduleWindow) { w.From = 1440 },
		"a zone":                   func(w *bucket.ScheduleWindow) { w.Zone = "Berlin" },
		"nothing":                  func(w *bucket.ScheduleWindow) { w.Times = 0 },
		"too much":                 func(w *bucket.ScheduleWindow) { w.Times = 1_000_001 },
		"both":                     func(w *bucket.ScheduleWindow) { w.Burst = 5 },
		"an amount without period": func(w *bucket.ScheduleWindow) { w.Times, w.Amount = 0, 5 },
	} {
		w := good
		change(&w)
		if _, err := bucket.NewSchedule(rate, []bucket.ScheduleWindow{w}); !errors.Is(err, bucket.ErrSchedule) {
			t.Errorf("%s: got %v, want ErrSchedule", name, err)
		}
	}
	if _, err := bucket.NewSchedule(rate, make([]bucket.ScheduleWindow, 17)); !errors.Is(err, bucket.ErrSchedule) {
		t.Errorf("17 windows: got %v, want ErrSchedule", err)
	}
	d := scheduled(t, rate, good)
	d.Burst = 11
	if err := d.Validate(); !errors.Is(err, bucket.ErrRange) {
		t.Errorf("the schedule of another rate: got %v, want ErrRange", err)
	}
	if again := scheduled(t, rate, good); again.Schedule != scheduled(t, rate, good).Schedule {
		t.Error("equal schedules differ")
	}
}

// TestFarWaits: a wait does not look at all weeks to come, which each cost an allocation.
func TestFarWaits(t *testing.T) { //nolint:paralleltest // it counts allocations
	at := utc(t, "2026-06-10T12:00:00Z")
	always := bucket.ScheduleWindow{Days: 0x7f, From: 0, To: 1440, Times: 500}
	hidden := bucket.ScheduleWindow{Days: 0x7f, From: 0, To: 1440, Burst: 1000}
	weekend := bucket.ScheduleWindow{Days: 0x60, From: 0, To: 1440, Zone: "Europe/Berlin", Burst: 2000}
	daily := bucket.Definition{Burst: 1000, Amount: 1, Period: 24 * time.Hour, Capacity: 1}
	slow := bucket.Definition{Burst: 1000, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1}
	for name, c := range map[string]struct {
		d           bucket.Definition
		owed, n     int64
		least, most time.Duration // 0: never
	}{
		"a hidden window":    {scheduled(t, perSecond(1, 10), always, hidden), 0, 600, 0, 0},
		"beyond all weeks":   {scheduled(t, slow, weekend), 100, 1000, 0, 0},
		"three years":        {scheduled(t, daily, weekend), 1000, 1000, 998 * 24 * time.Hour, 1002 * 24 * time.Hour},
		"until it is full":   {scheduled(t, daily, weekend), 2000, 1000, 998 * 24 * time.Hour, 2002 * 24 * time.Hour},
		"two weeks and more": {scheduled(t, daily, weekend), 1000, 20, 18 * 24 * time.Hour, 22 * 24 * time.Hour},
	} {
		s, err := bucket.State{}.Redefine(c.d, at, 1).Charge(at, c.owed)
		if err != nil {
			t.Fatal(err)
		}
		wait := s.Wait(at, c.n) // makes the weeks so far
		switch then := at.Add(max(0, wait)); {
		case c.most == 0 && wait != bucket.Never:
			t.Errorf("%s: got %v, want Never", name, wait)
		case c.most == 0:
		case wait < c.least || wait > c.most:
			t.Errorf("%s: got %v, want %v to %v", name, wait, c.least, c.most)
		default:
			if _, fits := s.Take(then, c.n, 0); !fits {
				t.Errorf("%s: after %v: got no room", name, wait)
			}
			if _, fits := s.Take(then-1, c.n, 0); fits {
				t.Errorf("%s: a moment before %v: got room", name, wait)
			}
		}
		if n := testing.AllocsPerRun(3, func() { s.Wait(at, c.n) }); n > 100 {
			t.Errorf("%s: got %.0f allocations, want few weeks to be looked at", name, n)
		}
	}
}

// TestSchedulesAgainstSteps compares schedules with a bucket that is stepped through time
// second by second, by the wall clock of package time.
func TestSchedulesAgainstSteps(t *testing.T) {
	t.Parallel()
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}
	starts := []string{"2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z", "2026-03-08T02:00:00Z", "2026-04-04T10:00:00Z", "2026-06-12T20:00:00Z"}
	for seed := range schedules.Seeds(t, 4) {
		rng := rand.New(rand.NewPCG(seed, 3))
		rate := bucket.Definition{Burst: 20 + rng.Int64N(200), Amount: 1 + rng.Int64N(3), Period: time.Second, Capacity: 1}
		windows := make([]bucket.ScheduleWindow, 1+rng.IntN(4))
		for i := range windows {
			w := &windows[i]
			*w = bucket.ScheduleWindow{
				Days: uint8(1 + rng.IntN(127)), From: int16(rng.IntN(48) * 30), To: int16(rng.IntN(49) * 30), Zone: zones[rng.IntN(len(zones))],
			}
			switch rng.IntN(3) {
			case 0:
				w.Times = 500 * (1 + rng.Int64N(5))
			case 1:
				w.Burst = 1 + rng.Int64N(300)
			case 2:
				w.Amount, w.Period = 1+rng.Int64N(5), time.Second
			}
		}
		d := scheduled(t, rate, windows...)
		st := newStepped(t, rate, d.Schedule.Windows(), utc(t, starts[rng.IntN(len(starts))]))
		s := bucket.State{}.Redefine(d, st.at, 1)
		for range 100 {
			for range rng.IntN(1200) {
				st.step()
			}
			if got := s.Available(st.at); got != floorTokens(st.units) {
				t.Fatalf("%+v of %+v at %v: available: got %d, want %d", windows, rate, st.at.Time(), got, floorTokens(st.units))
			}
			n := rng.Int64N(st.burst/1000 + 2)
			wait := s.Wait(st.at, n)
			next, ok := s.Take(st.at, n, 0)
			if want := st.units >= n*1000; ok != want {
				t.Fatalf("%+v of %+v at %v: take %d: got %v, want %v", windows, rate, st.at.Time(), n, ok, want)
			}
			checkWait(t, s, st.at, n, wait, ok)
			if s = next; ok {
				st.units -= n * 1000
			}
			if rng.IntN(10) == 0 {
				charged, err := s.Charge(st.at, n)
				if err != nil {
					t.Fatal(err)
				}
				s, st.units = charged, st.units-n*1000
			}
		}
	}
}

func floorTokens(units int64) int64 {
	if units < 0 {
		return -((-units + 999) / 1000)
	}
	return units / 1000
}

// A stepped bucket has units, a thousandth of a token each, at an instant.
type stepped struct {
	rate    bucket.Definition
	windows []bucket.ScheduleWindow
	zones   []*time.Location
	at      bucket.Instant
	units   int64

	minute        int64 // in which the next two are in force
	burst, refill int64
}

func newStepped(t *testing.T, rate bucket.Definition, windows []bucket.ScheduleWindow, at bucket.Instant) *stepped {
	t.Helper()
	st := &stepped{rate: rate, windows: windows, at: at, minute: -1}
	for _, w := range windows {
		loc, err := zoneinfo.Location(w.Zone)
		if err != nil {
			t.Fatal(err)
		}
		st.zones = append(st.zones, loc)
	}
	st.at -= bucket.Instant(4 * 24 * time.Hour) // until it is as full as it can be
	st.units, _ = st.inForce()
	for st.at < at {
		st.step()
	}
	return st
}

// inForce returns burst and refill a second, in units. Windows begin and end with a minute.
func (st *stepped) inForce() (burst, refill int64) {
	if minute := st.at.Time().Unix() / 60; minute != st.minute {
		st.minute = minute
		st.burst, st.refill = st.look()
	}
	return st.burst, st.refill
}

func (st *stepped) look() (burst, refill int64) {
	burst, refill = st.rate.Burst*1000, st.rate.Amount*1000
	for i, w := range st.windows {
		now := st.at.Time().In(st.zones[i])
		minute := int16(now.Hour()*60 + now.Minute())
		on := func(days int) bool { return w.Days>>((int(now.Weekday())+6+days)%7)&1 == 1 }
		in := on(0) && minute >= w.From && minute < w.To
		if w.To <= w.From {
			in = on(0) && minute >= w.From || on(6) && minute < w.To
		}
		if !in {
			continue
		}
		switch {
		case w.Times != 0:
			return max(1, st.rate.Burst*w.Times/1000) * 1000, st.rate.Amount * w.Times
		case w.Burst != 0 && w.Amount != 0:
			return w.Burst * 1000, w.Amount * 1000
		case w.Burst != 0:
			return w.Burst * 1000, refill
		}
		return burst, w.Amount * 1000
	}
	return burst, refill
}

func (st *stepped) step() {
	burst, refill := st.inForce()
	st.units = min(st.units+refill, burst)
	st.at += bucket.Instant(time.Second)
	burst, _ = st.inForce()
	st.units = min(st.units, burst)
}
