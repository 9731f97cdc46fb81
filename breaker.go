package zael

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/zeroae/zael/internal/within"
)

const (
	breakAfter = 5                      // failures in a row open the breaker
	breakFor   = 250 * time.Millisecond // until one caller, the probe, may ask again
)

// A storeFailedError is an error that counts as a failure of the store. Every other one
// (a refusal, a bad argument, denied access) is an answer.
type storeFailedError struct{ error }

func (f storeFailedError) Unwrap() error { return f.error }

// A callerLeftError is the error of a caller that left. It says nothing about the
// store.
type callerLeftError struct{ error }

func (e callerLeftError) Unwrap() error { return e.error }

// newBreaker returns a breaker that calls changed when it opens, and when it closes. While it lets
// a probe through, probing is true.
func newBreaker(changed func(open bool), probing *atomic.Bool) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout: breakFor,
		OnStateChange: func(_ string, from, to gobreaker.State) {
			probing.Store(to == gobreaker.StateHalfOpen)
			switch { // half open, it keeps all callers but one away
			case from == gobreaker.StateClosed && to == gobreaker.StateOpen:
				changed(true)
			case to == gobreaker.StateClosed:
				changed(false)
			}
		},
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= breakAfter
		},
		IsSuccessful: func(err error) bool {
			_, bad := err.(storeFailedError) //nolint:errorlint // throughBreaker made it
			return !bad
		},
		IsExcluded: func(err error) bool {
			_, left := err.(callerLeftError) //nolint:errorlint // throughBreaker made it
			return left
		},
	})
}

// A budget is the time that one operation may spend on its store:
// Config.Timeout from its first call on. The operation calls end when it returns.
type budget struct{ ctx *within.Context } // of all calls of the operation; nil before the first

func (b *budget) begin(ctx context.Context, timeout *within.Timeout) context.Context {
	if b.ctx == nil {
		b.ctx = timeout.Begin(ctx)
	}
	return b.ctx
}

func (b *budget) end() {
	if b.ctx != nil {
		b.ctx.End()
	}
	*b = budget{}
}

// throughBreaker makes one call of the store, f, within budget b, unless the breaker is
// open. An error that means an unavailable store becomes an *UnavailableError; the
// caller's own cancellation is returned as it is.
func (l *Limiter) throughBreaker(ctx context.Context, op StoreOp, b *budget, key Key, f func(context.Context) error) error {
	opCtx := b.begin(ctx, l.within)
	_, err := l.breaker.Execute(func() (struct{}, error) {
		callCtx := opCtx
		if l.probing.Load() {
			// The probe decides for all callers: it gets half the time.
			var cancel context.CancelFunc
			callCtx, cancel = context.WithTimeout(opCtx, l.timeout/2)
			defer cancel()
		}
		return struct{}{}, l.classify(ctx, b, key, l.observeCall(callCtx, op, f))
	})
	switch e := err.(type) { //nolint:errorlint // classify made it
	case nil:
		return nil
	case callerLeftError:
		return e.error
	case storeFailedError:
		return l.unavailable(key, e.error)
	}
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		cause := errors.New("failed repeatedly and is being tried again")
		if last := l.lastCause.Load(); last != nil {
			cause = fmt.Errorf("not asked, after repeated failures: %w", *last)
		}
		return l.unavailable(key, cause)
	}
	return clockError(err)
}

// classify returns an error of the store as the breaker is to count it.
func (l *Limiter) classify(ctx context.Context, b *budget, key Key, err error) error {
	if err == nil {
		return nil
	}
	late := errors.Is(err, context.DeadlineExceeded)
	if !late && !errors.Is(err, ErrUnavailable) {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return callerLeftError{err}
		}
		return err
	}
	if ctx.Err() != nil && (!late || time.Since(b.ctx.Begun) < l.timeout/10) {
		// The caller's own deadline passed before the store had a chance, or the
		// caller left and the store reported that as a failure.
		if late {
			return callerLeftError{l.unavailable(key, err)}
		}
		return callerLeftError{ctx.Err()}
	}
	cause := err // a variable of its own, so that err stays off the heap
	l.lastCause.Store(&cause)
	return storeFailedError{err}
}

func (l *Limiter) unavailable(key Key, cause error) error {
	if u, ok := errors.AsType[*UnavailableError](cause); ok {
		cause = u.Cause
	}
	return &UnavailableError{Cause: cause, Store: storeName(l.store), Entity: key.Entity, Resource: key.Resource}
}

// storeName returns the name of a store in messages.
func storeName(store any) string {
	if s, ok := store.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", store)
}

// admitsUnavailable reports whether the caller is admitted in spite of err: the store
// is unavailable and the failure mode is open.
func (l *Limiter) admitsUnavailable(mode FailureMode, err error) bool {
	if mode == failureInherit {
		mode = l.mode
	}
	if mode != FailOpen || !errors.Is(err, ErrUnavailable) {
		return false
	}
	l.stats.degraded.Add(1)
	return true
}
