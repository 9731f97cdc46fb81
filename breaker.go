package zael

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	breakAfter = 5                      // failures in a row open the breaker
	breakFor   = 250 * time.Millisecond // before one caller may try again
)

var errUnsupported = errors.ErrUnsupported

// A failure is an error that speaks against the store, as the breaker sees it.
// Everything else (a refusal, a bad argument, denied access) is an answer.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// A leftError says nothing about the store: the caller left.
type leftError struct{ error }

func (e leftError) Unwrap() error { return e.error }

func newBreaker(opened func()) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout: breakFor,
		OnStateChange: func(_ string, from, to gobreaker.State) {
			if from == gobreaker.StateClosed && to == gobreaker.StateOpen {
				opened()
			}
		},
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= breakAfter
		},
		IsSuccessful: func(err error) bool {
			_, bad := err.(failure) //nolint:errorlint // as Limiter.ask made it
			return !bad
		},
		IsExcluded: func(err error) bool {
			_, left := err.(leftError) //nolint:errorlint // as Limiter.ask made it
			return left
		},
	})
}

// A budget is what one operation may spend on its store: Config.Timeout from the
// first call on. Its owner calls end.
type budget struct {
	ctx    context.Context // of the operation; nil before its first call
	cancel context.CancelFunc
	start  time.Time
}

func (b *budget) begin(ctx context.Context, timeout time.Duration) context.Context {
	if b.ctx == nil {
		b.start = time.Now()
		b.ctx, b.cancel = context.WithTimeout(ctx, timeout)
	}
	return b.ctx
}

func (b *budget) end() {
	if b.cancel != nil {
		b.cancel()
	}
	*b = budget{}
}

// ask makes one call of the store, within the operation's deadline and unless
// the breaker is open. Of the errors those that mean an unavailable store come
// back as *UnavailableError, and the caller's own cancellation as it is.
func (l *Limiter) ask(ctx context.Context, b *budget, key Key, f func(context.Context) error) error {
	opCtx := b.begin(ctx, l.timeout)
	_, err := l.breaker.Execute(func() (struct{}, error) {
		callCtx := opCtx
		if l.breaker.State() == gobreaker.StateHalfOpen {
			// The one who tries again decides for all: not too long.
			var cancel context.CancelFunc
			callCtx, cancel = context.WithTimeout(opCtx, l.timeout/2)
			defer cancel()
		}
		return struct{}{}, l.judge(ctx, b, key, f(callCtx))
	})
	switch e := err.(type) { //nolint:errorlint // as judge made it
	case nil:
		return nil
	case leftError:
		return e.error
	case failure:
		return l.unavailable(key, e.error)
	}
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		cause := errors.New("failed repeatedly and is being tried again")
		if last := l.lastCause.Load(); last != nil {
			cause = fmt.Errorf("not asked, after repeated failures: %w", *last)
		}
		return l.unavailable(key, cause)
	}
	return ofClock(err)
}

// judge sorts what a store said.
func (l *Limiter) judge(ctx context.Context, b *budget, key Key, err error) error {
	if err == nil {
		return nil
	}
	late := errors.Is(err, context.DeadlineExceeded)
	if !late && !errors.Is(err, ErrUnavailable) {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return leftError{err}
		}
		return err
	}
	if ctx.Err() != nil && (!late || time.Since(b.start) < l.timeout/10) {
		// It is the caller's deadline that passed, before the store had its
		// chance; or the caller left and the store took that for a failure.
		if late {
			return leftError{l.unavailable(key, err)}
		}
		return leftError{ctx.Err()}
	}
	cause := err // its own variable: err stays off the heap
	l.lastCause.Store(&cause)
	return failure{err}
}

func (l *Limiter) unavailable(key Key, cause error) error {
	if u, ok := errors.AsType[*UnavailableError](cause); ok {
		cause = u.Cause
	}
	return &UnavailableError{Cause: cause, Store: storeName(l.store), Entity: key.Entity, Resource: key.Resource}
}

// storeName returns a store's name for messages.
func storeName(store any) string {
	if s, ok := store.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", store)
}

// admitsUnavailable tells whether err is to be passed over: the store is
// unavailable and the mode is open.
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
