package zael

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/internal/recent"
)

// A cache remembers what was read from a store. For each key one caller at a time
// reads, and concurrent callers of that key wait for it.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	entries *recent.Map[K, *cacheEntry[V]]
}

type cacheEntry[V any] struct {
	reading chan struct{} // held by the caller that reads
	last    atomic.Pointer[cachedValue[V]]
}

type cachedValue[V any] struct {
	value  V
	readAt time.Time
}

// newCache returns a cache that remembers at least the size keys used last.
func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{entries: recent.New[K, *cacheEntry[V]](size)}
}

func newCacheEntry[V any]() *cacheEntry[V] {
	return &cacheEntry[V]{reading: make(chan struct{}, 1)}
}

func (c *cache[K, V]) entry(key K) *cacheEntry[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries.Get(key)
	if !ok {
		e = newCacheEntry[V]()
		c.entries.Put(key, e)
	}
	return e
}

// lookup returns what was read less than maxAge before now, or less than maxAge
// after it: the reader may have looked at the clock later than its caller.
func (c *cache[K, V]) lookup(key K, now time.Time, maxAge time.Duration) (v V, ok bool) {
	if last := c.entry(key).fresh(now, maxAge); last != nil {
		return last.value, true
	}
	return v, false
}

// get returns what lookup finds, or else reads. While another caller reads the key
// it waits, until ctx is done; the error then is ctx's own.
func (c *cache[K, V]) get(ctx context.Context, key K, now time.Time, maxAge time.Duration, read func() (V, error)) (V, error) {
	return c.entry(key).get(ctx, now, maxAge, read)
}

// last returns what was read last, however old; zero if nothing is known.
func (c *cache[K, V]) last(key K) (v V) {
	if last := c.entry(key).last.Load(); last != nil {
		return last.value
	}
	return v
}

// get is cache.get for one key.
func (e *cacheEntry[V]) get(ctx context.Context, now time.Time, maxAge time.Duration, read func() (V, error)) (V, error) {
	select {
	case e.reading <- struct{}{}:
		defer func() { <-e.reading }()
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
	if last := e.fresh(now, maxAge); last != nil {
		return last.value, nil
	}
	v, err := read()
	if err == nil {
		e.last.Store(&cachedValue[V]{v, now})
	}
	return v, err
}

func (e *cacheEntry[V]) fresh(now time.Time, maxAge time.Duration) *cachedValue[V] {
	last := e.last.Load()
	if last == nil {
		return nil
	}
	if age := now.Sub(last.readAt); age <= -maxAge || age >= maxAge {
		return nil
	}
	return last
}

// drop forgets a key. The result of a read in flight is not kept either.
func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Delete(key)
}

// clear forgets all keys. The results of reads in flight are not kept either.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Clear()
}
