package memstore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/memstore"
)

// TakeValues counts for the latest instant as Take does. Otherwise a Limiter made
// after the wall clock was set back would start from the last call of Take.
func TestLatestInstantOfTakeValues(t *testing.T) {
	t.Parallel()
	s := memstore.New(nil)
	t0 := time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC)
	later := t0.Add(time.Hour)
	d := bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 10}
	key := zael.Key{Entity: "key-1", Resource: "gpt-4"}
	debits := []zael.Debit{{Key: key, Charges: []zael.Charge{{Name: "rps", Definition: d, Amount: 1}}}}
	if _, err := s.Take(t.Context(), t0, 0, debits); err != nil {
		t.Fatal(err)
	}
	at, err := bucket.At(later)
	if err != nil {
		t.Fatal(err)
	}
	limits := &zael.PolicyLimits{Resource: key.Resource, Limits: []bucket.Limit{{Name: "rps", Definition: d}}}
	_, outcome, ok := s.TakeValues(at, key.Entity, limits, [4]int64{1})
	if !ok || outcome != bucket.Fits {
		t.Fatalf("TakeValues: got %v and %v, want it answered and to fit", outcome, ok)
	}
	if got := s.LatestInstant(); got.After(later) || got.Before(later.Add(-time.Second)) {
		t.Errorf("LatestInstant: got %v, want %v, or up to a second earlier", got, later)
	}
}
