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

// Errors to test for with [errors.Is].
var (
	// ErrExceeded means that a limit refuses. The error is an *ExceededError.
	ErrExceeded = errors.New("zael: rate limit exceeded")
	// ErrNever means that no wait helps: a request asks for more than a limit's burst, or
	// the limit blocks. The error of an acquire matches ErrExceeded too.
	ErrNever = errors.New("zael: no wait helps")
	// ErrUnavailable means that the store cannot answer. A Limiter returns it as an
	// *UnavailableError. Stores wrap it: fmt.Errorf("…: %w: %w", err, ErrUnavailable).
	ErrUnavailable = errors.New("zael: store unavailable")
	// ErrContention means that too many callers write one bucket. Nothing was taken.
	ErrContention = errors.New("zael: too much contention on a bucket")
	// ErrStaleLimits means that a bucket stands under newer stored limits than a charge.
	// Stores return it; a Limiter then reads the limits and asks again.
	ErrStaleLimits = errors.New("zael: stored limits are newer")
	// ErrStaleSettings means that newer settings hold for a bucket than those under which
	// a take was made. Stores return it; a Limiter then reads them and asks again.
	ErrStaleSettings = errors.New("zael: stored settings are newer")
	// ErrDisabled means that a switch turns the entity or the resource off. The error is
	// a *DisabledError, or ErrNamespaceDeleted.
	ErrDisabled = errors.New("zael: disabled")
	// ErrKeyUsed means that an idempotency key was used for another change.
	ErrKeyUsed = errors.New("zael: idempotency key was used for another change")
	// ErrParentCycle means that an entity would be its own ancestor.
	ErrParentCycle = errors.New("zael: the entity would be its own ancestor")
	// ErrNamespaceDeleted means that the store's namespace is deleted. It matches ErrDisabled.
	ErrNamespaceDeleted = fmt.Errorf("%w: the namespace is deleted", ErrDisabled)
	// ErrNamespaceNotFound means that there is no registered namespace with the name.
	ErrNamespaceNotFound = errors.New("zael: namespace not found")
	// ErrNamespaceState means that a namespace is not in the state that a change needs.
	ErrNamespaceState = errors.New("zael: namespace is in another state")
	// ErrEntityExists means that there is an entity with the ID already.
	ErrEntityExists = errors.New("zael: entity exists")
	// ErrEntityNotFound means that there is no entity with the ID.
	ErrEntityNotFound = errors.New("zael: entity not found")
	// ErrNoLimits means that neither the request nor the store has a limit, which is
	// never taken for "unlimited".
	ErrNoLimits = errors.New("zael: no limits")
	// ErrLeaseClosed means that the lease was committed or rolled back before, or that no
	// Limiter has given it.
	ErrLeaseClosed = errors.New("zael: lease is closed")
	// ErrLeaseLeaked is what an Observer is told of a lease with slots that was never
	// committed or rolled back: its slots were released when the garbage collector found
	// it.
	ErrLeaseLeaked = errors.New("zael: a lease with slots was never ended: commit it or roll it back, as Do does")
	// ErrLeaseExpired means that a detached lease is too old to be ended. What it took stays
	// taken.
	ErrLeaseExpired = errors.New("zael: lease has expired")
	// ErrClosed means that the Limiter was closed.
	ErrClosed = errors.New("zael: limiter is closed")
)

// Never is the wait for what no wait brings, and the longest [time.Duration].
const Never = bucket.Never

// A ValidationError is an argument that is not valid.
type ValidationError struct {
	Field  string // such as "Request.Entity"
	Value  any    // nil if there is none to show; long strings are shortened
	Reason string // what is wrong and what to do, such as "is negative: use 0 not to wait"
}

// Error returns field, value and reason.
func (e *ValidationError) Error() string {
	if s, ok := e.Value.(string); ok {
		return fmt.Sprintf("zael: %s %q %s", e.Field, s, e.Reason)
	}
	if e.Value == nil {
		return fmt.Sprintf("zael: %s %s", e.Field, e.Reason)
	}
	return fmt.Sprintf("zael: %s %v %s", e.Field, e.Value, e.Reason)
}

// An ExceededError is the refusal of a request. Nothing was taken.
type ExceededError struct {
	decision Decision
}

// NewExceededError returns a refusal with the given statuses, for tests of programs that
// handle refusals and for clients of a limiter in another process.
func NewExceededError(statuses ...Status) *ExceededError {
	e := new(ExceededError)
	e.decision.stand(&standings{given: append([]Status{}, statuses...)})
	return e
}

