package replay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

func TestTimes(t *testing.T) {
	t.Parallel()
	azure := time.Date(2023, 11, 16, 18, 17, 3, 979960000, time.UTC)
	access := time.Date(2022, 8, 7, 8, 31, 27, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2023-11-16 18:17:03.9799600":         azure,
		"2023-11-16T18:17:03.97996Z":          azure,
		"2023-11-16t18:17:03.97996z":          azure,
		" 2023-11-16 18:17:03,97996 ":         azure,
		"2023-11-16 18:17:03.9799600 UTC":     azure,
		"2023-11-16 18:17:03.97996 +0000 UTC": azure,
		"2023-11-16 20:17:03.97996+02:00":     azure,
		"2023-11-16T20:17:03.97996+02:00":     azure,
		"2023-11-16T20:17:03.97996 +0200":     azure,
		"2023-11-16T12:47:03.97996-05:30":     azure,
		"2023-11-16 16:17:03.97996-02":        azure,
		"2023/11/16 18:17:03.97996":           azure,
		"2023-11-16 18:17:03.979960000999999": azure, // below a nanosecond: cut off
		"2023-11-16 18:17:03.9799600019":      azure.Add(1),
		"07/Aug/2022:03:31:27 -0500":          access,
		"[07/Aug/2022:03:31:27 -0500]":        access,
		"07/Aug/2022:08:31:27":                access,
		"2024-02-29":                          time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		"2000-02-29 23:59":                    time.Date(2000, 2, 29, 23, 59, 0, 0, time.UTC),
		"0":                                   time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		".5":                                  time.Date(2025, 1, 1, 0, 0, 0, 5e8, time.UTC),
		"99999999.000000001":                  time.Date(2025, 1, 1, 0, 0, 99999999, 1, time.UTC),
		"1700158623":                          time.Unix(1700158623, 0).UTC(),
		"1700158623.":                         time.Unix(1700158623, 0).UTC(),
		"1700158623.97996":                    azure,
		// A float64 cannot tell this from its neighbours.
		"1700158623.123456789": time.Unix(1700158623, 123456789).UTC(),
	} {
		got, err := replay.ParseTime(text, time.Second)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v (%v), want %v", text, got, err, want)
		}
	}
	for _, c := range []struct {
		text string
		unit time.Duration
		want time.Time
	}{
		{"1700158623979.96", time.Millisecond, azure},
		{"1700158623979960", time.Microsecond, azure},
		{"1700158623979960000", time.Nanosecond, azure},
		{"1700158623979960000.9", time.Nanosecond, azure},
		{"1500.25", time.Millisecond, time.Date(2025, 1, 1, 0, 0, 1, 500_250_000, time.UTC)},
		{"1500", time.Microsecond, time.Date(2025, 1, 1, 0, 0, 0, 1_500_000, time.UTC)},
		{"1500", time.Nanosecond, time.Date(2025, 1, 1, 0, 0, 0, 1500, time.UTC)},
	} {
		got, err := replay.ParseTime(c.text, c.unit)
		if err != nil || !got.Equal(c.want) {
			t.Errorf("%q in units of %v: got %v (%v), want %v", c.text, c.unit, got, err, c.want)
		}
	}
	for _, text := range []string{
		"", " ", "x", ".", "[]", "TIMESTAMP", "2023-11-16X18:17:03", "2023-11-16 18", "2023-11-16 18:1", "2023-11-16 18:17:",
		"2023-11-16 18:17:03.", "2023-11-16 18:17:03.Z", "2023-11-16 18:17:60", "2023-11-16 24:00:00", "2023-11-16 18:60:00",
		"2023-13-01", "2023-00-01", "2023-02-29", "1900-02-29", "2023-04-31", "2023-11-00", "2023-11-16 18:17:03 CET",
		"2023-11-16 18:17:03+", "2023-11-16 18:17:03+2", "2023-11-16 18:17:03+02:0",
		"-1", "+1", "1e9", "1700158623.5x", "99999999999999999999", "9999999999999999999", "9223372036854775807", "16/11/2023", "07/08/2022:03:31:27",
	} {
		if got, err := replay.ParseTime(text, time.Second); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// TestTimesRandom compares with time.Time, in both directions.
func TestTimesRandom(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for range schedules.Count(t, 4_000) {
		want := time.Unix(852_076_800+rng.Int64N(1_700_000_000), rng.Int64N(1e9)).UTC() // 1997 to 2050
		zone := time.FixedZone("", rng.IntN(24*60-1)*60-12*3600)
		nanoseconds := strconv.FormatInt(want.UnixNano(), 10)
		point := func(i int) string { return nanoseconds[:len(nanoseconds)-i] + "." + nanoseconds[len(nanoseconds)-i:] }
		for _, c := range []struct {
			text string
			unit time.Duration
		}{
			{want.Format("2006-01-02 15:04:05.000000000"), time.Second},
			{want.Format(time.RFC3339Nano), time.Second},
			{want.In(zone).Format(time.RFC3339Nano), time.Second},
			{want.In(zone).Format("2006-01-02 15:04:05.999999999-0700"), time.Second},
			{want.In(zone).Format("02/Jan/2006:15:04:05.999999999 -0700"), time.Second},
			{point(9), time.Second},
			{point(6), time.Millisecond},
			{point(3), time.Microsecond},
			{nanoseconds, time.Nanosecond},
		} {
			if got, err := replay.ParseTime(c.text, c.unit); err != nil || !got.Equal(want) {
				t.Fatalf("%q in units of %v: got %v (%v), want %v", c.text, c.unit, got, err, want)
			}
		}
	}
}

// TestOneReading: the first time decides how all are read, and what does not
// fit is an error.
func TestOneReading(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, times string
		unit        time.Duration
		sort        bool
		want        string // of the error, or the length of the trace
	}{
		{"seconds", "0 1.5 3600", 0, false, "1h0m0s"},
		{"milliseconds", "0 1500 3600000", time.Millisecond, false, "1h0m0s"},
		{"nanoseconds", "0 1000000000 2000000000", time.Nanosecond, true, "2s"},
		{"long", "0 99999999 500000000", 0, false, "138888h53m20s"},
		{"Unix milliseconds", "1700158623979 1700158624979", time.Millisecond, false, "1s"},
		{
			"relative, beyond range", "0 1000000000 2000000000", 0, true,
			`line 3, column t: "1000000000", read as time since the beginning in s, is further than 29 years from 2025: name another unit with --time-unit`,
		},
		{
			"Unix, beyond range", "1700158623979", 0, false,
			`line 2, column t: "1700158623979", read as Unix time in s, is further than 29 years from 2025: --time-unit ms would make it 2023-11-16T18:17:03Z`,
		},
		{
			"Unix seconds in a trace of ms", "1700158623979 1700158624", time.Millisecond, false,
			`line 3, column t: "1700158624", read as Unix time in ms, is further than 29 years from 2025: --time-unit s would make it 2023-11-16T18:17:04Z`,
		},
		{"a date after numbers", "0 2024-01-01", 0, false, `line 3, column t: "2024-01-01" is a date, but line 2 has time since the beginning: --skip-bad-rows`},
		{"a number after dates", "2024-01-01 1700158623", 0, false, `line 3, column t: "1700158623" is Unix time, but line 2 has a date: --skip-bad-rows`},
	} {
		o := replay.Options{Limits: limits(t, "n=1/s"), TimeUnit: c.unit, Sort: c.sort}
		trace := "t\n" + strings.ReplaceAll(c.times, " ", "\n")
		report, err := replay.Run(context.Background(), memstore.New(nil), strings.NewReader(trace), &o)
		got := fmt.Sprint(err)
		if err == nil {
			got = report.To.Sub(*report.From).String()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestUnitWarning warns of a trace of an hour in milliseconds, as it is 41 days in
// seconds.
func TestUnitWarning(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		unit  time.Duration
		rows  int
		last  int64
		first int64
		want  string
	}{
		{"ms as s", time.Second, 2_000, 3_540_000, 0, "the trace takes 40 d 23 h, with a request every 29 min 30 s on average, if its times are in s; --time-unit ms would make it 59 min"},
		{"us as ms", time.Millisecond, 2_000, 3_540_000_000, 0, "if its times are in ms; --time-unit us would make it 59 min"},
		{"ms as ms", time.Millisecond, 2_000, 3_540_000, 0, ""},
		{"two days, busy", time.Second, 3_600, 172_800, 0, ""},
		{"years", time.Second, 2_000, 400 * 86400, 0, "the trace takes 400 d, with a request every"},
		{"an hour, two requests", time.Second, 2, 3600, 0, ""},
		{"a month, two requests, Unix", time.Second, 2, 2_592_000, 1_700_000_000, ""},
		{"one request", time.Second, 1, 0, 0, ""},
		{"ns", time.Nanosecond, 2, 3e16, 0, ""},
	} {
		var trace strings.Builder
		trace.WriteString("t\n")
		for i := range c.rows {
			fmt.Fprintln(&trace, c.first+c.last*int64(i)/int64(max(1, c.rows-1)))
		}
		report := run(t, strings.NewReader(trace.String()), &replay.Options{Limits: limits(t, "n=1/s"), TimeUnit: c.unit})
		if got := strings.Join(report.Warnings, "\n"); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"2023-11-16 18:17:03.9799600", "2023-11-16T18:17:03+02:00", "07/Aug/2022:03:31:27 -0500", "1700158623.5", "0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := replay.ParseTime(s, time.Second)
		if err != nil {
			return
		}
		// What is understood can be written down and understood again.
		if again, err := replay.ParseTime(got.Format(time.RFC3339Nano), time.Second); err != nil || !again.Equal(got) {
			t.Errorf("%q: got %v, then %v (%v)", s, got, again, err)
		}
		// What time.Parse takes for RFC 3339 is the same here.
		want, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s))
		if err == nil && !want.Equal(got) {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	})
}
