package zael

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// maxLimits is how many limits a bucket may have in one request.
const maxLimits = 100

// An attempt is one request as debits for the store, and the store's answer. It
// is reused, so that a request allocates nothing.
type attempt struct {
	budget
	debits  []Debit // the entity's bucket, then the parent's
	charges []Charge
	limits  []*bucket.Limit // of each charge
	own     int             // charges of the entity's bucket; the others are the parent's
	unknown bool            // an amount is for a limit that is not stored
	newer   []Debit         // while limits are read again: what showed that they are stale
	literal literal
	parts   [2][]bucket.Limit // what the charges of each bucket were made of
}

// reset forgets the request before, but for what the next one is likely to share.
func (a *attempt) reset() {
	a.debits, a.charges, a.limits, a.own = a.debits[:0], a.charges[:0], a.limits[:0], 0
	a.unknown, a.parts = false, [2][]bucket.Limit{}
}

// take charges what req asks for: the steps of every acquire. The answer is in
// a. An error that matches ErrUnavailable is weighed by the caller's mode.
func (l *Limiter) take(ctx context.Context, req *Request, maxWait time.Duration, a *attempt) (at time.Time, err error) {
	now, err := l.begin(ctx, req, a)
	if err != nil {
		return at, err
	}
	if maxWait <= 0 {
		if err := l.refusedBehind(a); err != nil {
			return at, err
		}
	}
	return l.charge(ctx, a, now, maxWait, req)
}

// begin makes the debits of req, and returns the time.
func (l *Limiter) begin(ctx context.Context, req *Request, a *attempt) (now time.Time, err error) {
	if err := l.checkOpen(); err != nil {
		return now, err
	}
	if err := ctx.Err(); err != nil {
		return now, err
	}
	now = l.now()
	if err := l.prepare(ctx, req, age{now, l.ttl}, a); err != nil {
		return now, err
	}
	l.countUnknown(a)
	return now, nil
}

// takeMore charges what a asks for, under the limits that it has.
func (l *Limiter) takeMore(ctx context.Context, a *attempt) (at time.Time, err error) {
	defer a.end()
	if err := l.checkOpen(); err != nil {
		return at, err
	}
	if err := ctx.Err(); err != nil {
		return at, err
	}
	return l.charge(ctx, a, l.now(), 0, nil)
}

// charge has the store take a's debits. If a bucket has seen newer limits than
// this process, those of req are read again; without a req, or if that did not
// help, the bucket's are adopted.
func (l *Limiter) charge(ctx context.Context, a *attempt, now time.Time, maxWait time.Duration, req *Request) (at time.Time, err error) {
	behind := false // the clock was, and has caught up
	for range 4 {
		at, err = l.askStore(ctx, a, now, maxWait)
		if err == nil && maxWait > 0 { // for how long depends on the clock
			at, _ = l.caughtUp(at)
		}
		if err == nil {
			return at, nil
		}
		if errors.Is(err, ErrExceeded) {
			if !behind {
				if now, behind = l.caughtUp(now); behind {
					continue
				}
			}
			return at, a.exceeded(at, maxWait)
		}
		if !errors.Is(err, ErrStaleLimits) {
			return at, err
		}
		if req == nil {
			a.adopt()
			continue
		}
		l.stats.staleLimits.Add(1)
		if err := l.refreshLimits(ctx, req, now, a); err != nil {
			return at, err
		}
		req = nil
	}
	return at, fmt.Errorf("%w: its limits keep changing", ErrContention)
}

// refreshAfter is how old what is known of a key must be for a bucket with
// newer limits to have it read again.
const refreshAfter = time.Second

// refreshLimits prepares req again for buckets with newer limits than were known.
func (l *Limiter) refreshLimits(ctx context.Context, req *Request, now time.Time, a *attempt) error {
	a.newer = slices.Clone(a.debits)
	for i := range a.newer {
		a.newer[i].Charges = slices.Clone(a.newer[i].Charges)
	}
	defer func() { a.newer = nil }()
	return l.prepare(ctx, req, age{now, refreshAfter}, a)
}

// askStore asks the store once, first for an answer from memory.
func (l *Limiter) askStore(ctx context.Context, a *attempt, now time.Time, maxWait time.Duration) (at time.Time, err error) {
	if l.local != nil {
		at, answered, err := l.local.TakeLocal(now, maxWait, a.debits)
		if answered {
			return at, l.localError(a.debits[0].Key, err)
		}
	}
	err = l.ask(ctx, &a.budget, a.debits[0].Key, func(ctx context.Context) error {
		var err error
		at, err = l.store.Take(ctx, now, maxWait, a.debits)
		return err
	})
	return at, err
}

// localError returns an error of a LocalStore in the caller's terms.
func (l *Limiter) localError(key Key, err error) error {
	if err != nil && errors.Is(err, ErrUnavailable) {
		return l.unavailable(key, err)
	}
	return ofClock(err)
}

// adopt takes over the newer definitions that the buckets have.
func (a *attempt) adopt() {
	a.parts = [2][]bucket.Limit{}
	for i := range a.charges {
		if ch := &a.charges[i]; ch.State.Stale(ch.Definition) {
			ch.Definition = ch.State.Definition
			a.limits[i] = &bucket.Limit{Name: ch.Name, Definition: ch.Definition}
		}
	}
}

// decision returns how the limits stand after the attempt: a refused one if
// refused, whose limits fit if they do so by maxWait.
func (a *attempt) decision(at time.Time, refused bool, maxWait time.Duration) (d Decision, err error) {
	if d.at, err = bucket.At(at); err != nil {
		return d, err
	}
	d.Admitted, d.own = !refused, a.own
	d.resource = a.debits[0].Key.Resource
	for i := range a.debits {
		d.entities[i] = a.debits[i].Key.Entity
	}
	for i, s := range d.set(len(a.charges)) {
		ch := &a.charges[i]
		s.limit, s.amount, s.mark = a.limits[i], ch.Amount, ch.Receipt.Mark
		if refused {
			s.mark = ch.State.Mark
			_, fits := bucket.Take(&ch.State.Definition, s.mark, d.at, ch.Amount, maxWait)
			s.exceeded = !fits
		}
		d.all()[i] = s
	}
	return d, nil
}

// exceeded returns the refusal with the status of every limit.
func (a *attempt) exceeded(at time.Time, maxWait time.Duration) error {
	d, err := a.decision(at, true, maxWait)
	if err != nil {
		return err
	}
	return &ExceededError{d}
}

// delay returns the time until all that was charged has refilled enough.
func (a *attempt) delay(at time.Time) time.Duration {
	now, err := bucket.At(at)
	if err != nil {
		return 0
	}
	var wait time.Duration
	for i := range a.charges {
		wait = max(wait, a.charges[i].Taken().Wait(now, 0))
	}
	return wait
}
