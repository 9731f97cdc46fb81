package redisstore_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/redisstore"
	"github.com/zeroae/zael/storetest"
)

// A rotation is several stores of one namespace, as several processes have them: each call is
// made by the next one, which has not seen what the others did. One of them remembers hardly
// anything. They have one clock, which does not run back: what a process knows of clocks that are
// ahead others do not.
type rotation struct {
	zael.EntityStore
	zael.LimitStore
	zael.AdminStore
	stores []*redisstore.Store
	calls  atomic.Int64
	mu     sync.Mutex
	latest time.Time
}

func (r *rotation) clock(now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.latest) && r.latest.Sub(now) < 50*365*24*time.Hour { // what is out of range stays so
		return r.latest
	}
	r.latest = now
	return now
}

func (r *rotation) next() *redisstore.Store {
	return r.stores[r.calls.Add(1)%int64(len(r.stores))]
}

func (r *rotation) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	return r.next().Take(ctx, r.clock(now), maxWait, debits)
}

func (r *rotation) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	return r.next().Adjust(ctx, r.clock(now), debits)
}

func (r *rotation) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	return r.next().Buckets(ctx, r.clock(now), keys)
}

func TestSeveralStores(t *testing.T) {
	t.Parallel()
	client := newClient(t, engines.Address(t, redistest.Valkey))
	storetest.Run(t, func(t *testing.T) zael.Store {
		t.Helper()
		config := redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute}
		var stores []*redisstore.Store
		for _, cached := range []int{0, 1, 0} {
			config.CachedBuckets = cached
			s, err := redisstore.NewTrial(client, &config, trial.Options{VirtualTime: true, Direct: true})
			stores = append(stores, opened(t, s, err))
		}
		return &rotation{EntityStore: stores[0], LimitStore: stores[1], AdminStore: stores[2], stores: stores}
	}, storetest.Kinds)
}
