package zael

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A call is one request as debits for the store, and the store's answer. It is
// reused, so that Allow allocates nothing.
type call struct {
	op
	debits  []Debit // the entity's bucket, then the parent's
	charges []Charge
	own     int     // charges of the entity's bucket; the others are the parent's
	checked []Limit // what the first charges were made of by bindPlain
	unknown bool    // a name in Consume is not among the stored limits
	newer   []Debit // while limits are read again: what showed that they are stale
}

func (c *call) reset() {
	c.debits, c.charges, c.own, c.checked = c.debits[:0], c.charges[:0], 0, c.checked[:0]
	c.unknown = false
}

func (c *call) add(name string, d bucket.Definition, amount int64) {
	c.charges = append(c.charges, Charge{Name: name, Definition: d, Amount: amount})
}

// take charges what req asks for: the steps of every acquire. The answer is in
// c. An error that matches ErrUnavailable is the caller's to weigh by mode.
func (l *Limiter) take(ctx context.Context, req *Request, maxWait time.Duration, c *call) (at time.Time, err error) {
	if err := l.checkOpen(); err != nil {
		return at, err
	}
	if err := ctx.Err(); err != nil {
		return at, err
	}
	now := l.now()
	if err := l.prepare(ctx, req, now, l.ttl, c); err != nil {
		return at, err
	}
	l.countUnknown(c)
	return l.charge(ctx, c, now, maxWait, req)
}

// takeMore charges what c asks for, under the limits it has.
func (l *Limiter) takeMore(ctx context.Context, c *call) (at time.Time, err error) {
	defer c.end()
	if err := l.checkOpen(); err != nil {
		return at, err
	}
	if err := ctx.Err(); err != nil {
		return at, err
	}
	return l.charge(ctx, c, l.now(), 0, nil)
}

// charge has the store take c's debits. If a bucket has seen newer limits than
// this process, those of req are read again; without a req, or if that did not
// help, the bucket's are adopted.
func (l *Limiter) charge(ctx context.Context, c *call, now time.Time, maxWait time.Duration, req *Request) (at time.Time, err error) {
	behind := false // the clock was, and has caught up
	for range 4 {
		at, err = l.once(ctx, c, now, maxWait)
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
			return at, c.exceeded(at, maxWait)
		}
		if !errors.Is(err, ErrStaleLimits) {
			return at, err
		}
		if req == nil {
			c.adopt()
			continue
		}
		l.stats.staleLimits.Add(1)
		if err := l.again(ctx, req, now, c); err != nil {
			return at, err
		}
		req = nil
	}
	return at, fmt.Errorf("%w: its limits change all the time", ErrContention)
}

// refreshAfter is how old what is known of a key must be for a bucket with
// newer limits to have it read again.
const refreshAfter = time.Second

// again prepares req again for buckets with newer limits than were known.
func (l *Limiter) again(ctx context.Context, req *Request, now time.Time, c *call) error {
	c.newer = slices.Clone(c.debits)
	for i := range c.newer {
		c.newer[i].Charges = slices.Clone(c.newer[i].Charges)
	}
	defer func() { c.newer = nil }()
	return l.prepare(ctx, req, now, refreshAfter, c)
}

// once asks the store once, first for an answer from memory.
func (l *Limiter) once(ctx context.Context, c *call, now time.Time, maxWait time.Duration) (at time.Time, err error) {
	if l.local != nil {
		at, answered, err := l.local.TakeLocal(now, maxWait, c.debits)
		if answered {
			return at, l.localError(c.debits[0].Key, err)
		}
	}
	err = l.ask(ctx, &c.op, c.debits[0].Key, func(ctx context.Context) error {
		var err error
		at, err = l.store.Take(ctx, now, maxWait, c.debits)
		return err
	})
	return at, err
}

// localError is an error of a LocalStore in the caller's terms.
func (l *Limiter) localError(key Key, err error) error {
	if err != nil && errors.Is(err, ErrUnavailable) {
		return l.unavailable(key, err)
	}
	return ofClock(err)
}

// adopt takes over the newer definitions that the buckets have.
func (c *call) adopt() {
	c.checked = c.checked[:0]
	for i := range c.charges {
		if ch := &c.charges[i]; ch.State.Stale(ch.Definition) {
			ch.Definition = ch.State.Definition
		}
	}
}

func (l *Limiter) countUnknown(c *call) {
	if c.unknown {
		l.stats.unknownNames.Add(1)
	}
}

// lacks tells whether amounts has a name that no charge has.
func (c *call) lacks(amounts Amounts) bool {
	for name := range amounts {
		if !slices.ContainsFunc(c.charges, func(ch Charge) bool { return ch.Name == name }) {
			return true
		}
	}
	return false
}

// exceeded is the refusal with the status of every limit.
func (c *call) exceeded(at time.Time, maxWait time.Duration) error {
	now, err := bucket.At(at)
	if err != nil {
		return err
	}
	e := &ExceededError{Statuses: make([]Status, 0, len(c.charges))}
	for i := range c.debits {
		key := c.debits[i].Key
		for _, ch := range c.debits[i].Charges {
			_, fits := ch.State.Take(now, ch.Amount, maxWait)
			e.Statuses = append(e.Statuses, Status{
				Entity:     key.Entity,
				Resource:   key.Resource,
				Limit:      limitOf(ch.Name, ch.Definition),
				Available:  ch.State.Available(now),
				Requested:  ch.Amount,
				Exceeded:   !fits,
				RetryAfter: ch.State.Wait(now, ch.Amount),
			})
		}
	}
	return e
}

// delay is the time until all that was charged has refilled enough.
func (c *call) delay(at time.Time) time.Duration {
	now, err := bucket.At(at)
	if err != nil {
		return 0
	}
	var wait time.Duration
	for i := range c.charges {
		wait = max(wait, c.charges[i].Taken().Wait(now, 0))
	}
	return wait
}
