package coalesce

import (
	"context"
	"time"
)

// run writes f, if that is not nil, and then serves the line until nobody is in it.
func (g *Coalescer) run(sh *shard, s *bucketQueue, f *flight) {
	for {
		if f == nil {
			if f = g.next(sh, s); f == nil {
				return
			}
		}
		begun := time.Now()
		a := g.write(f.ctx, &f.Batch)
		if f.cancel != nil {
			f.cancel()
		}

		sh.mu.Lock()
		woken := s.finish(g, f, &a, begun)
		ends := len(s.line) == 0
		if ends {
			s.busy = false
			g.rest(sh, s)
		}
		sh.mu.Unlock()
		if g.wake(woken) == 0 {
			a.panicked.again() // there is no caller to whom it could go on
		}
		if ends {
			return
		}
		f = nil
	}
}

// next returns the next batch of a line, when it may be written; nil if nobody
// waits any more.
func (g *Coalescer) next(sh *shard, s *bucketQueue) *flight {
	for {
		sh.mu.Lock()
		now := time.Now()
		woken := s.answerFromLast(now)
		var f *flight
		var wait time.Duration
		if s.clear(); len(s.line) == 0 {
			s.busy = false
			g.rest(sh, s)
		} else if wait = s.due(now); wait <= 0 {
			f = s.nextBatch(now, g.config.MaxLimits)
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
	ctx     context.Context    // done when nobody waits for the batch
	cancel  context.CancelFunc // nil if ctx is that of the only op
	members []*Op
	one     [1]*Op // for ops
	rows    []row
	behind  [][]int64 // of each op of a batch of takes that was applied: see Op.Behind
	here    int       // ops that have not left
	epoch   uint64
}

// leave notes that an op has left.
func (f *flight) leave() {
	if f.here--; f.here == 0 && f.cancel != nil {
		f.cancel()
	}
}

// begin gives a flight its context, which is done when all its ops have left.
// Its values are those of the first op's, in whose trace the write shows.
func (f *flight) begin() {
	f.here = len(f.members)
	if f.here == 1 {
		m := f.members[0]
		m.place, m.flight = inFlight, f
		f.ctx = m.ctx
		return
	}
	var ctx batchContext
	endless := false
	for _, m := range f.members {
		m.place, m.flight = inFlight, f
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

// A batchContext is that of several ops: it has the last of their deadlines,
// and is cancelled when the last of them leaves. A timer of its own could be a
// moment earlier than theirs, and their write would have failed though they wait.
type batchContext struct {
	context.Context
	deadline time.Time // zero if one of them has none
}

// Deadline implements context.Context.
func (c batchContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// finish tells a flight's ops what came of it, or puts them in line again.
// It returns those to be woken.
func (s *bucketQueue) finish(g *Coalescer, f *flight, a *Answer, begun time.Time) (woken []*Op) {
	now := time.Now()
	s.space(a.Verdict, begun)
	s.learn(f, a, now)
	switch {
	case a.Verdict == Throttled:
		return s.throttled(g, f, a)
	case a.Verdict == Split, a.Verdict == Refused && len(f.members) > 1, a.Verdict == Stale && len(f.members) > 1:
		first := true
		for _, m := range f.members {
			if m.place == left {
				continue
			}
			if m.tries++; first && a.Verdict == Split || m.tries > 3 {
				m.alone = true
			}
			first = false
		}
		s.again(f)
		return nil
	}
	if a.Verdict == Applied && f.Kind == Take && len(f.members) > 1 {
		f.share()
	}
	for i, m := range f.members {
		if m.place == left {
			continue
		}
		m.Answer, m.Shared, m.place = *a, len(f.members) > 1, answered
		if f.behind != nil {
			m.Behind = f.behind[i]
		}
		woken = append(woken, m)
	}
	if a.Verdict == Applied && f.Kind == Take && f.here < len(f.members) {
		s.giveBack(g, f, a, begun)
	}
	return woken
}

// throttled puts those in line again who can wait.
func (s *bucketQueue) throttled(g *Coalescer, f *flight, a *Answer) (woken []*Op) {
	stay := f.members[:0]
	for _, m := range f.members {
		if m.waits++; m.place != left {
			m.cause = a.Err
		}
		if _, ok := m.ctx.Deadline(); m.place != left && !ok && m.waits > g.config.Tries {
			m.Answer, m.place = Answer{Verdict: Failed, Err: a.Err}, answered
			woken = append(woken, m)
			continue
		}
		stay = append(stay, m)
	}
	f.members = stay
	s.again(f)
	return woken
}

// again puts a flight's ops at the head of the line.
func (s *bucketQueue) again(f *flight) {
	line := make([]*Op, 0, len(f.members)+len(s.line))
	for _, m := range f.members {
		if m.place != left {
			m.place, m.flight = inLine, nil
			line = append(line, m)
		}
	}
	s.line = append(line, s.line...)
}

// share works out what each op's successors took.
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
