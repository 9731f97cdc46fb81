// Package gather makes few writes of many operations. At most one write of a
// bucket is on its way from this process; what is asked of the bucket meanwhile
// becomes the next one. Refusals are remembered for a moment, and the writes of
// a bucket that is throttled are spaced out.
//
// The path of one take, [Gatherer.Do]:
//
//   - Nothing of its bucket is on its way: the caller makes the write himself,
//     as if this package were not there. When it is answered he hands on what
//     has come meanwhile, if anything has, to a goroutine, which goes on until
//     nobody waits. (run.go)
//   - Otherwise he waits in line. From those in line the next batch is formed,
//     in order, of each that fits what the last answer left: one that does not
//     lets those behind it by. (form.go) After each answer those whom it refuses
//     leave the line, so that a caller waits for the write that he finds and for
//     his own; for more only if another process was faster.
//   - He leaves (his ctx is done): in line he is taken out. If his write is on
//     its way it goes on for the others; his share is given back when it is
//     answered, and forgotten if nobody knows what came of it. A write whose
//     callers have all left is given up.
//   - The write is refused: the answer says how the bucket stands, and so who of
//     the batch still fits; they are the next batch.
//   - The fate of the write is unknown: so it is for all of the batch, as for
//     one who is alone. The Engine undoes it once.
//   - The Engine panics: so do all callers of the batch. (panic.go)
//
// Adjusts, gives and reads of one bucket that wait at the same time are one
// write or one read too.
package gather

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

// The kinds. Members of one batch are of one kind.
const (
	Take   Kind = iota // all charges or none
	Adjust             // charges and gives; never refused
	Undo               // gives what takes took that then were none
	Look               // reads
)

// A Verdict is what came of a batch, or of a member of it.
type Verdict uint8

// The verdicts. Of a batch alone are Apart and Throttled.
const (
	Applied   Verdict = iota
	Refused           // takes that do not fit: nothing was taken
	Stale             // takes under limits older than the bucket's: nothing was taken
	Failed            // Answer.Err says why; what was asked for may have been done
	Apart             // nothing was done: it has to be done one by one
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
	Note    any            // from the Engine to the only member of a batch

	panicked *panicked // instead of all that
}

// An Engine does what a batch says to one bucket, in one write. Of a batch of
// one member it may do more than that, and of a larger one answer Apart. It is
// not called for a bucket while it is at work on it. When ctx is done it stops.
type Engine interface {
	Write(ctx context.Context, b *Batch) Answer
}

// A Member is one caller's part of a batch. The caller fills the first fields in and
// changes nothing until Do returns; then he reads Answer and what follows it.
type Member struct {
	Kind    Kind
	Charges []zael.Charge // a copy of the member's own. Of a Take each name is there once
	At      bucket.Instant
	MaxWait time.Duration // of a Take
	Birth   uint64        // of an Undo: the bucket's
	Events  int64         // takes that it counts for: 1 of a Take, below 0 of an Undo
	Exact   bool          // of a Take: passed on to the Engine when it is alone

	Answer
	Shared bool    // with others: Answer.Bucket is as all of them left it
	Behind []int64 // of a Take that was applied and shared: tokens of each charge that those after it took
	Local  bool    // refused from memory

	since  time.Time // when At was, if it goes on with the clock
	ctx    context.Context
	place  place
	flight *flight
	done   chan struct{} // closed with the answer; nil if it did not wait
	alone  bool          // the next batch has no other
	tries  int           // batches that were refused, or to be done apart
	waits  int           // batches that were throttled
	cause  error         // of the last throttle
}

// at is the member's instant by now.
func (m *Member) at(now time.Time) bucket.Instant {
	if m.since.IsZero() {
		return m.At
	}
	return m.At.Add(max(0, now.Sub(m.since)))
}

// A place is where a member is.
type place uint8

const (
	inLine place = iota
	onItsWay
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
	Exact   bool // the only member's
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
	// Tries is how often a member without deadline is throttled before that is
	// its answer.
	Tries int
	// Ages says that instants go on with the clock while members wait: else the
	// engine would be told what was a moment ago.
	Ages bool
	// Go starts a goroutine that ends by itself, for who wants to wait for all.
	Go func(func())
}

