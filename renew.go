package zael

import (
	"context"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A slotKey is what one call renews: the slots of a bucket that were taken since the
// holder's entry was made.
type slotKey struct {
	key        Key
	generation uint64
}

// renewSlots renews all slots each quarter of the shortest hold, until there are none.
func (l *Limiter) renewSlots() {
	h := &l.holdings
	last := time.Now()
	for {
		hold, some := h.shortestHold()
		if !some {
			return
		}
		timer := time.NewTimer(time.Until(last.Add(hold / 4)))
		select {
		case <-h.stop:
			timer.Stop()
			return
		case <-h.changed:
			timer.Stop()
		case <-timer.C:
			last = time.Now()
			l.endLeaked()
			l.renewOnce(h.all(), hold)
		}
	}
}

// renewOnce renews the slots of leases.
func (l *Limiter) renewOnce(leases []*Lease, hold time.Duration) {
	groups := map[slotKey]*slotGroup{}
	for _, lease := range leases {
		lease.eachSlot(func(key Key, c *Charge) {
			k := slotKey{key, c.Receipt.Generation}
			if groups[k] == nil {
				groups[k] = &slotGroup{slotKey: k, debit: Debit{Key: key, Holder: l.holder}}
			}
			groups[k].add(lease, c)
		})
	}
	answers := map[*Lease]*renewal{}
	for _, lease := range leases {
		answers[lease] = &renewal{begun: time.Now(), held: true}
	}
	for _, g := range groups {
		ctx, cancel := context.WithTimeout(context.Background(), min(l.timeout, hold/8))
		held, err := l.slotStore.Renew(ctx, l.now(), g.debit)
		cancel()
		if err == nil {
			g.answered(l, held)
		}
		for i := range g.parts {
			r := answers[g.parts[i].lease]
			r.held = r.held && held && !g.parts[i].left
			r.silent = r.silent || err != nil
		}
	}
	for lease, r := range answers {
		lease.acknowledge(r)
	}
}

// A slotGroup is the slots of a bucket that one call renews, by lease.
type slotGroup struct {
	slotKey
	debit Debit // of the sums
	parts []slotPart
}

// A slotPart is the slots of one lease.
type slotPart struct {
	lease  *Lease
	counts []bucket.Count
	left   bool // they were not taken again with the others
}

// add adds a charge of slots.
func (g *slotGroup) add(lease *Lease, c *Charge) {
	if n := len(g.parts); n == 0 || g.parts[n-1].lease != lease {
		g.parts = append(g.parts, slotPart{lease: lease})
	}
	part := &g.parts[len(g.parts)-1]
	part.counts = addCount(part.counts, c.Name, c.Amount)
	for i := range g.debit.Charges {
		if sum := &g.debit.Charges[i]; sum.Name == c.Name {
			sum.Amount += c.Amount
			return
		}
	}
	g.debit.Charges = append(g.debit.Charges, Charge{Name: c.Name, Definition: c.Definition, Amount: c.Amount, Receipt: c.Receipt})
}

// addCount returns counts with n more of a name.
func addCount(counts []bucket.Count, name string, n int64) []bucket.Count {
	for i := range counts {
		if counts[i].Name == name {
			counts[i].N += n
			return counts
		}
	}
	return append(counts, bucket.Count{Name: name, N: n})
}

// answered notes the answer to the renewal in the leases. If the slots were taken again, as
// others had removed them, what a lease has released meanwhile is released once more: it was
// released under the receipt of before.
func (g *slotGroup) answered(l *Limiter, held bool) {
	first := &g.debit.Charges[0]
	extra := Debit{Key: g.key, Holder: g.debit.Holder}
	for i := range g.parts {
		part := &g.parts[i]
		switch {
		case !held:
			part.lease.lose()
		case first.Receipt.Generation != g.generation:
			for _, c := range part.takenAgain(g.slotKey, first.Receipt.Generation) {
				extra.release(g.debit.Charges, c)
			}
		}
	}
	if len(extra.Charges) > 0 {
		_ = l.adjust(context.Background(), []Debit{extra}) // if it fails, they stay taken until the hold ends
	}
}

// takenAgain has the lease know the slots that were taken again by their new receipt. It
// returns how many of them it does not hold any more: all, if it has taken more meanwhile, as
// the next renewal then takes everything.
func (p *slotPart) takenAgain(k slotKey, generation uint64) (extra []bucket.Count) {
	p.lease.mu.Lock()
	defer p.lease.mu.Unlock()
	var charges []*Charge // none of a lease that was ended
	extra = slices.Clone(p.counts)
	p.lease.eachSlotLocked(func(key Key, c *Charge) {
		if key == k.key && c.Receipt.Generation == k.generation {
			charges, extra = append(charges, c), addCount(extra, c.Name, -c.Amount)
		}
	})
	if slices.ContainsFunc(extra, func(c bucket.Count) bool { return c.N < 0 }) {
		p.left, p.lease.ledger.slots.lost = true, true
		return p.counts
	}
	for _, c := range charges {
		c.Receipt.Generation = generation
	}
	return extra
}

// A renewal is what came of renewing all slots of a lease, which may be of several buckets.
type renewal struct {
	begun  time.Time
	held   bool
	silent bool // one was not answered
}

// release adds to d that slots are released, of one of the limits of charges.
func (d *Debit) release(charges []Charge, n bucket.Count) {
	for _, c := range charges {
		if c.Name == n.Name && n.N > 0 {
			c.Amount = -n.N
			d.Charges = append(d.Charges, c)
		}
	}
}
