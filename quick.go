package zael

import (
	"context"

	"github.com/zeroae/zael/bucket"
)

// quick decides the most common request to a store in memory: with a policy of up to
// four limits, on one bucket that exists. Everything is passed by value, at half the
// cost. If the request is another one, or not valid, ok is false and nothing was done.
func (l *Limiter) quick(ctx context.Context, req *Request) (d Decision, ok bool) {
	p := req.Policy
	if l.valueStore == nil || p == nil || !req.plain(p) || l.line.Len() > 0 || l.closed.Load() || ctx.Err() != nil {
		return d, false
	}
	now := l.now()
	at, err := bucket.At(now)
	if err != nil {
		return d, false
	}
	amounts, ok := req.few(p)
	if !ok {
		return d, false
	}
	marks, outcome, ok := l.valueStore.TakeValues(at, Key{req.Entity, p.resource}, p.limits, amounts)
	if !ok || outcome == bucket.StaleLimits {
		return d, false
	}
	d.Admitted = outcome == bucket.Fits
	if !d.Admitted {
		if _, behind := l.caughtUp(now); behind {
			return d, false
		}
	}
	d.own, d.n, d.at = len(p.limits), len(p.limits), at
	d.entities[0], d.resource = req.Entity, p.resource
	for i := range p.limits {
		s := &d.few[i]
		s.limit, s.mark, s.amount = &p.limits[i], marks[i], amounts[i]
		if !d.Admitted {
			_, fits := bucket.Take(&s.limit.Definition, s.mark, at, s.amount, 0)
			s.exceeded = !fits
		}
	}
	return d, true
}

// plain reports whether a request by p is for one bucket and for limits that p
// has itself, few of them, with amounts by position or none.
func (req *Request) plain(p *Policy) bool {
	return len(p.limits) > 0 && len(p.limits) <= few && !p.stored && !req.UseStoredLimits && !req.Cascade &&
		req.Consume == nil && req.Resource == "" && req.Limits == nil && req.ParentLimits == nil &&
		req.MaxWait >= 0 && req.FailureMode <= FailOpen
}

// few returns the amounts of a plain request, if they are valid.
func (req *Request) few(p *Policy) (amounts [few]int64, ok bool) {
	if !req.positional.given {
		return [few]int64{1, 1, 1, 1}, true
	}
	amounts = req.positional.few
	for i := range p.limits {
		if amounts[i] < 0 || amounts[i] > bucket.MaxAmount {
			return amounts, false
		}
	}
	return amounts, req.positional.n == len(p.limits)
}
