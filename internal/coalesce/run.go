package coalesce

import (
	"context"
	"runtime"
	"time"
)

// run writes f, unless it is nil, and then serves the queue until it is empty.
func (g *Coalescer) run(sh *shard, q *bucketQueue, f *flight) {
	for {
		if f == nil {
			if f = g.next(sh, q); f == nil {
				return
			}
		}
		begun := time.Now()
		a := g.write(f.ctx, &f.Batch)
		if f.cancel != nil {
			f.cancel()
		}

		sh.mu.Lock()
		woken := q.finish(g, f, a, begun)
		ends := len(q.ops) == 0 && len(woken) < 2
		if ends {
			q.busy = false
			g.rest(sh, q)
		}
		sh.mu.Unlock()
		if g.wake(woken) == 0 {
			a.panicked.raise() // there is no caller that could panic instead
		}
		if ends {
			return
		}
		f = nil
		runtime.Gosched() // those callers that come back at once are in the next batch
	}
}

// next returns the next batch of a queue, when it may be written; nil if the queue is
// empty.
func (g *Coalescer) next(sh *shard, q *bucketQueue) *flight {
	for {
		sh.mu.Lock()
		now := time.Now()
		var woken []*Op
		if q.gap > 0 {
			woken = q.sift(now)
		}
		var f *flight
		wait := q.due(now)
		if wait <= 0 {
			var more []*Op
			f, more = q.nextBatch(now, g.config.MaxLimits)
			woken = append(woken, more...)
		}
		empty := f == nil && len(q.ops) == 0
		if empty {
			q.busy = false
			g.rest(sh, q)
		}
		sh.mu.Unlock()
		g.wake(woken)
		if f != nil || empty {
			return f
		}
		nap(wait)
	}
}

func nap(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// A flight is a batch in flight.
type flight struct {
	Batch
	ctx     context.Context    // done when all callers of the batch have left
	cancel  context.CancelFunc // nil if ctx is that of the only operation
	members []*Op
	one     [1]*Op // members, if there is one
	rows    []row
	present int    // operations whose callers have not left
	epoch   uint64 // of the queue, when the batch was put together

	answered bool // answer is that of all members whose callers have not left
	answer   Answer
}

// leave notes that a caller has left.
func (f *flight) leave() {
	if f.present--; f.present == 0 && f.cancel != nil {
		f.cancel()
	}
}

// begin sets the flight's context, which is done when all callers have left. It has the
// values of the first caller's context: a trace shows the write there.
func (f *flight) begin() {
	f.present = len(f.members)
	if f.present == 1 {
		m := f.members[0]
		m.flight = f
		f.ctx = m.ctx
		return
	}
	var ctx batchContext
	endless := false
	for _, m := range f.members {
		m.flight = f
		endless = endless || m.deadline.IsZero()
		if m.deadline.After(ctx.deadline) {
			ctx.deadline = m.deadline
		}
	}
	if endless {
		ctx.deadline = time.Time{}
	}
	ctx.Context, f.cancel = context.WithCancel(context.WithoutCancel(f.members[0].ctx))
	f.ctx = ctx
}

// A batchContext is the context of several operations. It has the last of their deadlines,
// and is cancelled when the last caller leaves. It has no timer: one could fire a moment
// before theirs, and fail the write while they wait.
type batchContext struct {
	context.Context
	deadline time.Time // zero if an operation has none
}

// Deadline implements context.Context.
func (c batchContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// finish answers a flight's operations, or queues them again. It returns the operations
// whose callers are to be woken; some may have left.
func (q *bucketQueue) finish(g *Coalescer, f *flight, a Answer, begun time.Time) (woken []*Op) {
	now := time.Now()
	q.space(a.Outcome, begun)
	q.learn(f, &a, now)
	switch {
	case a.Outcome == Throttled:
		return q.throttled(g, f, &a)
	case a.Outcome == Split, a.Outcome == Refused && len(f.members) > 1, a.Outcome == Stale && len(f.members) > 1:
		first := true
		for _, m := range f.members {
			if m.state == left {
				continue
			}
			if m.tries++; first && a.Outcome == Split || m.tries > 3 {
				m.alone = true
			}
			first = false
		}
		q.requeue(f)
		return nil
	}
	f.answer, f.answered = a, true
	if a.Outcome == Applied && f.Kind == Take && f.present < len(f.members) {
		q.giveBack(g, f, begun)
	}
	return f.members
}

// throttled queues a flight's operations again, except those that have waited too often.
func (q *bucketQueue) throttled(g *Coalescer, f *flight, a *Answer) (woken []*Op) {
	stay := f.members[:0]
	for _, m := range f.members {
		if m.waits++; m.state != left {
			m.cause = a.Err
		}
		if m.state != left && m.deadline.IsZero() && m.waits > g.config.Tries {
			m.Answer, m.state, m.flight = Answer{Outcome: Failed, Err: a.Err}, answered, nil
			woken = append(woken, m)
			continue
		}
		stay = append(stay, m)
	}
	f.members = stay
	q.requeue(f)
	return woken
}

// requeue puts a flight's operations at the head of the queue.
func (q *bucketQueue) requeue(f *flight) {
	line := make([]*Op, 0, len(f.members)+len(q.ops))
	for _, m := range f.members {
		if m.state != left {
			m.flight = nil
			line = append(line, m)
		}
	}
	q.ops = append(line, q.ops...)
}

// behind returns how many tokens of each charge of a member the takes behind it took, of a
// batch that was applied. It is called once for each.
func (f *flight) behind(m *Op) []int64 {
	for i := range m.through {
		m.through[i] = f.row(m.Charges[i].Name, i).sum - m.through[i]
	}
	return m.through
}
