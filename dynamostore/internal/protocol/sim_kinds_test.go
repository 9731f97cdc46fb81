package protocol_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// kinds are definitions of all kinds and flags, with periods that end often in a schedule.
func kinds(t *testing.T) []bucket.Definition {
	t.Helper()
	calendar := func(spec bucket.CalendarSpec) *bucket.Calendar {
		c, err := bucket.NewCalendar(spec)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	minute, hour := calendar(bucket.CalendarSpec{Each: bucket.EachMinute}), calendar(bucket.CalendarSpec{Each: bucket.EachHour})
	day := calendar(bucket.CalendarSpec{Each: bucket.Daily, At: 360, Zone: "Europe/Berlin"})
	quota := func(n int64, c *bucket.Calendar, flags bucket.Flags) bucket.Definition {
		return bucket.Definition{Kind: bucket.Quota, Burst: n, Capacity: n, Calendar: c, Flags: flags}
	}
	session := func(n int64, d time.Duration, flags bucket.Flags) bucket.Definition {
		return bucket.Definition{Kind: bucket.Session, Burst: n, Capacity: n, Period: d, Flags: flags}
	}
	rate := func(n int64, flags bucket.Flags) bucket.Definition {
		return bucket.Definition{Burst: n, Amount: n, Period: time.Minute, Capacity: n, Flags: flags}
	}
	scheduled := rate(20, 0)
	schedule, err := bucket.NewSchedule(scheduled, []bucket.ScheduleWindow{
		{Days: 0x7f, From: 0, To: 720, Zone: "Europe/Berlin", Times: 500}, {Days: 0x55, From: 720, To: 1000, Burst: 40},
	})
	if err != nil {
		t.Fatal(err)
	}
	scheduled.Schedule = schedule
	return []bucket.Definition{
		scheduled,
		quota(10, minute, 0), quota(7, minute, bucket.CarryDebt), quota(10, minute, bucket.Soft), quota(20, hour, 0),
		quota(5, hour, bucket.CarryDebt), quota(100, day, 0), quota(40, day, bucket.CarryDebt), quota(10, minute, bucket.Block),
		session(10, 30*time.Second, 0), session(10, time.Hour, 0), session(3, time.Second, 0), session(5, time.Hour, bucket.Soft),
		rate(10, 0), rate(100, 0), rate(10, bucket.Soft), rate(10, bucket.Block), rate(10, bucket.Unlimited), session(10, time.Hour, bucket.Unlimited),
		definitions[3], definitions[6], bucket.Blocked(), bucket.Unbounded(),
		quota(bucket.MaxAmount, day, 0), quota(bucket.MaxAmount, minute, bucket.CarryDebt),
	}
}

// The simulation of all kinds that are not held: mixed in one bucket, and made of each other.
func TestSimulationOfKinds(t *testing.T) {
	t.Parallel()
	var sum tally
	var w *world
	all := kinds(t)
	n := 0
	for seed := range schedules.Seeds(t, 350) {
		some := all
		if seed%3 == 0 { // few, so that much happens to each
			i := int(seed/3) % (len(all) - 1)
			some = all[i : i+2]
		}
		var err error
		if w, err = simulate(seed, some, &sum); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, w.text())
		}
		n++
	}
	t.Logf("%d schedules: %+v", n, sum)
	if n > 1 {
		for what, got := range map[string]int{
			"writes": sum.applied, "refusals": sum.refused, "gives": sum.gives, "settled": sum.settled, "conversions": sum.conversions,
			"repetitions": sum.repeated, "expired": sum.expired, "deleted": sum.deleted, "stale": sum.stale, "undone": sum.undone,
			"batches": sum.batches, "done apart": sum.apart, "forgotten": sum.forgotten, "forgotten and back": sum.back,
		} {
			if got < n/50 {
				t.Errorf("%s in %d schedules: got %d, too few to tell anything", what, n, got)
			}
		}
	}
}
