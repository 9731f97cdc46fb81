// Package coalesce makes few writes of many operations. At most one write of a
// bucket is on its way from this process; what is asked of the bucket meanwhile
// becomes the next one. Refusals are remembered for a moment, and the writes of
// a bucket that is throttled are spaced out.
//
// The path of one take, [Gatherer.Do]:
//
//   - If no write of its bucket is in flight, it is written at once, by itself.
//     A goroutine of the Gatherer's owner writes it, and then what has come
//     meanwhile, until nobody waits. (run.go)
//   - Otherwise it waits in line. The next batch is formed from the line, in
//     order, of each take that fits what the last answer left: one that does not
//     fit lets those behind it pass. (form.go) After each answer those that it
//     refuses leave the line. So a caller waits for the write that it meets and
//     for its own; for more only if another process was faster.
//   - If the caller leaves (its ctx is done) it returns at once. A take in line
//     is dropped. A take in flight goes on, also if all callers of its batch have
//     left, and is given back when the write is answered: the engine may have
//     applied it already, and a write that is cut off cannot be undone with
//     certainty.
//   - If the write is refused, the answer tells how the bucket stands, and so
//     which takes of the batch still fit; they are the next batch.
//   - If the fate of the write is unknown, it is unknown for the whole batch. The
//     Engine undoes it once.
//   - If the Engine panics, all callers of the batch do. (panic.go)
//
// Adjusts, gives and reads of one bucket that wait at the same time are one
// write or one read too.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A Kind is what is done to a bucket.
type Kind uint8

// The kinds. Ops of one batch are of one kind.
const (
	Take   Kind = iota // all charges or none
	Adjust             // charges and gives; never refused
	Undo               // gives what takes took that then were none
	Read               // reads
)

// A Verdict is what came of a batch, or of an op of it.
type Verdict uint8

// The verdicts. Of a batch alone are Split and Throttled.
const (
	Applied   Verdict = iota
	Refused           // takes that do not fit: nothing was taken
	Stale             // takes under limits older than the bucket's: nothing was taken
	Failed            // Answer.Err says why; what was asked for may have been done
	Split             // nothing was done: it has to be done one by one
	Throttled         // nothing was done, and later it may be: Answer.Err
)

// A Bucket is how the engine said that a bucket stands. It does not change.
type Bucket interface {
	// State is a limit's; absent if the bucket has no such limit.
	State(name string) bucket.State
}

// An Answer is what the engine said.
type Answer struct {
	Verdict Verdict
	Err     error          // of Failed and Throttled
	Bucket  Bucket         // since, or as it is if nothing was done; nil if that is not known
	Birth   uint64         // of the bucket
	At      bucket.Instant // that counted
	Seen    bucket.Instant // the latest known of the bucket, At or later
	Note    any            // from the Engine to the only op of a batch

	panicked *panicked // instead of all that
}

// An Engine does what a batch says to one bucket, in one write. Of a batch of
// one op it may do more than that, and of a larger one answer Split. It is
// not called for a bucket while it is at work on it.
//
// When ctx is done nobody waits any more. The Engine then begins nothing new, but
// waits for what is in flight, as what was taken is to be given back.
type Engine interface {
	Write(ctx context.Context, b *Batch) Answer
}

// A Op is one caller's part of a batch. The caller fills the first fields in and
// changes nothing until Do returns; then he reads Answer and what follows it.
type Op struct {
	Kind    Kind
	Charges []zael.Charge // a copy of the op's own. Of a Take each name is there once
	At      bucket.Instant
	MaxWait time.Duration // of a Take
	Birth   uint64        // of an Undo: the bucket's
	Events  int64         // takes that it counts for: 1 of a Take, below 0 of an Undo
	Exact   bool          // of a Take: passed on to the Engine when it is alone

	Answer
	Shared bool    // with others: Answer.Bucket is as all of them left it
	Behind []int64 // of a Take that was applied and shared: tokens of each charge that those after it took
	Local  bool    // refused from memory
	Left   bool    // the caller left before there was an answer: Answer.Err is of its ctx

	since  time.Time // when At was, if it goes on with the clock
	ctx    context.Context
	shard  *shard
	place  opState
	flight *flight
	done   chan struct{} // closed with the answer; nil if that came from memory
	alone  bool          // the next batch has no other
	ours   bool          // gives back for callers who have left: nobody waits for it
	tries  int           // batches that were refused, or to be done apart
	waits  int           // batches that were throttled
	cause  error         // of the last throttle
}

// at is the op's instant by now.
func (m *Op) at(now time.Time) bucket.Instant {
	if m.since.IsZero() {
		return m.At
	}
	return m.At.Add(max(0, now.Sub(m.since)))
}

// An opState says where an op is.
type opState uint8

const (
	inLine opState = iota
	inFlight
	answered
	left
)

// A Batch is what is done to a bucket in one write.
type Batch struct {
	Key     zael.Key
	Kind    Kind
	Charges []zael.Charge // of takes, the sum of each limit; of others, all in order
	At      bucket.Instant
	MaxWait time.Duration // of takes, if Stages is nil
	Stages  [][]Stage     // of takes that wait for different times, of each charge
	Birth   uint64
	Events  int64
	Members int
	Exact   bool // the only op's
}

