package usage_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/internal/usage"
)

var t0 = time.Date(2026, 1, 31, 13, 59, 0, 0, time.UTC)

// client is what a Counter writes through.
type client interface {
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
}

func newCounter(tb testing.TB, c client, windows ...zael.Window) *usage.Counter {
	tb.Helper()
	counter, err := usage.New(c, "fake", &usage.Config{Windows: windows})
	if err != nil {
		tb.Fatal(err)
	}
	return counter
}

// image returns a bucket's image of names and values: "b", "x", "e", 2, "c_rpm", 3.
func image(pairs ...any) usage.Image {
	m := usage.Image{}
	for i := 0; i < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = fmt.Sprint(pairs[i+1])
	}
	return m
}

// A history makes the records of one bucket.
type history struct {
	pk, sk string
	now    usage.Image
	next   int64 // sequence number
	at     time.Time
}

func newHistory(entity string) *history {
	return &history{pk: "E#" + entity, sk: "B#gpt-4", next: 98, at: t0}
}

// to returns the record of a change to an image, with the next version; without an image
// the item goes.
func (h *history) to(pairs ...any) usage.Record {
	r := usage.Record{Sequence: strconv.FormatInt(h.next, 10), Created: h.at, PK: h.pk, SK: h.sk, Old: h.now}
	h.next++
	h.now = nil
	if len(pairs) > 0 {
		h.now = image(pairs...)
		h.now["v"] = nextVersion(r.Old, h.now)
	}
	r.New = maps.Clone(h.now)
	return r
}

// nextVersion returns the version of an item after a write.
func nextVersion(was, is usage.Image) string {
	n := 0
	if was["b"] == is["b"] {
		n, _ = strconv.Atoi(was["v"])
	}
	return strconv.Itoa(n + 1)
}

// count counts records, all of which must succeed.
func count(t *testing.T, c *usage.Counter, records ...usage.Record) {
	t.Helper()
	if r := c.Count(t.Context(), records); len(r.Failures) > 0 {
		t.Fatalf("Count: got %+v, want no failures", r)
	}
}

// read returns usage as its readers see it: "e1 gpt-4 hourly 01-31T13 rpm" is 5.
func read(t *testing.T, table *dynamofake.Table, namespace string, q zael.UsageQuery) map[string]int64 {
	t.Helper()
	s, err := dynamostore.NewTrial(table, "fake", &dynamostore.Config{Namespace: namespace, UsageCounted: true, CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	got := map[string]int64{}
	for r, err := range s.Usage(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		where := fmt.Sprintf("%s %s %s %s ", r.Entity, r.Resource, r.Window, r.Start.Format("01-02T15"))
		got[where+"events"] = r.Events
		for name, n := range r.Amounts {
			got[where+name] = n
		}
		for name, n := range r.Overdrawn {
			got[where+"i:"+name] = n
		}
	}
	return got
}

func wantUsage(t *testing.T, table *dynamofake.Table, q zael.UsageQuery, want map[string]int64) {
	t.Helper()
	if got := read(t, table, "", q); !maps.Equal(got, want) {
		t.Errorf("usage of %s %s: got %v, want %v", q.Entity, q.Window, got, want)
	}
}
