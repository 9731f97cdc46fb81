package zael

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// Available returns how many tokens could be taken now, by limit name; less than 0
// is debt. With a cascade it is the smaller number of the entity's and the parent's
// bucket. It takes nothing. Errors are those of [Limiter.Reserve] except
// ErrExceeded.
func (l *Limiter) Available(ctx context.Context, q Query) (Amounts, error) {
	a := Amounts{}
	err := l.eachLimit(ctx, q, nil, func(ch *Charge, at bucket.Instant) {
		n := ch.State.Available(at)
		if have, ok := a[ch.Name]; ok {
			n = min(n, have)
		}
		a[ch.Name] = n
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// TimeUntilAvailable returns the wait until amounts could be taken if nobody else
// takes any: 0 if they can be taken now, [Never] after more than 292 years. With a
// cascade it is the longer wait of both buckets. It takes nothing. The error matches
// [ErrNever] if amounts asks for more than a limit's burst, or for any of a limit that
// blocks; other errors are those of [Limiter.Available].
func (l *Limiter) TimeUntilAvailable(ctx context.Context, q Query, amounts Amounts) (time.Duration, error) {
	var wait time.Duration
	var never error
	err := l.eachLimit(ctx, q, amounts, func(ch *Charge, at bucket.Instant) {
		w := ch.State.Wait(at, ch.Amount)
		switch d := &ch.Definition; {
		case w < Never || never != nil:
		case d.Flags&bucket.Block != 0:
			never = fmt.Errorf("%w: %s is blocked", ErrNever, ch.Name)
		case ch.Amount > d.Burst:
			never = fmt.Errorf("%w: %d of %s is more than its %s of %d", ErrNever, ch.Amount, ch.Name, limitOf(ch.Name, *d).sizeWord(), d.Burst)
		}
		wait = max(wait, w)
	})
	if err == nil {
		err = never
	}
	if err != nil {
		return 0, err
	}
	return wait, nil
}

// LimitNames returns the names of the limits that a request like q takes from, each once:
// the entity's and, with a cascade, the parent's. Where they are stored it is for programs
// that have to tell what each of them counts before they ask for amounts. It reads no bucket,
// and takes stored limits from memory if they were read within Config.ConfigTTL. Errors are
// those of [Limiter.Reserve] except ErrExceeded.
func (l *Limiter) LimitNames(ctx context.Context, q Query) ([]string, error) {
	if err := errors.Join(l.checkOpen(), ctx.Err()); err != nil {
		return nil, err
	}
	req := q.request(nil)
	a := l.attempt()
	defer l.recycle(a)
	if err := l.prepare(ctx, &req, age{l.now(), l.ttl}, a); err != nil {
		return nil, queryError(err)
	}
	var names []string
	for i := range a.charges {
		if name := a.charges[i].Name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// request returns the request for amounts that the query asks about.
func (q *Query) request(amounts Amounts) Request {
	return Request{
		Entity: q.Entity, Policy: q.Policy, Resource: q.Resource, Limits: q.Limits, ParentLimits: q.ParentLimits,
		Consume: amounts, Cascade: q.Cascade, UseStoredLimits: q.UseStoredLimits, Parent: q.Parent,
	}
}

// eachLimit reads the buckets of q and calls show for each limit, with its state and
// the amount asked for.
func (l *Limiter) eachLimit(ctx context.Context, q Query, amounts Amounts, show func(*Charge, bucket.Instant)) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	req := q.request(amounts)
	c := new(attempt)
	defer c.end()
	now := l.now()
	if err := l.prepare(ctx, &req, age{now, l.ttl}, c); err != nil {
		return queryError(err)
	}
	l.countUnknown(c)
	keys := make([]Key, len(c.debits))
	for i := range c.debits {
		keys[i] = c.debits[i].Key
	}
	var at time.Time
	var buckets []Bucket
	err := l.throughBreaker(ctx, StoreRead, &c.budget, keys[0], func(ctx context.Context) error {
		var err error
		at, buckets, err = l.store.Buckets(ctx, now, keys)
		return err
	})
	if err != nil {
		return err
	}
	if later, behind := l.caughtUp(now); behind {
		at = later
	}
	instant, err := instantOf(at)
	if err != nil {
		return err
	}
	for i := range c.debits {
		for j := range c.debits[i].Charges {
			ch := &c.debits[i].Charges[j]
			state := buckets[i].stateOf(ch)
			if state.Stale(ch.Definition) {
				ch.Definition = state.Definition
			}
			ch.State = state.Redefine(ch.Definition, instant, 0)
			show(ch, instant)
		}
	}
	return nil
}

// queryError returns an error about a Request in the words of the methods that take a
// Query.
func queryError(err error) error {
	if v, ok := errors.AsType[*ValidationError](err); ok {
		if field, ok := strings.CutPrefix(v.Field, "Request."); ok {
			amount, ok := strings.CutPrefix(field, "Consume")
			v.Field = "Query." + field
			if ok {
				v.Field = "amounts" + amount
			}
		}
	}
	return err
}

// stateOf returns the state of a charge's limit; it is zero if the bucket has none.
func (b *Bucket) stateOf(ch *Charge) bucket.State {
	for _, s := range b.Limits {
		if s.Name == ch.Name && (s.State.Definition.Kind == bucket.Slots) == (ch.Definition.Kind == bucket.Slots) {
			return s.State
		}
	}
	return bucket.State{}
}

// state returns the state of a limit; it is zero if the bucket has none of that name.
func (b *Bucket) state(name string) bucket.State {
	for _, s := range b.Limits {
		if s.Name == name {
			return s.State
		}
	}
	return bucket.State{}
}
