// Package definitions has definitions of limits that are not valid.
package definitions

import (
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// Refused checks that a store refuses what is not valid, and makes no bucket: one with such a
// definition could not be read again.
func Refused(t *testing.T, s zael.BucketStore, now time.Time) {
	t.Helper()
	for _, d := range []bucket.Definition{
		{},
		{Burst: 1, Amount: 1, Period: time.Second},
		{Burst: -1, Amount: 1, Period: time.Second, Capacity: 1},
		{Burst: 1, Amount: 1, Capacity: 1},
		{Burst: 1, Amount: -1, Period: time.Second, Capacity: 1},
		{Kind: 77, Burst: 1, Amount: 1, Period: time.Second, Capacity: 1},
		{Kind: bucket.Quota, Burst: 1, Capacity: 1},
	} {
		debits := []zael.Debit{{Key: zael.Key{Entity: "a", Resource: "r"}, Holder: "h", Charges: []zael.Charge{{Name: "n", Definition: d, Amount: 1}}}}
		_, take := s.Take(t.Context(), now, 0, debits)
		_, adjust := s.Adjust(t.Context(), now, debits)
		for _, err := range []error{take, adjust} {
			if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
				t.Errorf("%+v: got %v, want a *ValidationError", d, err)
			}
		}
	}
	if _, got, err := s.Buckets(t.Context(), now, []zael.Key{{Entity: "a", Resource: "r"}}); err != nil || len(got[0].Limits) > 0 {
		t.Errorf("then: got %v and %v, want no bucket", got, err)
	}
}
