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
	trends []trend        // of each limit of the record; nil if nobody else was seen
}

// A trend is what others do to a limit. When the drip has passed the mark that
// was seen last it guesses on which side of the drip the mark lies by now.
type trend struct {
	flow float64 // units in a nanosecond that others take, as seen last
	// The share of times, of late, that the mark lay above the drip: where flow
	// put it below, and where flow put it above.
	above [2]float64
}

// alone is the trend of a limit that nobody else was seen to take of.
func alone() trend { return trend{above: [2]float64{0, 1}} }

// shareWeight is the weight of one more time in the shares of a trend.
const shareWeight = 1. / 16

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
		e.trends = trends(last, r, at, own)
	}
	c.entries.Put(key, e)
}

// drop forgets a bucket.
func (c *cache) drop(key zael.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Delete(key)
}

// trends returns those of a record that follows a last state, and in which this
// process itself has taken what is its own.
func trends(last *entry, r *record, at bucket.Instant, own []zael.Charge) []trend {
	if r.birth != last.record.birth || len(r.limits) != len(last.record.limits) {
		return nil
	}
	if at <= last.at {
		return last.trends
	}
	all := make([]trend, len(r.limits))
	some := false
	for i := range r.limits {
		all[i] = alone()
		now, was := &r.limits[i], &last.record.limits[i]
		if now.text != was.text || now.name != was.name {
			continue
		}
		if last.trends != nil {
			all[i] = last.trends[i]
		}
		mark, drip := now.mark, now.def.Drip(at)
		for j := range own {
			if own[j].Name == now.name {
				mark -= own[j].Amount * now.def.Unit()
			}
		}
		if was.mark <= drip {
			share := &all[i].above[index(last.expected(i, at) > drip)]
			*share += (float64(index(mark > drip)) - *share) * shareWeight
		}
		others := max(0, mark-max(was.mark, drip)) // what has drained meanwhile is not seen
		all[i].flow = (all[i].flow + float64(others)/float64(at-last.at)) / 2
		some = some || all[i] != alone()
	}
	if !some {
		return nil
	}
	return all
}

func index(is bool) int {
	if is {
		return 1
	}
	return 0
}

// likely is the record as it may stand by now; nil if that is as it was seen.
func (e *entry) likely(now bucket.Instant) *record {
	if e.trends == nil || now <= e.at {
		return nil
	}
	r := *e.record
	r.limits = append([]limit(nil), r.limits...)
	for i := range r.limits {
		l := &r.limits[i]
		mark, drip := e.expected(i, now), l.def.Drip(now)
		switch {
		case l.mark > drip: // and it has not fallen
		case e.trends[i].above[index(mark > drip)] > 0.5:
			mark = max(mark, drip+1)
		default:
			mark = min(mark, drip)
		}
		l.mark = mark
	}
	return &r
}

// expected is the mark of a limit by now if others go on as before: the burst
// above the drip at most, if it was not seen higher.
func (e *entry) expected(i int, now bucket.Instant) int64 {
	l := &e.record.limits[i]
	burst := l.def.Burst * l.def.Unit()
	top := saturate.Add(l.def.Drip(now), burst)
	if e.trends == nil || now <= e.at || l.mark >= top {
		return l.mark
	}
	more := min(e.trends[i].flow*float64(now-e.at), float64(burst))
	return min(saturate.Add(max(l.mark, l.def.Drip(e.at)), int64(more)), top)
}
