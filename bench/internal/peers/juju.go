package peers

import (
	"sync"

	"github.com/juju/ratelimit"
)

func juju(l Limit) *ratelimit.Bucket { return ratelimit.NewBucket(l.Every, l.Burst) }

// jujuMap keeps buckets in a sync.Map.
type jujuMap struct {
	limit Limit
	keys  sync.Map // of *ratelimit.Bucket
}

func newJuju(limits []Limit) (Limiter, error) { return &jujuMap{limit: limits[0]}, nil }

func (j *jujuMap) Allow(key string) bool {
	v, ok := j.keys.Load(key)
	if !ok {
		v, _ = j.keys.LoadOrStore(key, juju(j.limit))
	}
	return jujuTake(v.(*ratelimit.Bucket), j.limit.Amount)
}

// jujuTake takes n tokens or none, without waiting.
func jujuTake(b *ratelimit.Bucket, n int64) bool {
	_, ok := b.TakeMaxDuration(n, 0)
	return ok
}

// jujuPairs has two buckets for each key and a lock for both. Each call of a bucket reads
// the clock.
type jujuPairs struct {
	limits [2]Limit
	keys   sync.Map // of *jujuPair
}

type jujuPair struct {
	mu           sync.Mutex
	first, other *ratelimit.Bucket
}

func newJujuPairs(limits []Limit) *jujuPairs { return &jujuPairs{limits: [2]Limit(limits)} }

func (j *jujuPairs) pair(key string) *jujuPair {
	v, ok := j.keys.Load(key)
	if !ok {
		v, _ = j.keys.LoadOrStore(key, &jujuPair{first: juju(j.limits[0]), other: juju(j.limits[1])})
	}
	return v.(*jujuPair)
}

// jujuCheck checks that the first bucket has enough, takes from the second, then from the
// first. It is all or nothing as long as all callers use the lock.
type jujuCheck struct{ *jujuPairs }

func newJujuCheck(limits []Limit) (Limiter, error) { return jujuCheck{newJujuPairs(limits)}, nil }

func (j jujuCheck) Allow(key string) bool {
	p := j.pair(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first.Available() >= j.limits[0].Amount &&
		jujuTake(p.other, j.limits[1].Amount) &&
		jujuTake(p.first, j.limits[0].Amount)
}

// jujuSequence asks the buckets in turn. That is not all or nothing: the first stays
// charged when the second refuses, as nothing can be given back.
type jujuSequence struct{ *jujuPairs }

func newJujuSequence(limits []Limit) (Limiter, error) {
	return jujuSequence{newJujuPairs(limits)}, nil
}

func (j jujuSequence) Allow(key string) bool {
	p := j.pair(key)
	return jujuTake(p.first, j.limits[0].Amount) && jujuTake(p.other, j.limits[1].Amount)
}
