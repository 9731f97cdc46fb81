package bucket_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

func quota(tb testing.TB, n int64, spec bucket.CalendarSpec) bucket.Definition {
	tb.Helper()
	return bucket.Definition{Burst: n, Capacity: n, Kind: bucket.Quota, Calendar: calendar(tb, spec)}
}

func session(n int64, length time.Duration) bucket.Definition {
	return bucket.Definition{Burst: n, Capacity: n, Kind: bucket.Session, Period: length}
}

// A periodStep is one step of a timeline of a quota or session.
type periodStep struct {
	at        string
	take      int64         // -1: none
	refused   bool          // of the take
	available int64         // after it
	ask       int64         // 0: none
	wait      time.Duration // for ask
	end       string        // of the period that is on after the take; "": there is none
}

func runPeriods(t *testing.T, d bucket.Definition, steps []periodStep) {
	t.Helper()
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	s := bucket.State{}.Redefine(d, utc(t, steps[0].at), 1)
	for _, st := range steps {
		at := utc(t, st.at)
		if st.take >= 0 {
			next, ok := s.Take(at, st.take, 0)
			if ok == st.refused {
				t.Errorf("%s: take %d: got %v", st.at, st.take, ok)
			}
			s = next
		}
		if got := s.Available(at); got != st.available {
			t.Errorf("%s: available: got %d, want %d", st.at, got, st.available)
		}
		if got := s.Wait(at, st.ask); st.ask > 0 && got != st.wait {
			t.Errorf("%s: wait for %d: got %v, want %v", st.at, st.ask, got, st.wait)
		}
		_, end, on := s.Period(at)
		if on != (st.end != "") || on && end != utc(t, st.end) {
			t.Errorf("%s: end: got %v %v, want %q", st.at, end.Time(), on, st.end)
		}
	}
}

const secs = time.Second

