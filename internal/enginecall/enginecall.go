// Package enginecall has what networked stores know of a call of their engine: how long it may
// take, what its error tells of its fate, when it is made again, and how the error reads.
package enginecall

import (
	"context"
	"time"

	"github.com/zeroae/zael/internal/pause"
)

// A Fate is what an error tells of its call.
type Fate uint8

// The fates of calls.
const (
	Rejected   Fate = iota // the engine understood and refused, or nothing was sent: again would be no use
	NotApplied             // surely not applied, and may work again
	Overtaken              // surely not applied, as somebody else was faster: again will work
	Unknown                // may have been applied
)

// least is how long a call may take at least, if its caller has as long.
const least = 50 * time.Millisecond

// Time returns how long one call may take that may take most, so that there is time for another
// before ctx's deadline. If there is none the call may take as long as any: it is ended by ctx, or
// goes on for the sake of its answer.
func Time(ctx context.Context, most time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left > least {
			return min(most, max(left/2, least))
		}
	}
	return most
}

// Retries say when calls are made again.
type Retries struct {
	FateOf        func(error) Fate
	Most          int           // for one operation
	Base, Longest time.Duration // the first pause, and the longest
}

// Again waits, and then reports whether a call is to be made again that has failed n times before.
func (r *Retries) Again(ctx context.Context, n int, err error) bool {
	return r.FateOf(err) != Rejected && n < r.Most && pause.Backoff(ctx, n, r.Base, r.Longest) == nil
}

// Read makes a call that changes nothing until it is answered.
func (r *Retries) Read(ctx context.Context, call func() error) error {
	for n := 0; ; n++ {
		err := call()
		if err == nil || !r.Again(ctx, n, err) {
			return err
		}
	}
}

// An Error is the error of a call.
type Error struct {
	Doing string // with the name of the store's package
	Kind  error  // of zael's errors or the store's; nil: none
	Cause error
	Text  string // of the cause, without what the client says around it
}

// Error returns what was tried, and the text.
func (e *Error) Error() string { return e.Doing + ": " + e.Text }

// Unwrap returns kind and cause.
func (e *Error) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Cause}
	}
	return []error{e.Kind, e.Cause}
}
