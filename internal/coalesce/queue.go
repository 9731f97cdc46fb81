package coalesce

import (
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// remembered is how long a refusal is remembered, by the monotonic clock, and
// rememberedSlots how long one by slots alone, which are released at any moment: where a
// process goes by what it knows for longer than slots are free, it gets none as long as
// others ask. No refusal by slots outlives the deadline of a holder that is in the way.
const (
	remembered      = time.Second
	rememberedSlots = 100 * time.Millisecond
)

// The gap between the writes of a throttled bucket grows with each throttle and shrinks
// with each answer. Long gaps shrink more, so that the gaps of many processes approach
// each other: if all shrink alike, a few processes get most of the writes, and the
// callers of the others run out of time.
const (
	firstGap = 20 * time.Millisecond
	leastGap = time.Millisecond // shorter gaps are dropped
	mostGap  = 500 * time.Millisecond
	wider    = 1.5         // factor of a throttle
	closer   = 0.01        // share by which an answer shrinks a short gap
	fairer   = 0.5         // and, in addition, a gap of a second
	gapKept  = time.Second // after the bucket may be written again

	lastTry = 60 * time.Millisecond // before the deadline of a queued operation
)

// A bucketQueue has the operations that wait for one bucket, and what is remembered of
// the bucket. Its shard's lock guards it.
type bucketQueue struct {
	key   zael.Key
	busy  bool // a write is in flight, or run serves the queue
	ops   []*Op
	known known
	epoch uint64 // counts calls of Forget

	gap   time.Duration
	begun time.Time // when the last write began
	next  time.Time // when the bucket may be written again
}

// known is the last answer, if it is at most a second old.
type known struct {
	bucket  Bucket
	at      bucket.Instant
	seen    bucket.Instant
	until   time.Time
	slots   time.Time // until when slots are remembered
	refuses bool      // a take was refused: others that do not fit need not ask
}

// queue returns the queue of a bucket, new if there is none.
func (g *Coalescer) queue(sh *shard, key zael.Key) *bucketQueue {
	if g.config.Direct {
		return &bucketQueue{key: key}
	}
	q := sh.queues[key]
	if q == nil {
		q = g.spare.Get().(*bucketQueue) //nolint:forcetypeassert // the pool holds nothing else
		q.key = key
		sh.queues[key] = q
	}
	return q
}

// rest drops an idle queue, or leaves it to the sweep. A busy one stays.
func (g *Coalescer) rest(sh *shard, q *bucketQueue) {
	switch {
	case q.busy || g.config.Direct:
	case !q.counts(time.Now()):
		g.drop(sh, q)
	default:
		if len(sh.queues) > g.config.Remembered/shards {
			g.evict(sh, q)
		}
		g.sweepLater()
	}
}

// counts reports whether an idle queue has anything to remember.
func (q *bucketQueue) counts(now time.Time) bool {
	return q.known.refuses && now.Before(q.known.until) || q.gap > 0 && now.Before(q.next.Add(gapKept))
}

func (g *Coalescer) drop(sh *shard, q *bucketQueue) {
	delete(sh.queues, q.key)
	clear(q.ops[:cap(q.ops)])
	*q = bucketQueue{ops: q.ops[:0]}
	if cap(q.ops) <= 16 {
		g.spare.Put(q)
	}
}

// evict makes room for an idle queue: it drops another one, any of a few.
func (g *Coalescer) evict(sh *shard, q *bucketQueue) {
	looked := 0
	for _, other := range sh.queues {
		if other != q && !other.busy && other.gap == 0 {
			g.drop(sh, other)
			return
		}
		if looked++; looked == 8 {
			break
		}
	}
	if q.gap == 0 {
		g.drop(sh, q)
	}
}

// sweepLater has the idle queues looked at in a second.
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

// tidy drops what no longer counts, and returns how many idle queues are left.
func (g *Coalescer) tidy(now time.Time) (idle int) {
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		for _, q := range sh.queues {
			switch {
			case q.busy:
			case q.counts(now):
				idle++
			default:
				g.drop(sh, q)
			}
		}
		sh.mu.Unlock()
	}
	return idle
}

// due returns how long the next write has to wait.
func (q *bucketQueue) due(now time.Time) time.Duration {
	if q.gap == 0 {
		return 0
	}
	next := q.next
	for _, m := range q.ops { // one whose time is nearly up gets another try
		if m.deadline.IsZero() || m.gone() {
			continue
		}
		if d := m.deadline.Add(-lastTry); d.Before(next) && q.begun.Add(lastTry).Before(d) {
			next = d
		}
	}
	return next.Sub(now)
}

