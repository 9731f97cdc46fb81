package dynamostore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// A definition that is not valid is refused: a bucket that has it could not be read again.
func TestWrongDefinitions(t *testing.T) {
	t.Parallel()
	s, err := dynamostore.NewTrial(dynamofake.New(), "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
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
		_, take := s.Take(t.Context(), t0, 0, debits)
		_, adjust := s.Adjust(t.Context(), t0, debits)
		for _, err := range []error{take, adjust} {
			if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
				t.Errorf("%+v: got %v, want a *ValidationError", d, err)
			}
		}
	}
	if _, got, err := s.Buckets(t.Context(), t0, []zael.Key{{Entity: "a", Resource: "r"}}); err != nil || len(got[0].Limits) > 0 {
		t.Errorf("then: got %v and %v, want no bucket", got, err)
	}
}
