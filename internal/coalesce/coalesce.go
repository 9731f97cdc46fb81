// Package coalesce turns many operations into few writes. At most one write of a
// bucket is in flight from this process; the operations on the bucket that arrive
// meanwhile become the next one. Refusals are remembered for a moment, and the
// writes of a bucket that is throttled are spaced out.
//
// The route of one take, [Coalescer.Do]:
//
//   - If no write of its bucket is in flight, the take is written at once, by itself.
//     A goroutine writes it, and then the operations that arrived meanwhile, until the
//     queue is empty. (run.go)
//   - Otherwise the take is queued. The next batch consists of the queued takes, in
//     order, that fit the state in the last answer; those behind one that does not fit
//     may pass it. (batch.go) After each answer the takes that it refuses leave the
//     queue. So a caller waits for the write that it meets and for its own, and for
//     more only if another process was faster.
//   - If the caller's context is done, it returns at once. A queued take is dropped. A
//     take in flight goes on, even if all callers of its batch have left, and is given
//     back when the write is answered: the engine may already have applied it, and a
//     write that is cut off cannot be undone with certainty.
//   - If the write is refused, the answer has the state of the bucket, and so tells
//     which takes of the batch still fit; they are the next batch.
//   - If it is not known whether the write was applied, it is not known for the whole
//     batch. The Engine undoes the write once.
//   - If the Engine panics, all callers of the batch panic. (panic.go)
//
// Adjusts, gives and reads of one bucket that wait at the same time become one write or
// one read as well.
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
	"github.com/zeroae/zael/internal/within"
)

// A Kind is what an operation does to a bucket.
type Kind uint8

// The kinds of operations. All operations of a batch are of one kind.
const (
	Take   Kind = iota // takes all charges or none
	Adjust             // charges and gives; never refused
	Undo               // gives back takes that came to nothing elsewhere
	Read               // reads
	Renew              // renews a holder's slots; always a batch by itself

	// StoreDefinitions stores those definitions of a refused take that would admit it
	// sooner. It is for an Engine's own use: no Op and no Batch is of this kind.
	StoreDefinitions
)

// An Outcome is the result of an operation or of a batch.
type Outcome uint8

// The outcomes. UnknownDefinition is a result of Evaluate alone; Split and Throttled
// are results of a batch alone.
const (
	Applied           Outcome = iota // also if there was nothing to do
	Refused                          // a take does not fit: nothing was taken
	Stale                            // a take's limits are older than the bucket's: nothing was taken
	UnknownDefinition                // a limit has another definition: only the Engine can tell
	Failed                           // see Answer.Err; the operation may have been applied all the same
	Split                            // nothing was done: the operations have to be written one by one
	Throttled                        // nothing was done, but may be later: see Answer.Err
)

// A Bucket is the state of a bucket in an answer. It does not change.
type Bucket interface {
	// State returns the state of a limit, absent if the bucket has no such limit.
	State(name string) bucket.State
}

// SlotStates are those of a Bucket that has slots, which are other limits than what else has their
// names.
type SlotStates interface {
	Bucket
	// SlotState returns the state of a limit of slots, absent if the bucket has no such
	// limit. Its Generation is that of the holder for which the bucket was written.
	SlotState(name string) bucket.State
}

// A SlotBucket is a Bucket with slots that can refuse.
type SlotBucket interface {
	SlotStates
	// RefusesSlots reports whether a take's charge of slots does not fit what the holders
	// have that are live at an instant, and the take's own.
	RefusesSlots(c *zael.Charge, holder string, at bucket.Instant) bool
}

// StateOf returns the state of the limit that a charge is about, absent if the bucket has no
// such limit.
func StateOf(b Bucket, c *zael.Charge) bucket.State {
	if c.Definition.Kind != bucket.Slots {
		return b.State(c.Name)
	}
	if s, ok := b.(SlotStates); ok {
		return s.SlotState(c.Name)
	}
	return bucket.State{}
}

// An Answer is what the Engine answers to a batch.
type Answer struct {
	Outcome Outcome
	Err     error          // of Failed and Throttled
	Bucket  Bucket         // after the write, or as it is if nothing was done; nil if not known
	Birth   uint64         // of the bucket
	At      bucket.Instant // the instant at which the operation was decided
	Seen    bucket.Instant // the latest known of the bucket, At or later
	Note    any            // from the Engine to the only operation of a batch

	panicked *panicked // instead of all the other fields
}

// An Engine applies a batch to one bucket, in one write. It may do more than that for a
// batch of one operation, and answer Split to a larger one. It is called for one batch
// of a bucket at a time.
//
// When ctx is done, all callers have left. The Engine then makes no further call, but
// waits for the one in flight, since what was taken has to be given back.
type Engine interface {
	Write(ctx context.Context, b *Batch) Answer
}

