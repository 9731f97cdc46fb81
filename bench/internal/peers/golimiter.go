package peers

import (
	"context"
	"time"

	"github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
)

// goLimiter takes one token at a time; it has no other amounts. Its buckets are filled up
// at the end of each interval, not evenly, and the burst is what an interval gives. The
// interval here is so long that no benchmark reaches its end.
type goLimiter struct{ store limiter.Store }

func newGoLimiter(limits []Limit) (Limiter, error) {
	store, err := memorystore.New(&memorystore.Config{
		Tokens: uint64(limits[0].Burst / limits[0].Amount), Interval: 24 * time.Hour,
	})
	return goLimiter{store}, err
}

func (g goLimiter) Allow(key string) bool {
	_, _, _, ok, err := g.store.Take(context.Background(), key)
	return ok && err == nil
}

func (g goLimiter) Close() { g.store.Close(context.Background()) }

// goLimiterSequence asks two stores in turn, and gives back to the first with Burst when
// the second refuses. That is not all or nothing: the charge refuses others until it is
// undone, and tokens given back after an interval ended go above the limit.
type goLimiterSequence struct{ first, other goLimiter }

func newGoLimiterSequence(limits []Limit) (Limiter, error) {
	first, err := newGoLimiter(limits[:1])
	if err != nil {
		return nil, err
	}
	other, err := newGoLimiter(limits[1:])
	return goLimiterSequence{first.(goLimiter), other.(goLimiter)}, err
}

func (g goLimiterSequence) Allow(key string) bool {
	if !g.first.Allow(key) {
		return false
	}
	if g.other.Allow(key) {
		return true
	}
	_ = g.first.store.Burst(context.Background(), key, 1) // it never fails
	return false
}

func (g goLimiterSequence) Close() {
	g.first.Close()
	g.other.Close()
}
