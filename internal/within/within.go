// Package within bounds what callers do by a timeout, with one timer for all who begin at nearly
// the same time.
package within

import (
	"context"
	"sync/atomic"
	"time"
)

// A Timeout gives contexts that are done a while after they were made, or up to a hundredth of
// that while sooner. It may be used concurrently.
type Timeout struct {
	after time.Duration
	last  atomic.Pointer[deadline]
}

// A deadline is that of all contexts made until it is a hundredth of the timeout old.
type deadline struct {
	at   time.Time
	over chan struct{} // closed then
}

// New returns a Timeout of a duration.
func New(after time.Duration) *Timeout { return &Timeout{after: after} }

func (d *deadline) err() error {
	select {
	case <-d.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// next returns the deadline of who begins now.
func (t *Timeout) next() (d *deadline, now time.Time) {
	d, now = t.last.Load(), time.Now()
	at := now.Add(t.after)
	if d == nil || at.Sub(d.at) > t.after/100 {
		over := make(chan struct{})
		d = &deadline{at, over}
		time.AfterFunc(t.after, func() { close(over) })
		t.last.Store(d)
	}
	return d, now
}

// Begin returns a context for what a caller with the context ctx begins now.
func (t *Timeout) Begin(ctx context.Context) *Context {
	d, now := t.next()
	return &Context{Context: ctx, Begun: now, deadline: d}
}

// Detach returns a context for what ctx's caller begins now and does not stop when it leaves: it
// has the values of ctx, is done at the deadline alone, and need not be ended.
func (t *Timeout) Detach(ctx context.Context) context.Context {
	d, _ := t.next()
	return &detached{context.WithoutCancel(ctx), d}
}

// A detached context has the values of another, and ends at a deadline.
type detached struct {
	context.Context //nolint:containedctx // it is one
	deadline        *deadline
}

// Deadline implements context.Context.
func (c *detached) Deadline() (time.Time, bool) { return c.deadline.at, true }

// Done implements context.Context.
func (c *detached) Done() <-chan struct{} { return c.deadline.over }

// Err implements context.Context.
func (c *detached) Err() error { return c.deadline.err() }

// A Context is a caller's context that ends at a deadline, too. It must be ended by End.
type Context struct {
	context.Context           // the caller's
	Begun           time.Time // when it was made

	deadline *deadline
	ended    atomic.Bool
	timed    atomic.Pointer[timed] // nil until somebody asks for Done
}

// A timed context has a timer of its own.
type timed struct {
	context.Context
	cancel context.CancelFunc
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) {
	if d, ok := c.Context.Deadline(); ok && d.Before(c.deadline.at) {
		return d, true
	}
	return c.deadline.at, true
}

// Done implements context.Context. It is for those who cannot use Wait: it costs a timer.
func (c *Context) Done() <-chan struct{} {
	if c.timed.Load() == nil {
		ctx, cancel := context.WithDeadline(c.Context, c.deadline.at)
		if !c.timed.CompareAndSwap(nil, &timed{ctx, cancel}) || c.ended.Load() {
			cancel()
		}
	}
	return c.timed.Load().Done()
}

// Err implements context.Context.
func (c *Context) Err() error {
	if err := c.Context.Err(); err != nil {
		return err
	}
	if t := c.timed.Load(); t != nil && t.Err() != nil {
		return t.Err()
	}
	if c.ended.Load() {
		return context.Canceled
	}
	return c.deadline.err()
}

// Value implements context.Context. Contexts derived from c find by it that they can be cancelled
// together with the timed one.
func (c *Context) Value(key any) any {
	if t := c.timed.Load(); t != nil {
		return t.Value(key)
	}
	return c.Context.Value(key)
}

// End cancels the context.
func (c *Context) End() {
	c.ended.Store(true)
	if t := c.timed.Load(); t != nil {
		t.cancel()
	}
}

// Wait waits until it receives from done, or ctx is done, which may be any context; then it
// reports false.
func Wait(ctx context.Context, done <-chan struct{}) bool {
	var left, over <-chan struct{}
	if c, ok := ctx.(*Context); ok {
		left, over = c.Context.Done(), c.deadline.over
	} else {
		left = ctx.Done()
	}
	select {
	case <-done:
		return true
	case <-left:
	case <-over:
	}
	return false
}
