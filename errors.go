package zael

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// Errors to branch on with errors.Is.
var (
	// ErrExceeded: a limit refuses. The error is an *ExceededError.
	ErrExceeded = errors.New("zael: rate limit exceeded")
	// ErrNever: more was asked than the limit's burst, so that no wait helps.
	// The error of an acquire matches ErrExceeded too.
	ErrNever = errors.New("zael: more than the burst was asked")
	// ErrUnavailable: the store cannot answer. From a Limiter it is an
	// *UnavailableError. Stores wrap it (fmt.Errorf("…: %w: %w", err, ErrUnavailable)).
	ErrUnavailable = errors.New("zael: store unavailable")
	// ErrContention: too many writers at one bucket; nothing was taken.
	ErrContention = errors.New("zael: too much contention on a bucket")
	// ErrStaleLimits: a bucket stands under newer stored limits than the
	// charge names. Stores return it; a Limiter refreshes and asks again.
	ErrStaleLimits = errors.New("zael: stored limits are newer")
	// ErrEntityExists: there is an entity with this ID already.
	ErrEntityExists = errors.New("zael: entity exists")
	// ErrEntityNotFound: there is no such entity.
	ErrEntityNotFound = errors.New("zael: entity not found")
	// ErrNoLimits: neither the call nor the store names a limit; that is never
	// "unlimited".
	ErrNoLimits = errors.New("zael: no limits")
	// ErrLeaseClosed: the lease was committed or rolled back before.
	ErrLeaseClosed = errors.New("zael: lease is closed")
	// ErrClosed: the Limiter was closed.
	ErrClosed = errors.New("zael: limiter is closed")
)

// Never is the wait for what can never be had.
const Never = bucket.Never

// A ValidationError tells what is wrong with an argument.
type ValidationError struct {
	Field  string // such as "Request.Entity"
	Value  any
	Reason string
}

// Error names the field, the value and the reason.
func (e *ValidationError) Error() string {
	if s, ok := e.Value.(string); ok {
		return fmt.Sprintf("zael: %s %q %s", e.Field, s, e.Reason)
	}
	if e.Value == nil {
		return fmt.Sprintf("zael: %s %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("zael: %s %v %s", e.Field, e.Value, e.Reason)
}

// An ExceededError says which limits refused a request. Nothing was taken.
type ExceededError struct {
	decision Decision
}

// NewExceededError returns a refusal with statuses of one's own, for tests of
// programs that handle it and for clients of a limiter in another process.
func NewExceededError(statuses ...Status) *ExceededError {
	return &ExceededError{Decision{given: slices.Clone(statuses)}}
}

// Decision returns the refusal as a value.
func (e *ExceededError) Decision() Decision { return e.decision.clone() }

// Statuses returns how every limit asked stood: of the entity, then of the
// parent, each in the order of its limits.
func (e *ExceededError) Statuses() []Status { return slices.Collect(e.decision.All()) }

// Violations returns the statuses that refused, in order.
func (e *ExceededError) Violations() []Status {
	return slices.DeleteFunc(e.Statuses(), func(s Status) bool { return !s.Exceeded })
}

// Primary returns the violation with the longest wait, the first of equals.
func (e *ExceededError) Primary() Status {
	var p Status
	for s := range e.decision.All() {
		if s.Exceeded && (!p.Exceeded || s.RetryAfter > p.RetryAfter) {
			p = s
		}
	}
	return p
}

// RetryAfter returns the wait until every limit asked fits, if nobody else takes
// from them; Never if no wait helps.
func (e *ExceededError) RetryAfter() time.Duration { return e.decision.RetryAfter() }

// RetryAfterHeader returns RetryAfter as the value of the HTTP header
// Retry-After: whole seconds, rounded up, at least 1. If no wait helps ok is
// false: leave the header out, and say in the body what to change, which Error
// does.
func (e *ExceededError) RetryAfterHeader() (value string, ok bool) {
	wait := e.RetryAfter()
	if wait == Never {
		return "", false
	}
	s := int64(wait / time.Second)
	if wait%time.Second > 0 {
		s++
	}
	return strconv.FormatInt(max(1, s), 10), true
}

// Error names the violations.
func (e *ExceededError) Error() string {
	var b strings.Builder
	b.WriteString(ErrExceeded.Error())
	for i, s := range e.Violations() {
		b.WriteString([]string{"; ", ": "}[btoi(i == 0)])
		fmt.Fprintf(&b, "%s of %s on %s: %d requested, ", s.Limit.Name, s.Entity, s.Resource, s.Requested)
		if s.RetryAfter == Never && s.Requested > s.Limit.Burst {
			fmt.Fprintf(&b, "more than the burst of %d: no wait helps, ask for less or raise the burst", s.Limit.Burst)
			continue
		}
		fmt.Fprintf(&b, "%d available, retry after %s", s.Available, waitText(s.RetryAfter))
	}
	return b.String()
}

// Is makes the error match ErrExceeded, and ErrNever if no wait helps.
func (e *ExceededError) Is(target error) bool {
	return target == ErrExceeded || target == ErrNever && e.RetryAfter() == Never
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// waitText returns a wait for reading; it never shows less.
func waitText(d time.Duration) string {
	step := time.Millisecond
	if d > 100*time.Second {
		step = time.Second
	}
	r := d.Truncate(step)
	if r > Never-step {
		return "more than 292 years"
	}
	if r < d {
		r += step
	}
	return r.String()
}

// An UnavailableError says that the store could not answer in time, or that
// the breaker keeps callers from it after repeated failures.
type UnavailableError struct {
	Cause            error  // what the store said
	Store            string // by its String method; its type if it has none
	Entity, Resource string // where known
}

// Error names the store and the cause.
func (e *UnavailableError) Error() string {
	where := ""
	if e.Entity != "" {
		where = " for " + e.Entity
		if e.Resource != "" {
			where += " on " + e.Resource
		}
	}
	return fmt.Sprintf("%s: %s%s: %v", ErrUnavailable, e.Store, where, e.Cause)
}

// Unwrap gives the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// Is makes the error match ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// A CommitError says that Do's function worked and its commit failed. The
// amounts taken at the acquire stand.
type CommitError struct {
	Cause error
}

// Error names the cause.
func (e *CommitError) Error() string {
	return fmt.Sprintf("zael: the work was done, its amounts were not settled: %v", e.Cause)
}

// Unwrap gives the cause.
func (e *CommitError) Unwrap() error { return e.Cause }
