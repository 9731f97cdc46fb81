package zael

import (
	"context"

	"github.com/zeroae/zael/bucket"
)

// quick decides the most common request to a store in memory: with a policy of up to
// four limits, on one bucket that exists, without a wait. Everything is passed by value,
// at half the cost. It writes the decision, and the generations of the limits. If the
// request is another one, or not valid, it returns false and nothing was done.
func (l *Limiter) quick(ctx context.Context, req *Request, d *Decision, generations *Four[uint64]) bool {
	p := req.Policy
	if l == nil || l.valueStore == nil || l.observer != nil || p == nil || !req.plain(p) || l.line.Len() > 0 || l.closed.Load() || ctx.Err() != nil {
		return false
	}
	at, ok := l.quickInstant()
	if !ok || !req.few(p, &d.amounts) {
		return false
	}
	marks, births, outcome, ok := l.valueStore.TakeValues(at, req.Entity, &p.bound, d.amounts)
	if !ok || outcome == bucket.StaleLimits {
		return false
	}
	d.Admitted, d.n, d.at, d.entity, d.policy = outcome == bucket.Fits, uint8(len(p.bound.Limits)), at, req.Entity, &p.bound
	d.marks, *generations = marks, births
	return true
}

// quickInstant returns the time for the arithmetic, if it is in range.
func (l *Limiter) quickInstant() (at bucket.Instant, ok bool) {
	if l.clock != nil {
		return l.clock.instant()
	}
	at, err := bucket.At(l.now())
	return at, err == nil
}

// quickLease returns a lease on what a decision took.
func (l *Limiter) quickLease(req *Request, d *Decision, generations *Four[uint64]) *Lease {
	return &Lease{limiter: l, mode: req.FailureMode, decision: *d, used: d.amounts.Array(), generations: *generations}
}

// endQuick is the end of a lease without a ledger. It reports whether nothing is left
// to do.
func (le *Lease) endQuick() bool {
	d := &le.decision
	var amounts [few]int64
	taken := d.amounts.Array()
	for i := range amounts {
		amounts[i] = le.used[i] - taken[i]
	}
	if amounts == [few]int64{} {
		return true
	}
	l := le.limiter
	if l.valueStore == nil {
		return false
	}
	at, ok := l.quickInstant()
	if !ok {
		return false
	}
	return l.valueStore.AdjustValues(at, d.entity, d.policy, FourOf(&amounts), d.marks, le.generations)
}

// plain reports whether a request by p is for one bucket and for limits that p
// has itself, few of them, with amounts by position or none.
func (req *Request) plain(p *Policy) bool {
	return p.rates && len(p.bound.Limits) > 0 && len(p.bound.Limits) <= few && !p.stored && !req.UseStoredLimits && !req.Cascade &&
		req.Also == nil && req.Consume == nil && req.Resource == "" && req.Limits == nil && req.ParentLimits == nil &&
		req.MaxWait >= 0 && req.FailureMode <= FailOpen
}

// few writes the amounts of a plain request, and reports whether they are valid.
func (req *Request) few(p *Policy, amounts *Four[int64]) bool {
	if !req.positional.given() {
		*amounts = Four[int64]{1, 1, 1, 1}
		return true
	}
	*amounts = FourOf(&req.positional.few)
	// An amount that is not there is 0, and one below 0 is a large number.
	return req.positional.n == len(p.bound.Limits) && max(uint64(amounts.A), uint64(amounts.B), uint64(amounts.C), uint64(amounts.D)) <= uint64(bucket.MaxAmount)
}
