package live

import (
	"cmp"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// nearShare is the share of a limit that is left of which an entity is near it.
const nearShare = 0.2

// recently is how long an entity is shown after a refusal, though it has recovered since.
const recently = 2 * time.Minute

// A nearKey names a limit of an entity.
type nearKey struct{ entity, resource, limit string }

// A nearEntry is how a limit stood when it was last asked.
type nearEntry struct {
	status  zael.Status
	seen    time.Time
	refused time.Time // the last time; zero: not since the entry was made
	minute  int64     // of refusals
	counts  [2]int64  // refusals in that minute and in the one before
}

// A nearShard has the limits of some entities.
type nearShard struct {
	mu      sync.Mutex
	entries map[nearKey]*nearEntry
}

func (r *Recorder) shard(entity string) *nearShard {
	return &r.near[maphash.String(r.seed, entity)%shards]
}

// observe remembers a limit that is near its end, and forgets one that is not.
func (r *Recorder) observe(now time.Time, s *zael.Status) {
	key := nearKey{s.Entity, s.Resource, s.Limit.Name}
	isNear := s.Exceeded || shareLeft(s) <= nearShare
	shard := r.shard(s.Entity)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := shard.entries[key]
	switch {
	case e == nil && !isNear:
		return
	case e == nil:
		if len(shard.entries) >= perShard && !shard.makeRoom(now) {
			return
		}
		key = nearKey{strings.Clone(key.entity), strings.Clone(key.resource), strings.Clone(key.limit)}
		e = new(nearEntry)
		shard.entries[key] = e
	case now.Before(e.seen):
		return // another goroutine was faster
	}
	e.status, e.seen = *s, now
	e.status.Entity, e.status.Resource, e.status.Limit.Name = "", "", "" // the key has them
	if s.Exceeded {
		e.count(now)
	}
}

// count notes a refusal.
func (e *nearEntry) count(now time.Time) {
	e.advance(minuteOf(now))
	e.counts[0]++
	e.refused = now
}

func (e *nearEntry) advance(minute int64) {
	switch minute - e.minute {
	case 0:
	case 1:
		e.counts = [2]int64{0, e.counts[0]}
	default:
		e.counts = [2]int64{}
	}
	e.minute = minute
}

// shareLeft returns the share of a limit that is left; below 0 is debt.
func shareLeft(s *zael.Status) float64 {
	switch s.Limit.Kind() {
	case zael.KindUnlimited:
		return 1
	case zael.KindBlock:
		return 0
	default:
	}
	return float64(s.Available) / float64(max(1, burstOf(s)))
}

func burstOf(s *zael.Status) int64 { return cmp.Or(s.Limit.Burst, s.Limit.RefillAmount) }

// at returns how an entry stands at a later time if nothing was taken since; ok is false if
// it is not near its limit any more.
func (e *nearEntry) at(now time.Time) (s zael.Status, ok bool) {
	s = e.status
	passed := max(0, now.Sub(e.seen))
	burst := burstOf(&s)
	switch s.Limit.Kind() {
	case zael.KindBlock:
		return s, now.Sub(e.refused) < recently
	case zael.KindRate:
		if s.FullAfter > 0 {
			s.Available += int64(float64(burst-s.Available) * min(1, float64(passed)/float64(s.FullAfter)))
		}
	case zael.KindSlots: // in memory nobody knows when they are released
		if passed >= max(s.FullAfter, time.Minute) {
			s.Available = burst
		}
	default: // all at once, at the end of a period
		if passed >= s.FullAfter {
			s.Available = burst
		}
	}
	s.FullAfter, s.RetryAfter = remaining(s.FullAfter, passed), remaining(s.RetryAfter, passed)
	return s, shareLeft(&s) <= nearShare || now.Sub(e.refused) < recently
}

// remaining returns what is left of a wait when some of it has passed. Never stays never.
func remaining(wait, passed time.Duration) time.Duration {
	if wait == zael.Never {
		return wait
	}
	return max(0, wait-passed)
}

// makeRoom forgets an entry: one that has recovered or, if none has, the one that was seen
// the longest ago. It reports whether there is room now.
func (sh *nearShard) makeRoom(now time.Time) bool {
	var oldest nearKey
	var seen time.Time
	for key, e := range sh.entries {
		if _, ok := e.at(now); !ok {
			delete(sh.entries, key)
		} else if seen.IsZero() || e.seen.Before(seen) {
			oldest, seen = key, e.seen
		}
	}
	if len(sh.entries) >= perShard && seen.Before(now) {
		delete(sh.entries, oldest)
	}
	return len(sh.entries) < perShard
}

// Forget drops what is known of an entity, as somebody has changed it.
func (r *Recorder) Forget(entity string) {
	shard := r.shard(entity)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for key := range shard.entries {
		if key.entity == entity {
			delete(shard.entries, key)
		}
	}
}
