package zael

import (
	"context"

	"github.com/zeroae/zael/bucket"
)

// A quick is the answer to a request of the most common kind, as values.
type quick struct {
	at             bucket.Instant
	fits           bool
	amounts, marks Four[int64] // marks and generations are how the limits stand then
	generations    Four[uint64]
}

// quick decides the most common request to a store in memory: with a policy of up to
// four limits, on one bucket that exists, without a wait. Everything is passed by value,
// at half the cost. If the request is another one, or not valid, quick returns false and
// nothing was done.
func (l *Limiter) quick(ctx context.Context, req *Request, q *quick) bool {
	p := req.Policy
	if l == nil || l.valueStore == nil || p == nil || !req.plain(p) || l.line.Len() > 0 || l.closed.Load() || ctx.Err() != nil {
		return false
	}
	at, ok := l.quickInstant()
	if !ok || !req.few(p, &q.amounts) {
		return false
	}
	marks, generations, outcome, ok := l.valueStore.TakeValues(at, req.Entity, &p.bound, q.amounts)
	if !ok || outcome == bucket.StaleLimits {
		return false
	}
	q.at, q.fits, q.marks, q.generations = at, outcome == bucket.Fits, marks, generations
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

// decide writes the decision on req.
func (q *quick) decide(req *Request, d *Decision) {
	p := &req.Policy.bound
	d.Admitted, d.n, d.at, d.entity, d.policy = q.fits, uint8(len(p.Limits)), q.at, req.Entity, p
	d.amounts, d.marks = q.amounts.Array(), q.marks.Array()
}

// exceeded returns the refusal of req.
func (q *quick) exceeded(req *Request) error {
	e := new(ExceededError)
	q.decide(req, &e.decision)
	return e
}

// lease returns a lease on what was taken.
func (q *quick) lease(l *Limiter, req *Request) *Lease {
	le := &Lease{limiter: l, mode: req.FailureMode, used: q.amounts.Array(), generations: q.generations.Array()}
	q.decide(req, &le.decision)
	return le
}

// endQuick is the end of a lease without a ledger. It reports whether nothing is left
// to do.
func (le *Lease) endQuick() bool {
	d := &le.decision
	var amounts [few]int64
	for i := range amounts {
		amounts[i] = le.used[i] - d.amounts[i]
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
	return l.valueStore.AdjustValues(at, d.entity, d.policy, FourOf(&amounts), FourOf(&d.marks), FourOf(&le.generations))
}

// plain reports whether a request by p is for one bucket and for limits that p
// has itself, few of them, with amounts by position or none.
func (req *Request) plain(p *Policy) bool {
	return len(p.bound.Limits) > 0 && len(p.bound.Limits) <= few && !p.stored && !req.UseStoredLimits && !req.Cascade &&
		req.Consume == nil && req.Resource == "" && req.Limits == nil && req.ParentLimits == nil &&
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
