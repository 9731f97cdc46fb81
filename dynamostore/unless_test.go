package dynamostore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// between is a table on which something else happens just before the first transaction.
type between struct {
	*dynamofake.Table

	done atomic.Bool
	what func()
}

// TransactWriteItems is the engine's.
func (b *between) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, o ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if !b.done.Swap(true) {
		b.what()
	}
	return b.Table.TransactWriteItems(ctx, in, o...)
}

// A take with a key is not made if an end comes between what it has read and its write.
func TestTakeOnceAfterAnEnd(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	other, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, other, err)
	until := t0.Add(time.Hour)
	client := &between{Table: table, what: func() {
		if _, err := other.AdjustOnce(t.Context(), t0, nil, zael.Once{Key: "end", Hash: "h", Until: until}, []byte("ended")); err != nil {
			t.Error(err)
		}
	}}
	s, err := dynamostore.NewTrial(client, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
	key := zael.Key{Entity: "a", Resource: "r"}
	debits := []zael.Debit{{Key: key, Charges: []zael.Charge{{Name: "n", Definition: bucket.Definition{Burst: 10, Amount: 1, Period: time.Hour, Capacity: 1}, Amount: 1}}}}
	_, first, err := s.TakeOnce(t.Context(), t0, 0, debits, zael.OnceTake{
		Once: zael.Once{Key: "take", Hash: "h", Until: until}, Unless: "end",
		Answer: func(time.Time, []zael.Debit) []byte { return []byte("taken") },
	})
	if !errors.Is(err, zael.ErrLeaseClosed) || first != nil {
		t.Errorf("got %q and %v, want ErrLeaseClosed", first, err)
	}
	if _, got, err := s.Buckets(t.Context(), t0, []zael.Key{key}); err != nil || len(got[0].Limits) > 0 {
		t.Errorf("then: got %v and %v, want nothing taken", got, err)
	}
}
