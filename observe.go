package zael

import (
	"context"
	"errors"
	"time"
)

// An Observer is told what a [Limiter] decides and how its store answers, for metrics,
// traces and logs; package telemetry has one. Its methods are called in the caller's
// goroutine, concurrently, and must not block. What they are given is valid only until
// they return.
type Observer interface {
	// Decision is called for each request to Allow, Decide, Reserve, Acquire and Do,
	// once it is decided.
	Decision(o *Observed)
	// Settled is called for each lease that is committed or rolled back, and for each with
	// slots that was not, when it cannot be any more: then Err matches ErrLeaseLeaked, and
	// there is no Decision.
	Settled(o *Observed)
	// StoreCall is called for each call of the store that may leave the process. took is
	// how long the store took to answer.
	StoreCall(op StoreOp, took time.Duration, err error)
	// Breaker is called when the breaker begins to keep callers from the store, as calls
	// have failed repeatedly, and when it has let one through that succeeded.
	Breaker(open bool)
}

// An Observed is what an [Observer] is told of a request or of the end of its lease.
type Observed struct {
	Context  context.Context // of the call
	Entity   string
	Resource string
	Outcome  Outcome
	Decision *Decision     // how the limits stand; nil where the store did not decide
	Took     time.Duration // from the call to its decision, a wait in line included
	Waited   time.Duration // the same of a request with MaxWait, or else 0
	Err      error         // that the call returned, or that it would have: a refusal too

	// Of the end of a lease.
	Used       []ObservedUse // of the limits of the entity
	RolledBack bool
}

// An ObservedUse is what a lease took of a limit, and what was used.
type ObservedUse struct {
	Limit       string
	Taken, Used int64 // tokens
}

// An Outcome is how a request was decided.
type Outcome string

// The outcomes of a request.
const (
	OutcomeAdmitted    Outcome = "admitted"
	OutcomeRefused     Outcome = "refused"     // by a limit, for a time
	OutcomeNever       Outcome = "never"       // by a limit, as no wait helps
	OutcomeDegraded    Outcome = "degraded"    // admitted without a charge, as the store is unavailable
	OutcomeUnavailable Outcome = "unavailable" // failed, as the store is
	OutcomeCanceled    Outcome = "canceled"    // the caller left, or its deadline passed
	OutcomeDisabled    Outcome = "disabled"    // by a switch: see Limiter.SetSwitch
	OutcomeFailed      Outcome = "failed"      // for another reason, such as a request that is not valid
)

// A StoreOp is a kind of call of a store.
type StoreOp string

// The kinds of calls.
const (
	StoreTake   StoreOp = "take"
	StoreAdjust StoreOp = "adjust" // settles a lease, or gives it back
	StoreRead   StoreOp = "read"   // of buckets, for Available
	StoreConfig StoreOp = "config" // of stored limits, entities and settings
)

// resourceName returns the resource of a request.
func (req *Request) resourceName() string {
	if req.Policy != nil {
		return req.Policy.Resource()
	}
	return req.Resource
}

// bucket returns whose bucket a decision is about, empty if it has no limits.
func (d *Decision) bucket() (entity, resource string) {
	switch m := d.standings(); {
	case m != nil:
		return m.entities[0], m.resource
	case d.policy != nil:
		return d.entity, d.policy.Resource
	}
	return d.entity, ""
}

// outcomeOf returns how a request was decided, by its decision, if it has one, and its
// error.
func outcomeOf(d *Decision, err error) Outcome {
	switch {
	case d != nil && d.Degraded:
		return OutcomeDegraded
	case err == nil:
		return OutcomeAdmitted
	case errors.Is(err, ErrNever):
		return OutcomeNever
	case errors.Is(err, ErrExceeded):
		return OutcomeRefused
	case errors.Is(err, ErrDisabled):
		return OutcomeDisabled
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrContention):
		return OutcomeUnavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return OutcomeCanceled
	}
	return OutcomeFailed
}

