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
	policy  *zael.Policy
	amounts []int64
}

func newZael(limits []Limit) (*zaelLimiter, error) {
	store := memstore.New(nil)
	limiter, err := zael.New(store, nil)
	if err != nil {
		return nil, err
	}
	z := &zaelLimiter{limiter: limiter, store: store}
	var compiled []zael.Limit
	for _, l := range limits {
		compiled = append(compiled, zaelLimit(l))
		z.amounts = append(z.amounts, l.Amount)
	}
	z.policy, err = zael.NewPolicy(resource, compiled...)
	return z, err
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
	return z.policy.For(key, z.amounts...)
}

type zaelAllow struct{ *zaelLimiter }

func newZaelAllow(limits []Limit) (Limiter, error) {
	z, err := newZael(limits)
	return zaelAllow{z}, err
}

func (z zaelAllow) Allow(key string) bool {
	return z.limiter.Allow(context.Background(), z.request(key)) == nil
}

type zaelDecide struct{ *zaelLimiter }

func newZaelDecide(limits []Limit) (Limiter, error) {
	z, err := newZael(limits)
	return zaelDecide{z}, err
}

func (z zaelDecide) Allow(key string) bool {
	d, err := z.limiter.Decide(context.Background(), z.request(key))
	return err == nil && d.Admitted
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
