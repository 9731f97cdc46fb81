package line

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A waiter is a caller in a queue.
type waiter struct {
	amounts []int64 // of each part
	came    time.Time
	until   time.Time
	done    chan struct{} // closed with grant or err
	grant   Grant
	err     error
	served  bool // or refused: no longer in the queue
}

// A queue is the callers of this process that wait for one key. Its goroutine,
// run, asks the store and hands out places; callers come and leave under mu.
type queue[K comparable] struct {
	line  *Line[K]
	key   K
	parts []Part          // whose amounts are nobody's
	ctx   context.Context //nolint:containedctx // the values of the first caller's, and not its end
	wake  chan struct{}   // says to run that something has changed

	mu      sync.Mutex
	waiters []*waiter // in order; those that are served stay until they are cleared
	gone    int       // how many waiters are served
	places  []place   // in the order of the line
	known   []bucket.State
	asks    []int64        // tokens of all callers in the queue, of each part
	base    bucket.Instant // by our clock, at since
	since   time.Time
	offset  time.Duration // of the store's clock before ours
	asking  bool          // a call of the store is on its way
	closed  bool
	ended   bool // run has returned, or will without looking again

	others  time.Time     // until then other writers are taken to be at work
	fresh   bool          // an answer has come since plan last ran
	retry   time.Time     // when to ask next among others; zero: not drawn yet
	random  *rand.Rand    // for retry
	eager   float64       // retries a second and second of the head's age
	flight  time.Duration // that a call of the store takes, of late
	scratch scratch
}

func newQueue[K comparable](l *Line[K], key K, parts []Part, values context.Context) *queue[K] { //nolint:revive // a value like others
	return &queue[K]{
		line: l, key: key, parts: slices.Clone(parts), ctx: values, asks: make([]int64, len(parts)),
		wake: make(chan struct{}, 1), eager: firstEager, since: time.Now(),
		random: rand.New(rand.NewPCG(l.config.Seed, uint64(time.Now().UnixNano()))), //nolint:gosec // spreads retries
	}
}

// now returns the instant by the store's clock.
func (q *queue[K]) now() bucket.Instant {
	return q.base + bucket.Instant(time.Since(q.since)+q.offset)
}

// waiting returns the number of callers in the queue.
func (q *queue[K]) waiting() int { return len(q.waiters) - q.gone }

// notify makes run look again.
func (q *queue[K]) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// enter puts w at the end of the queue, if the queue has not ended.
func (q *queue[K]) enter(w *waiter, maxWait time.Duration) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false, nil
	}
	w.came = time.Now()
	w.until = w.came.Add(maxWait)
	if q.waiting() >= q.line.config.MaxQueue || q.tooLate(w) {
		return false, q.refusal()
	}
	for i, n := range w.amounts {
		q.asks[i] += n
	}
	q.waiters = append(q.waiters, w)
	q.notify()
	return true, nil
}

// tooLate reports whether a caller that comes now will surely not be served in
// time: those in front ask for too much, and no place is there that they cannot
// use and it can.
func (q *queue[K]) tooLate(w *waiter) bool {
	at, rest := q.now(), w.until.Sub(w.came)
	late := false
	for i, state := range q.behind() {
		late = late || w.amounts[i] > 0 && state.Wait(at, w.amounts[i]) > rest
	}
	if !late {
		return false
	}
	_, left := q.cover(0)
	return !slices.ContainsFunc(left, func(f free) bool {
		return f.fits(q.parts, w.amounts) && f.place.ready(q.parts, w.amounts, at) <= rest
	})
}

// behind returns how the limits stand behind all callers here, at best: as last seen,
// minus the tokens that callers ask for and that no place has yet.
func (q *queue[K]) behind() []bucket.State {
	states, at := slices.Clone(q.known), q.now()
	for i := range states {
		n := q.asks[i]
		for _, p := range q.places {
			n -= p.tokens(q.parts, i)
		}
		if n = min(n, bucket.MaxAmount); n <= 0 {
			continue
		}
		if next, err := states[i].Charge(at, n); err == nil {
			states[i] = next
		} else {
			states[i].Mark = math.MaxInt64
		}
	}
	return states
}

func (q *queue[K]) refusal() *RefusedError {
	return &RefusedError{At: q.now(), States: q.behind(), Queued: q.waiting()}
}

// leave removes a caller that gives up, and reports whether it was still there.
func (q *queue[K]) leave(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.served {
		return false
	}
	q.remove(w, true)
	q.notify()
	return true
}

// expire ends a caller's wait at its time: served at this instant, or refused.
func (q *queue[K]) expire(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.served {
		q.serve()
	}
	if !w.served {
		q.remove(w, false)
		w.err = q.refusal()
		close(w.done)
	}
	q.notify()
}

// finish answers a caller.
func (q *queue[K]) finish(w *waiter, g Grant, err error) {
	w.grant, w.err = g, err
	q.remove(w, false)
	close(w.done)
}

