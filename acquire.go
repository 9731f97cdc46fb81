package zael

import (
	"context"
	"errors"
	"time"
)

// Allow takes what req asks for, from all its limits or from none. What it took
// cannot be given back; see [Limiter.Do] for that. It does not wait and ignores
// Request.MaxWait. A refusal is an error, an [*ExceededError], so that linters find
// callers who ignore it. Errors are those of [Limiter.Reserve]. If the store answers
// from memory and the bucket exists, an admitted request does not allocate, and a
// refused one with a [Policy] of up to four rates allocates once.
func (l *Limiter) Allow(ctx context.Context, req Request) error {
	var t quickTake
	if l.quick(ctx, &req, &t, false) {
		if t.fits {
			return nil
		}
		return t.refusal(&req)
	}
	if l.observes() {
		d, err := l.observedDecide(ctx, &req)
		if err != nil {
			return err
		}
		return d.Err()
	}
	return l.allow(ctx, &req)
}

func (l *Limiter) allow(ctx context.Context, req *Request) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if len(req.Also) > 0 {
		d, err := l.decideMany(ctx, req)
		if err != nil {
			return err
		}
		return d.Err()
	}
	a := l.attempt()
	defer l.recycle(a)
	a.leaseless = true
	_, err := l.take(ctx, req, 0, a)
	if err != nil && l.admitsUnavailable(a.failureMode(req), err) {
		return nil
	}
	return err
}

// Decide is [Limiter.Allow] for programs that also want to know what is left: admitted
// or refused, the decision tells how each limit stands. Callers must look at
// Decision.Admitted, as a refusal is not an error. Errors are those of
// [Limiter.Reserve] except ErrExceeded. If the store answers from memory and the bucket
// exists, a request with a [Policy] of up to four rates does not allocate, admitted or
// refused; with other kinds of limits it allocates once, and cascades and stored limits
// allocate more.
func (l *Limiter) Decide(ctx context.Context, req Request) (d Decision, err error) {
	var t quickTake
	if l.quick(ctx, &req, &t, false) {
		t.decision(&req, &d)
		return d, nil
	}
	if l.observes() {
		return l.observedDecide(ctx, &req)
	}
	return l.decide(ctx, &req)
}

func (l *Limiter) decide(ctx context.Context, req *Request) (Decision, error) {
	if err := l.checkOpen(); err != nil {
		return Decision{}, err
	}
	if len(req.Also) > 0 {
		return l.decideMany(ctx, req)
	}
	a := l.attempt()
	defer l.recycle(a)
	a.leaseless = true
	at, err := l.take(ctx, req, 0, a)
	if err == nil {
		return a.decision(at, false, 0)
	}
	if exceeded, ok := errors.AsType[*ExceededError](err); ok {
		return exceeded.decision, nil
	}
	if l.admitsUnavailable(a.failureMode(req), err) {
		return Decision{Admitted: true, Degraded: true}, nil
	}
	return Decision{}, err
}

// Reserve takes what req asks for, from all its limits or from none, and returns a
// lease on it. It does not wait: with Request.MaxWait the tokens may be there only
// after [Lease.Delay].
//
// The error is or matches
//   - an [*ExceededError] ([ErrExceeded]) if a limit refuses; it matches [ErrNever]
//     too if more is asked for than a burst,
//   - an [*UnavailableError] ([ErrUnavailable]) if the store cannot answer and the
//     failure mode is closed,
//   - a [*ValidationError] if req is not valid,
//   - [ErrNoLimits] if neither req nor the store has limits,
//   - [ErrContention], [ErrClosed], or the context's error,
//   - [errors.ErrUnsupported] if the store lacks a role that req needs,
//   - any other error of the store, such as denied access.
func (l *Limiter) Reserve(ctx context.Context, req Request) (*Lease, error) {
	var t quickTake
	if req.MaxWait == 0 && l.quick(ctx, &req, &t, true) {
		if t.fits {
			return t.lease(l, &req), nil
		}
		return nil, t.refusal(&req)
	}
	if l.observes() {
		return l.observedReserve(ctx, &req)
	}
	return l.reserve(ctx, &req)
}

