package zael

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Allow takes what req asks for, for good, or says why not. It never waits:
// MaxWait has no meaning here. Errors are as in Reserve. When req is admitted
// and the store answers from memory, Allow allocates nothing.
func (l *Limiter) Allow(ctx context.Context, req Request) error {
	c := l.calls.Get().(*call) //nolint:forcetypeassert // the pool holds nothing else
	defer l.done(c)
	_, err := l.take(ctx, &req, 0, c)
	if err != nil && l.admitsUnavailable(req.FailureMode, err) {
		return nil
	}
	return err
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
	maxWait := req.MaxWait
	if deadline, ok := ctx.Deadline(); ok && maxWait > 0 {
		maxWait = min(maxWait, max(0, time.Until(deadline)))
	}
	c := l.calls.Get().(*call) //nolint:forcetypeassert // the pool holds nothing else
	defer l.done(c)
	at, err := l.take(ctx, &req, maxWait, c)
	if err != nil {
		if l.admitsUnavailable(req.FailureMode, err) {
			return l.degradedLease(&req), nil
		}
		return nil, err
	}
	return l.newLease(&req, c, at), nil
}

// done ends a call for the next one, even if the store panics.
func (l *Limiter) done(c *call) {
	c.end()
	l.calls.Put(c)
}

// Acquire is Reserve, and then sleeps until the tokens are there. If ctx ends
// before, the place in line is given back and the context's error returned.
func (l *Limiter) Acquire(ctx context.Context, req Request) (*Lease, error) {
	lease, err := l.Reserve(ctx, req)
	if err != nil || lease.delay == 0 {
		return lease, err
	}
	timer := time.NewTimer(lease.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return lease, nil
	case <-ctx.Done():
		err := fmt.Errorf("zael: left the line: %w", ctx.Err())
		return nil, errors.Join(err, lease.Rollback(ctx))
	}
}

// Do acquires, calls f and commits the lease. If f returns an error or panics,
// everything is given back, and the error is returned as it is. If f worked and
// the commit fails the error is a *CommitError. f may settle the lease, or end
// it itself.
func (l *Limiter) Do(ctx context.Context, req Request, f func(context.Context, *Lease) error) error {
	if f == nil {
		return invalid("f", nil, "is nil: pass the function to call, or use Allow")
	}
	lease, err := l.Acquire(ctx, req)
	if err != nil {
		return err
	}
	defer lease.Rollback(ctx)
	if err := f(ctx, lease); err != nil {
		return err
	}
	if err := lease.Commit(ctx); err != nil && !errors.Is(err, ErrLeaseClosed) {
		return &CommitError{err}
	}
	return nil
}
