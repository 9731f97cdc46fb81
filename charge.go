package zael

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeroae/zael/bucket"
)

// Charge charges what has been used without asking, and can no longer be refused: all that
// req asks for, from each of its limits. What does not fit becomes debt, as when a lease is
// settled to more than it took, and until that has refilled the limit refuses others. The
// decision is always admitted; a [Status] with less than 0 available is in debt.
//
// Slots cannot be charged, and nothing waits: req.MaxWait must be 0. Once the store is asked,
// the charge is made even if ctx is cancelled, within Config.Timeout. Errors are those of
// [Limiter.Reserve] except ErrExceeded; after one that matches ErrUnavailable the charge may
// have been made. An [Observer] is told of the call of the store alone.
func (l *Limiter) Charge(ctx context.Context, req Request) (Decision, error) {
	m := &manyTake{}
	defer m.end()
	err := l.chargeAll(ctx, &req, m)
	switch {
	case err == nil:
		return m.decision(false), nil
	case len(m.attempts) > 0 && l.admitsUnavailable(m.mode(l), err):
		return Decision{Admitted: true, Degraded: true, entity: req.Entity, policy: &PolicyLimits{Resource: req.resourceName()}}, nil
	}
	return Decision{}, err
}

// chargeAll makes the debits of all parts of req, and charges them.
func (l *Limiter) chargeAll(ctx context.Context, req *Request, m *manyTake) (err error) {
	if err := errors.Join(l.checkOpen(), ctx.Err()); err != nil {
		return err
	}
	if req.MaxWait != 0 {
		return invalid("Request.MaxWait", req.MaxWait, "has no meaning where nothing is refused: leave it 0")
	}
	if m.requests, err = req.requests(); err != nil {
		return err
	}
	m.begin(ctx, l.timeout)
	for range m.requests {
		m.attempts = append(m.attempts, &attempt{budget: m.budget, leaseless: true})
	}
	now := l.now()
	err = m.each(func(r *Request, a *attempt) error {
		if err := l.prepare(ctx, r, age{now, l.ttl}, a); err != nil {
			return err
		}
		l.countUnknown(a)
		return a.checkNoSlots()
	})
	if err != nil {
		return err
	}
	if err := m.collect(); err != nil {
		return err
	}
	defer l.turns.wake(m.debits)
	m.at, err = l.askAdjust(ctx, m.debits)
	for _, d := range m.debits {
		for i := range d.Charges {
			d.Charges[i].Receipt = d.Charges[i].State.Receipt()
		}
	}
	return err
}

// checkNoSlots returns an error if a charges slots.
func (a *attempt) checkNoSlots() error {
	for i := range a.charges {
		if c := &a.charges[i]; c.Definition.Kind == bucket.Slots && c.Amount > 0 {
			return invalid("Request.Consume "+c.Name, c.Amount, fmt.Sprintf("are slots, which are held and released and cannot be charged: leave them out, or acquire %s", c.Name))
		}
	}
	return nil
}
