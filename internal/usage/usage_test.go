package usage_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/usage"
)

// What each kind of change counts, in the life of a bucket.
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

// A change counts in the windows of its creation time, one of each length.
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
	it := table.Get("U#e1", "gpt-4#day#2026-01-31T00Z#x")
	ttl, ok := it["ttl"].(*types.AttributeValueMemberN)
	if want := "1777680000"; !ok || ttl.Value != want { // 90 days after the end of the day: 2026-05-02
		t.Errorf("expiry: got %+v, want %s", it["ttl"], want)
	}
}

// The changes of one bucket in a batch are one write for each window.
func TestBatchIsOneWrite(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly, zael.Daily)
	h := newHistory("e1")
	var batch []usage.Record
	for i := range 100 {
		batch = append(batch, h.to("b", "x", "e", i+1, "c_rpm", 3*(i+1)))
	}
	for _, part := range [][2]int{{0, 60}, {60, 100}, {0, 100}} { // the last of which find that there is nothing to do
		if r := c.Count(t.Context(), batch[part[0]:part[1]]); r.Updates != 2 || len(r.Failures) > 0 {
			t.Errorf("%v: got %+v, want 2 calls", part, r)
		}
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 100, "e1 gpt-4 hourly 01-31T13 rpm": 300})
}

// Each change that follows the one before is one call, whatever its sequence number: those
// of another shard, or of the stream of a restored table, may be smaller.
func TestSequenceNumbersDoNotMatter(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	for i := range 12 {
		h.next = []int64{99, 100, 1}[i%3]
		if r := c.Count(t.Context(), []usage.Record{h.to("b", "x", "e", i+1, "c_rpm", i+1)}); r.Updates != 1 || len(r.Failures) > 0 {
			t.Errorf("change %d: got %+v, want one call", i, r)
		}
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 12, "e1 gpt-4 hourly 01-31T13 rpm": 12})
}

// Trap of the original: a batch that was retried was counted again, wholly or, if
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
	for _, part := range [][2]int{{2, 4}, {2, 4}, {2, 6}, {3, 5}, {5, 8}, {0, 1}, {0, 10}, {9, 10}} {
		count(t, c, r[part[0]:part[1]]...)
	}
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 10, "e1 gpt-4 hourly 01-31T13 rpm": 10})
}

// A change that is never brought counts if one before and one after it do; at the ends of
// a window it does not. When it is brought in the end, it counts once.
func TestMissingChange(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	var r []usage.Record
	for i := range 6 {
		r = append(r, h.to("b", "x", "e", i+1, "c_rpm", 10*(i+1)))
	}
	want := func(events int64) {
		t.Helper()
		wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": events, "e1 gpt-4 hourly 01-31T13 rpm": 10 * events})
	}
	count(t, c, r[1])
	want(1)
	count(t, c, r[4])
	want(4)
	count(t, c, r[2])
	want(4)
	count(t, c, r[0])
	want(5)
	count(t, c, r[5], r[3])
	want(6)
}

// A worker that writes between another's calls loses nothing and makes it lose nothing.
func TestWritersMeet(t *testing.T) {
	t.Parallel()
	h := newHistory("e1")
	var r []usage.Record
	for i := range 10 {
		r = append(r, h.to("b", "x", "e", i+1, "c_rpm", i+1))
	}
	for _, other := range [][]usage.Record{{r[1]}, {r[8]}, {r[1], r[8]}, {r[4]}} {
		table := dynamofake.New()
		count(t, newCounter(t, table, zael.Hourly), r[5])
		meets := &meeting{Table: table, then: func() { count(t, newCounter(t, table, zael.Hourly), other...) }}
		count(t, newCounter(t, meets, zael.Hourly), r[3], r[6])
		want := int64(1 + 6 - 3)
		if other[0].Sequence == r[1].Sequence {
			want += 2
		}
		if other[len(other)-1].Sequence == r[8].Sequence {
			want += 2
		}
		wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": want, "e1 gpt-4 hourly 01-31T13 rpm": want})
	}
}

// A meeting calls then before the second call.
type meeting struct {
	*dynamofake.Table
	then  func()
	calls int
}

func (m *meeting) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	if m.calls++; m.calls == 2 {
		m.then()
	}
	return m.Table.UpdateItem(ctx, in, opts...)
}

