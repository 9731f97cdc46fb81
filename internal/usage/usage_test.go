package usage_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/dynamofake"
	"github.com/zeroae/zael/internal/usage"
)

// A bucket's life: what each kind of change counts.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	steps := []struct {
		what        string
		record      usage.Record
		events, rpm int64
	}{
		{"the first take of a bucket counts from 0", h.to("b", "x", "e", 1, "c_rpm", 5), 1, 5},
		{"a take", h.to("b", "x", "e", 2, "c_rpm", 8), 2, 8},
		{"a charge without a take", h.to("b", "x", "e", 2, "c_rpm", 10), 2, 10},
		{"a give-back", h.to("b", "x", "e", 2, "c_rpm", 6), 2, 6},
		{"a take that is undone", h.to("b", "x", "e", 1, "c_rpm", 4), 1, 4},
		{"another definition, no tokens", h.to("b", "x", "e", 1, "c_rpm", 4), 1, 4},
		{"a counter that is removed counts nothing", h.to("b", "x", "r", 1, "e", 1), 1, 4},
		{"and one that comes back counts from 0", h.to("b", "x", "r", 1, "e", 1, "c_rpm", 2), 1, 6},
		{"expiry", h.to(), 1, 6},
		{"another life of the bucket counts from 0", h.to("b", "y", "e", 1, "c_rpm", 7), 2, 13},
		{"one that took its place unseen, too", h.to("b", "z", "e", 1, "c_rpm", 9), 3, 22},
	}
	for _, s := range steps {
		count(t, c, s.record)
		got := read(t, table, "", zael.UsageQuery{Entity: "e1"})
		if got["e1 gpt-4 hourly 01-31T13 events"] != s.events || got["e1 gpt-4 hourly 01-31T13 rpm"] != s.rpm {
			t.Fatalf("%s: got %v, want %d events and rpm=%d", s.what, got, s.events, s.rpm)
		}
	}
}

// The window is that of the record's creation, and each length has its own.
func TestWindows(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly, zael.Daily, zael.Monthly)
	h := newHistory("e1")
	first := h.to("b", "x", "e", 1, "c_rpm", 1)
	h.at = t0.Add(time.Minute)
	second := h.to("b", "x", "e", 2, "c_rpm", 11, "c_tpm", 1000)
	h.at = t0.Add(10 * time.Hour).Add(time.Minute)
	third := h.to("b", "x", "e", 3, "c_rpm", 111, "c_tpm", 3000)
	count(t, c, first, second, third)
	for window, want := range map[zael.Window]map[string]int64{
		zael.Hourly: {
			"e1 gpt-4 hourly 01-31T13 events": 1, "e1 gpt-4 hourly 01-31T13 rpm": 1,
			"e1 gpt-4 hourly 01-31T14 events": 1, "e1 gpt-4 hourly 01-31T14 rpm": 10, "e1 gpt-4 hourly 01-31T14 tpm": 1000,
			"e1 gpt-4 hourly 02-01T00 events": 1, "e1 gpt-4 hourly 02-01T00 rpm": 100, "e1 gpt-4 hourly 02-01T00 tpm": 2000,
		},
		zael.Daily: {
			"e1 gpt-4 daily 01-31T00 events": 2, "e1 gpt-4 daily 01-31T00 rpm": 11, "e1 gpt-4 daily 01-31T00 tpm": 1000,
			"e1 gpt-4 daily 02-01T00 events": 1, "e1 gpt-4 daily 02-01T00 rpm": 100, "e1 gpt-4 daily 02-01T00 tpm": 2000,
		},
		zael.Monthly: {
			"e1 gpt-4 monthly 01-01T00 events": 2, "e1 gpt-4 monthly 01-01T00 rpm": 11, "e1 gpt-4 monthly 01-01T00 tpm": 1000,
			"e1 gpt-4 monthly 02-01T00 events": 1, "e1 gpt-4 monthly 02-01T00 rpm": 100, "e1 gpt-4 monthly 02-01T00 tpm": 2000,
		},
	} {
		wantUsage(t, table, zael.UsageQuery{Entity: "e1", Window: window}, want)
		wantUsage(t, table, zael.UsageQuery{Entity: "e1", Resource: "gpt-4", Window: window}, want)
	}
	it := table.Get("U#e1", "gpt-4#day#2026-01-31T00Z")
	ttl, ok := it["ttl"].(*types.AttributeValueMemberN)
	if want := "1777680000"; !ok || ttl.Value != want { // 90 days after the end of the day: 2026-05-02
		t.Errorf("expiry: got %+v, want %s", it["ttl"], want)
	}
	if last, ok := it["last_seq"].(*types.AttributeValueMemberS); !ok || len(last.Value) != 40 || strings.TrimLeft(last.Value, "0") != "99" {
		t.Errorf("last sequence number: got %+v, want 99 in 40 digits", it["last_seq"])
	}
}

