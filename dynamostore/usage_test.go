package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// Usage is read as an aggregator writes it, however long ago, in order. The lives of a
// bucket in a window are added up.
func TestUsageIsRead(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	counters := func(e, rpm, tpm int64) types.AttributeValue {
		m := map[string]types.AttributeValue{}
		for name, n := range map[string]int64{"e": e, "c_rpm": rpm, "c_tpm": tpm} {
			if n != 0 {
				m[name] = schema.Number(n)
			}
		}
		return &types.AttributeValueMemberM{Value: m}
	}
	lives := 0
	add := func(entity, resource string, at time.Time, n int64) {
		lives++
		for _, window := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
			start, _ := window.Bounds(at)
			table.Put(dynamofake.Item{
				"PK": text("U#" + entity), "SK": text(schema.UsageSort(resource, window, start, fmt.Sprintf("%016x.1", lives))),
				"GSI1PK": text(schema.Of("").UsageIndex(resource, window, start)), "GSI1SK": text(entity),
				"before": counters(7, 100, 5), "after": counters(8, 100+n, 5),
			})
		}
	}
	now := time.Now().UTC().Truncate(time.Hour)
	step := 17 * time.Hour
	if testing.Short() { // each hour is asked for
		step = 4 * time.Hour
	}
	var want int64
	for i := range 90 { // more than a page, over months
		add(fmt.Sprintf("e%02d", i%45), "gpt-4", now.Add(-time.Duration(i)*step), int64(i)+1)
		want += int64(i) + 1
	}
	add("e00", "gpt-4#hour", now, 1000) // another resource, whose name looks like a key
	s, err := dynamostore.NewTrial(table, "fake", &dynamostore.Config{UsageCounted: true, CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, s, err)
	read := func(q zael.UsageQuery) (sum int64, n int) {
		t.Helper()
		var last time.Time
		seen := map[string]bool{}
		for r, err := range s.Usage(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if !last.IsZero() && r.Start.After(last) {
				t.Errorf("Usage of %+v: got %v after %v, want the newest first", q, r.Start, last)
			}
			last = r.Start
			if key := fmt.Sprint(r.Entity, " ", r.Resource, " ", r.Start); seen[key] {
				t.Errorf("Usage of %+v: got %s again", q, key)
			} else {
				seen[key] = true
			}
			if _, ok := r.Amounts["tpm"]; ok || r.Events < 1 {
				t.Errorf("Usage of %+v: got %+v, want acquires and no tpm", q, r)
			}
			sum, n = sum+r.Amounts["rpm"], n+1
		}
		return sum, n
	}
	// A window counts where it starts after From, a month too.
	oldest := now.Add(-90 * step)
	long := time.Date(oldest.Year(), oldest.Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, window := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		if got, _ := read(zael.UsageQuery{Resource: "gpt-4", Window: window, From: long}); got != want {
			t.Errorf("usage of the resource, %s: got %d, want %d", window, got, want)
		}
		if got, _ := read(zael.UsageQuery{Resource: "gpt-4#hour", Window: window}); got != 1000 {
			t.Errorf("usage of the other resource, %s: got %d, want 1000", window, got)
		}
	}
	if got, n := read(zael.UsageQuery{Entity: "e07"}); got != 8+53 || n != 2 {
		t.Errorf("usage of an entity: got %d in %d records, want 61 in 2", got, n)
	}
	if got, n := read(zael.UsageQuery{Entity: "e00", Resource: "gpt-4"}); got != 1+46 || n != 2 {
		t.Errorf("usage of an entity and a resource: got %d in %d records, want 47 in 2", got, n)
	}
	if got, n := read(zael.UsageQuery{Entity: "e00", Resource: "gpt-4#hour"}); got != 1000 || n != 1 {
		t.Errorf("usage of an entity and the other resource: got %d in %d records, want 1000 in 1", got, n)
	}
	if got, n := read(zael.UsageQuery{Resource: "gpt-4", From: now.Add(-step), To: now.Add(time.Hour)}); got != 3 || n != 2 {
		t.Errorf("usage of two hours: got %d in %d records, want 3 in 2", got, n)
	}

	// Differences and sums stay within int64.
	for i, tpm := range []int64{-9e18, -9e18} {
		table.Put(dynamofake.Item{
			"PK": text("U#huge"), "SK": text(fmt.Sprintf("gpt-4#day#2026-01-13T00Z#%d", i)), "before": counters(1, -9e18, 0), "after": counters(2, 9e18, tpm),
		})
	}
	for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: "huge", Window: zael.Daily}) {
		if err != nil || r.Amounts["rpm"] != math.MaxInt64 || r.Amounts["tpm"] != math.MinInt64 || r.Events != 2 {
			t.Errorf("usage beyond int64: got %v (%v), want its ends", r, err)
		}
	}

	// An item that is not usage is an error.
	table.Put(dynamofake.Item{"PK": text("U#odd"), "SK": text("gpt-4#day#2026-01-13T00Z#x"), "after": counters(1, 1, 1)})
	for _, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: "odd", Window: zael.Daily}) {
		if err == nil {
			t.Error("an item without counters before: got no error")
		}
	}

	// Without an aggregator there is none to read.
	s, err = dynamostore.New(table, "fake", nil)
	opened(t, s, err)
	var errs []error
	for _, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: "e07"}) {
		errs = append(errs, err)
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, errors.ErrUnsupported) }) {
		t.Errorf("usage that is not counted: got %v, want errors.ErrUnsupported", errs)
	}
}

