package peers

import (
	"context"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

const resource = "gpt-4"

// A zaelLimiter has what all its requests share.
type zaelLimiter struct {
	limiter *zael.Limiter
	store   *memstore.Store
	limits  []zael.Limit
	consume zael.Amounts
}

func newZael(limits []Limit) (*zaelLimiter, error) {
	store := memstore.New(nil)
	limiter, err := zael.New(store, nil)
	if err != nil {
		return nil, err
	}
	z := &zaelLimiter{limiter: limiter, store: store, consume: zael.Amounts{}}
	for _, l := range limits {
		z.limits = append(z.limits, zaelLimit(l))
		z.consume[l.Name] = l.Amount
	}
	return z, nil
}

// zaelLimit returns l with its rate per minute, as usual, where that is a whole number.
func zaelLimit(l Limit) zael.Limit {
	limit := zael.Limit{Name: l.Name, Burst: l.Burst, RefillAmount: 1, RefillPeriod: l.Every}
	if l.Every < time.Minute {
		limit.RefillAmount, limit.RefillPeriod = int64(time.Minute/l.Every), time.Minute
	}
	return limit
}

func (z *zaelLimiter) request(key string) zael.Request {
	return zael.Request{Entity: key, Resource: resource, Limits: z.limits, Consume: z.consume}
}

type zaelAllow struct{ *zaelLimiter }

func newZaelAllow(limits []Limit) (Limiter, error) {
	z, err := newZael(limits)
	return zaelAllow{z}, err
}

func (z zaelAllow) Allow(key string) bool {
	return z.limiter.Allow(context.Background(), z.request(key)) == nil
}

type zaelAcquire struct{ *zaelLimiter }

func newZaelAcquire(limits []Limit) (Limiter, error) {
	z, err := newZael(limits)
	return zaelAcquire{z}, err
}

func (z zaelAcquire) Allow(key string) bool {
	lease, err := z.limiter.Acquire(context.Background(), z.request(key))
	return err == nil && lease.Commit(context.Background()) == nil
}

// zaelSettle settles each request to less of its last limit than it took.
type zaelSettle struct {
	*zaelLimiter
	settle zael.Amounts
}

func newZaelSettle(limits []Limit) (Limiter, error) {
	z, err := newZael(limits)
	if err != nil {
		return nil, err
	}
	last := limits[len(limits)-1]
	return zaelSettle{z, zael.Amounts{last.Name: last.Amount - last.Amount/5}}, nil
}

func (z zaelSettle) Allow(key string) bool {
	lease, err := z.limiter.Acquire(context.Background(), z.request(key))
	return err == nil && lease.Settle(z.settle) == nil && lease.Commit(context.Background()) == nil
}

// Len returns the number of buckets.
func (z *zaelLimiter) Len() int { return z.store.Len() }
