package zael

import (
	"context"
	"errors"
	"runtime"

	"github.com/zeroae/zael/bucket"
)

// A tether tells when the garbage collector finds that a lease with slots can not be ended any
// more. Only the lease refers to it. When the lease ends, its tether is kept for another one, as
// making one takes longer than all else about a lease.
type tether struct{ slots *tethered }

// tethered is what has to be released if a lease is never ended. It refers neither to the lease nor
// to the tether.
type tethered struct {
	limiter *Limiter // nil: nothing
	ledger  *ledger  // of the lease, or else what it took:

	entity      string
	policy      *PolicyLimits
	amounts     [few]int64
	generations [few]uint64
}

// tether returns a tether for a lease.
func (l *Limiter) tether() *tether {
	if t, ok := l.tethers.Get().(*tether); ok {
		return t
	}
	t := &tether{new(tethered)}
	runtime.AddCleanup(t, (*tethered).end, t.slots)
	return t
}

// untether keeps the tether of a lease that has ended for another one.
func (l *Limiter) untether(t *tether) {
	if t != nil {
		t.slots.limiter, t.slots.ledger = nil, nil
		l.tethers.Put(t)
	}
}

// end releases the slots, or has the renewer do it. It runs in a goroutine of the runtime,
// which must not be kept; a store in memory answers at once.
func (x *tethered) end() {
	l := x.limiter
	if l == nil {
		return
	}
	if x.ledger == nil {
		charges := make([]Charge, len(x.policy.Limits))
		for i := range charges {
			limit := &x.policy.Limits[i]
			charges[i] = Charge{
				Name: limit.Name, Definition: limit.Definition, Amount: x.amounts[i], Receipt: bucket.Receipt{Generation: x.generations[i]},
			}
		}
		x.ledger = newLedger([]Debit{{Key: Key{x.entity, x.policy.Resource}, Charges: charges}})
	}
	if l.slotStore == nil {
		if l.localStore != nil && !l.closed.Load() {
			l.releaseLeaked(x.ledger)
		}
		return
	}
	h := &l.holdings
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
