package dynamostore

import (
	"sync"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/recent"
)

// A cache has the last states of buckets that this process has seen. They choose the guess
// for a write and decide nothing: a missing or outdated one costs a call.
type cache struct {
	mu   sync.Mutex
	seen *recent.Map[zael.Key, *protocol.Observation]
}

func newCache(size int) *cache {
	return &cache{seen: recent.New[zael.Key, *protocol.Observation](size)}
}

// last returns what was last seen of a bucket, or nil.
func (c *cache) last(key zael.Key) *protocol.Observation {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, _ := c.seen.Get(key)
	return o
}

// observe notes the state of a bucket at an instant. own are the charges of this process
// since the last one.
func (c *cache) observe(key zael.Key, r *protocol.Record, at bucket.Instant, own []zael.Charge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r == nil {
		c.seen.Delete(key)
		return
	}
	last, _ := c.seen.Get(key)
	c.seen.Put(key, last.Next(r, at, own))
}

// owe notes what this process owes to the counts of a bucket: see protocol.BucketWrite.Owes.
func (c *cache) owe(key zael.Key, changes []bucket.Count) {
	if len(changes) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.seen.Get(key); ok {
		c.seen.Put(key, last.Owing(changes))
	}
}

// forget drops a bucket.
func (c *cache) forget(key zael.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.Delete(key)
}