// TestQuotaTimelines has the timelines 1 to 6 of the design, as one limit alone.
func TestQuotaTimelines(t *testing.T) {
	t.Parallel()
	berlin := bucket.CalendarSpec{Each: bucket.Daily, Zone: "Europe/Berlin"}
	for name, c := range map[string]struct {
		d     bucket.Definition
		steps []periodStep
	}{
		"1: a day of 23 hours": {quota(t, 100, berlin), []periodStep{
			{"2026-03-29T12:00:00Z", 100, false, 0, 1, 36_000 * secs, "2026-03-29T22:00:00Z"},
			{"2026-03-29T21:59:59Z", -1, false, 0, 1, secs, "2026-03-29T22:00:00Z"},
			{"2026-03-29T22:00:00Z", -1, false, 100, 1, 0, "2026-03-30T22:00:00Z"},
		}},
		"2: a day of 25 hours": {quota(t, 100, berlin), []periodStep{
			{"2026-10-24T22:00:00Z", 100, false, 0, 1, 90_000 * secs, "2026-10-25T23:00:00Z"},
			{"2026-10-25T22:59:59Z", -1, false, 0, 1, secs, "2026-10-25T23:00:00Z"},
			{"2026-10-25T23:00:00Z", -1, false, 100, 101, bucket.Never, "2026-10-26T23:00:00Z"},
		}},
		"3: a time in the gap": {quota(t, 100, bucket.CalendarSpec{Each: bucket.Daily, At: 150, Zone: "Europe/Berlin"}), []periodStep{
			{"2026-03-28T12:00:00Z", 100, false, 0, 1, 46_800 * secs, "2026-03-29T01:00:00Z"},
			{"2026-03-29T00:59:59Z", -1, false, 0, 1, secs, "2026-03-29T01:00:00Z"},
			{"2026-03-29T01:00:00Z", -1, false, 100, 1, 0, "2026-03-30T00:30:00Z"},
		}},
		"4: months": {quota(t, 1000, bucket.CalendarSpec{Each: bucket.Monthly, Zone: "America/New_York"}), []periodStep{
			{"2026-03-15T12:00:00Z", 1000, false, 0, 1, 1_440_000 * secs, "2026-04-01T04:00:00Z"},
			{"2026-11-15T12:00:00Z", 1000, false, 0, 1, 1_357_200 * secs, "2026-12-01T05:00:00Z"},
		}},
		"5: the 31st, idle": {quota(t, 10, bucket.CalendarSpec{Each: bucket.Monthly, On: 31, Zone: "Europe/Berlin"}), []periodStep{
			{"2026-02-10T00:00:00Z", 10, false, 0, 1, 1_551_600 * secs, "2026-02-27T23:00:00Z"},
			{"2026-03-30T12:00:00Z", 10, false, 0, 1, 36_000 * secs, "2026-03-30T22:00:00Z"},
			{"2026-05-05T00:00:00Z", -1, false, 10, 10, 0, "2026-05-30T22:00:00Z"},
			{"2026-05-05T00:00:00Z", 10, false, 0, 1, 2_239_200 * secs, "2026-05-30T22:00:00Z"},
		}},
		"6: from first use": {session(10, 5*time.Hour), []periodStep{
			{"2026-06-10T11:00:00Z", -1, false, 10, 10, 0, ""},
			{"2026-06-10T12:00:00Z", 6, false, 4, 5, 18_000 * secs, "2026-06-10T17:00:00Z"},
			{"2026-06-10T13:00:00Z", -1, false, 4, 5, 14_400 * secs, "2026-06-10T17:00:00Z"},
			{"2026-06-10T17:00:00Z", -1, false, 10, 10, 0, ""},
			{"2026-06-10T17:00:00Z", 11, true, 10, 11, bucket.Never, ""},
			{"2026-06-10T17:30:00Z", 0, false, 10, 10, 0, ""},
			{"2026-06-10T18:00:00Z", 1, false, 9, 9, 0, "2026-06-10T23:00:00Z"},
		}},
		"hours": {quota(t, 5, bucket.CalendarSpec{Each: bucket.EachHour}), []periodStep{
			{"2026-06-10T12:59:59Z", 5, false, 0, 5, secs, "2026-06-10T13:00:00Z"},
			{"2026-06-10T13:00:00Z", 5, false, 0, 5, 3600 * secs, "2026-06-10T14:00:00Z"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runPeriods(t, c.d, c.steps)
		})
	}
}

// TestCarriedDebt: what a soft quota, or a settle, leaves above the amount counts in the
// next periods, if the quota carries debt.
func TestCarriedDebt(t *testing.T) {
	t.Parallel()
	d := quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily})
	carry := d
	carry.Flags = bucket.CarryDebt
	noon := utc(t, "2026-06-10T12:00:00Z")
	day := bucket.Instant(24 * time.Hour)
	for _, c := range []struct {
		d         bucket.Definition
		available [4]int64 // on this day and the next ones
		wait      time.Duration
	}{
		{d, [4]int64{-15, 10, 10, 10}, 12 * time.Hour},
		{carry, [4]int64{-15, -5, 5, 10}, 36 * time.Hour},
	} {
		s, err := bucket.State{}.Redefine(c.d, noon, 1).Charge(noon, 25)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.available {
			if got := s.Available(noon + bucket.Instant(i)*day); got != want {
				t.Errorf("%v, day %d: available: got %d, want %d", c.d.Flags, i, got, want)
			}
		}
		if got := s.Wait(noon, 5); got != c.wait {
			t.Errorf("%v: wait for 5: got %v, want %v", c.d.Flags, got, c.wait)
		}
	}
}

// TestQuotaGives: a charge is given back in its own period alone.
func TestQuotaGives(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]bucket.Definition{
		"quota":   quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily}),
		"session": session(10, 12*time.Hour),
	} {
		noon, next := utc(t, "2026-06-10T12:00:00Z"), utc(t, "2026-06-11T00:00:00Z")
		taken, _ := bucket.State{}.Redefine(d, noon, 1).Take(noon, 4, 0)
		r := taken.Receipt()
		if got := taken.Give(next-1, 4, r).Available(next - 1); got != 10 {
			t.Errorf("%s: given back in the period: got %d available, want 10", name, got)
		}
		if got := taken.Give(next, 4, r); got != taken {
			t.Errorf("%s: given back after the end: got %+v, want no change", name, got)
		}
		later, _ := taken.Take(next, 3, 0)
		if got := later.Give(next, 4, r); got != later {
			t.Errorf("%s: given back into the next period: got %+v, want no change", name, got)
		}
		if got := later.Give(noon, 3, later.Receipt()).Available(next); got != 10 {
			t.Errorf("%s: given back by a clock that is behind: got %d available, want 10", name, got)
		}
		reset := taken.Reset(noon)
		if got := reset.Give(noon, 4, r); got != reset || reset.Available(noon) != 10 {
			t.Errorf("%s: given back after a reset: got %+v, want no change", name, got)
		}
	}
}

