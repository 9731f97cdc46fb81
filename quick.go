package zael

import (
	"context"

	"github.com/zeroae/zael/bucket"
)

// A quickTake is what a store in memory answered by value.
type quickTake struct {
	fits    bool
	at      bucket.Instant
	amounts [few]int64
	values  Values
}

// quick makes the most common request to a store in memory: with a policy of up to four
// limits, on one bucket that exists, without a wait. Everything is passed by value, at
// less than half the cost. Only for a lease it takes slots. If the request is another one, or not
// valid, it returns false and nothing was done.
func (l *Limiter) quick(ctx context.Context, req *Request, t *quickTake, lease bool) (ok bool) {
	p := req.Policy
	if l == nil || l.valueStore == nil || l.observer != nil || p == nil || !req.plain(p) || l.closed.Load() || ctx.Err() != nil ||
		l.line.Len() > 0 || l.turns.any() {
		return false
	}
	if t.at, ok = l.quickInstant(); !ok || !req.few(p, &t.amounts, lease) {
		return false
	}
	var outcome bucket.Outcome
	t.values, outcome, ok = l.valueStore.TakeValues(t.at, req.Entity, &p.bound, t.amounts)
	t.fits = outcome == bucket.Fits
	return ok && outcome != bucket.StaleLimits
}

// decision writes the decision on a request.
func (t *quickTake) decision(req *Request, d *Decision) {
	p := &req.Policy.bound
	d.Admitted, d.n, d.at, d.entity, d.policy = t.fits, uint8(len(p.Limits)), t.at, req.Entity, p
	d.marks, d.amounts = t.values.Marks, t.amounts
	d.setUsed(&t.values.Used)
}

// refusal returns the error of a request that was refused.
func (t *quickTake) refusal(req *Request) error {
	e := new(ExceededError)
	t.decision(req, &e.decision)
	return e
}

// lease returns a lease on what a request took.
func (t *quickTake) lease(l *Limiter, req *Request) *Lease {
	le := &Lease{limiter: l, mode: req.FailureMode, slots: req.Policy.slots, used: t.amounts, generations: t.values.Generations}
	t.decision(req, &le.decision)
	if le.slots {
		le.holdQuick()
	}
	return le
}

// holdQuick has the slots that a new lease has taken released if it is never ended.
func (le *Lease) holdQuick() {
	d := &le.decision
	for i := range d.policy.Limits {
		if d.policy.Limits[i].Definition.Kind != bucket.Slots || d.amounts[i] == 0 {
			continue
		}
		le.tether = le.limiter.tether()
		x := le.tether.slots
		x.limiter, x.entity, x.policy = le.limiter, d.entity, d.policy
		x.amounts, x.generations = d.amounts, le.generations
		return
	}
}

// quickInstant returns the time for the arithmetic, if it is in range.
func (l *Limiter) quickInstant() (at bucket.Instant, ok bool) {
	if l.clock != nil {
		return l.clock.instant()
	}
	at, err := bucket.At(l.now())
	return at, err == nil
}

// endQuick is the end of a lease without a ledger. It reports whether nothing is left
// to do.
func (le *Lease) endQuick() bool {
	d := &le.decision
	var amounts [few]int64
	taken := Values{Marks: d.marks, Generations: le.generations}
	for i := range amounts {
		if amounts[i] = le.used[i] - d.amounts[i]; d.amounts[i] == 0 {
			taken.Generations[i] = 0 // nothing was taken: there is no receipt
		}
	}
	if amounts == [few]int64{} {
		return true
	}
	l := le.limiter
	if l.valueStore == nil {
		return false
	}
	at, ok := l.quickInstant()
	if !ok || !l.valueStore.AdjustValues(at, d.entity, d.policy, amounts, taken) {
		return false
	}
	if l.turns.any() {
		l.turns.wake([]Debit{{Key: Key{d.entity, d.policy.Resource}}})
	}
	return true
}

// plain reports whether a request by p is for one bucket and for limits that p
// has itself, few of them, with amounts by position or none.
func (req *Request) plain(p *Policy) bool {
	return p.few && !req.UseStoredLimits && !req.Cascade && req.Parent == "" &&
		req.Also == nil && req.Consume == nil && req.Resource == "" && req.Limits == nil && req.ParentLimits == nil &&
		req.MaxWait >= 0 && req.FailureMode <= FailOpen
}

// few writes the amounts of a plain request, and reports whether they are valid. Without a
// lease slots are not.
func (req *Request) few(p *Policy, amounts *[few]int64, lease bool) bool {
	if !req.positional.given() {
		*amounts = p.unsaid
		return true
	}
	*amounts = req.positional.few
	if p.slots && !lease {
		for i := range p.bound.Limits {
			if amounts[i] > 0 && p.bound.Limits[i].Definition.Kind == bucket.Slots {
				return false
			}
		}
	}
	// An amount that is not there is 0, and one below 0 is a large number.
	return req.positional.n == len(p.bound.Limits) && max(uint64(amounts[0]), uint64(amounts[1]), uint64(amounts[2]), uint64(amounts[3])) <= uint64(bucket.MaxAmount)
}
