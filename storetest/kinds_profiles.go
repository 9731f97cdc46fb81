package storetest

import (
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael/bucket"
)

func mustCalendar(spec bucket.CalendarSpec) *bucket.Calendar {
	c, err := bucket.NewCalendar(spec)
	if err != nil {
		panic(err) // a constant of the checks
	}
	return c
}

func quotaEach(n int64, c *bucket.Calendar, flags bucket.Flags) bucket.Definition {
	return bucket.Definition{Kind: bucket.Quota, Burst: n, Capacity: n, Calendar: c, Flags: flags}
}

func sessionOf(n int64, d time.Duration, flags bucket.Flags) bucket.Definition {
	return bucket.Definition{Kind: bucket.Session, Burst: n, Capacity: n, Period: d, Flags: flags}
}

func flagged(d bucket.Definition, flags bucket.Flags) bucket.Definition {
	d.Flags = flags
	return d
}

func byWallClock(d bucket.Definition, windows ...bucket.ScheduleWindow) bucket.Definition {
	var err error
	if d.Schedule, err = bucket.NewSchedule(d, windows); err != nil {
		panic(err) // a constant of the checks
	}
	return d
}

// fastProfile is minutes and hours, in steps of 10 ms.
func fastProfile(rng *rand.Rand) profile {
	minute, hour := mustCalendar(bucket.CalendarSpec{Each: bucket.EachMinute}), mustCalendar(bucket.CalendarSpec{Each: bucket.EachHour})
	zone := []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}[rng.IntN(3)]
	at := int16(15 * rng.IntN(96))
	return profile{
		grain: 10 * time.Millisecond,
		steps: []time.Duration{2 * time.Second, 300 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second, 30 * time.Second, 3 * time.Minute, time.Hour},
		begin: beginnings()[rng.IntN(len(beginnings()))], until: 48 * time.Hour, around: 50 * time.Hour,
		pool: []bucket.Definition{
			define(10, 1, time.Second), define(20, 2, time.Second), define(3, 60, time.Minute), define(40, 4, time.Second),
			flagged(define(10, 1, time.Second), bucket.Soft),
			byWallClock(define(20, 2, time.Second),
				bucket.ScheduleWindow{Days: 0x7f, From: at, To: (at + 360) % 1440, Zone: zone, Times: 500},
				bucket.ScheduleWindow{Days: 0x55, From: (at + 345) % 1440, To: (at + 375) % 1440, Zone: zone, Burst: 40}),
			quotaEach(10, minute, 0), quotaEach(7, minute, bucket.CarryDebt), quotaEach(10, minute, bucket.Soft),
			quotaEach(10, minute, bucket.CarryDebt|bucket.Soft), quotaEach(20, hour, 0), quotaEach(5, hour, bucket.CarryDebt),
			sessionOf(10, 30*time.Second, 0), sessionOf(10, time.Hour, 0), sessionOf(5, time.Minute, bucket.Soft), sessionOf(20, time.Minute, 0),
			bucket.Blocked(), bucket.Unbounded(),
		},
	}
}

// slowProfile is days, weeks and months across changes of clocks, in steps of a minute.
func slowProfile(rng *rand.Rand) profile {
	zones := []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "UTC"}
	zone := func() string { return zones[rng.IntN(len(zones))] }
	clock := func() int16 { return int16(15 * rng.IntN(96)) }
	minuteRate := func(n, a int64, p time.Duration) bucket.Definition { return define(n, a, p) }
	day := mustCalendar(bucket.CalendarSpec{Each: bucket.Daily, At: 150, Zone: zone()})
	week := mustCalendar(bucket.CalendarSpec{Each: bucket.Weekly, On: int16(1 + rng.IntN(7)), At: clock(), Zone: zone()})
	month := mustCalendar(bucket.CalendarSpec{Each: bucket.Monthly, On: int16(28 + rng.IntN(4)), At: clock(), Zone: zone()})
	midnight := mustCalendar(bucket.CalendarSpec{Each: bucket.Daily, Zone: zone()})
	begin := beginnings()[rng.IntN(len(beginnings()))]
	from := clock()
	return profile{
		grain: time.Minute,
		steps: []time.Duration{30 * time.Minute, 10 * time.Minute, 10 * time.Minute, 3 * time.Hour, 12 * time.Hour, 30 * time.Hour, 30 * time.Minute, time.Hour, 4 * 24 * time.Hour},
		begin: begin, until: 80 * 24 * time.Hour, around: 70 * 24 * time.Hour,
		pool: []bucket.Definition{
			minuteRate(10, 1, time.Minute), minuteRate(30, 6, time.Hour), minuteRate(100, 144, 24*time.Hour), minuteRate(5, 60, time.Hour),
			flagged(minuteRate(30, 6, time.Hour), bucket.Soft),
			byWallClock(minuteRate(60, 6, time.Hour),
				bucket.ScheduleWindow{Days: 0x1f, From: from, To: (from + 540) % 1440, Zone: zone(), Times: 500},
				bucket.ScheduleWindow{Days: 0x60, To: 1440, Zone: zone(), Burst: 200}),
			quotaEach(10, day, 0), quotaEach(10, day, bucket.CarryDebt), quotaEach(10, midnight, 0), quotaEach(20, midnight, bucket.Soft),
			quotaEach(15, midnight, bucket.CarryDebt|bucket.Soft), quotaEach(40, week, 0), quotaEach(30, month, 0), quotaEach(12, month, bucket.CarryDebt),
			sessionOf(10, 5*time.Hour, 0), sessionOf(20, 36*time.Hour, 0), sessionOf(10, 7*24*time.Hour, 0), sessionOf(10, 5*time.Hour, bucket.Soft),
			bucket.Blocked(), bucket.Unbounded(),
		},
	}
}

// beginnings are before the clocks are set forward or back somewhere, the ends of months of
// all lengths, and an ordinary day.
func beginnings() []time.Time {
	at := func(y int, m time.Month, d, h int) time.Time { return time.Date(y, m, d, h, 0, 0, 0, time.UTC) }
	return []time.Time{
		at(2026, time.January, 13, 14), at(2026, time.March, 7, 20), at(2026, time.March, 28, 20), at(2026, time.October, 3, 9),
		at(2026, time.October, 24, 20), at(2026, time.October, 31, 20), at(2024, time.February, 28, 20), at(2025, time.December, 31, 20),
		at(2024, time.December, 31, 23), at(2026, time.January, 30, 20),
	}
}