// TestQuotaOlderClock: a clock that is behind takes from the later period.
func TestQuotaOlderClock(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]bucket.Definition{
		"quota":   quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily}),
		"session": session(10, time.Hour),
	} {
		midnight := utc(t, "2026-06-11T00:00:00Z")
		s, _ := bucket.State{}.Redefine(d, midnight, 1).Take(midnight, 7, 0)
		if next, ok := s.Take(midnight-1, 4, 0); ok {
			t.Errorf("%s: 4 more by an older clock: got %+v, want a refusal", name, next)
		}
		next, ok := s.Take(midnight-bucket.Instant(48*time.Hour), 3, 0)
		if !ok || next.Mark != s.Mark || next.Available(midnight) != 0 {
			t.Errorf("%s: 3 more by an older clock: got %+v %v, want them of the same period", name, next, ok)
		}
	}
}

// TestChangedQuotas: a change keeps what was used, and begins no period.
func TestChangedQuotas(t *testing.T) {
	t.Parallel()
	noon := utc(t, "2026-06-10T12:00:00Z")
	day, hour := bucket.CalendarSpec{Each: bucket.Daily}, bucket.CalendarSpec{Each: bucket.EachHour}
	rate := bucket.Definition{Burst: 10, Amount: 10, Period: 24 * time.Hour, Capacity: 10}
	rev := func(d bucket.Definition, rev int64) bucket.Definition {
		d.Rev = rev
		return d
	}
	for _, c := range []struct {
		name      string
		from      bucket.Definition
		used      int64
		to        []bucket.Definition
		available int64
	}{
		{"raised and lowered", quota(t, 10, day), 4, []bucket.Definition{quota(t, 5, day), quota(t, 20, day)}, 16},
		{"lowered below what is used", quota(t, 10, day), 8, []bucket.Definition{quota(t, 5, day)}, -3},
		{"lowered and raised, stored", rev(quota(t, 10, day), 1), 8, []bucket.Definition{rev(quota(t, 5, day), 2), rev(quota(t, 20, day), 3)}, 12},
		{"another calendar", quota(t, 10, day), 8, []bucket.Definition{quota(t, 10, hour)}, 2},
		{"another calendar and a lower amount, stored: capped", rev(quota(t, 10, day), 1), 8, []bucket.Definition{rev(quota(t, 5, hour), 2)}, 0},
		{"a session", quota(t, 10, day), 8, []bucket.Definition{session(10, time.Hour)}, 2},
		{"a session, and back", quota(t, 10, day), 8, []bucket.Definition{session(10, time.Hour), quota(t, 10, day)}, 2},
		{"a rate", quota(t, 10, day), 8, []bucket.Definition{rate}, 2},
		{"a rate, and back", quota(t, 10, day), 8, []bucket.Definition{rate, quota(t, 10, day)}, 2},
		{"of a rate", rate, 8, []bucket.Definition{quota(t, 12, day)}, 4},
		{"blocked", quota(t, 10, day), 8, []bucket.Definition{bucket.Blocked()}, 0},
		{"blocked, and lifted", quota(t, 10, day), 8, []bucket.Definition{bucket.Blocked(), quota(t, 10, day)}, 2},
		{"unlimited", rate, 8, []bucket.Definition{bucket.Unbounded()}, bucket.MaxAmount},
		{"unlimited, and back", rate, 8, []bucket.Definition{bucket.Unbounded(), bucket.Blocked(), rate}, 2},
	} {
		s, ok := bucket.State{}.Redefine(c.from, noon, 1).Take(noon, c.used, 0)
		if !ok {
			t.Fatal(c.name)
		}
		for _, d := range c.to {
			s = s.Redefine(d, noon, 1)
		}
		if got := s.Available(noon); got != c.available {
			t.Errorf("%s: available: got %d, want %d", c.name, got, c.available)
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	noon := utc(t, "2026-06-10T12:00:00Z")
	soft := quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily})
	soft.Flags = bucket.Soft
	s := bucket.State{}.Redefine(soft, noon, 1)
	s, ok := s.Take(noon, 25, 0)
	if !ok || s.Available(noon) != -15 || s.Wait(noon, 1000) != 0 {
		t.Errorf("soft: got %v, %d available, wait %v", ok, s.Available(noon), s.Wait(noon, 1000))
	}
	hard := soft
	hard.Flags = 0
	if s = s.Redefine(hard, noon, 1); s.Available(noon) != -15 {
		t.Errorf("soft made hard: got %d available, want -15", s.Available(noon))
	}
	if _, ok := s.Take(noon, 0, 0); ok {
		t.Error("a quota in debt asked for 0: got true, want false")
	}
	block := bucket.State{}.Redefine(bucket.Blocked(), noon, 1)
	if _, ok := block.Take(noon, 1, 0); ok || block.Wait(noon, 1) != bucket.Never {
		t.Errorf("block: got %v, wait %v", ok, block.Wait(noon, 1))
	}
	if _, ok := block.Take(noon, 0, 0); !ok {
		t.Error("block asked for 0: got false, want true")
	}
	unlimited := bucket.State{}.Redefine(bucket.Unbounded(), noon, 1)
	after, ok := unlimited.Take(noon, bucket.MaxAmount, 0)
	if !ok || after != unlimited {
		t.Errorf("unlimited: got %+v %v, want no change", after, ok)
	}
}