// space sets the gap after a write that began at a time.
func (q *bucketQueue) space(v Outcome, begun time.Time) {
	seconds := q.gap.Seconds()
	switch {
	case v == Throttled && q.gap == 0:
		q.gap = firstGap
	case v == Throttled:
		q.gap = min(time.Duration(float64(q.gap)*wider), mostGap)
	case q.gap == 0:
		return
	case v != Failed:
		if q.gap = time.Duration(float64(q.gap) / (1 + closer + fairer*seconds*seconds)); q.gap < leastGap {
			q.gap = 0
		}
	}
	q.begun = begun
	q.next = begun.Add(q.gap - q.gap/4 + rand.N(q.gap/2+1)) // so that processes do not write in step
}

// learn remembers the answer to a flight.
func (q *bucketQueue) learn(f *flight, a *Answer, now time.Time) {
	switch {
	case f.epoch != q.epoch:
		q.known = known{} // the answer may be older than the last Forget
	case a.Outcome == Failed || a.Outcome == Throttled:
		if a.Outcome == Failed && f.Kind != Take {
			q.known = known{} // what was given back may be there
		}
	case a.Bucket != nil:
		refuses := a.Outcome == Refused || f.Kind == Read || q.known.refuses && now.Before(q.known.until)
		q.known = known{bucket: a.Bucket, at: a.At, seen: a.Seen, until: now.Add(remembered), slots: now.Add(rememberedSlots), refuses: refuses}
	}
}

// Forget drops what is remembered of a bucket, which was changed by other means than Do.
func (g *Coalescer) Forget(key zael.Key) {
	sh := g.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if q := sh.queues[key]; q != nil {
		q.epoch++
		q.known = known{}
		g.rest(sh, q)
	}
}

// Learn notes the state of a bucket after it was written, or a take of it refused, by other means
// than Do: a refusal is remembered as one by Do.
func (g *Coalescer) Learn(key zael.Key, a Answer) {
	if g.config.Direct {
		return
	}
	sh := g.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	q, now := sh.queues[key], time.Now()
	if q == nil {
		if a.Outcome != Refused {
			return
		}
		q = g.queue(sh, key)
	}
	q.epoch++ // an answer that is on its way may be older
	refuses := a.Outcome == Refused || q.known.refuses && now.Before(q.known.until)
	q.known = known{bucket: a.Bucket, at: a.At, seen: a.Seen, until: now.Add(remembered), slots: now.Add(rememberedSlots), refuses: refuses}
	g.rest(sh, q)
}

// recalled returns what is remembered of a bucket, which is nil if that is too old.
func (k *known) recalled(now time.Time) Recalled {
	if !now.Before(k.until) {
		return Recalled{}
	}
	return Recalled{Bucket: k.bucket, Seen: k.seen, Slots: now.Before(k.slots)}
}

// Recall returns the state of a bucket less than a second ago, if it is remembered: since
// a take was refused, and with all that was done since through Do.
func (g *Coalescer) Recall(key zael.Key) (r Recalled, ok bool) {
	sh := g.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	q, now := sh.queues[key], time.Now()
	if q == nil || !q.known.refuses || !now.Before(q.known.until) {
		return r, false
	}
	return q.known.recalled(now), true
}

// A Recollection is what is remembered of the buckets of a take, which are one or two.
type Recollection [2]Recalled

// RecallAll is Recall for all buckets of a take. ok is false unless each is remembered.
func (g *Coalescer) RecallAll(debits []zael.Debit) (all Recollection, ok bool) {
	if len(debits) > len(all) {
		return all, false
	}
	for i := range debits {
		if all[i], ok = g.Recall(debits[i].Key); !ok {
			return all, false
		}
	}
	return all, true
}

// Refuses reports whether a take is refused by what is remembered of its buckets. It is not if
// only the Engine can tell, or if an amount is out of range, which is an error of the take.
func (all *Recollection) Refuses(debits []zael.Debit, at bucket.Instant, maxWait time.Duration) bool {
	refuses := false
	for i := range debits {
		for _, c := range debits[i].Charges {
			if c.Amount < 0 || c.Amount > bucket.MaxAmount {
				return false
			}
		}
		one, ok := all[i].Refuses(debits[i].Charges, debits[i].Holder, at, maxWait)
		if !ok {
			return false
		}
		refuses = refuses || one
	}
	return refuses
}

// recalls answers a take that what is remembered refuses. It reports whether it did.
func (q *bucketQueue) recalls(m *Op, now time.Time) bool {
	k := &q.known
	if !k.refuses || !now.Before(k.until) {
		return false
	}
	last := k.recalled(now)
	if refuses, _ := last.Refuses(m.Charges, m.Holder, m.At, m.MaxWait); !refuses {
		return false
	}
	m.Answer = Answer{Outcome: Refused, Bucket: k.bucket, At: m.At, Seen: max(m.At, k.seen)}
	m.Local, m.state = true, answered
	return true
}
