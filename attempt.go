package zael

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// maxLimits is how many limits a bucket may have in one request.
const maxLimits = 100

// An attempt is one request as debits for the store, together with the store's
// answer. Attempts are reused, so that a request does not allocate.
type attempt struct {
	budget
	debits  []Debit // the entity's bucket, then the parent's
	charges []Charge
	limits  []*bucket.Limit // of each charge
	own     int             // how many charges are of the entity's bucket; the others are of the parent's
	unknown bool            // an amount is for a limit that is not stored

	leaseless bool       // nothing will release slots
	detach    *detaching // nil: the lease, if there will be one, stays in the process
	begun     time.Time  // when the store was asked, if it is for slots that have to be renewed
	newer     []Debit    // while limits are read again: the states that showed them to be stale
	literal   literal
	policy    *PolicyLimits     // that the limits are, if they are not stored and there is one bucket
	parts     [2][]bucket.Limit // the limits that the charges of each bucket were made of

	settings [2]effectiveSettings // of each bucket
}

// reset clears everything except what the next request is likely to share.
func (a *attempt) reset() {
	a.debits, a.charges, a.limits, a.own = a.debits[:0], a.charges[:0], a.limits[:0], 0
	a.unknown, a.parts, a.policy = false, [2][]bucket.Limit{}, nil
}

// failureMode returns the failure mode of a request: its own, or else the stored one; 0
// is the Limiter's.
func (a *attempt) failureMode(req *Request) FailureMode {
	return cmp.Or(req.FailureMode, a.settings[0].mode)
}

// take charges what req asks for, at once or not at all. The receipts are in a. The
// caller decides by failure mode what an error that matches ErrUnavailable means.
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

// begin checks req, makes its debits, and returns the time.
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

// takeMore charges what a asks for, under the limits that a has.
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

// charge has the store take the debits of a. If a bucket has seen newer limits than
// this process, charge reads the limits of req again. If req is nil, as a lease takes
// more, or reading them did not help, it adopts those of the bucket.
func (l *Limiter) charge(ctx context.Context, a *attempt, now time.Time, maxWait time.Duration, req *Request) (at time.Time, err error) {
	more := req == nil // of a lease
	behind := false    // the clock was behind the store's latest instant, and has caught up
	for range 4 {
		at, err = l.askStore(ctx, a, now, maxWait)
		if err == nil && maxWait > 0 { // the delay is counted from the clock
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
			return at, a.exceededError(at, maxWait)
		}
		if errors.Is(err, ErrStaleSettings) {
			if err := l.refreshSettings(ctx, a, more); err != nil {
				return at, err
			}
			continue
		}
		if !errors.Is(err, ErrStaleLimits) {
			return at, err
		}
		if req == nil {
			a.adoptNewer()
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

// refreshAfter is how old cached limits of a key must be to be read again when its
// bucket shows newer ones.
const refreshAfter = time.Second

// refreshLimits prepares a again, as its buckets have newer limits than were known.
func (l *Limiter) refreshLimits(ctx context.Context, req *Request, now time.Time, a *attempt) error {
	a.newer = slices.Clone(a.debits)
	for i := range a.newer {
		a.newer[i].Charges = slices.Clone(a.newer[i].Charges)
	}
	defer func() { a.newer = nil }()
	return l.prepare(ctx, req, age{now, refreshAfter}, a)
}

// askStore asks the store once: first for an answer from memory, then under the
// deadline and the breaker.
func (l *Limiter) askStore(ctx context.Context, a *attempt, now time.Time, maxWait time.Duration) (at time.Time, err error) {
	if a.detach != nil && a.detach.once != nil {
		return l.askOnce(ctx, a, now, maxWait)
	}
	if l.slotStore != nil && slices.ContainsFunc(a.debits, func(d Debit) bool { return hasSlots(d.Charges) }) {
		a.begun = time.Now()
	}
	if l.localStore != nil {
		at, answered, err := l.localStore.TakeLocal(now, maxWait, a.debits)
		if answered {
			return at, l.localError(a.debits[0].Key, err)
		}
	}
	err = l.throughBreaker(ctx, StoreTake, &a.budget, a.debits[0].Key, func(ctx context.Context) error {
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
	return clockError(err)
}

// adoptNewer replaces stale definitions by those of the buckets.
func (a *attempt) adoptNewer() {
	a.parts, a.policy = [2][]bucket.Limit{}, nil
	for i := range a.charges {
		if ch := &a.charges[i]; ch.State.Stale(ch.Definition) {
			ch.Definition = ch.State.Definition
			a.limits[i] = &bucket.Limit{Name: ch.Name, Definition: ch.Definition}
		}
	}
}

// decision returns how the limits stand after the attempt. If it was refused, a limit
// counts as exceeded unless it fits by maxWait after at.
func (a *attempt) decision(at time.Time, refused bool, maxWait time.Duration) (d Decision, err error) {
	if d.at, err = bucket.At(at); err != nil {
		return d, err
	}
	d.Admitted, d.Bypassed = !refused, a.bypassed()
	n := len(a.charges)
	var m *standings
	if a.plain() && maxWait == 0 {
		d.n, d.entity, d.policy = uint8(n), a.debits[0].Key.Entity, a.policy
	} else {
		numbers := make([]int64, 3*n)
		m = &standings{
			resource: a.debits[0].Key.Resource, own: a.own, ahead: maxWait, limits: slices.Clone(a.limits),
			marks: numbers[:n:n], used: numbers[n : 2*n : 2*n], amounts: numbers[2*n:],
		}
		for i := range a.debits {
			m.entities[i] = a.debits[i].Key.Entity
		}
		d.stand(m)
	}
	var fewUsed [few]int64
	for i := range a.charges {
		ch := &a.charges[i]
		mark, used := ch.Receipt.Mark, int64(0)
		if rate := ch.Definition.Plain(); !rate {
			mark, used = ch.State.Mark, ch.State.Used
		} else if refused {
			mark = ch.State.Mark
		}
		if m != nil {
			m.marks[i], m.used[i], m.amounts[i] = mark, used, ch.Amount
		} else {
			d.marks[i], fewUsed[i], d.amounts[i] = mark, used, ch.Amount
		}
	}
	if m == nil {
		d.setUsed(&fewUsed)
	}
	return d, nil
}

// plain reports whether a is on one bucket, with few limits that are those of a policy,
// none of them slots, which a lease has to renew or release.
func (a *attempt) plain() bool {
	return a.policy != nil && len(a.charges) <= few && !a.bypassed() && !hasSlots(a.charges)
}

// exceededError returns the refusal, with the status of every limit.
func (a *attempt) exceededError(at time.Time, maxWait time.Duration) error {
	d, err := a.decision(at, true, maxWait)
	if err != nil {
		return err
	}
	return &ExceededError{d}
}

// delay returns the time until everything charged has refilled.
func (a *attempt) delay(at time.Time) time.Duration {
	now, err := bucket.At(at)
	if err != nil {
		return 0
	}
	var wait time.Duration
	for i := range a.debits {
		for j := range a.debits[i].Charges {
			if ch := &a.debits[i].Charges[j]; !a.debits[i].Bypass {
				wait = max(wait, ch.Taken().Wait(now, 0))
			}
		}
	}
	return wait
}