func (l *Limiter) reserve(ctx context.Context, req *Request) (*Lease, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if len(req.Also) > 0 {
		return l.reserveMany(ctx, req, nil)
	}
	a := l.attempt()
	defer l.recycle(a)
	return l.reserveIn(ctx, req, a)
}

// reserveIn is reserve in an attempt, of a request with one part.
func (l *Limiter) reserveIn(ctx context.Context, req *Request, a *attempt) (*Lease, error) {
	at, err := l.take(ctx, req, req.maxWait(ctx), a)
	if err != nil {
		return l.unlessOpen(req, a, err)
	}
	return l.newLease(req, a, at), nil
}

func (l *Limiter) attempt() *attempt {
	return l.attempts.Get().(*attempt) //nolint:forcetypeassert // the pool holds nothing else
}

// recycle ends an attempt and keeps it for the next request. It is deferred, so that
// it runs even if the store panics.
func (l *Limiter) recycle(a *attempt) {
	a.end()
	a.leaseless, a.detach = false, nil
	l.attempts.Put(a)
}

// Acquire is [Limiter.Reserve] that, with Request.MaxWait, waits in line until the
// tokens are there. The callers of one process are served in order of arrival, except
// that a smaller request may overtake a larger one that cannot be served yet; across
// processes the order is nearly kept. If ctx is done before, nothing was taken and the
// error matches the context's. A request that cannot be served in time is refused as
// soon as that is certain; its RetryAfter counts everybody ahead in the line.
func (l *Limiter) Acquire(ctx context.Context, req Request) (*Lease, error) {
	var t quickTake
	if l.quick(ctx, &req, &t, true) {
		if t.fits {
			return t.lease(l, &req), nil
		}
		if req.MaxWait == 0 {
			return nil, t.refusal(&req)
		}
	}
	if l.observes() {
		return l.observedAcquire(ctx, &req)
	}
	if req.MaxWait <= 0 {
		return l.reserve(ctx, &req)
	}
	return l.acquire(ctx, &req)
}

func (l *Limiter) acquire(ctx context.Context, req *Request) (*Lease, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if len(req.Also) > 0 {
		return l.reserveMany(ctx, req, nil) // which says that it cannot wait
	}
	a := l.attempt()
	defer l.recycle(a)
	return l.acquireIn(ctx, req, a)
}

// acquireIn is acquire in an attempt, of a request with one part.
func (l *Limiter) acquireIn(ctx context.Context, req *Request, a *attempt) (*Lease, error) {
	maxWait := req.maxWait(ctx)
	if _, err := l.begin(ctx, req, a); err != nil {
		return l.unlessOpen(req, a, err)
	}
	begun := time.Now()
	at, err := l.wait(ctx, a, req, maxWait)
	if err != nil {
		return l.unlessOpen(req, a, err)
	}
	lease := l.newLease(req, a, at)
	lease.delay = time.Since(begun)
	return lease, nil
}

// unlessOpen returns err, or a lease that charges nothing if the store is unavailable
// and the failure mode is open.
func (l *Limiter) unlessOpen(req *Request, a *attempt, err error) (*Lease, error) {
	if l.admitsUnavailable(a.failureMode(req), err) {
		return l.degradedLease(req, a), nil
	}
	return nil, err
}

// Do acquires, calls f with the lease, and commits the lease. What f recorded with
// Settle, Adjust, Release or Consume is committed even if f then returns an error or
// panics. If f fails without recording anything, everything is given back. Do returns
// the error of f as it is, and a [*CommitError] if the commit fails. f may end the
// lease itself.
func (l *Limiter) Do(ctx context.Context, req Request, f func(context.Context, *Lease) error) error {
	if f == nil {
		return invalid("f", nil, "is nil: pass the function to call, or use Allow")
	}
	lease, err := l.Acquire(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = lease.fail(ctx) }() // after a panic
	if err := f(ctx, lease); err != nil {
		if failed := lease.fail(ctx); failed != nil {
			return errors.Join(err, &CommitError{failed})
		}
		return err
	}
	if err := lease.Commit(ctx); err != nil && !errors.Is(err, ErrLeaseClosed) {
		return &CommitError{err}
	}
	return nil
}
