package coalesce

import (
	"context"
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
		woken := q.finish(g, f, &a, begun)
		ends := len(q.ops) == 0
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
	}
}

// next returns the next batch of a queue, when it may be written; nil if the queue is
// empty.
func (g *Coalescer) next(sh *shard, q *bucketQueue) *flight {
	for {
		sh.mu.Lock()
		now := time.Now()
		woken := q.answerFromLast(now)
		var f *flight
		var wait time.Duration
		if q.clear(); len(q.ops) == 0 {
			q.busy = false
			g.rest(sh, q)
		} else if wait = q.due(now); wait <= 0 {
			f = q.nextBatch(now, g.config.MaxLimits)
		}
		sh.mu.Unlock()
		g.wake(woken)
		if wait <= 0 {
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
	behind  [][]int64 // of takes that were applied: Op.Behind of each
	present int       // operations whose callers have not left
	epoch   uint64    // of the queue, when the batch was put together
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
		m.state, m.flight = inFlight, f
		f.ctx = m.ctx
		return
	}
	var ctx batchContext
	endless := false
	for _, m := range f.members {
		m.state, m.flight = inFlight, f
		d, ok := m.ctx.Deadline()
		endless = endless || !ok
		if d.After(ctx.deadline) {
			ctx.deadline = d
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
// whose callers are to be woken.
func (q *bucketQueue) finish(g *Coalescer, f *flight, a *Answer, begun time.Time) (woken []*Op) {
	now := time.Now()
	q.space(a.Outcome, begun)
	q.learn(f, a, now)
	switch {
	case a.Outcome == Throttled:
		return q.throttled(g, f, a)
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
	if a.Outcome == Applied && f.Kind == Take && len(f.members) > 1 {
		f.share()
	}
	for i, m := range f.members {
		if m.state == left {
			continue
		}
		m.Answer, m.Shared, m.state = *a, len(f.members) > 1, answered
		if f.behind != nil {
			m.Behind = f.behind[i]
		}
		woken = append(woken, m)
	}
	if a.Outcome == Applied && f.Kind == Take && f.present < len(f.members) {
		q.giveBack(g, f, a, begun)
	}
	return woken
}

// throttled queues a flight's operations again, except those that have waited too often.
func (q *bucketQueue) throttled(g *Coalescer, f *flight, a *Answer) (woken []*Op) {
	stay := f.members[:0]
	for _, m := range f.members {
		if m.waits++; m.state != left {
			m.cause = a.Err
		}
		if _, ok := m.ctx.Deadline(); m.state != left && !ok && m.waits > g.config.Tries {
			m.Answer, m.state = Answer{Outcome: Failed, Err: a.Err}, answered
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
			m.state, m.flight = queued, nil
			line = append(line, m)
		}
	}
	q.ops = append(line, q.ops...)
}

// share sets what the takes behind each operation took.
func (f *flight) share() {
	total := 0
	for _, m := range f.members {
		total += len(m.Charges)
	}
	all := make([]int64, total)
	after := make([]int64, len(f.rows))
	f.behind = make([][]int64, len(f.members))
	for i := len(f.members) - 1; i >= 0; i-- {
		charges := f.members[i].Charges
		f.behind[i], all = all[:len(charges):len(charges)], all[len(charges):]
		for j := range charges {
			r := f.row(charges[j].Name)
			f.behind[i][j] = after[r]
			after[r] += charges[j].Amount
		}
	}
}
