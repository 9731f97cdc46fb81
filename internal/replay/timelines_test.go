package replay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/replay"
)

// never is the wait of a request that no wait helps.
const never = -1

// An event is a row of a trace, and what must come of it. A take of 0 tells what is there.
type event struct {
	at       string // RFC 3339, or a time after the day of the event before
	take     string // an amount, or several separated by commas
	admitted bool
	left     string // available after it, by limit
	wait     int    // seconds until it fits; never
}

// replayEvents replays events under limits, and compares what comes of each row.
func replayEvents(t *testing.T, limits []zael.Limit, events []event) *replay.Report {
	t.Helper()
	var o replay.Options
	var names []string
	consume := map[string]string{}
	for i, l := range limits {
		consume[l.Name] = fmt.Sprintf("a%d", i)
		names = append(names, l.Name+"="+consume[l.Name])
	}
	trace := "t"
	for i := range limits {
		trace += fmt.Sprintf(",a%d", i)
	}
	trace += "\n"
	day := ""
	for i := range events {
		e := &events[i]
		if strings.Contains(e.at, "T") {
			day = e.at[:len("2006-01-02T")]
		} else {
			e.at = day + e.at
		}
		takes := strings.Split(e.take, ",")
		for len(takes) < len(limits) {
			takes = append(takes, takes[0])
		}
		trace += e.at + "," + strings.Join(takes, ",") + "\n"
	}
	o.Limits, o.Consume = limits, exprs(t, names...)
	var got []*replay.Decided
	o.Decided = func(d *replay.Decided) error {
		got = append(got, d)
		return nil
	}
	report := run(t, strings.NewReader(trace), &o)
	if len(got) != len(events) {
		t.Fatalf("got %d decisions, want %d", len(got), len(events))
	}
	for i, e := range events {
		d := got[i]
		var left []string
		wait := time.Duration(0)
		for _, s := range d.Limits {
			left = append(left, fmt.Sprint(s.Available))
			wait = max(wait, s.RetryAfter)
		}
		seconds := int((wait + time.Second - 1) / time.Second)
		if wait == zael.Never {
			seconds = never
		}
		if d.Admitted != e.admitted || strings.Join(left, ",") != e.left || seconds != e.wait {
			t.Errorf("%s take %s: got admitted %t, left %v, wait %d s; want %t, %s, %d s",
				e.at, e.take, d.Admitted, left, seconds, e.admitted, e.left, e.wait)
		}
	}
	return report
}

// office halves a rate in office hours, and has a greater burst at weekends.
const office = "rpm=100/min when mon-fri 09:00-18:00 Europe/Berlin times 0.5 when sat-sun Europe/Berlin burst 500"

