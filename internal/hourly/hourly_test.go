package hourly_test

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/hourly"
)

func TestHours(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1970-01-01T00:59:59Z": 0, "1970-01-01T01:00:00Z": 1, "1969-12-31T23:59:59Z": -1, "1969-12-31T23:00:00Z": -1, "1969-12-31T22:59:59Z": -2} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		got := hourly.Of(at)
		if start := hourly.Start(got); got != want || start.After(at) || at.Sub(start) >= time.Hour {
			t.Errorf("%s: got hour %d from %v, want %d", text, got, start.UTC(), want)
		}
	}
	to := time.Date(2026, 3, 1, 0, 0, 0, 1, time.UTC) // a nanosecond into March
	for window, want := range map[zael.Window]time.Time{
		zael.Hourly: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), zael.Daily: time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC), zael.Monthly: time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC),
	} {
		if got := hourly.Start(hourly.Last(zael.UsageQuery{Window: window, To: to})); !got.Equal(want) {
			t.Errorf("the last hour of %s windows before %v: got %v, want %v", window, to, got.UTC(), want)
		}
	}
	if got := hourly.Last(zael.UsageQuery{}); got != math.MaxInt64 {
		t.Errorf("the last hour of all: got %d", got)
	}
}

func TestSums(t *testing.T) {
	t.Parallel()
	b, a := zael.Key{Entity: "b", Resource: "r"}, zael.Key{Entity: "a", Resource: "s"}
	sums, more := hourly.Sums{}, hourly.Sums{}
	sums.Of(b).Events = math.MaxInt64
	more.Of(b).Events = 1
	sums.Of(b).Overdraw("soft", 1)
	more.Of(b).Overdraw("soft", 2)
	more.Of(b).Count("rpm", 3)
	sums.Add(more)
	more.Of(b).Count("rpm", 1)
	sums.Of(b).Count("rpm", -1)
	sums.Of(a)
	start := time.Date(2026, 1, 13, 0, 0, 0, 0, time.UTC)
	want := []zael.UsageRecord{
		{Entity: "a", Resource: "s", Window: zael.Daily, Start: start, Amounts: zael.Amounts{}},
		{Entity: "b", Resource: "r", Window: zael.Daily, Start: start, Amounts: zael.Amounts{"rpm": 2}, Events: math.MaxInt64, Overdrawn: map[string]int64{"soft": 3}},
	}
	if got := sums.Records(zael.Daily, start); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := more.Of(b).Amounts["rpm"]; got != 4 {
		t.Errorf("what was added: got %d tokens, want its own 4", got)
	}
}

// Windows are read as far as they are asked for, and an error ends them.
func TestWindows(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var asked []int64
	read := func(last int64) ([]zael.UsageRecord, int64, error) {
		asked = append(asked, last)
		switch last {
		case 20:
			return []zael.UsageRecord{{Entity: "a"}, {Entity: "b"}}, 10, nil
		case 10:
			return nil, 5, nil
		}
		return nil, 0, broken
	}
	q := zael.UsageQuery{Window: zael.Hourly, To: hourly.Start(21)}
	var got []string
	for r, err := range hourly.Windows(q, read) {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, r.Entity)
	}
	if !reflect.DeepEqual(got, []string{"a", "b", "broken"}) || !reflect.DeepEqual(asked, []int64{20, 10, 5}) {
		t.Errorf("got %v of hours %v", got, asked)
	}
	asked = nil
	for r, err := range hourly.Windows(q, read) {
		if r.Entity != "a" || err != nil {
			t.Errorf("the first record: got %+v and %v", r, err)
		}
		break
	}
	if !reflect.DeepEqual(asked, []int64{20}) {
		t.Errorf("of the first record: asked for hours %v", asked)
	}
}
