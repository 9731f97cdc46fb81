package dynamostore_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/dynamofake"
)

// Usage is read as an aggregator writes it, at any distance and in order.
func TestUsageIsRead(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	number := func(n int) types.AttributeValue { return &types.AttributeValueMemberN{Value: fmt.Sprint(n)} }
	count := map[string]int{}
	add := func(entity, resource string, at time.Time, n int) {
		for window, start := range map[string]time.Time{
			"hour": at.Truncate(time.Hour), "day": at.Truncate(24 * time.Hour), "month": time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC),
		} {
			tail := "#" + window + "#" + start.Format("2006-01-02T15Z")
			count[entity+"|"+resource+tail] += n
			table.Put(dynamofake.Item{
				"PK": text("U#" + entity), "SK": text(resource + tail), "GSI1PK": text("U#" + resource + tail), "GSI1SK": text(entity),
				"c_rpm": number(count[entity+"|"+resource+tail]), "events": number(1),
			})
		}
	}
	now := time.Now().UTC().Truncate(time.Hour)
	var want int64
	for i := range 90 { // more than a page, over months
		add(fmt.Sprintf("e%02d", i%45), "gpt-4", now.Add(-time.Duration(i)*17*time.Hour), i+1)
		want += int64(i) + 1
	}
	add("e00", "gpt-4#hour", now, 1000) // another resource, whose name looks like a key
	s, err := dynamostore.New(table, "fake", &dynamostore.Config{UsageCounted: true, VirtualTime: true})
	opened(t, s, err)
	read := func(q zael.UsageQuery) (sum int64, n int) {
		t.Helper()
		var last time.Time
		for r, err := range s.Usage(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Start.Before(last) {
				t.Errorf("Usage of %+v: got %v after %v", q, r.Start, last)
			}
			last = r.Start
			sum, n = sum+r.Amounts["rpm"], n+1
		}
		return sum, n
	}
	for _, window := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		if got, _ := read(zael.UsageQuery{Resource: "gpt-4", Window: window}); got != want {
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
	if got, n := read(zael.UsageQuery{Resource: "gpt-4", From: now.Add(-17 * time.Hour), To: now.Add(time.Hour)}); got != 3 || n != 2 {
		t.Errorf("usage of two hours: got %d in %d records, want 3 in 2", got, n)
	}

	// A sum that int64 does not hold stays at its end.
	table.Put(dynamofake.Item{
		"PK": text("U#huge"), "SK": text("gpt-4#day#2026-01-13T00Z"),
		"c_rpm": &types.AttributeValueMemberN{Value: "9223372036854775808"}, "c_tpm": &types.AttributeValueMemberN{Value: "-12345678901234567890"}, "events": number(1),
	})
	for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: "huge", Window: zael.Daily}) {
		if err != nil || r.Amounts["rpm"] != math.MaxInt64 || r.Amounts["tpm"] != math.MinInt64 {
			t.Errorf("usage beyond int64: got %v (%v), want its ends", r.Amounts, err)
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
