package sqlitestore_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/sqlitestore"
)

// TestKindsSurvive: what a file has of other kinds than rates is there when it is opened
// again, and in the limits that are stored.
func TestKindsSurvive(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/zael.db"
	texts := []string{
		"q=100 each month on 31 at 06:00 Europe/Berlin carry debt soft", "w=10 per 5h from first use", "h=5 each hour",
		"rpm=100/min burst 5 soft", "parallel=20 at once hold 5min", "n=0/min", "u=unlimited",
		"rps=100/min when mon-fri 09:00-18:00 Europe/Berlin times 0.5 when sat-sun Europe/Berlin burst 500", "tpm=1000/min",
	}
	var limits []zael.Limit
	for _, text := range texts {
		l, err := zael.ParseLimit(text)
		if err != nil {
			t.Fatal(err)
		}
		limits = append(limits, l)
	}
	now := time.Date(2026, time.June, 10, 12, 0, 0, 0, time.UTC)
	var before []zael.Bucket
	for reopened := range 2 {
		s, err := sqlitestore.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := zael.New(s, &zael.Config{Clock: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		if reopened == 0 {
			if err := l.SetLimits(t.Context(), zael.Scope{Resource: "gpt-4"}, limits); err != nil {
				t.Fatal(err)
			}
			req := zael.Request{Entity: "a", Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"n": 0, "q": 130}}
			if _, err := l.Reserve(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		stored, err := l.Limits(t.Context(), zael.Scope{Resource: "gpt-4"})
		if err != nil || !reflect.DeepEqual(stored, limits) {
			t.Errorf("stored limits: got %v, %v, want %v", stored, err, limits)
		}
		_, buckets, err := s.Buckets(t.Context(), now, []zael.Key{{Entity: "a", Resource: "gpt-4"}})
		if err != nil {
			t.Fatal(err)
		}
		if reopened == 0 {
			before = buckets
			for _, b := range buckets[0].Limits {
				if b.Name == "parallel" && (b.State.Used != 0 || b.State.Definition.Kind != bucket.Slots) {
					t.Errorf("slots: got %+v, want none held", b.State)
				}
			}
		} else if !reflect.DeepEqual(buckets, before) {
			t.Errorf("reopened: got %+v, want %+v", buckets, before)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
