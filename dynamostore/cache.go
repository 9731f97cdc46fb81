package dynamostore

import (
	"sync"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/recent"
	"github.com/zeroae/zael/internal/saturate"
)

// A cache has the last states of buckets that this process has seen. They choose
// the guess for a write and nothing else: a missing or outdated one costs a call.
type cache struct {
	mu      sync.Mutex
	entries *recent.Map[zael.Key, *entry]
}

// An entry is not changed once it has been made.
type entry struct {
	record *record
	at     bucket.Instant // of the record
	latest bucket.Instant // seen for the bucket
	flow   []float64      // units in a nanosecond that others take, as seen last; for each limit of the record
}

func newCache(size int) *cache {
	return &cache{entries: recent.New[zael.Key, *entry](size)}
}

// get returns what was seen of a bucket, or nil.
func (c *cache) get(key zael.Key) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, _ := c.entries.Get(key)
	return e
}

// learn notes how a bucket stands at an instant, and what this process itself
// took of each limit on the way there.
func (c *cache) learn(key zael.Key, r *record, at bucket.Instant, own []zael.Charge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r == nil {
		c.entries.Delete(key)
		return
	}
	last, _ := c.entries.Get(key)
	e := &entry{record: r, at: at, latest: at}
	if last != nil {
		e.latest = max(at, last.latest)
		e.flow = flow(last, r, at, own)
	}
	c.entries.Put(key, e)
}

// drop forgets a bucket.
func (c *cache) drop(key zael.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Delete(key)
}

// flow is what others took since the last state, in half, and in half what they
// took before.
func flow(last *entry, r *record, at bucket.Instant, own []zael.Charge) []float64 {
	if at <= last.at || r.birth != last.record.birth || len(r.limits) != len(last.record.limits) {
		return nil
	}
	flow := make([]float64, len(r.limits))
	some := false
	for i := range r.limits {
		now, was := &r.limits[i], &last.record.limits[i]
		if now.text != was.text || now.name != was.name {
			continue
		}
		others := now.mark - max(was.mark, now.def.Drip(last.at))
		for j := range own {
			if own[j].Name == now.name {
				others -= own[j].Amount * now.def.Unit()
			}
		}
		flow[i] = max(0, float64(others)) / float64(at-last.at) / 2
		if last.flow != nil {
			flow[i] += last.flow[i] / 2
		}
		some = some || flow[i] > 0
	}
	if !some {
		return nil
	}
	return flow
}

// likely is the record as it may stand by now; nil if that is as it was seen.
func (e *entry) likely(now bucket.Instant) *record {
	if e.flow == nil || now <= e.at {
		return nil
	}
	r := *e.record
	r.limits = append([]limit(nil), r.limits...)
	for i := range r.limits {
		l := &r.limits[i]
		drip, burst := l.def.Drip(now), l.def.Burst*l.def.Unit()
		more := min(e.flow[i]*float64(now-e.at), float64(burst))
		if top := saturate.Add(drip, burst); l.mark < top {
			l.mark = min(saturate.Add(max(l.mark, l.def.Drip(e.at)), int64(more)), top)
		}
	}
	return &r
}
