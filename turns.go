package zael

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/bucket"
)

// Requests with other limits than plain rates wait in turns: a place in line is a stretch
// of an axis, which periods and slots do not have. The first of those who wait for the
// same limits asks the store when it may fit, and again when something was given back
// in this process.

const (
	firstAsk = 100 * time.Millisecond // after a refusal by slots, as others release theirs
	lastAsk  = time.Second
)

// turns are the queues of callers that wait in turns.
type turns struct {
	mu      sync.Mutex
	closed  bool
	queues  map[waitKey]*turnQueue
	callers atomic.Int64 // in all queues
}

// any reports whether a caller waits.
func (t *turns) any() bool { return t.callers.Load() > 0 }

// A turnQueue is the callers that wait for the same limits of the same buckets.
type turnQueue struct {
	waiting []*turn // the first of them asks
}

// A turn is one caller's place in a queue.
type turn struct {
	first chan struct{} // closed when it is the first
	woken chan struct{} // receives when something was given back
	ended chan struct{} // closed when the Limiter is
}

// join puts a caller at the end of a queue.
func (t *turns) join(key waitKey) (*turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if t.queues == nil {
		t.queues = map[waitKey]*turnQueue{}
	}
	q := t.queues[key]
	if q == nil {
		q = new(turnQueue)
		t.queues[key] = q
	}
	t.callers.Add(1) // before it asks, so that who gives back later wakes it
	mine := &turn{first: make(chan struct{}), woken: make(chan struct{}, 1), ended: make(chan struct{})}
	if q.waiting = append(q.waiting, mine); len(q.waiting) == 1 {
		close(mine.first)
	}
	return mine, nil
}

// leave removes a caller from its queue.
func (t *turns) leave(key waitKey, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.callers.Add(-1)
	q := t.queues[key]
	for i, other := range q.waiting {
		if other != mine {
			continue
		}
		q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
		if i == 0 && len(q.waiting) > 0 {
			close(q.waiting[0].first)
		}
		break
	}
	if len(q.waiting) == 0 {
		delete(t.queues, key)
	}
}

// wake has those ask again who wait for a bucket.
func (t *turns) wake(debits []Debit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, q := range t.queues {
		for i := range debits {
			k := debits[i].Key
			if k.Resource == key.resource && (k.Entity == key.entity || k.Entity == key.parent) {
				select {
				case q.waiting[0].woken <- struct{}{}:
				default:
				}
			}
		}
	}
}

// close ends all waits.
func (t *turns) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, q := range t.queues {
		for _, w := range q.waiting {
			close(w.ended)
		}
	}
}

// rates reports whether all limits of a are plain rates.
func (a *attempt) rates() bool {
	for i := range a.charges {
		if !a.charges[i].Definition.Plain() {
			return false
		}
	}
	return true
}

// waitTurn takes what a asks for as soon as it fits, within maxWait.
func (l *Limiter) waitTurn(ctx context.Context, a *attempt, req *Request, maxWait time.Duration) (at time.Time, err error) {
	key, _ := a.waitKey()
	mine, err := l.turns.join(key)
	if err != nil {
		return at, err
	}
	defer l.turns.leave(key, mine)
	until := time.NewTimer(maxWait)
	defer until.Stop()
	late := false
	select {
	case <-mine.first:
	default:
		select {
		case <-mine.first:
		case <-until.C:
			late = true // asks once, for the refusal
		case <-mine.ended:
			return at, ErrClosed
		case <-ctx.Done():
			return at, fmt.Errorf("zael: left the line: %w", ctx.Err())
		}
	}
	deadline := time.Now().Add(maxWait)
	for pause := firstAsk; ; pause = min(2*pause, lastAsk) {
		at, err = l.charge(ctx, a, l.now(), 0, req)
		var refusal *ExceededError
		if late || !errors.As(err, &refusal) {
			return at, err
		}
		wait, bySlots := refusal.decision.nextAsk()
		if wait == Never || !bySlots && wait > time.Until(deadline) {
			return at, err
		}
		if bySlots {
			wait = max(wait, pause)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-mine.woken:
		case <-until.C:
			late = true
		case <-mine.ended:
			err = ErrClosed
		case <-ctx.Done():
			err = fmt.Errorf("zael: left the line: %w", ctx.Err())
		}
		timer.Stop()
		if !errors.As(err, &refusal) {
			return at, err
		}
	}
}

// nextAsk returns the wait until what refused may fit, of limits that are not slots, and
// whether slots refused. It is Never if that is certain never to be.
func (d *Decision) nextAsk() (wait time.Duration, bySlots bool) {
	for i := range d.Len() {
		s, _, amount := d.standing(i)
		switch w := s.Wait(d.at, amount); {
		case w == Never:
			return Never, false
		case s.Definition.Kind != bucket.Slots:
			wait = max(wait, w)
		default:
			bySlots = bySlots || w > 0 || s.Used > s.Definition.Burst-amount
		}
	}
	return wait, bySlots
}