// A batch of records of one bucket is one write in each window.
func TestBatchIsMerged(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly, zael.Daily)
	h := newHistory("e1")
	var batch []usage.Record
	for i := range 100 {
		batch = append(batch, h.to("b", "x", "e", i+1, "c_rpm", 3*(i+1)))
	}
	if r := c.Count(t.Context(), batch[:60]); r.Buckets != 60 || r.Updates != 2 {
		t.Errorf("the first batch: got %+v, want 2 updates", r)
	}
	if r := c.Count(t.Context(), batch[60:]); r.Updates != 2 {
		t.Errorf("the next batch: got %+v, want 2 updates", r)
	}
	if r := c.Count(t.Context(), batch); r.Updates != 2 { // which find that there is nothing to do
		t.Errorf("all of it again: got %+v, want 2 updates", r)
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 100, "e1 gpt-4 hourly 01-31T13 rpm": 300})
	if it := table.Get("U#e1", "gpt-4#hour#2026-01-31T13Z"); it["holes"] != nil {
		t.Errorf("holes: got %+v, want none", it["holes"])
	}
}

// Sequence numbers grow in length: 99 comes before 100.
func TestSequenceNumbersAreNumbers(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	for i := range 5 { // 98 to 102
		count(t, c, h.to("b", "x", "e", i+1, "c_rpm", i+1))
	}
	if it := table.Get("U#e1", "gpt-4#hour#2026-01-31T13Z"); it["holes"] != nil {
		t.Errorf("holes: got %+v, want none", it["holes"])
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 5, "e1 gpt-4 hourly 01-31T13 rpm": 5})
}

// Trap of the original: a batch that is retried was counted again, wholly or, if
// it reached further, its beginning.
func TestRetriedBatchCountsOnce(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	var r []usage.Record
	for i := range 10 {
		r = append(r, h.to("b", "x", "e", i+1, "c_rpm", i+1))
	}
	for _, part := range [][2]int{{0, 4}, {0, 4}, {0, 6}, {2, 5}, {5, 8}, {0, 1}, {0, 10}, {9, 10}} {
		count(t, c, r[part[0]:part[1]]...)
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 10, "e1 gpt-4 hourly 01-31T13 rpm": 10})
}

// What was given up is counted when it comes back from the dead letters, although
// newer records have been counted; what its batch had counted is not.
func TestRedrivenCountsOnce(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	a, b := newHistory("a"), newHistory("b")
	var r []usage.Record
	for i := range 10 {
		r = append(r, a.to("b", "x", "e", i+1, "c_rpm", i+1))
		b.next = a.next
		r = append(r, b.to("b", "y", "e", i+1, "c_rpm", i+1))
		a.next = b.next
	}
	count(t, c, r[:4]...)
	for i := 4; i < 10; i++ { // of a failed batch, those of a were counted and those of b not
		if i%2 == 0 {
			count(t, c, r[i])
		}
	}
	count(t, c, r[10:16]...)
	count(t, c, r[18:]...) // another batch failed wholly
	want := map[string]int64{"b gpt-4 hourly 01-31T13 events": 6, "b gpt-4 hourly 01-31T13 rpm": 6}
	wantUsage(t, table, zael.UsageQuery{Entity: "b"}, want)
	for range 2 {
		count(t, c, r[16:18]...)
		count(t, c, r[4:10]...)
	}
	want = map[string]int64{"b gpt-4 hourly 01-31T13 events": 10, "b gpt-4 hourly 01-31T13 rpm": 10}
	wantUsage(t, table, zael.UsageQuery{Entity: "b"}, want)
	want = map[string]int64{"a gpt-4 hourly 01-31T13 events": 10, "a gpt-4 hourly 01-31T13 rpm": 10}
	wantUsage(t, table, zael.UsageQuery{Entity: "a"}, want)
}

// A take and its return add up to nothing, but one of them may come again alone.
func TestSumOfNothingIsNoted(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	count(t, c, h.to("b", "x", "e", 1, "c_rpm", 1))
	take, back := h.to("b", "x", "e", 2, "c_rpm", 6), h.to("b", "x", "e", 1, "c_rpm", 1)
	count(t, c, take, back)
	count(t, c, take) // by another worker, which then dies
	count(t, c, h.to("b", "x", "e", 2, "c_rpm", 2))
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 2, "e1 gpt-4 hourly 01-31T13 rpm": 2})
}

// A whole life of a bucket may be given up, between two others that were counted.
func TestLifeBetween(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	count(t, c, h.to("b", "x", "e", 1, "c_rpm", 1), h.to())
	lost := []usage.Record{h.to("b", "y", "e", 1, "c_rpm", 10), h.to("b", "y", "e", 2, "c_rpm", 20), h.to()}
	count(t, c, h.to("b", "z", "e", 1, "c_rpm", 1), h.to("b", "z", "e", 2, "c_rpm", 2))
	count(t, c, lost...)
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 5, "e1 gpt-4 hourly 01-31T13 rpm": 23})
}

