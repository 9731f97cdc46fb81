package zael

import (
	"context"
	"errors"

	"github.com/zeroae/zael/bucket"
)

// leaked is what is left of a lease with slots that was never ended, when the garbage collector
// has found that nobody can end it any more. It does not refer to the lease.
type leaked struct {
	limiter *Limiter
	ledger  *ledger
}

// end releases the slots, or has the renewer do it. It runs in a goroutine of the runtime,
// which must not be kept; a store in memory answers at once.
func (x leaked) end() {
	l, h := x.limiter, &x.limiter.holdings
	if l.slotStore == nil {
		if l.localStore != nil && !l.closed.Load() {
			l.releaseLeaked(x.ledger)
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.leaked = append(h.leaked, x.ledger)
		h.signal()
	}
}

// endLeaked releases the slots of leases that were never ended.
func (l *Limiter) endLeaked() {
	h := &l.holdings
	h.mu.Lock()
	all := h.leaked
	h.leaked = nil
	h.mu.Unlock()
	for _, g := range all {
		l.releaseLeaked(g)
		h.remove(g.slots)
	}
}

// releaseLeaked releases the slots of a lease that was never ended, and says so. What else it
// took stays taken.
func (l *Limiter) releaseLeaked(g *ledger) {
	var debits []Debit
	for i := range g.debits {
		d := &g.debits[i]
		out := Debit{Key: d.Key, Holder: d.Holder, Bypass: d.Bypass}
		for _, c := range d.Charges {
			if c.Definition.Kind == bucket.Slots && c.Amount > 0 {
				c.Amount = -c.Amount
				out.Charges = append(out.Charges, c)
			}
		}
		if len(out.Charges) > 0 {
			debits = append(debits, out)
		}
	}
	err := l.adjust(context.Background(), debits)
	l.stats.leakedLeases.Add(1)
	if l.observer == nil {
		return
	}
	key := g.debits[0].Key
	o := l.observed(context.Background(), key.Entity, key.Resource)
	defer l.forget(o)
	o.Outcome, o.Err = OutcomeAdmitted, errors.Join(ErrLeaseLeaked, err)
	for i := range g.own {
		acc := &g.accounts[i]
		use := ObservedUse{Limit: acc.name, Taken: acc.taken, Used: acc.used}
		if acc.slots {
			use.Used = 0
		}
		o.Used = append(o.Used, use)
	}
	l.observer.Settled(o)
}
