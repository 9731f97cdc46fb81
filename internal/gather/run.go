package gather

import (
	"context"
	"time"
)

// run serves a line until nobody is in it.
func (g *Gatherer) run(sh *shard, s *slot) {
	for {
		sh.mu.Lock()
		now := time.Now()
		woken := s.judge(now)
		if s.clear(); len(s.line) == 0 {
			s.busy = false
			g.rest(sh, s)
			sh.mu.Unlock()
			wake(woken)
			return
		}
		if d := s.due(now); d > 0 {
			sh.mu.Unlock()
			wake(woken)
			nap(d)
			continue
		}
		f := s.form(now, g.config.MaxLimits)
		sh.mu.Unlock()
		wake(woken)

		begun := time.Now()
		a := g.write(f.ctx, &f.Batch)
		f.cancel()

		sh.mu.Lock()
		woken = s.finish(g, f, &a, begun)
		sh.mu.Unlock()
		wake(woken)
		if len(woken) == 0 {
			a.panicked.again() // nobody is there to whom it could go on
		}
	}
}

func nap(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// A flight is a batch on its way.
type flight struct {
	Batch
	ctx     context.Context // of the batch; nil if it is its only member's
	cancel  context.CancelFunc
	members []*Member
	one     [1]*Member // for members
	rows    []row
	behind  [][]int64 // of each member of a batch of takes that was applied: see Member.Behind
	here    int       // members that have not left
	epoch   uint64
}

// leave notes that a member has left. The last one to leave ends it.
func (f *flight) leave() {
	if f.here--; f.here == 0 && f.cancel != nil {
		f.cancel()
	}
}

// begin gives a flight its context: it ends when all its members have left, or
// at the last of their deadlines. Its values are those of the first member's, in
// whose trace the write shows.
func (f *flight) begin() {
	var last time.Time
	endless := false
	for _, m := range f.members {
		m.place, m.flight = onItsWay, f
		d, ok := m.ctx.Deadline()
		endless = endless || !ok
		if d.After(last) {
			last = d
		}
	}
	f.here = len(f.members)
	values := context.WithoutCancel(f.members[0].ctx)
	if endless {
		f.ctx, f.cancel = context.WithCancel(values)
	} else {
		f.ctx, f.cancel = context.WithDeadline(values, last)
	}
}

// finish tells a flight's members what came of it, or puts them in line again.
// It returns those to be woken.
func (s *slot) finish(g *Gatherer, f *flight, a *Answer, begun time.Time) (woken []*Member) {
	now := time.Now()
	s.space(a.Verdict, begun)
	s.learn(f, a, now)
	switch {
	case a.Verdict == Throttled:
		return s.throttled(g, f, a)
	case a.Verdict == Apart, a.Verdict == Refused && len(f.members) > 1, a.Verdict == Stale && len(f.members) > 1:
		first := true
		for _, m := range f.members {
			if m.place == left {
				continue
			}
			if m.tries++; first && a.Verdict == Apart || m.tries > 3 {
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
		if m.done != nil {
			woken = append(woken, m)
		}
	}
	if a.Verdict == Applied && f.Kind == Take && f.here < len(f.members) {
		s.giveBack(g, f, a, begun)
	}
	return woken
}

// throttled puts those in line again who can wait.
func (s *slot) throttled(g *Gatherer, f *flight, a *Answer) (woken []*Member) {
	stay := f.members[:0]
	for _, m := range f.members {
		if m.waits++; m.place != left {
			m.cause = a.Err
		}
		if _, ok := m.ctx.Deadline(); m.place != left && !ok && m.waits > g.config.Tries {
			m.Answer, m.place = Answer{Verdict: Failed, Err: a.Err}, answered
			if m.done != nil {
				woken = append(woken, m)
			}
			continue
		}
		stay = append(stay, m)
	}
	f.members = stay
	s.again(f)
	return woken
}

// again puts a flight's members at the head of the line.
func (s *slot) again(f *flight) {
	line := make([]*Member, 0, len(f.members)+len(s.line))
	for _, m := range f.members {
		if m.place != left {
			m.place, m.flight = inLine, nil
			line = append(line, m)
		}
	}
	s.line = append(line, s.line...)
}

// share works out what each member's successors took.
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