func TestTopUps(t *testing.T) {
	t.Parallel()
	noon := utc(t, "2026-06-10T12:00:00Z")
	d := quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily})
	s, _ := bucket.State{}.Redefine(d, noon, 1).Take(noon, 10, 0)
	s, err := s.TopUp(noon, 25)
	if err != nil || s.Available(noon) != 25 || s.Wait(noon, 25) != 0 || s.Wait(noon, 26) != bucket.Never {
		t.Errorf("topped up: got %d available, %v", s.Available(noon), err)
	}
	if got := s.Available(noon + bucket.Instant(12*time.Hour)); got != 10 {
		t.Errorf("on the next day: got %d, want 10", got)
	}
	if _, err := s.TopUp(noon, bucket.MaxAmount); !errors.Is(err, bucket.ErrRange) {
		t.Errorf("too much on top: got %v, want ErrRange", err)
	}
	for _, bad := range []bucket.Definition{bucket.Blocked(), bucket.Unbounded(), slots(2)} {
		if _, err := (bucket.State{}).Redefine(bad, noon, 1).TopUp(noon, 1); !errors.Is(err, bucket.ErrRange) {
			t.Errorf("%v: got %v, want ErrRange", bad, err)
		}
	}
	rate := perSecond(1, 10)
	full, _ := bucket.State{}.Redefine(rate, noon, 1).Take(noon, 10, 0)
	if full, err = full.TopUp(noon, 100); err != nil || full.Available(noon) != 10 {
		t.Errorf("a rate: got %d available, %v, want its burst", full.Available(noon), err)
	}
}

// TestUnusedBecomesSession: what is used begins a session, not the change of the definition.
func TestUnusedBecomesSession(t *testing.T) {
	t.Parallel()
	noon := utc(t, "2026-06-10T12:00:00Z")
	w := session(10, 24*time.Hour)
	for name, from := range map[string]bucket.Definition{
		"quota": quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily}), "session": session(10, time.Hour),
	} {
		s, _ := bucket.State{}.Redefine(from, noon, 1).Take(noon, 4, 0)
		if s = s.Give(noon, 4, s.Receipt()).Redefine(w, noon, 1); !s.Idle(noon) {
			t.Errorf("a %s of which nothing is used: got a session from %v", name, bucket.Instant(s.Mark).Time())
		}
		if start, _, ok := s.Period(noon); ok {
			t.Errorf("a %s of which nothing is used: got a session from %v", name, start.Time())
		}
	}
}

// TestIdle: in its period a quota is not idle, as what is given back may be a top-up.
func TestIdle(t *testing.T) {
	t.Parallel()
	noon := utc(t, "2026-06-10T12:00:00Z")
	midnight := utc(t, "2026-06-11T00:00:00Z")
	carrying := quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily})
	carrying.Flags = bucket.CarryDebt
	for name, d := range map[string]bucket.Definition{
		"quota": quota(t, 10, bucket.CalendarSpec{Each: bucket.Daily}), "carries debt": carrying, "session": session(10, 12*time.Hour),
	} {
		s, err := bucket.State{}.Redefine(d, noon, 1).TopUp(noon, 5)
		if err != nil {
			t.Fatal(err)
		}
		s, _ = s.Take(noon, 5, 0)
		if s.Idle(noon) || !s.Full(noon) || s.WaitIdle(noon) != 12*time.Hour || s.Idle(midnight-1) || !s.Idle(midnight) {
			t.Errorf("%s: got idle %v at noon and %v at midnight, a wait of %v; want false, true, 12h", name, s.Idle(noon), s.Idle(midnight), s.WaitIdle(noon))
		}
	}
}

