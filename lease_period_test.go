package zael_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A lease belongs to the period of its acquire: what it settles after the end changes no
// balance, and what it settles before the end counts in full.
func TestSettleAfterTheEndOfThePeriod(t *testing.T) {
	t.Parallel()
	midnight := time.Date(2026, 6, 11, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name         string
		took, settle int64
		after        time.Duration // of the settle, from midnight
		want         int64
	}{
		{"more, before the end", 2, 7, -time.Second, 3},
		{"more, after the end", 2, 7, time.Second, 10},
		{"less, after the end", 7, 2, time.Second, 10},
		{"of nothing, after the end", 0, 7, time.Second, 3},
	} {
		now := midnight.AddDate(0, 0, -2)
		l, err := zael.New(memstore.New(nil), &zael.Config{Clock: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		policy := zael.MustPolicy("gpt-4", zael.EachDay("q", 10))
		if err := l.Allow(t.Context(), policy.For("key-1", 4)); err != nil { // from now on the bucket is there
			t.Fatal(err)
		}
		now = midnight.Add(-time.Minute)
		lease, err := l.Acquire(t.Context(), policy.For("key-1", tt.took))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := lease.Settle(zael.Amounts{"q": tt.settle}); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		now = midnight.Add(tt.after)
		if err := lease.Commit(t.Context()); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got, err := l.Available(t.Context(), zael.Query{Entity: "key-1", Policy: policy})
		if err != nil || got["q"] != tt.want {
			t.Errorf("%s: got %d left (%v), want %d", tt.name, got["q"], err, tt.want)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