// A Stage says how far a batch of takes may go: the first Sum tokens of it have
// to be there Wait after its instant. A limit's stages all have to hold.
type Stage struct {
	Sum  int64
	Wait time.Duration
}

// Config tunes a Gatherer.
type Config struct {
	// MaxLimits is how many names a batch may have.
	MaxLimits int
	// Remembered is how many buckets' refusals are remembered.
	Remembered int
	// Tries is how often an op without deadline is throttled before that is
	// its answer.
	Tries int
	// AdvanceWhileQueued moves an op's instant on by the time that it waits: else the
	// engine would be told what was a moment ago.
	AdvanceWhileQueued bool
	// Apart makes each operation a write of its own: none waits for another,
	// and no refusal is remembered.
	Apart bool
	// Go runs a function in a goroutine. The function ends by itself; who closes
	// the Gatherer waits for that.
	Go func(func())
	// GaveBack reports what came of giving back takes whose callers had left:
	// how many there were, and whether that worked.
	GaveBack func(takes int64, ok bool)
}

// A Coalescer joins the operations on the buckets of one Engine. It may be used
// concurrently. It keeps something of a bucket only while a write is on its way,
// for a second after a refusal, and for a moment after it was throttled.
type Coalescer struct {
	engine Engine
	config Config
	seed   maphash.Seed
	spare  sync.Pool // of *bucketQueue
	shards [shards]shard

	sweeping atomic.Bool // timer runs, as there are queues that rest
	mu       sync.Mutex
	timer    *time.Timer
	closed   bool
}

const shards = 64 // a power of two

type shard struct {
	mu    sync.Mutex
	slots map[zael.Key]*bucketQueue
	_     [48]byte // keeps the locks of two shards apart in the processor's cache
}

// New makes a Gatherer. All fields of config but Ages are required.
func New(engine Engine, config Config) *Coalescer {
	g := &Coalescer{engine: engine, config: config, seed: maphash.MakeSeed(), spare: sync.Pool{New: func() any { return new(bucketQueue) }}}
	for i := range g.shards {
		g.shards[i].slots = map[zael.Key]*bucketQueue{}
	}
	return g
}

// Close forgets what is remembered. Operations that are on their way go on.
func (g *Coalescer) Close() {
	g.mu.Lock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.tidy(time.Now().Add(time.Hour))
}

// Len is the number of buckets of which something is kept.
func (g *Coalescer) Len() int {
	n := 0
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		n += len(sh.slots)
		sh.mu.Unlock()
	}
	return n
}

func (g *Coalescer) shard(key zael.Key) *shard {
	return &g.shards[maphash.Comparable(g.seed, key)%shards]
}

// Do does what m says to the bucket, alone or with others, and leaves the
// answer in m. When ctx is done first it returns at once; the answer is then
// Failed with ctx's error, and with that of the last throttle if it was the time
// that ended.
func (g *Coalescer) Do(ctx context.Context, key zael.Key, m *Op) {
	g.Start(ctx, key, m)
	g.Wait(m)
}

// Start begins what Do does and does not wait. The caller then calls Wait.
func (g *Coalescer) Start(ctx context.Context, key zael.Key, m *Op) {
	sh := g.shard(key)
	m.ctx, m.shard = ctx, sh
	now := time.Now()
	if g.config.AdvanceWhileQueued {
		m.since = now
	}
	sh.mu.Lock()
	s := g.slot(sh, key)
	if m.Kind == Take && s.recalls(m, now) {
		sh.mu.Unlock()
		return
	}
	m.done = make(chan struct{})
	if s.busy {
		m.place = inLine
		s.line = append(s.line, m)
		sh.mu.Unlock()
		return
	}
	s.busy = true
	var f *flight
	if s.due(now) > 0 {
		m.place = inLine
		s.line = append(s.line, m)
	} else {
		f = s.single(m)
	}
	sh.mu.Unlock()
	g.config.Go(func() { g.run(sh, s, f) })
}

// Wait returns when m, which was started, has its answer or its caller leaves.
func (g *Coalescer) Wait(m *Op) {
	if m.done == nil {
		return
	}
	select {
	case <-m.done:
	case <-m.ctx.Done():
		g.leave(m)
	}
	m.panicked.again()
}

// leave takes an op out whose caller has left, unless it was answered just now.
func (g *Coalescer) leave(m *Op) {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	if m.place == answered {
		return
	}
	if m.place == inFlight {
		m.flight.leave()
	}
	m.place, m.Left = left, true
	err := m.ctx.Err()
	if m.cause != nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w, after %w", err, m.cause)
	}
	m.Answer = Answer{Verdict: Failed, Err: err}
}

// wake tells ops that they are answered. It returns how many callers wait for
// that.
func (g *Coalescer) wake(woken []*Op) (callers int) {
	for _, m := range woken {
		if m.ours {
			g.config.GaveBack(-m.Events, m.Verdict == Applied)
			continue
		}
		close(m.done)
		callers++
	}
	return callers
}