// TestTimelines replays the timelines of quotas, sessions, schedules and mixed limits.
func TestTimelines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits string
		events []event
	}{
		{"a day of 23 hours", "q=100 each day Europe/Berlin", []event{
			{"2026-03-28T23:00:00Z", "0", true, "100", 0},
			{"2026-03-29T12:00:00Z", "100", true, "0", 0},
			{"12:00:00Z", "1", false, "0", 36_000},
			{"21:59:59Z", "1", false, "0", 1},
			{"22:00:00Z", "0", true, "100", 0},
		}},
		{"a day of 25 hours", "q=100 each day Europe/Berlin", []event{
			{"2026-10-24T21:59:59Z", "100", true, "0", 0},
			{"22:00:00Z", "100", true, "0", 0},
			{"22:00:00Z", "1", false, "0", 90_000},
			{"2026-10-25T22:59:59Z", "1", false, "0", 1},
			{"23:00:00Z", "0", true, "100", 0},
			{"23:00:00Z", "101", false, "100", never},
		}},
		{"a time in the gap", "q=100 each day at 02:30 Europe/Berlin", []event{
			{"2026-03-28T01:29:59Z", "100", true, "0", 0},
			{"01:30:00Z", "0", true, "100", 0},
			{"12:00:00Z", "100", true, "0", 0},
			{"2026-03-29T00:59:59Z", "1", false, "0", 1},
			{"01:00:00Z", "100", true, "0", 0},
			{"2026-03-30T00:29:59Z", "1", false, "0", 1},
			{"00:30:00Z", "0", true, "100", 0},
		}},
		{"a gap in New York", "q=100 each day at 02:00 America/New_York", []event{
			{"2026-03-07T07:00:00Z", "100", true, "0", 0},
			{"2026-03-08T06:59:59Z", "1", false, "0", 1},
			{"07:00:00Z", "100", true, "0", 0},
			{"2026-03-09T05:59:59Z", "1", false, "0", 1},
			{"06:00:00Z", "0", true, "100", 0},
		}},
		{"months", "q=1000 each month America/New_York", []event{
			{"2026-03-01T04:59:59Z", "1000", true, "0", 0},
			{"05:00:00Z", "1000", true, "0", 0},
			{"2026-03-15T12:00:00Z", "1", false, "0", 1_440_000},
			{"2026-04-01T03:59:59Z", "1", false, "0", 1},
			{"04:00:00Z", "0", true, "1000", 0},
			{"2026-11-15T12:00:00Z", "1000", true, "0", 0},
			{"12:00:00Z", "1", false, "0", 1_357_200},
		}},
		{"the 31st", "q=10 each month on 31 Europe/Berlin", []event{
			{"2026-02-10T00:00:00Z", "10", true, "0", 0},
			{"00:00:00Z", "1", false, "0", 1_551_600},
			{"2026-03-30T12:00:00Z", "10", true, "0", 0},
			{"2026-05-05T00:00:00Z", "0", true, "10", 0},
			{"00:00:00Z", "10", true, "0", 0},
			{"00:00:00Z", "1", false, "0", 2_239_200},
		}},
		{"a session", "q=10 per 5h from first use", []event{
			{"2026-06-01T11:00:00Z", "0", true, "10", 0},
			{"12:00:00Z", "6", true, "4", 0},
			{"13:00:00Z", "5", false, "4", 14_400},
			{"17:00:00Z", "0", true, "10", 0},
			{"17:00:00Z", "11", false, "10", never},
			{"18:00:00Z", "1", true, "9", 0},
			{"22:59:59Z", "10", false, "9", 1},
			{"23:00:00Z", "10", true, "0", 0},
		}},
		{"a rate and a quota", "rpm=5/min; q=10 each day", []event{
			{"2026-06-01T23:59:00Z", "5", true, "0,5", 0},
			{"23:59:30Z", "3", false, "2,5", 6},
			{"23:59:48Z", "4", true, "0,1", 0},
			{"23:59:48Z", "2", false, "0,1", 24},
			{"2026-06-02T00:00:12Z", "2", true, "0,8", 0},
		}},
		{"a schedule", office, []event{
			{"2026-06-10T06:59:59Z", "0", true, "100", 0},
			{"07:00:00Z", "0", true, "50", 0},
			{"15:59:59Z", "0", true, "50", 0},
			{"16:00:15Z", "0", true, "75", 0},
			{"16:00:30Z", "0", true, "100", 0},
			{"2026-06-11T06:59:30Z", "100", true, "0", 0},
			{"06:59:30Z", "90", false, "0", 32_454},
			{"07:00:00Z", "90", false, "50", 32_424},
			{"07:00:00Z", "600", false, "50", never},
			{"16:00:23Z", "90", false, "88", 1},
			{"16:00:24Z", "90", true, "0", 0},
		}},
		{"a schedule that nobody looked at", office, []event{
			{"2026-06-10T16:00:15Z", "0", true, "75", 0},
			{"2026-06-13T12:00:00Z", "500", true, "0", 0}, // a Saturday
		}},
		{"a blocked limit and an unlimited one", "n=0/min; m=unlimited", []event{
			{"2026-06-01T00:00:00Z", "1,7", false, "0,1000000000000000", never},
			{"00:00:01Z", "0,7", true, "0,1000000000000000", 0},
		}},
		{"a soft quota", "q=10 each day soft", []event{
			{"2026-06-01T00:00:00Z", "15", true, "-5", 0},
			{"23:00:00Z", "15", true, "-20", 0},
			{"2026-06-02T00:00:00Z", "1", true, "9", 0},
		}},
		{"a quota that carries debt", "q=10 each day carry debt soft", []event{
			{"2026-06-01T00:00:00Z", "25", true, "-15", 0},
			{"2026-06-02T00:00:00Z", "0", true, "-5", 0},
			{"2026-06-03T00:00:00Z", "0", true, "5", 0},
			{"2026-06-04T00:00:00Z", "0", true, "10", 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			replayEvents(t, limits(t, strings.Split(c.limits, "; ")...), c.events)
		})
	}
}

// TestPeriods looks at the use by period, the least amount and what a soft limit let pass.
func TestPeriods(t *testing.T) {
	t.Parallel()
	events := []event{
		{"2026-03-28T12:00:00Z", "60", true, "40", 0},
		{"2026-03-29T12:00:00Z", "70", true, "30", 0}, // of 23 hours
		{"13:00:00Z", "50", false, "30", 9 * 3600},
		{"2026-04-01T12:00:00Z", "10", true, "90", 0},
	}
	report := replayEvents(t, limits(t, "q=100 each day Europe/Berlin"), events)
	want(t, "least amount", *report.LeastBurst["q"], 120)
	if _, rate := report.LeastRate["q"]; rate {
		t.Error("a quota has a least rate, want none")
	}
	var got []string
	for _, p := range report.Limits[0].Periods {
		got = append(got, fmt.Sprintf("%s %v asked %d used %d denied %d", p.Start.Format(time.DateTime), p.End.Sub(p.Start), p.Asked, p.Used, p.Denied))
	}
	wanted := `2026-03-27 23:00:00 24h0m0s asked 60 used 60 denied 0
2026-03-28 23:00:00 23h0m0s asked 120 used 70 denied 1
2026-03-29 22:00:00 48h0m0s asked 0 used 0 denied 0
2026-03-31 22:00:00 24h0m0s asked 10 used 10 denied 0`
	if strings.Join(got, "\n") != wanted {
		t.Errorf("got periods\n%s\nwant\n%s", strings.Join(got, "\n"), wanted)
	}

	for i := range events {
		events[i].admitted, events[i].wait = true, 0
	}
	events[2].left = "-20"
	report = replayEvents(t, limits(t, "q=100 each day Europe/Berlin soft"), events)
	want(t, "overdrawn", report.OverdrawnBy["q"], 1)
	want(t, "least amount of the soft limit", *report.LeastBurst["q"], 120)
	if peak := report.Limits[0].PeakUtilization; peak != 120 {
		t.Errorf("peak: got %v %%, want 120", peak)
	}
}

