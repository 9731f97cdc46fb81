package coalesce

import (
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// remembered is how long a refusal counts, by the monotonic clock.
const remembered = time.Second

// The gap between the writes of a bucket that is throttled grows with each
// throttle and shrinks with each answer. Long ones shrink more, so that those of
// many processes come near to each other: where all shrink alike a few processes
// keep most of the writes, and the others' callers run out of time.
const (
	firstGap = 20 * time.Millisecond
	leastGap = time.Millisecond // a shorter one is none
	mostGap  = 500 * time.Millisecond
	wider    = 1.5         // a throttle
	closer   = 0.01        // of an answer, the share
	fairer   = 0.5         // likewise, of a gap of a second
	gapKept  = time.Second // after the bucket may be written again

	lastTry = 60 * time.Millisecond // before the deadline of one in line
)

// A bucketQueue is what is kept of one bucket. Its shard's lock guards it.
type bucketQueue struct {
	key   zael.Key
	busy  bool // a write is on its way, or run serves the line
	line  []*Op
	known known
	epoch uint64 // of Forget

	gap   time.Duration
	begun time.Time // the last write was
	next  time.Time // not before this is the bucket written again
}

// known is what the last answer said, if that is no longer than a second ago.
type known struct {
	bucket  Bucket
	at      bucket.Instant
	seen    bucket.Instant
	until   time.Time
	refuses bool // by an answer that refused: who comes does not ask again
}

// slot returns the queue of a key, new if need be.
func (g *Coalescer) slot(sh *shard, key zael.Key) *bucketQueue {
	if g.config.Apart {
		return &bucketQueue{key: key}
	}
	s := sh.slots[key]
	if s == nil {
		s = g.spare.Get().(*bucketQueue) //nolint:forcetypeassert // the pool holds nothing else
		s.key = key
		sh.slots[key] = s
	}
	return s
}

// rest lets go of a queue, or leaves it to the sweep. A busy one stays.
func (g *Coalescer) rest(sh *shard, s *bucketQueue) {
	switch {
	case s.busy || g.config.Apart:
	case !s.counts(time.Now()):
		g.drop(sh, s)
	default:
		if len(sh.slots) > g.config.Remembered/shards {
			g.evict(sh, s)
		}
		g.sweepLater()
	}
}

// counts tells whether there is something to be kept of a queue that rests.
func (s *bucketQueue) counts(now time.Time) bool {
	return s.known.refuses && now.Before(s.known.until) || s.gap > 0 && now.Before(s.next.Add(gapKept))
}

func (g *Coalescer) drop(sh *shard, s *bucketQueue) {
	delete(sh.slots, s.key)
	clear(s.line[:cap(s.line)])
	*s = bucketQueue{line: s.line[:0]}
	if cap(s.line) <= 16 {
		g.spare.Put(s)
	}
}

// evict makes room for a queue that rests: any other one's, among a few.
func (g *Coalescer) evict(sh *shard, s *bucketQueue) {
	looked := 0
	for _, other := range sh.slots {
		if other != s && !other.busy && other.gap == 0 {
			g.drop(sh, other)
			return
		}
		if looked++; looked == 8 {
			break
		}
	}
	if s.gap == 0 {
		g.drop(sh, s)
	}
}

// sweepLater has the queues that rest looked at in a second.
func (g *Coalescer) sweepLater() {
	if !g.sweeping.CompareAndSwap(false, true) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.timer = time.AfterFunc(remembered, func() {
			g.sweeping.Store(false)
			if g.tidy(time.Now()) > 0 {
				g.sweepLater()
			}
		})
	}
}

// tidy drops what no longer counts, and tells how many queues rest still.
func (g *Coalescer) tidy(now time.Time) (rest int) {
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		for _, s := range sh.slots {
			switch {
			case s.busy:
			case s.counts(now):
				rest++
			default:
				g.drop(sh, s)
			}
		}
		sh.mu.Unlock()
	}
	return rest
}

// due is how long the next write has to wait.
func (s *bucketQueue) due(now time.Time) time.Duration {
	if s.gap == 0 {
		return 0
	}
	next := s.next
	for _, m := range s.line { // whose time is nearly up gets one more try
		if d, ok := m.ctx.Deadline(); ok {
			if d = d.Add(-lastTry); d.Before(next) && s.begun.Add(lastTry).Before(d) {
				next = d
			}
		}
	}
	return next.Sub(now)
}

// space sets the gap after a write that was begun at an instant.
func (s *bucketQueue) space(v Verdict, begun time.Time) {
	seconds := s.gap.Seconds()
	switch {
	case v == Throttled && s.gap == 0:
		s.gap = firstGap
	case v == Throttled:
		s.gap = min(time.Duration(float64(s.gap)*wider), mostGap)
	case s.gap == 0:
		return
	case v != Failed:
		if s.gap = time.Duration(float64(s.gap) / (1 + closer + fairer*seconds*seconds)); s.gap < leastGap {
			s.gap = 0
		}
	}
	s.begun = begun
	s.next = begun.Add(s.gap - s.gap/4 + rand.N(s.gap/2+1)) // so that processes do not write in step
}

// learn notes what a flight's answer says of the bucket.
func (s *bucketQueue) learn(f *flight, a *Answer, now time.Time) {
	switch {
	case f.epoch != s.epoch:
		s.known = known{} // it may be older than what was forgotten
	case a.Verdict == Failed || a.Verdict == Throttled:
		if a.Verdict == Failed && f.Kind != Take {
			s.known = known{} // what was given back may be there
		}
	case a.Bucket != nil:
		refuses := a.Verdict == Refused || f.Kind == Read || s.known.refuses && now.Before(s.known.until)
		s.known = known{bucket: a.Bucket, at: a.At, seen: a.Seen, until: now.Add(remembered), refuses: refuses}
	}
}

// Forget drops what is remembered of a bucket: it has changed in a way of which
// Do was not told.
func (g *Coalescer) Forget(key zael.Key) {
	sh := g.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.slots[key]; s != nil {
		s.epoch++
		s.known = known{}
		g.rest(sh, s)
	}
}

// Recall is how a bucket stood less than a second ago, if that is remembered:
// since a take was refused, and with all that was done since through Do.
func (g *Coalescer) Recall(key zael.Key) (b Bucket, seen bucket.Instant, ok bool) {
	sh := g.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.slots[key]
	if s == nil || !s.known.refuses || !time.Now().Before(s.known.until) {
		return nil, 0, false
	}
	return s.known.bucket, s.known.seen, true
}

// recalls answers a take that is refused by what is remembered.
func (s *bucketQueue) recalls(m *Op, now time.Time) bool {
	k := &s.known
	if !k.refuses || !now.Before(k.until) {
		return false
	}
	if Evaluate(k.bucket, m.Charges, m.At, m.MaxWait) != Exceeds {
		return false
	}
	m.Answer = Answer{Verdict: Refused, Bucket: k.bucket, At: m.At, Seen: max(m.At, k.seen)}
	m.Local, m.place = true, answered
	return true
}