// Decision returns the refusal as a value.
func (e *ExceededError) Decision() Decision { return e.decision }

// Statuses returns how each limit stood: the entity's, then the parent's, each in the
// order of its limits.
func (e *ExceededError) Statuses() []Status { return slices.Collect(e.decision.All()) }

// Violations returns the statuses of the limits that refused, in order.
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

// RetryAfter returns the wait until the request fits all limits if nobody else takes any
// tokens, or [Never] if no wait helps.
func (e *ExceededError) RetryAfter() time.Duration { return e.decision.RetryAfter() }

// RetryAfterHeader returns RetryAfter as the value of the HTTP header Retry-After: whole
// seconds, rounded up, at least 1. If slots alone refuse it is 1, as they are nearly
// always released before their hold ends. If no wait helps, ok is false: leave the header out
// and say in the body what to change, as Error does.
func (e *ExceededError) RetryAfterHeader() (value string, ok bool) {
	wait := e.RetryAfter()
	if wait == Never {
		return "", false
	}
	slots, others := false, false
	for s := range e.decision.All() {
		slots = slots || s.Exceeded && s.Limit.Kind() == KindSlots
		others = others || s.Exceeded && s.Limit.Kind() != KindSlots
	}
	if slots && !others {
		wait = min(wait, time.Second)
	}
	s := int64(wait / time.Second)
	if wait%time.Second > 0 {
		s++
	}
	return strconv.FormatInt(max(1, s), 10), true
}

// Error returns all violations, each with the remedy.
func (e *ExceededError) Error() string {
	var b strings.Builder
	b.Grow(256) // refusals are what an attacker asks for, and servers write them out
	b.WriteString(ErrExceeded.Error())
	separator := ": "
	for s := range e.decision.All() {
		if !s.Exceeded {
			continue
		}
		for _, part := range []string{
			separator, s.Limit.Name, " of ", s.Entity, " on ", s.Resource, ": ", strconv.FormatInt(s.Requested, 10), " requested, ",
		} {
			b.WriteString(part)
		}
		separator = "; "
		if s.RetryAfter == Never && s.Limit.Kind() == KindBlock {
			b.WriteString("but it is blocked: no wait helps, somebody has to lift the limit " + s.Limit.text())
			continue
		}
		if s.RetryAfter == Never && s.Requested > s.Limit.Burst {
			word := s.Limit.sizeWord()
			fmt.Fprintf(&b, "more than the %s of %d: no wait helps, ask for less or raise the %s", word, s.Limit.Burst, word)
			continue
		}
		b.WriteString(strconv.FormatInt(s.Available, 10))
		b.WriteString(" available, retry after ")
		b.WriteString(waitText(s.RetryAfter))
	}
	return b.String()
}

// sizeWord returns what the burst of the limit is called.
func (l Limit) sizeWord() string {
	switch l.Kind() {
	case KindRate:
		return "burst"
	case KindSlots:
		return "number"
	}
	return "amount"
}

// Is makes the error match [ErrExceeded], and [ErrNever] if no wait helps.
func (e *ExceededError) Is(target error) bool {
	return target == ErrExceeded || target == ErrNever && e.RetryAfter() == Never
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// waitText returns d for people to read, rounded up.
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

// A DisabledError means that a switch turns off what was asked for. No wait helps; nothing
// was taken, whatever the failure mode. See [Limiter.SetSwitch].
type DisabledError struct {
	Entity, Resource string
	Scope            Scope // whose switch it is
}

// Error returns the bucket and the scope of the switch.
func (e *DisabledError) Error() string {
	return fmt.Sprintf("%s: %s on %s, by the switch of %s: no wait helps, somebody has to enable it", ErrDisabled, e.Entity, e.Resource, e.Scope)
}

// Is makes the error match [ErrDisabled].
func (e *DisabledError) Is(target error) bool { return target == ErrDisabled }

// An UnavailableError means that the store could not answer in time, or was not asked,
// as the breaker is open after repeated failures.
type UnavailableError struct {
	Cause            error  // the store's error
	Store            string // its String method's result, or its type
	Entity, Resource string // empty where unknown
}

// Error returns the store and the cause.
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

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// Is makes the error match [ErrUnavailable].
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// A CommitError means that [Limiter.Do] could not commit its lease. What the acquire
// took stays taken.
type CommitError struct {
	Cause error
}

// Error returns the cause.
func (e *CommitError) Error() string {
	return fmt.Sprintf("zael: the lease could not be committed: %v", e.Cause)
}

// Unwrap returns the cause.
func (e *CommitError) Unwrap() error { return e.Cause }