// A bucket that expires and is created again has another life in the same window, whose
// counters begin at 0. Lives may be counted in any order, and in part.
func TestLives(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly, zael.Daily)
	h := newHistory("e1")
	count(t, c, h.to("b", "x", "e", 1, "c_rpm", 1), h.to())
	late := []usage.Record{h.to("b", "y", "e", 1, "c_rpm", 10), h.to("b", "y", "e", 2, "c_rpm", 20), h.to()}
	h.at = h.at.Add(time.Hour)
	count(t, c, h.to("b", "z", "e", 1, "c_rpm", 1), h.to("b", "z", "e", 2, "c_rpm", 2))
	count(t, c, late...)
	for _, q := range []zael.UsageQuery{{Entity: "e1"}, {Resource: "gpt-4", From: t0.AddDate(0, 0, -1), To: t0.AddDate(0, 0, 1)}} {
		wantUsage(t, table, q, map[string]int64{
			"e1 gpt-4 hourly 01-31T13 events": 3, "e1 gpt-4 hourly 01-31T13 rpm": 21, "e1 gpt-4 hourly 01-31T14 events": 2, "e1 gpt-4 hourly 01-31T14 rpm": 2,
		})
		q.Window = zael.Daily
		wantUsage(t, table, q, map[string]int64{"e1 gpt-4 daily 01-31T00 events": 5, "e1 gpt-4 daily 01-31T00 rpm": 23})
	}
}