// An Op is one caller's operation. The caller sets the first fields and changes nothing
// until Do returns; then it reads Answer and the fields after it.
type Op struct {
	Kind       Kind
	Charges    []zael.Charge // not shared with anybody; those of a Take have different names
	At         bucket.Instant
	MaxWait    time.Duration  // of a Take
	Settings   int64          // of a Take: see Batch.Settings
	Birth      uint64         // of an Undo: the birth of the bucket that was taken from
	Events     int64          // how many takes it counts for: 1 for a Take, below 0 for an Undo
	ExactState bool           // of a Take: see Batch.ExactState
	Overdrawn  []bucket.Count // of an Undo: see Batch.Overdrawn
	Holder     string         // whose slots are taken, released or renewed; "" if there are none

	Answer
	Shared bool    // the batch had other operations: Answer.Bucket is as all of them left it
	Behind []int64 // of a Take that was applied and shared: how many tokens of each charge those behind it took
	Local  bool    // refused from memory
	Left   bool    // the caller left before the answer: Answer.Err is the error of its context

	since    time.Time // when At was current, if it advances with the clock
	ctx      context.Context
	deadline time.Time // of ctx; zero if it has none
	shard    *shard
	state    opState
	flight   *flight       // nil while it is queued, and if the answer is not that of a flight
	done     chan struct{} // receives one value with the answer
	through  []int64       // of a Take in flight: how many tokens of each charge it and those before it take
	alone    bool          // has to be a batch by itself
	ours     bool          // gives back for callers that have left: nobody waits for it
	tries    int           // batches that were refused or split
	waits    int           // batches that were throttled
	cause    error         // of the last throttle
}

// at returns the operation's instant as of now.
func (m *Op) at(now time.Time) bucket.Instant {
	if m.since.IsZero() {
		return m.At
	}
	return m.At.Add(max(0, now.Sub(m.since)))
}

// gone reports whether the caller of a queued operation has left, or is about to.
func (m *Op) gone() bool { return m.state == left || m.ctx.Err() != nil }

// collect reads the answer of the flight.
func (m *Op) collect() {
	f := m.flight
	if f == nil {
		return
	}
	m.Answer, m.Shared = f.answer, f.Members > 1
	if m.Shared && m.Kind == Take && m.Outcome == Applied {
		m.Behind = f.behind(m)
	}
}

// An opState is what has become of an operation.
type opState uint8

const (
	waiting  opState = iota // also if its flight is answered
	answered                // by itself
	left
)

// A Batch is what one write does to a bucket.
type Batch struct {
	Key     zael.Key
	Kind    Kind
	Charges []zael.Charge // of takes, one a limit with the sum of its amounts; of others, all in order
	At      bucket.Instant
	MaxWait time.Duration // of takes, if Stages is nil
	// Settings is the revision of the settings under which all takes of the batch are
	// made. If the bucket has a greater one, the outcome is Stale.
	Settings int64
	Stages   [][]Stage // for each charge, if takes wait for different times
	Birth    uint64    // of an Undo: the bucket's
	Events   int64     // how many takes the batch counts for
	Members  int       // how many operations it has
	Holder   string    // whose slots are changed; "" if there are none

	// ExactState, for one Take, lets definitions change only if the state that they
	// change from is exactly known.
	ExactState bool

	// Overdrawn is, of an Undo, how many takes that come to nothing had left a limit overdrawn:
	// they are counted no more.
	Overdrawn []bucket.Count

	behind [][]int64 // of several takes, for each charge that is soft: what those behind each one took
}

// A Stage bounds a batch of takes: its first Sum tokens must be there by Wait after its
// instant. All stages of a limit must hold.
type Stage struct {
	Sum  int64
	Wait time.Duration
}

// Config tunes a Coalescer. All fields but the flags are required.
type Config struct {
	// MaxLimits is how many limits a batch may name.
	MaxLimits int
	// Remembered is for how many buckets refusals are remembered.
	Remembered int
	// Tries is how often an operation without a deadline may be throttled before it
	// fails.
	Tries int
	// AdvanceWhileQueued moves an operation's instant forward by the time it spent in
	// the queue.
	AdvanceWhileQueued bool
	// Direct makes each operation a write of its own: none waits for another, and no
	// refusal is remembered.
	Direct bool
	// Go runs a function in a goroutine. The function ends by itself; Close does
	// not wait for it.
	Go func(func())
	// GaveBack is told when takes whose callers had left were given back: how many, and
	// whether that succeeded.
	GaveBack func(takes int64, ok bool)
}

