package redisstore

import (
	"context"
	"sync/atomic"
	"time"
)

// spans end calls that take too long. Those that begin within a sixteenth of the time that one may
// take end together, so that not each of them needs a timer.
type spans struct {
	last atomic.Pointer[span]
}

type span struct {
	until time.Time // calls may join it
	end   time.Time
	ended chan struct{} // closed at the end
}

// begin returns the span that ends calls which begin now, after d at most.
func (s *spans) begin(d time.Duration) *span {
	now := time.Now()
	if last := s.last.Load(); last != nil && now.Before(last.until) {
		return last
	}
	next := &span{until: now.Add(d / 16), end: now.Add(d), ended: make(chan struct{})}
	time.AfterFunc(d, func() { close(next.ended) })
	s.last.Store(next)
	return next
}

// A callContext has the values of a caller's context, and ends with a span: a call goes on when
// its caller has left.
type callContext struct {
	values context.Context //nolint:containedctx // it is one
	span   *span
}

func (c *callContext) Deadline() (time.Time, bool) { return c.span.end, true }
func (c *callContext) Done() <-chan struct{}       { return c.span.ended }
func (c *callContext) Value(key any) any           { return c.values.Value(key) }

func (c *callContext) Err() error {
	select {
	case <-c.span.ended:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// callContext returns the context of one call of a script.
func (s *Store) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := s.callTime(ctx); d != s.config.CallTimeout {
		return context.WithTimeout(context.WithoutCancel(ctx), d)
	}
	return &callContext{ctx, s.spans.begin(s.config.CallTimeout)}, func() {}
}
