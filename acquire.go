package zael

import (
	"context"
	"errors"
	"time"
)

// Allow takes what req asks for, for good, or says why not: a refusal is an
// *ExceededError, so that a result that is dropped lets nobody in unseen. It never
// waits: MaxWait has no meaning here. Errors are as in Reserve. When req is
// admitted and the store answers from memory, Allow allocates nothing; a refusal
// is one allocation.
func (l *Limiter) Allow(ctx context.Context, req Request) error {
	if d, ok := l.quick(ctx, &req); ok {
		return d.Err()
	}
	a := l.attempt()
	defer l.done(a)
	_, err := l.take(ctx, &req, 0, a)
	if err != nil && l.admitsUnavailable(req.FailureMode, err) {
		return nil
	}
	return err
}

// Decide is Allow with a refusal as a value, for programs that ask what is left:
// admitted or not, the decision says how each limit stands. Callers must look at
// Decision.Admitted. Errors are as in Reserve, but for those of refusals. A
// decision with up to four limits allocates nothing when the store answers from
// memory.
func (l *Limiter) Decide(ctx context.Context, req Request) (Decision, error) {
	if d, ok := l.quick(ctx, &req); ok {
		return d, nil
	}
	a := l.attempt()
	defer l.done(a)
	at, err := l.take(ctx, &req, 0, a)
	if err == nil {
		return a.decision(at, false, 0)
	}
	if exceeded, ok := errors.AsType[*ExceededError](err); ok {
		return exceeded.decision, nil
	}
	if l.admitsUnavailable(req.FailureMode, err) {
		return Decision{Admitted: true, Degraded: true}, nil
	}
	return Decision{}, err
}

// Reserve takes what req asks for, from all its limits or from none, and
// returns the lease on it, at once: with MaxWait the tokens may be there only
// after Lease.Delay.
//
// Errors: *ExceededError (ErrExceeded) if a limit refuses, which matches
// ErrNever too if more is asked than a burst; *UnavailableError
// (ErrUnavailable) if the store cannot answer and the failure mode is closed;
// *ValidationError; ErrNoLimits; ErrContention; ErrClosed; errors.ErrUnsupported
// if the store lacks a role that req needs; the context's error; and what the
// store says besides, such as denied access.
func (l *Limiter) Reserve(ctx context.Context, req Request) (*Lease, error) {
	a := l.attempt()
	defer l.done(a)
	at, err := l.take(ctx, &req, req.maxWait(ctx), a)
	if err != nil {
		return l.unlessOpen(&req, err)
	}
	return l.newLease(&req, a, at), nil
}

func (l *Limiter) attempt() *attempt {
	return l.attempts.Get().(*attempt) //nolint:forcetypeassert // the pool holds nothing else
}

// done ends an attempt for the next one, even if the store panics.
func (l *Limiter) done(a *attempt) {
	a.end()
	l.attempts.Put(a)
}

// Acquire is Reserve, and with MaxWait waits in line until the tokens are there.
// Callers of a process are served in the order in which they come, save that a
// smaller request may pass a larger one that cannot use what is there; those of
// several processes nearly so. If ctx ends before, nothing was taken, and the
// error is the context's. A request that cannot be served in time is refused as
// soon as that is certain; its RetryAfter counts all who stand before it.
func (l *Limiter) Acquire(ctx context.Context, req Request) (*Lease, error) {
	if req.MaxWait <= 0 {
		return l.Reserve(ctx, req)
	}
	maxWait := req.maxWait(ctx)
	a := l.attempt()
	defer l.done(a)
	if _, err := l.begin(ctx, &req, a); err != nil {
		return l.unlessOpen(&req, err)
	}
	begun := time.Now()
	at, err := l.wait(ctx, a, &req, maxWait)
	if err != nil {
		return l.unlessOpen(&req, err)
	}
	lease := l.newLease(&req, a, at)
	lease.delay = time.Since(begun)
	return lease, nil
}

// unlessOpen returns an error, or in its place a lease that charges nothing if the
// store is unavailable and the failure mode open.
func (l *Limiter) unlessOpen(req *Request, err error) (*Lease, error) {
	if l.admitsUnavailable(req.FailureMode, err) {
		return l.degradedLease(req), nil
	}
	return nil, err
}

// Do acquires, calls f and commits the lease. What f has recorded (Lease.Settle,
// Adjust, Release, Consume) stands, also if f then returns an error or panics: it
// is the truth. If f fails and has recorded nothing, everything is given back.
// The error of f is returned as it is; if f worked and the commit fails the error
// is a *CommitError. f may end the lease itself.
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
