package bucket_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/zoneinfo"
)

// utc returns the instant of a time like 2026-03-28T23:00:00Z.
func utc(tb testing.TB, text string) bucket.Instant {
	tb.Helper()
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		tb.Fatal(err)
	}
	at, err := bucket.At(t)
	if err != nil {
		tb.Fatal(err)
	}
	return at
}

func calendar(tb testing.TB, spec bucket.CalendarSpec) *bucket.Calendar {
	tb.Helper()
	c, err := bucket.NewCalendar(spec)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestCalendarStarts has the starts of LIMITS: gaps, doubled hours, short months, leap days.
func TestCalendarStarts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		spec   bucket.CalendarSpec
		starts []string // one after the other
	}{
		{"a day of 23 hours", bucket.CalendarSpec{Each: bucket.Daily, Zone: "Europe/Berlin"}, []string{"2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"}},
		{"a day of 25 hours", bucket.CalendarSpec{Each: bucket.Daily, Zone: "Europe/Berlin"}, []string{"2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}},
		{"a time in the gap", bucket.CalendarSpec{Each: bucket.Daily, At: 150, Zone: "Europe/Berlin"}, []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"a time in the gap, New York", bucket.CalendarSpec{Each: bucket.Daily, At: 120, Zone: "America/New_York"}, []string{"2026-03-07T07:00:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"}},
		{"a time that occurs twice", bucket.CalendarSpec{Each: bucket.Daily, At: 150, Zone: "Europe/Berlin"}, []string{"2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"midnight occurs twice", bucket.CalendarSpec{Each: bucket.Daily, Zone: "America/Havana"}, []string{"2026-10-31T04:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"}},
		{"months of New York", bucket.CalendarSpec{Each: bucket.Monthly, Zone: "America/New_York"}, []string{"2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z"}},
		{"the 31st", bucket.CalendarSpec{Each: bucket.Monthly, On: 31, Zone: "Europe/Berlin"}, []string{"2026-01-30T23:00:00Z", "2026-02-27T23:00:00Z", "2026-03-30T22:00:00Z", "2026-04-29T22:00:00Z", "2026-05-30T22:00:00Z"}},
		{"29 February", bucket.CalendarSpec{Each: bucket.Yearly, On: 229}, []string{"2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z", "2029-02-28T00:00:00Z"}},
		{"weeks from Wednesday", bucket.CalendarSpec{Each: bucket.Weekly, On: 3, At: 360}, []string{"2026-06-10T06:00:00Z", "2026-06-17T06:00:00Z"}},
		{"Apia has no 30 December 2011", bucket.CalendarSpec{Each: bucket.Daily, Zone: "Pacific/Apia"}, []string{"2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"}},
		{"Apia at noon", bucket.CalendarSpec{Each: bucket.Daily, At: 720, Zone: "Pacific/Apia"}, []string{"2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"}},
		{"hours", bucket.CalendarSpec{Each: bucket.EachHour}, []string{"2026-06-10T06:00:00Z", "2026-06-10T07:00:00Z"}},
		{"seven days", bucket.CalendarSpec{Each: bucket.Each7Days}, []string{"1970-01-01T00:00:00Z", "1970-01-08T00:00:00Z"}[:0]},
	} {
		cal := calendar(t, c.spec)
		for i, text := range c.starts {
			at := utc(t, text)
			if start, _ := cal.Period(at); start != at {
				t.Errorf("%s: period at %s: got start %v", c.name, text, start.Time())
			}
			if _, end := cal.Period(at - 1); end != at {
				t.Errorf("%s: period before %s: got end %v", c.name, text, end.Time())
			}
			if n := cal.Starts(utc(t, c.starts[0]), at); n != int64(i) {
				t.Errorf("%s: starts until %s: got %d, want %d", c.name, text, n, i)
			}
			if i > 0 {
				if got, ok := cal.StartAfter(utc(t, c.starts[0]), int64(i)); !ok || got != at {
					t.Errorf("%s: start %d: got %v %v, want %s", c.name, i, got.Time(), ok, text)
				}
			}
		}
	}
}

func TestCalendarSpecs(t *testing.T) {
	t.Parallel()
	good := bucket.CalendarSpec{Each: bucket.Daily, Zone: "Europe/Berlin"}
	first := calendar(t, good)
	if calendar(t, good) != first {
		t.Error("calendars of equal specs differ")
	}
	if calendar(t, good) == calendar(t, bucket.CalendarSpec{Each: bucket.Daily}) {
		t.Error("calendars of different zones are one")
	}
	if got := calendar(t, bucket.CalendarSpec{Each: bucket.Monthly}).Spec(); got.On != 1 || got.Zone != "UTC" {
		t.Errorf("defaults: got %+v", got)
	}
	for _, bad := range []bucket.CalendarSpec{
		{},
		{Each: bucket.Yearly + 1},
		{Each: bucket.Daily, Zone: "Local"},
		{Each: bucket.Daily, Zone: "Berlin"},
		{Each: bucket.Daily, Zone: "europe/berlin"},
		{Each: bucket.Daily, At: 1440},
		{Each: bucket.Daily, At: -1},
		{Each: bucket.Daily, On: 1},
		{Each: bucket.Weekly, On: 8},
		{Each: bucket.Monthly, On: 32},
		{Each: bucket.Monthly, On: -1},
		{Each: bucket.Yearly, On: 230},
		{Each: bucket.Yearly, On: 1301},
		{Each: bucket.EachHour, At: 1},
		{Each: bucket.EachHour, Zone: "Europe/Berlin"},
		{Each: bucket.Each7Days, On: 1},
	} {
		if _, err := bucket.NewCalendar(bad); !errors.Is(err, bucket.ErrCalendar) {
			t.Errorf("%+v: got %v, want ErrCalendar", bad, err)
		}
	}
}

// TestCalendarsOfAllZones compares calendars with a second formulation: the periods start
// at the least instants, found by scanning the zone's transitions with package time, at
// which the wall clock is at or past the nominal time.
func TestCalendarsOfAllZones(t *testing.T) {
	t.Parallel()
	names, err := zoneinfo.Names()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range schedules.Seeds(t, len(names)) {
		rng := rand.New(rand.NewPCG(seed, 0))
		name := names[int(seed)%len(names)]
		loc, err := zoneinfo.Location(name)
		if err != nil {
			t.Fatal(err)
		}
		changes := transitions(loc)
		for range 6 {
			spec := randomSpec(rng, name)
			cal := calendar(t, spec)
			for range 20 {
				from := time.Date(1997, 1, 2, 0, 0, 0, 0, time.UTC)
				at := from.Add(time.Duration(rng.Int64N(int64(56*365*24) * int64(time.Hour))))
				if len(changes) > 0 && rng.IntN(2) == 0 { // near a change of the clock
					at = changes[rng.IntN(len(changes))].Add(time.Duration(rng.Int64N(int64(60*time.Hour))) - 30*time.Hour)
				}
				checkPeriod(t, cal, loc, at)
			}
		}
	}
}

func randomSpec(rng *rand.Rand, zone string) bucket.CalendarSpec {
	spec := bucket.CalendarSpec{Zone: zone, At: int16(rng.IntN(1440))}
	if rng.IntN(2) == 0 {
		spec.At = int16(rng.IntN(8)) * 30
	}
	switch rng.IntN(4) {
	case 0:
		spec.Each = bucket.Daily
	case 1:
		spec.Each, spec.On = bucket.Weekly, int16(1+rng.IntN(7))
	case 2:
		spec.Each, spec.On = bucket.Monthly, int16(1+rng.IntN(31))
	case 3:
		month := 1 + rng.IntN(12)
		last := time.Date(2000, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
		spec.Each, spec.On = bucket.Yearly, int16(month*100+1+rng.IntN(last))
	}
	return spec
}

func transitions(loc *time.Location) (all []time.Time) {
	for at := time.Date(1997, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2053; {
		_, end := at.In(loc).ZoneBounds()
		if end.IsZero() {
			break
		}
		if !end.After(at) { // package time ends a leap year a day early
			end = at.AddDate(0, 0, 1)
		}
		all, at = append(all, end), end
	}
	return all
}

func checkPeriod(t *testing.T, cal *bucket.Calendar, loc *time.Location, when time.Time) {
	t.Helper()
	at, err := bucket.At(when)
	if err != nil {
		return // beyond the range
	}
	var starts []bucket.Instant
	for _, date := range datesNear(cal.Spec(), when) {
		starts = append(starts, leastInstant(loc, date.Add(time.Duration(cal.Spec().At)*time.Minute)))
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	i, _ := slices.BinarySearch(starts, at+1)
	if i == 0 || i == len(starts) {
		t.Fatalf("%+v at %v: the dates do not surround it", cal.Spec(), when)
	}
	start, end := cal.Period(at)
	if start != starts[i-1] || end != starts[i] {
		t.Fatalf("%+v at %v: got %v to %v, want %v to %v", cal.Spec(), when.UTC(), start.Time(), end.Time(), starts[i-1].Time(), starts[i].Time())
	}
	if starts[0].Time().Year() < 1997 {
		return // the zone's data begin later
	}
	if got, want := cal.Starts(starts[0], at), int64(i-1); got != want {
		t.Fatalf("%+v: starts after %v until %v: got %d, want %d", cal.Spec(), starts[0].Time(), when.UTC(), got, want)
	}
	if got, ok := cal.StartAfter(starts[0], int64(i)); starts[i] <= bucket.MaxInstant && (!ok || got != starts[i]) {
		t.Fatalf("%+v: start %d after %v: got %v %v, want %v", cal.Spec(), i, starts[0].Time(), got.Time(), ok, starts[i].Time())
	}
}

// datesNear returns midnights, as if of UTC, of the dates on which periods begin.
func datesNear(spec bucket.CalendarSpec, at time.Time) (dates []time.Time) {
	on := int(spec.On)
	clamped := func(y int, m time.Month, d int) time.Time {
		last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
		return time.Date(y, m, min(d, last), 0, 0, 0, 0, time.UTC)
	}
	at = at.UTC()
	for i := -4; i <= 4; i++ {
		switch spec.Each {
		case bucket.Daily:
			dates = append(dates, time.Date(at.Year(), at.Month(), at.Day()+i, 0, 0, 0, 0, time.UTC))
		case bucket.Weekly:
			monday := at.AddDate(0, 0, -(int(at.Weekday())+6)%7)
			dates = append(dates, time.Date(monday.Year(), monday.Month(), monday.Day()+7*i+on-1, 0, 0, 0, 0, time.UTC))
		case bucket.Monthly:
			first := time.Date(at.Year(), at.Month()+time.Month(i), 1, 0, 0, 0, 0, time.UTC)
			dates = append(dates, clamped(first.Year(), first.Month(), on))
		default:
			dates = append(dates, clamped(at.Year()+i, time.Month(on/100), on%100))
		}
	}
	return dates
}

// leastInstant returns the first instant at which the wall clock of loc is at or past that
// of wall, which is in UTC.
func leastInstant(loc *time.Location, wall time.Time) bucket.Instant {
	for at := wall.Add(-30 * time.Hour).In(loc); ; {
		_, offset := at.Zone()
		_, end := at.ZoneBounds()
		if !end.IsZero() && !end.After(at) { // package time ends a leap year a day early
			end = at.AddDate(0, 0, 1)
		}
		if t := wall.Add(-time.Duration(offset) * time.Second); end.IsZero() || t.Before(end) {
			if t.Before(at) {
				t = at
			}
			return bucket.Instant(t.Sub(bucket.Epoch()))
		}
		at = end
	}
}