// remove takes a caller out of the queue. It must not run while waiters is
// iterated.
func (q *queue[K]) remove(w *waiter, left bool) {
	w.served = true
	q.gone++
	for i, n := range w.amounts {
		q.asks[i] -= n
	}
	q.line.patience.ended(time.Since(w.came), left)
	for len(q.waiters) > 0 && q.waiters[0].served {
		q.waiters[0] = nil
		q.waiters = q.waiters[1:]
		q.gone--
	}
	if q.gone > 16 && q.gone > len(q.waiters)/2 {
		q.waiters = slices.DeleteFunc(q.waiters, func(w *waiter) bool { return w.served })
		q.gone = 0
	}
}

// close refuses all callers.
func (q *queue[K]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, w := range slices.Clone(q.waiters) {
		if !w.served {
			q.finish(w, Grant{}, ErrClosed)
		}
	}
	q.notify()
}

// serve hands out what is ready: each place to the first caller that can use it in
// its time. It may run a little late, as timers do, and a place can be usable for one
// instant only: with a burst of one token, each is. So a caller that was there
// counts at the instant at which the place was ready for it.
func (q *queue[K]) serve() {
	at, now := q.now(), time.Now()
	for i := 0; i < len(q.places); {
		p := &q.places[i]
		for {
			w, ready := q.heir(*p, at, now)
			if w == nil || ready > at {
				break
			}
			p.trim(q.parts, ready)
			p.use(q.parts, w.amounts)
			p.since = ready
			q.finish(w, Grant{At: ready, Receipts: p.receipts()}, nil)
		}
		p.since = max(p.since, at)
		if p.trim(q.parts, at) {
			i++
		} else {
			q.places = slices.Delete(q.places, i, i+1)
		}
	}
}

// heir returns the first caller that can use the front of a place in its time, and the
// instant from which it can, which may be past.
func (q *queue[K]) heir(p place, at bucket.Instant, now time.Time) (w *waiter, ready bucket.Instant) {
	var buf [4]stretch
	for _, w := range q.waiters {
		if w.served || w.empty() {
			continue
		}
		then := p
		from := max(p.since, at-bucket.Instant(now.Sub(w.came)))
		if from > p.since {
			then.stretches = append(buf[:0], p.stretches...)
			then.trim(q.parts, from)
		}
		if !then.fits(q.parts, w.amounts) {
			continue
		}
		ready := from.Add(then.ready(q.parts, w.amounts, from))
		if time.Duration(ready-at) <= w.until.Sub(now) {
			return w, ready
		}
	}
	return nil, 0
}

// empty reports whether a caller asks for no token, only that no limit is in debt.
func (w *waiter) empty() bool {
	return !slices.ContainsFunc(w.amounts, func(n int64) bool { return n > 0 })
}

// cover goes through the queue as serve would, if nobody leaves: it returns the
// callers that no place is there for, most of them at the most, and what is left
// of the places. It counts those that wait far from their time in scratch.held.
func (q *queue[K]) cover(most int) (uncovered []*waiter, left []free) {
	s := &q.scratch
	s.uncovered, s.free, s.held = s.uncovered[:0], s.free[:0], 0
	at, now, near := q.now(), time.Now(), q.near()
	delay := q.delay(at)
	for _, p := range q.places {
		s.free = append(s.free, free{place: p.clone(), ready: p.end(q.parts, at)})
	}
	full := len(s.free) // places with something in them
	for _, w := range q.waiters {
		if full == 0 && len(s.uncovered) >= most {
			break
		}
		if w.served {
			continue
		}
		rest := w.until.Sub(now)
		covered := false
		for i := 0; full > 0 && i < len(s.free) && !covered && !w.empty(); i++ {
			f := &s.free[i]
			if !f.fits(q.parts, w.amounts) || f.ready > rest && f.place.ready(q.parts, w.amounts, at) > rest {
				continue
			}
			f.far = f.far || f.ready > near && f.place.ready(q.parts, w.amounts, at) > near
			f.use(q.parts, w.amounts)
			covered = true
			if f.far && !urgent(delay, rest) {
				s.held++
			}
			if !f.any() {
				full--
			}
		}
		if !covered {
			s.uncovered = append(s.uncovered, w)
		}
	}
	return s.uncovered, s.free
}

// scratch is memory that is used again.
type scratch struct {
	uncovered []*waiter
	free      []free
	held      int
}

// free is what is left of a place.
type free struct {
	place
	ready time.Duration // until its end is
	far   bool          // its front is not near, so the rest is not
}

// delay returns the time until the end of the line, as last seen, is ready.
func (q *queue[K]) delay(at bucket.Instant) time.Duration {
	var wait time.Duration
	for i := range q.known {
		wait = max(wait, q.known[i].Wait(at, 0))
	}
	return wait
}

// due returns the time until amounts fit behind the end of the line.
func (q *queue[K]) due(amounts []int64, at bucket.Instant) time.Duration {
	var wait time.Duration
	for i := range q.known {
		wait = max(wait, q.known[i].Wait(at, amounts[i]))
	}
	return wait
}

// spacing returns the time in which all of amounts but the first token refill.
func (q *queue[K]) spacing(amounts []int64) time.Duration {
	var long time.Duration
	for i := range q.parts {
		d := &q.parts[i].Definition
		if n := amounts[i] - 1; n > 0 {
			perToken := float64(d.Period) / float64(d.Amount)
			long = max(long, time.Duration(min(float64(n)*perToken, math.MaxInt64/2)))
		}
	}
	return long
}
