// Package line lets the callers of one process wait in line for the tokens of
// a bucket that other processes wait for too.
//
// # Places
//
// A place is a stretch (lo, hi] of each limit's axis that a take has reserved
// ahead of time (package bucket; the store's mark has moved past it). It
// belongs to the process and not to the caller it was taken for: a caller
// that leaves takes nothing with it, and the next one in the queue uses what
// it was to have. Without that, service stops under overload, because the head
// of the queue is always the caller that is about to leave, and a stretch that
// others stand behind cannot be given back.
//
// A caller uses the front of a place, (lo, lo+n], from the instant at which
// drip = lo + n − burst until drip = lo. So each token that is let in has a
// piece of (drip, drip + burst] of its own, and a window of time holds at most
// the burst and the refill.
//
// # Order
//
// Callers of a process are served in the order in which they came; a smaller
// request may pass a larger one that cannot use what is there. Across processes
// order holds nearly: a process holds places for about a quarter of its queue,
// so that each line in the store has room for the others. The rule that decides
// when a place is taken is in pump.go.
package line

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Part is one limit's part of a request.
type Part struct {
	Name       string // of the limit, for the Store
	Definition bucket.Definition
	Amount     int64 // tokens: 0 to Definition.Burst
}

// An Answer is what a store said to a take or a give.
type Answer struct {
	Taken  bool
	At     bucket.Instant // that counted
	States []bucket.State // of each part: after the take or the give, or as it is; of a part that gave nothing, absent
	Err    error          // nothing else is known
}

// A Back is a stretch of one limit to be given back.
type Back struct {
	Amount  int64 // tokens
	Receipt bucket.Receipt
}

// A Store takes and gives. Its methods may be called concurrently, though not
// for one key, and return within a bound of their own: the contexts they get
// carry the values of a caller and not its end.
type Store[K comparable] interface {
	// Take takes all parts if they fit by ahead after now, or none.
	Take(ctx context.Context, key K, parts []Part, now bucket.Instant, ahead time.Duration) Answer
	// Give gives back a stretch of each part, as bucket.State.Give does.
	Give(ctx context.Context, key K, parts []Part, stretches []Back, now bucket.Instant) Answer
}

// A Config tunes a Line. Every field but MaxQueue and Seed is required.
type Config struct {
	Now      func() bucket.Instant // of the instants that the Store is given; waits run in real time
	MaxQueue int                   // callers that wait for one key: 0 is 10,000
	Near     time.Duration         // least distance at which a place is taken beyond the window
	Seed     uint64                // of the times of retries; 0 is a random one
}

const defaultQueue = 10_000

// ErrClosed is the error of callers that wait when the Line is closed.
var ErrClosed = errors.New("line: closed")

// A RefusedError says that a request will not fit in time. States are the limits as
// last seen, with the tokens of all callers in front taken.
type RefusedError struct {
	At     bucket.Instant
	States []bucket.State
	Queued int // callers of this process in front
}

// Error names the number of callers in front.
func (r *RefusedError) Error() string { return "line: no place in time" }

// A Grant is what a caller was given, in the order of its parts.
type Grant struct {
	At       bucket.Instant // at which it counted
	Receipts []bucket.Receipt
}

// A Line has a queue for each key that callers wait for. Its methods may be
// called concurrently. Each queue has a goroutine of its own while anybody is in
// it, or a place of it can still be used; Close waits for all of them.
type Line[K comparable] struct {
	store    Store[K]
	config   Config
	patience patience

	mu     sync.Mutex
	closed bool
	queues map[K]*queue[K]
	count  atomic.Int64 // of queues
	loops  sync.WaitGroup
}

// New returns a Line on a store.
func New[K comparable](store Store[K], config Config) *Line[K] {
	config.MaxQueue = cmp.Or(config.MaxQueue, defaultQueue)
	config.Seed = cmp.Or(config.Seed, rand.Uint64())
	return &Line[K]{
		store: store, config: config, queues: map[K]*queue[K]{},
		patience: patience{left: firstLeft, waited: firstWaited},
	}
}

// Close refuses all waiting callers with ErrClosed, gives back places that end a line,
// and returns when every queue has ended.
func (l *Line[K]) Close() {
	l.mu.Lock()
	l.closed = true
	all := make([]*queue[K], 0, len(l.queues))
	for _, q := range l.queues {
		all = append(all, q)
	}
	l.mu.Unlock()
	for _, q := range all {
		q.close()
	}
	l.loops.Wait()
}

// Len returns the number of keys that have a queue.
func (l *Line[K]) Len() int { return int(l.count.Load()) }

// Stands reports whether callers of this process wait for a key, or hold places
// of it. A caller that does not wait must then be refused, as it would pass them. The
// refusal says how the limits stand behind them.
func (l *Line[K]) Stands(key K, parts []Part) (*RefusedError, bool) {
	l.mu.Lock()
	q := l.queues[key]
	l.mu.Unlock()
	if q == nil {
		return nil, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.waiting() == 0 && len(q.places) == 0 {
		return nil, false
	}
	return q.refusal(), true
}

// Wait returns when parts were taken for the caller, or could not be within
// maxWait. seen is how the limits were last seen, at an instant: a refusal of the
// store, as a caller first asks without waiting. The parts of one key always
// name the same limits under the same definitions.
//
// The error is a *RefusedError, the context's, what the store said, or ErrClosed.
// A caller that leaves has taken nothing.
func (l *Line[K]) Wait(ctx context.Context, key K, parts []Part, maxWait time.Duration, seen Answer) (Grant, error) {
	w := &waiter{amounts: make([]int64, len(parts)), done: make(chan struct{})}
	for i := range parts {
		w.amounts[i] = parts[i].Amount
	}
	q, err := l.enter(ctx, key, parts, maxWait, seen, w)
	if err != nil {
		return Grant{}, err
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
		q.expire(w)
	case <-ctx.Done():
		if q.leave(w) {
			return Grant{}, ctx.Err()
		}
	}
	<-w.done // at the last moment, perhaps
	return w.grant, w.err
}

// enter puts a caller into the queue of a key, which begins with it if there is
// none.
func (l *Line[K]) enter(ctx context.Context, key K, parts []Part, maxWait time.Duration, seen Answer, w *waiter) (*queue[K], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if q := l.queues[key]; q != nil {
		if entered, err := q.enter(w, maxWait); entered || err != nil {
			return q, err
		}
		// It has ended since, and is about to be forgotten.
	}
	q := newQueue(l, key, parts, context.WithoutCancel(ctx))
	q.known = slices.Clone(seen.States)
	q.base = l.config.Now()
	q.offset = time.Duration(seen.At - q.base)
	if _, err := q.enter(w, maxWait); err != nil {
		return nil, err
	}
	if _, another := l.queues[key]; !another {
		l.count.Add(1)
	}
	l.queues[key] = q
	l.loops.Go(q.run)
	return q, nil
}

// end forgets a queue that has ended.
func (l *Line[K]) end(q *queue[K]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queues[q.key] == q {
		delete(l.queues, q.key)
		l.count.Add(-1)
	}
}
