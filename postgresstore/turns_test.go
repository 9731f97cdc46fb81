package postgresstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/postgresstore"
	"github.com/zeroae/zael/storetest"
)

// A turns is a store whose calls are made by several stores on one namespace, by turns, so that each
// finds buckets changed by others. They remember no refusals, which others do not see.
type turns struct {
	stores []*postgresstore.Store
	n      atomic.Int64
}

func (s *turns) next() *postgresstore.Store { return s.stores[int(s.n.Add(1))%len(s.stores)] }

func (s *turns) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	return s.next().Take(ctx, now, maxWait, debits)
}

func (s *turns) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	return s.next().Adjust(ctx, now, debits)
}

func (s *turns) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	return s.next().Buckets(ctx, now, keys)
}

// Stores that share buckets answer together as one does.
func TestStoresByTurns(t *testing.T) { //nolint:tparallel // the subtest has ended when its stores are counted
	t.Parallel()
	needs.Engine(t)
	var offered atomic.Uint64
	t.Run("all", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) zael.Store {
			t.Helper()
			url, namespace, s := sharedURL(t), newNamespace(), new(turns)
			for range 3 {
				s.stores = append(s.stores, openTrial(t, url, &postgresstore.Config{Namespace: namespace, Pool: 2}, trial.Options{VirtualTime: true, Direct: true}))
			}
			t.Cleanup(func() {
				for _, s := range s.stores {
					offered.Add(s.Stats().Offered)
				}
			})
			return s
		}, storetest.Kinds)
	})
	if offered.Load() < 100 {
		t.Errorf("%d takes were made on buckets as others had left them: the checks no longer meet those", offered.Load())
	}
}