// A write that removes a counter begins another life. What was taken of the limit before
// and after counts, even where the bucket comes back to the same counters.
func TestRemovedCounter(t *testing.T) {
	t.Parallel()
	h := newHistory("e1")
	records := []usage.Record{
		h.to("b", "x", "e", 1, "c_rpm", 5),
		h.to("b", "x", "e", 1, "c_rpm", 5, "c_tpm", 7), // charged without a take
		h.to("b", "x", "r", 1, "e", 1, "c_rpm", 6),     // and removed by another charge
		h.to("b", "x", "r", 1, "e", 1, "c_rpm", 5),
		h.to("b", "x", "r", 1, "e", 2, "c_rpm", 6, "c_tpm", 100), // there again, from 0
		h.to("b", "x", "r", 2, "e", 3, "c_tpm", 101),
		h.to("b", "x", "r", 3, "e", 4), // the last one
		h.to("b", "x", "r", 3, "e", 5, "c_tpm", 3),
	}
	for seed := range uint64(50) {
		table := dynamofake.New()
		c := newCounter(t, table, zael.Daily)
		r := rand.New(rand.NewPCG(seed, 7))
		for _, i := range r.Perm(len(records)) {
			count(t, c, records[i])
		}
		wantUsage(t, table, zael.UsageQuery{Entity: "e1", Window: zael.Daily}, map[string]int64{
			"e1 gpt-4 daily 01-31T00 events": 5, "e1 gpt-4 daily 01-31T00 rpm": 6, "e1 gpt-4 daily 01-31T00 tpm": 111,
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	// A counter that goes although r stays would make usage wrong: that is reported.
	h.now = image("b", "x", "e", 1, "c_rpm", 5)
	got := newCounter(t, dynamofake.New()).Count(t.Context(), []usage.Record{h.to("b", "x", "e", 2)})
	if len(got.Failures) != 1 || !errors.Is(got.Failures[0].Err, usage.ErrUncountable) {
		t.Errorf("a counter that is removed and r stays: got %+v, want a failure for good", got)
	}
}

// Creation times are approximate. If they fall over the end of a window, the changes between
// count in both windows, and none is missed.
func TestTimesFallOverEndOfWindow(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	c := newCounter(t, table, zael.Hourly)
	h := newHistory("e1")
	var r []usage.Record
	for i, at := range []int{58, 61, 59, 62} { // seconds after 13:59
		h.at = t0.Add(time.Duration(at) * time.Second)
		r = append(r, h.to("b", "x", "e", i+1, "c_rpm", 1<<i))
	}
	count(t, c, r...)
	wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{
		"e1 gpt-4 hourly 01-31T13 events": 3, "e1 gpt-4 hourly 01-31T13 rpm": 4, // without the last
		"e1 gpt-4 hourly 01-31T14 events": 3, "e1 gpt-4 hourly 01-31T14 rpm": 7, // without the first
	})
}

// Changes that take nothing, and changes of other items, are not usage.
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

// A record that cannot be decoded is reported. It does not affect others, and counts as
// part of what those around it say.
func TestBadRecord(t *testing.T) {
	t.Parallel()
	h, other := newHistory("e1"), newHistory("e2")
	batch := []usage.Record{
		h.to("b", "x", "e", 1, "c_rpm", 1),
		h.to("b", "x", "e", 2, "c_rpm", 3),
		h.to("b", "x", "e", 3, "c_rpm", 6),
		other.to("b", "y", "e", 1, "c_rpm", 4),
	}
	for what, bad := range map[string]func(*usage.Record){
		"a counter that is no number": func(r *usage.Record) { r.New = image("v", r.New["v"], "b", "x", "e", 2, "c_rpm", "3.5") },
		"one of another type":         func(r *usage.Record) { r.New = image("v", r.New["v"], "b", "x", "e", "", "c_rpm", 3) },
		"one beyond int64": func(r *usage.Record) {
			r.New = image("v", r.New["v"], "b", "x", "e", 2, "c_rpm", "99999999999999999999")
		},
		"a bad counter before":           func(r *usage.Record) { r.Old = image("v", 9, "b", "x", "e", "1e1", "c_rpm", 3) },
		"a birth that cannot be in keys": func(r *usage.Record) { r.New = image("v", r.New["v"], "b", "x#y", "e", 2, "c_rpm", 3) },
		"no time":                        func(r *usage.Record) { r.Created = time.Time{} },
		"no images":                      func(r *usage.Record) { r.Old, r.New = nil, nil },
		"no version":                     func(r *usage.Record) { r.New = image("b", "x", "e", 2, "c_rpm", 3) },
		"a version that stays":           func(r *usage.Record) { r.Old = image("v", r.New["v"], "b", "x", "e", 0) },
	} {
		for i, events := range []int64{2, 3, 2} { // an event at an end is missing
			table := dynamofake.New()
			c := newCounter(t, table, zael.Hourly)
			now := slices.Clone(batch)
			bad(&now[i])
			r := c.Count(t.Context(), now)
			if len(r.Failures) != 1 || r.Failures[0].Sequence != batch[i].Sequence || !errors.Is(r.Failures[0].Err, usage.ErrUncountable) {
				t.Errorf("%s: got %+v, want a failure of %s alone, for good", what, r, batch[i].Sequence)
			}
			if got := read(t, table, "", zael.UsageQuery{Entity: "e1"})["e1 gpt-4 hourly 01-31T13 events"]; got != events {
				t.Errorf("%s, record %d: got %d events, want %d", what, i, got, events)
			}
			wantUsage(t, table, zael.UsageQuery{Entity: "e2"}, map[string]int64{"e2 gpt-4 hourly 01-31T13 events": 1, "e2 gpt-4 hourly 01-31T13 rpm": 4})
			count(t, c, batch[i]) // by a version that can decode it
			wantUsage(t, table, zael.UsageQuery{Entity: "e1"}, map[string]int64{"e1 gpt-4 hourly 01-31T13 events": 3, "e1 gpt-4 hourly 01-31T13 rpm": 6})
		}
	}
}

// An item that is not usage, or that another version wrote, is reported and left alone.
func TestForeignItem(t *testing.T) {
	t.Parallel()
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	number := func(s string) types.AttributeValue { return &types.AttributeValueMemberN{Value: s} }
	empty := &types.AttributeValueMemberM{}
	for what, it := range map[string]dynamofake.Item{
		"no counters":      {"first": number("1"), "last": number("9")},
		"no whole numbers": {"first": number("1"), "last": number("9.5"), "before": empty, "after": empty},
		"no numbers":       {"first": text("a"), "last": text("z"), "before": empty, "after": empty},
	} {
		table := dynamofake.New()
		it["PK"], it["SK"] = text("U#e1"), text("gpt-4#hour#2026-01-31T13Z#x")
		table.Put(it)
		h := newHistory("e1")
		r := newCounter(t, table, zael.Hourly).Count(t.Context(), []usage.Record{h.to("b", "x", "e", 1)})
		if len(r.Failures) != 1 || !errors.Is(r.Failures[0].Err, usage.ErrUncountable) {
			t.Errorf("%s: got %+v, want a failure for good", what, r)
		}
		if got := table.Get("U#e1", "gpt-4#hour#2026-01-31T13Z#x"); !maps.Equal(got, it) {
			t.Errorf("%s: got %v, want it as it was", what, got)
		}
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