// A Gatherer gathers the operations on the buckets of one Engine. It may be used
// concurrently. It keeps something of a bucket only while a write is on its way,
// for a second after a refusal, and for a moment after it was throttled.
type Gatherer struct {
	engine Engine
	config Config
	seed   maphash.Seed
	spare  sync.Pool // of *slot
	shards [shards]shard

	sweeping atomic.Bool // timer runs, as there are slots that rest
	mu       sync.Mutex
	timer    *time.Timer
	closed   bool
}

const shards = 64 // a power of two

type shard struct {
	mu    sync.Mutex
	slots map[zael.Key]*slot
	_     [48]byte // keeps the locks of two shards apart in the processor's cache
}

// New makes a Gatherer. All fields of config but Ages are required.
func New(engine Engine, config Config) *Gatherer {
	g := &Gatherer{engine: engine, config: config, seed: maphash.MakeSeed(), spare: sync.Pool{New: func() any { return new(slot) }}}
	for i := range g.shards {
		g.shards[i].slots = map[zael.Key]*slot{}
	}
	return g
}

// Close forgets what is remembered. Operations that are on their way go on.
func (g *Gatherer) Close() {
	g.mu.Lock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.tidy(time.Now().Add(time.Hour))
}

// Len is the number of buckets of which something is kept.
func (g *Gatherer) Len() int {
	n := 0
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		n += len(sh.slots)
		sh.mu.Unlock()
	}
	return n
}

func (g *Gatherer) shard(key zael.Key) *shard {
	return &g.shards[maphash.Comparable(g.seed, key)%shards]
}

// Do does what m says to the bucket, alone or with others, and leaves the
// answer in m. When ctx is done first, the answer is Failed with ctx's error, and
// with that of the last throttle if it was the time that ended.
func (g *Gatherer) Do(ctx context.Context, key zael.Key, m *Member) {
	m.ctx = ctx
	sh := g.shard(key)
	sh.mu.Lock()
	s := g.slot(sh, key)
	switch now := time.Now(); {
	case m.Kind == Take && s.recalls(m, now):
		sh.mu.Unlock()
		return
	case s.busy || s.due(now) > 0:
		g.queue(sh, s, m)
		sh.mu.Unlock()
		g.wait(sh, m)
		m.panicked.again()
		return
	}
	s.busy = true
	f := s.lone(m)
	sh.mu.Unlock()

	begun := time.Now()
	a := g.write(ctx, &f.Batch)

	sh.mu.Lock()
	woken := s.finish(g, f, &a, begun)
	waits := m.place == inLine // it was throttled
	if waits {
		m.done = make(chan struct{})
		if g.config.Ages {
			m.since = begun
		}
	}
	if len(s.line) > 0 {
		g.config.Go(func() { g.run(sh, s) })
	} else {
		s.busy = false
		g.rest(sh, s)
	}
	sh.mu.Unlock()
	wake(woken)
	if waits {
		g.wait(sh, m)
	}
	m.panicked.again()
}

// queue puts m in line, and sees to it that somebody serves the line.
func (g *Gatherer) queue(sh *shard, s *slot, m *Member) {
	m.done = make(chan struct{})
	m.place = inLine
	if g.config.Ages {
		m.since = time.Now()
	}
	s.line = append(s.line, m)
	if !s.busy {
		s.busy = true
		g.config.Go(func() { g.run(sh, s) })
	}
}

// wait returns when m has its answer or its caller leaves.
func (g *Gatherer) wait(sh *shard, m *Member) {
	select {
	case <-m.done:
		return
	case <-m.ctx.Done():
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if m.place == answered {
		return // at the last moment
	}
	if m.place == onItsWay {
		m.flight.leave()
	}
	m.place = left
	err := m.ctx.Err()
	if m.cause != nil && errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w, after %w", err, m.cause)
	}
	m.Answer = Answer{Verdict: Failed, Err: err}
}

func wake(woken []*Member) {
	for _, m := range woken {
		close(m.done)
	}
}