// TestLeastAmountWithDebt has a request that settles to far more than it took.
func TestLeastAmountWithDebt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit string
		rows  string
		least int64
	}{
		{"q=9 each minute carry debt", "0,1,30\n60,1,1\n", 16},           // 30 and 1 in two minutes
		{"q=9 each minute carry debt", "0,1,30\n60,1,1\n120,17,1\n", 17}, // as if nothing was before
		{"q=9 each minute carry debt", "0,1,30\n60,1,20\n120,4,1\n", 18}, // 54 in three minutes
		{"q=9 each minute carry debt", "0,1,30\n120,3,1\n", 11},          // 33 in three minutes
		{"q=9 each minute", "0,1,30\n60,1,20\n120,4,1\n", 4},
	} {
		o := replay.Options{Limits: limits(t, c.limit), Consume: exprs(t, "q=take"), Settle: exprs(t, "q=used")}
		report := run(t, strings.NewReader("t,take,used\n"+c.rows), &o)
		want(t, c.limit+" on "+c.rows, *report.LeastBurst["q"], c.least)
		for n, refuses := range map[int64]bool{c.least: false, c.least - 1: true} {
			o.Limits[0].Burst, o.Limits[0].Capacity = n, 0
			if denied := run(t, strings.NewReader("t,take,used\n"+c.rows), &o).Denied; (denied > 0) != refuses {
				t.Errorf("%s on %s: %d refuses %d", c.limit, c.rows, n, denied)
			}
		}
	}
}

// TestScheduleReport looks at the use of a rate with a schedule: shares are of the burst in
// force, and there is no least burst or rate.
func TestScheduleReport(t *testing.T) {
	t.Parallel()
	events := []event{
		{"2026-06-10T06:59:59Z", "25", true, "75", 0}, // 25 of 100
		{"07:00:00Z", "30", true, "20", 0},            // 30 of 50
		{"07:01:00Z", "0", true, "50", 0},
		{"07:01:00Z", "51", false, "50", 32_341},
	}
	report := replayEvents(t, limits(t, office), events)
	if peak := report.Limits[0].PeakUtilization; peak != 60 {
		t.Errorf("peak: got %v %%, want 60", peak)
	}
	if len(report.LeastBurst)+len(report.LeastRate) != 0 {
		t.Errorf("got least burst %v and rate %v, want none", report.LeastBurst, report.LeastRate)
	}
	bins, _ := report.Bins()
	if last := bins[len(bins)-1].Limits[0]; last.Level != 0 {
		t.Errorf("got level %d at the end, want 0: the burst in force is there", last.Level)
	}
	var text, page strings.Builder
	if err := errors.Join(report.WriteText(&text), report.WriteHTML(&page, "x.csv")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "rpm: taken of the burst, in %") || strings.Contains(text.String(), "least burst") {
		t.Errorf("got the text\n%s", text.String())
	}
	if !strings.Contains(page.String(), "times 0.5") || strings.Contains(page.String(), "Least burst") {
		t.Error("the page has no limit with its schedule, or a least burst")
	}
}

// TestManyPeriods has more periods than are kept: neighbours are merged, and nothing is lost.
func TestManyPeriods(t *testing.T) {
	t.Parallel()
	const rows = 2000
	trace := "t,n\n"
	for i := range rows {
		trace += fmt.Sprintf("%d,%d\n", i*60, i%7+1)
	}
	report := run(t, strings.NewReader(trace), &replay.Options{Limits: limits(t, "q=7 each minute"), Consume: exprs(t, "q=n")})
	periods, last := 0, time.Time{}
	for _, p := range report.Limits[0].Periods {
		if !last.IsZero() && p.Start != last {
			t.Fatalf("a period starts at %v, want %v, where the one before ends", p.Start, last)
		}
		last = p.End
		periods += p.Periods
	}
	if n := len(report.Limits[0].Periods); periods != rows || n > 720 || report.Limits[0].Periods[1].Used != 7 {
		t.Errorf("got %d periods in %d, want %d in 720 at most", periods, n, rows)
	}
}