// A Coalescer coalesces the operations on the buckets of one Engine. It may be used
// concurrently. It remembers a bucket only while a write is in flight, for a second
// after a refusal, and for a moment after a throttle.
type Coalescer struct {
	engine Engine
	config Config
	seed   maphash.Seed
	spare  sync.Pool // of *bucketQueue
	ops    sync.Pool // of *Op
	shards [shards]shard

	sweeping atomic.Bool // timer runs, since there are idle queues
	mu       sync.Mutex
	timer    *time.Timer
	closed   bool
}

const shards = 64 // a power of two

type shard struct {
	mu     sync.Mutex
	queues map[zael.Key]*bucketQueue
	_      [48]byte // keeps the locks of two shards apart in the processor's cache
}

// New returns a Coalescer.
func New(engine Engine, config Config) *Coalescer {
	g := &Coalescer{engine: engine, config: config, seed: maphash.MakeSeed(), spare: sync.Pool{New: func() any { return new(bucketQueue) }}}
	for i := range g.shards {
		g.shards[i].queues = map[zael.Key]*bucketQueue{}
	}
	return g
}

// Close drops what is remembered. Operations in flight go on.
func (g *Coalescer) Close() {
	g.mu.Lock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.tidy(time.Now().Add(time.Hour))
}

// Len returns how many buckets something is kept for.
func (g *Coalescer) Len() int {
	n := 0
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		n += len(sh.queues)
		sh.mu.Unlock()
	}
	return n
}

func (g *Coalescer) shard(key zael.Key) *shard {
	return &g.shards[maphash.Comparable(g.seed, key)%shards]
}

// Do makes the operation m on a bucket, alone or with others, and sets m's answer. If
// ctx is done first it returns at once; the answer is then Failed with ctx's error,
// and the last throttle's too if ctx's deadline has passed.
func (g *Coalescer) Do(ctx context.Context, key zael.Key, m *Op) {
	g.Start(ctx, key, m)
	g.Wait(m)
}

// NewOp returns an Op whose fields are zero, with room for Charges if it is a recycled one.
func (g *Coalescer) NewOp() *Op {
	if m, ok := g.ops.Get().(*Op); ok {
		return m
	}
	return new(Op)
}

// Recycle lets NewOp return m, of which the caller has the only reference and which was answered,
// or was not started. One that may have been applied all the same stays with who finds that out.
func (g *Coalescer) Recycle(m *Op) {
	if m.Outcome == Failed {
		return
	}
	clear(m.Charges) // so that names can be freed
	*m = Op{Charges: m.Charges[:0], done: m.done, through: m.through[:0]}
	g.ops.Put(m)
}

// Start starts the operation m without waiting for it. The caller then calls Wait.
func (g *Coalescer) Start(ctx context.Context, key zael.Key, m *Op) {
	sh := g.shard(key)
	m.ctx, m.shard = ctx, sh
	m.deadline, _ = ctx.Deadline()
	now := time.Now()
	if g.config.AdvanceWhileQueued {
		m.since = now
	}
	sh.mu.Lock()
	q := g.queue(sh, key)
	if m.Kind == Take && q.recalls(m, now) {
		sh.mu.Unlock()
		return
	}
	if m.done == nil {
		m.done = make(chan struct{}, 1)
	}
	var f *flight
	if q.busy || q.due(now) > 0 {
		q.ops = append(q.ops, m)
	} else {
		f = q.single(m)
	}
	runs := !q.busy
	q.busy = true
	sh.mu.Unlock()
	if runs {
		g.config.Go(func() { g.run(sh, q, f) })
	}
}

// Wait returns when m, which was started, has its answer or its context is done.
func (g *Coalescer) Wait(m *Op) {
	if m.Local {
		return
	}
	if !within.Wait(m.ctx, m.done) {
		if g.leave(m) {
			return
		}
		<-m.done // it has been sent, or is about to be
	}
	m.collect()
	m.panicked.raise()
}

// leave removes an operation whose caller has left. It reports false if that was answered
// just now.
func (g *Coalescer) leave(m *Op) bool {
	m.shard.mu.Lock()
	defer m.shard.mu.Unlock()
	f := m.flight
	if m.state == answered || f != nil && f.answered {
		return false
	}
	if f != nil {
		f.leave()
	}
	m.state, m.Left = left, true
	err := m.ctx.Err()
	if m.cause != nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w, after %w", err, m.cause)
	}
	m.Answer = Answer{Outcome: Failed, Err: err}
	return true
}

// wake wakes the callers of operations that have their answers, except those that have
// left. It returns how many callers there are.
func (g *Coalescer) wake(woken []*Op) (callers int) {
	for _, m := range woken {
		switch {
		case m.state == left:
		case m.ours:
			m.collect()
			g.config.GaveBack(-m.Events, m.Outcome == Applied)
		default:
			m.done <- struct{}{}
			callers++
		}
	}
	return callers
}
