package protocol_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
)

func TestDefinitionText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		d     bucket.Definition
		turns uint64
		want  string
	}{
		{bucket.Definition{Burst: 20_000, Amount: 10_000, Period: time.Minute, Capacity: 10_000}, 0, "1:10000/60s^20000@0.0"},
		{bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 4, Rev: 1768312800000000}, 3, "1:10/1s^10c4@1768312800000000.3"},
		{bucket.Definition{Burst: 1, Amount: 9, Period: time.Second + 1, Capacity: 1}, 1<<32 - 1, "1:9/1000000001n^1@0.4294967295"},
		{bucket.Definition{Burst: 1, Amount: 9, Period: time.Second + 1, Capacity: 1}, 7<<32 + 3, "1:9/1000000001n^1@0.3+7"},
		{bucket.Definition{Burst: bucket.MaxAmount, Amount: 1, Period: bucket.MaxPeriod, Capacity: 2}, 0, "1:1/31622400s^1000000000000000c2@0.0"},
	} {
		got := protocol.DefinitionText(tt.d, tt.turns)
		if got != tt.want {
			t.Errorf("text of %+v: got %q, want %q", tt.d, got, tt.want)
		}
		d, turns, err := protocol.ParseDefinition(got)
		if err != nil || d != tt.d || turns != tt.turns {
			t.Errorf("%q: got %+v, %d and %v, want %+v and %d", got, d, turns, err, tt.d, tt.turns)
		}
	}
	for _, text := range []string{
		"", "1:", "2:10/1s^10@0.0", "1:10/1s^10@0", "1:10/1s^10@.0", "1:10/s^10@0.0", "1:10/1m^10@0.0", "1:0/1s^10@0.0", "1:10/1s^10c11@0.0",
		"1:10/1s^10@-1.0", "1:10/1s^10@0.-1", "1:10/9999999999s^10@0.0", "1:10/1n^10@0.0", "1:10/1s^10c@0.0", "x",
		"1:10/1s^10@0.0+", "1:10/1s^10@0.+1", "1:10/1s^10@0.0+-1", "1:10/1s^10@0.4294967296", "1:10/1s^10@0.0+4294967296",
	} {
		if d, _, err := protocol.ParseDefinition(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, d)
		}
	}
}

func TestTextOfKinds(t *testing.T) {
	t.Parallel()
	calendar := func(spec bucket.CalendarSpec) *bucket.Calendar {
		c, err := bucket.NewCalendar(spec)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	scheduled := bucket.Definition{Burst: 20, Amount: 10, Period: time.Minute, Capacity: 10}
	schedule, err := bucket.NewSchedule(scheduled, []bucket.ScheduleWindow{
		{Days: 0x7f, From: 540, To: 1080, Zone: "Europe/Berlin", Times: 500}, {Days: 0x60, From: 0, To: 1440, Burst: 40},
	})
	if err != nil {
		t.Fatal(err)
	}
	scheduled.Schedule = schedule
	month := calendar(bucket.CalendarSpec{Each: bucket.Monthly, On: 31, At: 360, Zone: "Europe/Berlin"})
	for _, tt := range []struct {
		d     bucket.Definition
		turns uint64
		want  string
	}{
		{bucket.Definition{Burst: 20, Amount: 10, Period: time.Minute, Capacity: 10, Flags: bucket.Soft}, 0, "2:r10/60s^20!s@0.0"},
		{bucket.Definition{Burst: 20, Amount: 10, Period: time.Minute, Capacity: 3, Flags: bucket.Block, Rev: 7}, 1, "2:r10/60s^20c3!b@7.1"},
		{bucket.Definition{Kind: bucket.Quota, Burst: 100, Capacity: 100, Calendar: calendar(bucket.CalendarSpec{Each: bucket.Daily})}, 0, "2:q100/day@0.0"},
		{
			bucket.Definition{Kind: bucket.Quota, Burst: 100, Capacity: 50, Calendar: month, Flags: bucket.CarryDebt | bucket.Soft},
			3<<32 + 2, "2:q100c50/month.31.360.Europe/Berlin!sd@0.2+3",
		},
		{
			bucket.Definition{Kind: bucket.Quota, Burst: 1, Capacity: 1, Calendar: calendar(bucket.CalendarSpec{Each: bucket.Weekly, Zone: "Etc/GMT+5"})},
			0, "2:q1/week...Etc/GMT+5@0.0",
		},
		{bucket.Definition{Kind: bucket.Session, Burst: 10, Capacity: 10, Period: 5 * time.Hour, Flags: bucket.Unlimited}, 0, "2:w10/18000s!u@0.0"},
		{scheduled, 0, "2:r10/60s^20|127,540,1080,500,0,0,0,Europe/Berlin|96,0,1440,0,40,0,0,UTC@0.0"},
		{bucket.Definition{Kind: bucket.Slots, Burst: 20, Capacity: 20, Period: 90 * time.Second}, 0, "2:s20/90s@0.0"},
	} {
		got := protocol.DefinitionText(tt.d, tt.turns)
		if got != tt.want {
			t.Errorf("text of %+v: got %q, want %q", tt.d, got, tt.want)
		}
		d, turns, err := protocol.ParseDefinition(got)
		if err != nil || d != tt.d || turns != tt.turns {
			t.Errorf("%q: got %+v, %d and %v, want %+v and %d", got, d, turns, err, tt.d, tt.turns)
		}
	}
	for _, text := range []string{
		"2:", "2:@0.0", "2:x1/60s@0.0", "2:q@0.0", "2:q1@0.0", "2:q1/@0.0", "2:q1/day.1@0.0", "2:q1/month.32@0.0", "2:q1/day...Mars/Base@0.0",
		"2:q1/day..1440@0.0", "2:q0/day@0.0", "2:q1/day!x@0.0", "2:q1/day!@0.0", "2:w1/60s!d@0.0", "2:w1/0s@0.0", "2:s1/1s@0.0", "2:s1/60s!b@0.0",
		"2:r10/60s^20@0.0", "2:r10/60s^20!bu@0.0", "3:q1/day@0.0", "2:q1/day", "2:q1/day@0", "1:10/60s^20!s@0.0",
	} {
		if d, _, err := protocol.ParseDefinition(text); err == nil {
			t.Errorf("%q: got %+v, want an error", text, d)
		}
	}
}
