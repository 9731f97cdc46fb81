package sqlitestore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A top-up that was used is not lost when the lease that used it is rolled back, though the
// quota was as one that is full and others were swept meanwhile.
func TestSweepKeepsTopUps(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := quick(t, path)
	day, err := bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.Daily})
	if err != nil {
		t.Fatal(err)
	}
	quota := bucket.Definition{Burst: 10, Capacity: 10, Kind: bucket.Quota, Calendar: day}
	key := zael.Key{Entity: "alice", Resource: "r"}
	topUp := zael.Edit{
		Event: zael.AuditEvent{Time: t0, Action: zael.BucketToppedUp, Entity: key.Entity, Resource: key.Resource}, Amounts: zael.Amounts{"q": 5},
		Stored: []bucket.Limit{{Name: "q", Definition: quota}},
	}
	if _, err := s.Administer(t.Context(), t0, topUp, zael.Once{}); err != nil {
		t.Fatal(err)
	}
	taken := []zael.Debit{{Key: key, Charges: []zael.Charge{{Name: "q", Definition: quota, Amount: 5}}}}
	mustTake(t, s, t0, taken)
	each(t, s, t0, "idle-", 500)
	later := t0.Add(time.Hour + 2*time.Second)
	traffic(t, s, later, path, "SELECT count(*) || ' ' || count(CASE WHEN hour IS NULL THEN full_at END) FROM buckets", "2 1")
	taken[0].Charges[0].Amount = -5
	if _, err := s.Adjust(t.Context(), later, taken); err != nil {
		t.Fatal(err)
	}
	_, buckets, err := s.Buckets(t.Context(), later, []zael.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	at, err := bucket.At(later)
	if err != nil {
		t.Fatal(err)
	}
	if len(buckets[0].Limits) != 1 || buckets[0].Limits[0].State.Available(at) != 15 {
		t.Errorf("after the rollback: got %+v, want 15 of 10 available", buckets[0].Limits)
	}
}
