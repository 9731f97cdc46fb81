package redisstore

import (
	"cmp"
	"sync"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/recent"
)

// A cache has buckets as this process last saw them. A missing or outdated one costs a
// longer answer, or a call.
type cache struct {
	mu   sync.Mutex
	seen *recent.Map[zael.Key, observation]
}

type observation struct {
	record *record
	texts  *texts         // nil: not yet made
	latest bucket.Instant // the latest that this process has seen of the bucket; 0 if there is none
}

func newCache(size int) *cache {
	return &cache{seen: recent.New[zael.Key, observation](size)}
}

// last returns what was last seen of a bucket.
func (c *cache) last(key zael.Key) observation {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, _ := c.seen.Get(key)
	return o
}

// observe notes a bucket as it is at an instant, and its texts, if they are not nil.
func (c *cache) observe(key zael.Key, r *record, at bucket.Instant, t *texts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, _ := c.seen.Get(key)
	c.seen.Put(key, observation{r, cmp.Or(t, o.texts), bucket.Latest(o.latest, at)})
}

// forget drops what is known of an entity's buckets.
func (c *cache) forget(key zael.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.Delete(key)
}
