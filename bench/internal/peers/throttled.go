package peers

import (
	"context"
	"sync"

	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
)

// throttledLimiter is the GCRA of throttled on its memory store.
type throttledLimiter struct {
	gcra   *throttled.GCRARateLimiterCtx
	amount int
}

func newThrottled(limits []Limit) (Limiter, error) {
	store, err := memstore.NewCtx(0) // unbounded: a bounded store forgets buckets in use
	if err != nil {
		return nil, err
	}
	l := limits[0]
	gcra, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
		MaxRate: throttled.PerDuration(1, l.Every), MaxBurst: int(l.Burst - 1),
	})
	if err != nil {
		return nil, err
	}
	gcra.SetMaxCASAttemptsLimit(1 << 20) // the default, 10, fails under contention for one key
	return throttledLimiter{gcra, int(l.Amount)}, nil
}

func (t throttledLimiter) Allow(key string) bool {
	limited, _, err := t.gcra.RateLimitCtx(context.Background(), key, t.amount)
	return !limited && err == nil
}

// throttledSequence asks two limiters in turn. That is not all or nothing: the first stays
// charged when the second refuses, as nothing can be given back.
type throttledSequence struct{ first, other throttledLimiter }

func newThrottledPair(limits []Limit) (s throttledSequence, err error) {
	for i, t := range []*throttledLimiter{&s.first, &s.other} {
		l, err := newThrottled(limits[i : i+1])
		if err != nil {
			return s, err
		}
		*t = l.(throttledLimiter)
	}
	return s, nil
}

func newThrottledSequence(limits []Limit) (Limiter, error) { return newThrottledPair(limits) }

func (t throttledSequence) Allow(key string) bool {
	return t.first.Allow(key) && t.other.Allow(key)
}

// throttledPeek checks that the first limiter has enough, takes from the second, then from
// the first, under a lock for each key. It is all or nothing as long as all callers use the
// lock; time passes between the steps, which only adds tokens.
type throttledPeek struct {
	throttledSequence
	keys sync.Map // of *sync.Mutex
}

func newThrottledPeek(limits []Limit) (Limiter, error) {
	pair, err := newThrottledPair(limits)
	return &throttledPeek{throttledSequence: pair}, err
}

func (t *throttledPeek) Allow(key string) bool {
	v, ok := t.keys.Load(key)
	if !ok {
		v, _ = t.keys.LoadOrStore(key, new(sync.Mutex))
	}
	mu := v.(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	_, first, err := t.first.gcra.RateLimitCtx(context.Background(), key, 0) // 0 takes nothing
	return err == nil && first.Remaining >= t.first.amount && t.other.Allow(key) && t.first.Allow(key)
}