// A countedQuota is a second formulation of quotas and sessions: a count of what was taken,
// in periods that are stepped through one by one.
type countedQuota struct {
	d     bucket.Definition
	start bucket.Instant // of the period on; only of sessions
	used  int64
	seen  bucket.Instant // the start of the latest period of a quota
}

func (c *countedQuota) turn(at bucket.Instant) bucket.Instant {
	if c.d.Kind == bucket.Session {
		at = max(at, c.start)
		if c.start != math.MinInt64 && at-c.start >= bucket.Instant(c.d.Period) {
			c.start, c.used = math.MinInt64, 0
		}
		return at
	}
	at = max(at, c.seen)
	start, _ := c.d.Calendar.Period(at)
	for c.seen < start {
		_, end := c.d.Calendar.Period(c.seen)
		c.seen = end
		switch {
		case c.d.Flags&bucket.CarryDebt != 0:
			c.used = max(0, c.used-c.d.Burst)
		default:
			c.used = 0
		}
	}
	return at
}

func (c *countedQuota) take(at bucket.Instant, n int64, anyway bool) bool {
	before := *c
	at = c.turn(at)
	if !anyway && c.used+n > c.d.Burst {
		*c = before
		return false
	}
	if n == 0 {
		*c = before // nothing begins
		return true
	}
	if c.d.Kind == bucket.Session && c.start == math.MinInt64 {
		c.start = at
	}
	c.used += n
	return true
}

// TestQuotasAgainstCounting compares quotas and sessions with countedQuota on random
// takes, charges, top-ups and clocks that are behind.
func TestQuotasAgainstCounting(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := session(1+rng.Int64N(20), time.Duration(1+rng.IntN(100))*time.Hour)
		if rng.IntN(3) > 0 {
			d = quota(t, 1+rng.Int64N(20), randomSpec(rng, []string{"UTC", "Europe/Berlin", "Pacific/Apia", "America/Havana"}[rng.IntN(4)]))
			d.Flags = bucket.Flags(rng.IntN(2)) * bucket.CarryDebt
		}
		at := bucket.Instant(rng.Int64N(int64(bucket.MaxInstant)) - int64(bucket.MaxInstant)/2)
		s := bucket.State{}.Redefine(d, at, 1)
		c := &countedQuota{d: d, start: math.MinInt64, seen: at}
		if d.Kind == bucket.Quota {
			c.seen, _ = d.Calendar.Period(at)
		}
		for range 60 {
			at += bucket.Instant(rng.Int64N(int64(40 * time.Hour)))
			now, n := at, rng.Int64N(12)
			if rng.IntN(4) == 0 {
				now -= bucket.Instant(rng.Int64N(int64(60 * time.Hour)))
			}
			switch rng.IntN(4) {
			case 0:
				next, err := s.Charge(now, n)
				if err != nil {
					t.Fatal(err)
				}
				s = next
				c.take(now, n, true)
			case 1:
				if n == 0 {
					continue
				}
				next, err := s.TopUp(now, n)
				if err != nil {
					t.Fatal(err)
				}
				s = next
				c.take(now, -n, true)
			default:
				wait := s.Wait(now, n)
				next, ok := s.Take(now, n, 0)
				if want := c.take(now, n, false); ok != want {
					t.Fatalf("%+v: take %d at %v: got %v, want %v", d, n, now.Time(), ok, want)
				}
				checkWait(t, s, now, n, wait, ok)
				s = next
			}
			counted := *c
			counted.turn(now)
			if got, want := s.Available(now), d.Burst-counted.used; got != want {
				t.Fatalf("%+v: available at %v: got %d, want %d", d, now.Time(), got, want)
			}
		}
	}
}

// checkWait reports whether n fits after the wait and not a nanosecond before.
func checkWait(t *testing.T, s bucket.State, at bucket.Instant, n int64, wait time.Duration, fits bool) {
	t.Helper()
	if fits != (wait == 0) {
		t.Fatalf("%+v: wait for %d at %v: got %v, but a take gives %v", s, n, at.Time(), wait, fits)
	}
	if wait == 0 || wait == bucket.Never {
		return
	}
	if _, ok := s.Take(at+bucket.Instant(wait), n, 0); !ok {
		t.Fatalf("%+v: %d at %v: does not fit after %v", s, n, at.Time(), wait)
	}
	if _, ok := s.Take(at+bucket.Instant(wait)-1, n, 0); ok {
		t.Fatalf("%+v: %d at %v: fits before %v", s, n, at.Time(), wait)
	}
}