// What changes no counter is no usage, and what is no bucket's is nobody's.
func TestNothingToCount(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	h.now = image("b", "x", "e", 1, "c_rpm", 1)
	other := h.to("b", "x", "e", 1, "c_rpm", 1)
	usageItem := usage.Record{Sequence: "7", Created: t0, PK: "U#e1", SK: "B#hour#2026-01-31T13Z", New: image("c_rpm", 5)}
	noImage := usage.Record{Sequence: "8", Created: t0, PK: "E#e1", SK: "#META"}
	r := c.Count(t.Context(), []usage.Record{other, h.to(), usageItem, noImage})
	if r.Buckets != 1 || r.Updates != 0 || len(r.Failures) != 0 {
		t.Errorf("got %+v, want 1 record of a bucket and no update", r)
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{})
}

// One record that cannot be read is reported, and does not keep back others, of
// its own bucket neither.
func TestBadRecordPoisonsNoOther(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h, other := newHistory("e1"), newHistory("e2")
	batch := []usage.Record{
		h.to("b", "x", "e", 1, "c_rpm", 1),
		h.to("b", "x", "e", 2, "c_rpm", 3),
		h.to("b", "x", "e", 3, "c_rpm", 6),
		other.to("b", "y", "e", 1, "c_rpm", 4),
	}
	good := batch[1]
	for what, bad := range map[string]func(*usage.Record){
		"a counter that is no number": func(r *usage.Record) { r.New = image("b", "x", "e", 2, "c_rpm", "3.5") },
		"one of another type":         func(r *usage.Record) { r.New = image("b", "x", "e", "", "c_rpm", 3) },
		"one beyond all bounds":       func(r *usage.Record) { r.New = image("b", "x", "e", 2, "c_rpm", "99999999999999999999") },
		"a difference beyond them": func(r *usage.Record) {
			r.Old = image("b", "x", "e", 2, "c_rpm", "-9000000000000000000")
			r.New = image("b", "x", "e", 2, "c_rpm", "9000000000000000000")
		},
		"no time":   func(r *usage.Record) { r.Created = time.Time{} },
		"no images": func(r *usage.Record) { r.Old, r.New = nil, nil },
	} {
		batch[1] = good
		bad(&batch[1])
		r := c.Count(t.Context(), batch)
		if len(r.Failures) != 1 || r.Failures[0].Sequence != "99" || !errors.Is(r.Failures[0].Err, usage.ErrUncountable) {
			t.Errorf("%s: got %+v, want a failure of 99 alone, for good", what, r)
		}
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 2, "e1 gpt-4 hourly 01-31T13 rpm": 4})
	wantUsage(t, table, zael.UsageQuery{Entity: "e2"}, map[string]int64{"e2 gpt-4 hourly 01-31T13 events": 1, "e2 gpt-4 hourly 01-31T13 rpm": 4})
	count(t, c, good) // by a version that can read it
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 3, "e1 gpt-4 hourly 01-31T13 rpm": 6})
}

// An update has room for so many names: more limits are more updates.
func TestManyLimits(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	var batch []usage.Record
	now := []any{"b", "x", "e", 1}
	for i := range 250 {
		now = append(now, "c_"+strings.Repeat("n", 1+i), i+1)
		batch = append(batch, h.to(now...))
	}
	r := c.Count(t.Context(), batch)
	if len(r.Failures) > 0 || r.Updates != 3 {
		t.Errorf("got %+v, want 3 updates", r)
	}
	got := read(t, table, "", zael.UsageQuery{Entity: "e1"})
	if len(got) != 251 || got["e1 gpt-4 hourly 01-31T13 "+strings.Repeat("n", 250)] != 250 {
		t.Errorf("got %d numbers, want 251: %v", len(got), got)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config *usage.Config
		ok     bool
	}{
		{nil, true},
		{&usage.Config{}, true},
		{&usage.Config{Windows: []zael.Window{}}, false},
		{&usage.Config{Retention: time.Hour}, false},
		{&usage.Config{Retention: 3651 * 24 * time.Hour}, false},
		{&usage.Config{Parallel: -1}, false},
	} {
		if _, err := usage.New(dynamofake.New(), "t", c.config); (err == nil) != c.ok {
			t.Errorf("%+v: got %v, want ok %v", c.config, err, c.ok)
		}
	}
	for text, n := range map[string]int{"hourly,daily": 2, "monthly": 1, "hourly, daily, monthly": 3, "": 0, "hourly,": 0, "yearly": 0, "daily,daily": 0} {
		if w, err := usage.ParseWindows(text); len(w) != n && err == nil || (err == nil) != (n > 0) {
			t.Errorf("windows %q: got %v (%v), want %d", text, w, err, n)
		}
	}
	for text, want := range map[string]time.Duration{"1": 24 * time.Hour, "3650": 3650 * 24 * time.Hour, "0": 0, "3651": 0, "x": 0, "": 0} {
		if d, err := usage.ParseDays(text); d != want || (err == nil) != (want > 0) {
			t.Errorf("days %q: got %v (%v), want %v", text, d, err, want)
		}
	}
}