// Each window of a resource is a query: a query without a range reads few, the newest
// first, and none more than its reader waits for.
func TestUsageOfAResourceReadsFewWindows(t *testing.T) {
	t.Parallel()
	table := &countedQueries{Table: dynamofake.New()}
	s, err := dynamostore.NewTrial(table, "fake", &dynamostore.Config{UsageCounted: true, CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	s = opened(t, s, err)
	for window, most := range map[zael.Window]int64{zael.Hourly: 26, zael.Daily: 32, zael.Monthly: 13} {
		table.n.Store(0)
		for _, err := range s.Usage(t.Context(), zael.UsageQuery{Resource: "gpt-4", Window: window}) {
			t.Fatal(err)
		}
		if got := table.n.Load(); got > most || got < most-2 {
			t.Errorf("%s: got %d queries, want about %d", window, got, most)
		}
	}
	// A year by the hour, of which the reader wants the newest record alone.
	now := time.Now().UTC().Truncate(time.Hour)
	for _, n := range []int{3, 30} {
		key := "gpt-4#hour#" + now.Add(-time.Duration(n)*time.Hour).Format("2006-01-02T15Z")
		counters := func(n int64) types.AttributeValue {
			return &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"e": schema.Number(n), "c_rpm": schema.Number(n)}}
		}
		table.Put(dynamofake.Item{
			"PK": schema.Text("U#e"), "SK": schema.Text(key + "#1.1"), "GSI1PK": schema.Text("U#" + key), "GSI1SK": schema.Text("e"), "before": counters(0), "after": counters(int64(n)),
		})
	}
	table.n.Store(0)
	for r, err := range s.Usage(t.Context(), zael.UsageQuery{Resource: "gpt-4", From: now.AddDate(-1, 0, 0)}) {
		if err != nil || r.Amounts["rpm"] != 3 {
			t.Errorf("the first record: got %+v (%v), want that of 3 hours ago", r, err)
		}
		break
	}
	if got := table.n.Load(); got > 25 {
		t.Errorf("for the newest record: got %d queries, want those that run at a time and few more", got)
	}
}

// A countedQueries is a table that counts its queries.
type countedQueries struct {
	*dynamofake.Table
	n atomic.Int64
}

func (c *countedQueries) Query(ctx context.Context, in *dynamodb.QueryInput, o ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	c.n.Add(1)
	return c.Table.Query(ctx, in, o...)
}