// observedDecide is decide with an Observer.
func (l *Limiter) observedDecide(ctx context.Context, req *Request) (Decision, error) {
	begun := time.Now()
	d, err := l.decide(ctx, req)
	o := l.observed(ctx, req.Entity, req.resourceName())
	defer l.forget(o)
	o.Took = time.Since(begun)
	if o.Err = err; err == nil {
		o.Decision, o.Err = &d, d.Err()
	}
	o.Outcome = outcomeOf(o.Decision, o.Err)
	l.observer.Decision(o)
	return d, err
}

// observes reports whether there is an Observer.
func (l *Limiter) observes() bool { return l != nil && l.observer != nil }

// breakerChanged is called when the breaker opens or closes.
func (l *Limiter) breakerChanged(open bool) {
	if open {
		l.stats.breaks.Add(1)
	}
	if l.observer != nil {
		l.observer.Breaker(open)
	}
}

// observedAcquire is Acquire with an Observer.
func (l *Limiter) observedAcquire(ctx context.Context, req *Request) (lease *Lease, err error) {
	begun := time.Now()
	if req.MaxWait > 0 {
		lease, err = l.acquire(ctx, req)
	} else {
		lease, err = l.reserve(ctx, req)
	}
	l.observedLease(ctx, req, lease, err, begun)
	return lease, err
}

// observedReserve is Reserve with an Observer.
func (l *Limiter) observedReserve(ctx context.Context, req *Request) (*Lease, error) {
	begun := time.Now()
	lease, err := l.reserve(ctx, req)
	l.observedLease(ctx, req, lease, err, begun)
	return lease, err
}

// observedLease tells the Observer how a request for a lease was decided.
func (l *Limiter) observedLease(ctx context.Context, req *Request, lease *Lease, err error, begun time.Time) {
	o := l.observed(ctx, req.Entity, req.resourceName())
	defer l.forget(o)
	o.Err, o.Took = err, time.Since(begun)
	if req.MaxWait > 0 {
		o.Waited = o.Took
	}
	switch exceeded, refused := errors.AsType[*ExceededError](err); {
	case refused:
		o.Decision = &exceeded.decision
	case err == nil:
		o.Decision = &lease.decision
	}
	o.Outcome = outcomeOf(o.Decision, err)
	l.observer.Decision(o)
}

// observedEnd tells the Observer of the end of a lease.
func (le *Lease) observedEnd(ctx context.Context, rolledBack bool, err error) {
	l := le.limiter
	entity, resource := le.decision.bucket()
	o := l.observed(ctx, entity, resource)
	defer l.forget(o)
	o.Err, o.RolledBack, o.Decision = err, rolledBack, &le.decision
	if o.Outcome = OutcomeAdmitted; le.degraded {
		o.Outcome = OutcomeDegraded
	}
	n, amounts := le.limitCount(), &le.decision.amounts
	if le.ledger != nil {
		n = le.ledger.own
	}
	for i := range n {
		name, used := le.limit(i)
		use := ObservedUse{Limit: name, Used: *used}
		if le.ledger != nil {
			use.Taken = le.ledger.accounts[i].taken
		} else {
			use.Taken = amounts[i]
		}
		o.Used = append(o.Used, use)
	}
	l.observer.Settled(o)
}

// observed returns an Observed from those that were used before.
func (l *Limiter) observed(ctx context.Context, entity, resource string) *Observed {
	o := l.observations.Get().(*Observed) //nolint:forcetypeassert // the pool holds nothing else
	o.Context, o.Entity, o.Resource = ctx, entity, resource
	return o
}

func (l *Limiter) forget(o *Observed) {
	*o = Observed{Used: o.Used[:0]}
	l.observations.Put(o)
}

// observeCall calls the store and tells the Observer how it answered.
func (l *Limiter) observeCall(ctx context.Context, op StoreOp, f func(context.Context) error) error {
	if l.observer == nil {
		return f(ctx)
	}
	begun := time.Now()
	err := f(ctx)
	l.observer.StoreCall(op, time.Since(begun), err)
	return err
}
