package zael

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A cache remembers what was read from a store, for at most twice max keys:
// when the young generation is full the old one is dropped. For each key one
// caller at a time reads and the others wait for it.
type cache[K comparable, V any] struct {
	max        int
	mu         sync.Mutex
	young, old map[K]*slot[V]
}

type slot[V any] struct {
	reading chan struct{} // held by the one who reads
	known   atomic.Pointer[known[V]]
}

type known[V any] struct {
	value V
	read  time.Time
}

func newCache[K comparable, V any](maxKeys int) *cache[K, V] {
	return &cache[K, V]{max: maxKeys, young: map[K]*slot[V]{}}
}

func (c *cache[K, V]) slot(key K) *slot[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.young[key]
	if s != nil {
		return s
	}
	if s = c.old[key]; s == nil {
		s = &slot[V]{reading: make(chan struct{}, 1)}
	}
	if len(c.young) >= c.max {
		c.old, c.young = c.young, make(map[K]*slot[V], c.max)
	}
	c.young[key] = s
	return s
}

// lookup answers with what was read less than maxAge before now, or, by another
// caller's look at the clock, after it.
func (c *cache[K, V]) lookup(key K, now time.Time, maxAge time.Duration) (v V, ok bool) {
	if k := c.slot(key).fresh(now, maxAge); k != nil {
		return k.value, true
	}
	return v, false
}

// get is lookup, or else reads. An error that is ctx's own comes from waiting
// for another reader.
func (c *cache[K, V]) get(ctx context.Context, key K, now time.Time, maxAge time.Duration, read func() (V, error)) (V, error) {
	s := c.slot(key)
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
	if k := s.fresh(now, maxAge); k != nil {
		return k.value, nil
	}
	v, err := read()
	if err == nil {
		s.known.Store(&known[V]{v, now})
	}
	return v, err
}

func (s *slot[V]) fresh(now time.Time, maxAge time.Duration) *known[V] {
	k := s.known.Load()
	if k == nil {
		return nil
	}
	if age := now.Sub(k.read); age <= -maxAge || age >= maxAge {
		return nil
	}
	return k
}

// drop forgets a key. A read that is under way is not kept either.
func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, key)
	delete(c.old, key)
}

// forget drops everything. A read that is under way is not kept either.
func (c *cache[K, V]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = map[K]*slot[V]{}, nil
}
