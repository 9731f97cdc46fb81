package zael

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael/bucket"
)

const (
	// renewers is how many entries are renewed at once, so that one that is not answered does not
	// delay all others.
	renewers = 8

	// Many entries are looked at, all of them, only so often.
	manyEntries = 100
	manyPause   = bucket.MinHold / 100
)

// renewSlots renews each entry when a quarter of its hold has passed since its last write,
// until there are no leases with slots.
func (l *Limiter) renewSlots() {
	h := &l.holdings
	for {
		due, some := h.nextDue()
		if !some {
			return
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-h.stop:
			timer.Stop()
			return
		case <-h.changed:
			timer.Stop()
		case <-timer.C:
		}
		l.endLeaked()
		l.renewDue()
	}
}

// nextDue returns when the next entry has to be renewed. If there are no leases the renewer has
// to end, as the next lease starts another one.
func (h *holdings) nextDue() (due time.Time, some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running = len(h.leases) > 0; !h.running {
		return due, false
	}
	now := time.Now()
	due = now.Add(bucket.MaxHold)
	for _, e := range h.entries {
		if d := e.due(); d.Before(due) {
			due = d
		}
	}
	if pause := now.Add(manyPause); len(h.entries) > manyEntries && due.Before(pause) {
		due = pause
	}
	h.next = due
	return due, true
}

// renewDue renews the entries that are due.
func (l *Limiter) renewDue() {
	due := make(chan *slotGroup)
	var workers sync.WaitGroup
	groups := l.holdings.due(time.Now())
	for range min(renewers, len(groups)) {
		workers.Go(func() {
			for g := range due {
				l.renew(g)
			}
		})
	}
	for _, g := range groups {
		due <- g
	}
	close(due)
	workers.Wait()
}

// due returns the slots of the entries that have to be renewed at a time.
func (h *holdings) due(now time.Time) []*slotGroup {
	groups := map[slotKey]*slotGroup{}
	var leases []*Lease
	h.mu.Lock()
	for _, e := range h.entries {
		if !e.due().After(now) {
			e.tried = now
			groups[e.slotKey] = &slotGroup{slotKey: e.slotKey, hold: e.hold, lost: e.lost}
		}
	}
	for s := range h.leases {
		if !slices.ContainsFunc(s.entries, func(e *slotEntry) bool { return groups[e.slotKey] != nil }) {
			continue
		}
		if lease := s.lease.Value(); lease != nil {
			leases = append(leases, lease)
		}
	}
	h.mu.Unlock()
	for _, lease := range leases {
		lease.eachSlot(func(key Key, c *Charge) {
			if g := groups[slotKey{key, c.Receipt.Generation}]; g != nil {
				g.add(lease, c)
			}
		})
	}
	var all []*slotGroup
	for _, g := range groups {
		if len(g.charges) > 0 { // otherwise its leases have just ended
			all = append(all, g)
		}
	}
	return all
}

// A slotGroup is the slots of an entry, by lease.
type slotGroup struct {
	slotKey
	hold    time.Duration
	lost    bool
	charges []Charge // of the sums
	parts   []slotPart
}

// A slotPart is the slots of one lease.
type slotPart struct {
	lease  *Lease
	counts []bucket.Count
}

// add adds a charge of slots.
func (g *slotGroup) add(lease *Lease, c *Charge) {
	if n := len(g.parts); n == 0 || g.parts[n-1].lease != lease {
		g.parts = append(g.parts, slotPart{lease: lease})
	}
	part := &g.parts[len(g.parts)-1]
	part.counts = addCount(part.counts, c.Name, c.Amount)
	for i := range g.charges {
		if sum := &g.charges[i]; sum.Name == c.Name {
			sum.Amount += c.Amount
			return
		}
	}
	g.charges = append(g.charges, Charge{Name: c.Name, Definition: c.Definition, Amount: c.Amount, Receipt: c.Receipt})
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

// renew renews an entry. If it was removed, as the process was silent for longer than the hold,
// all its slots are taken again if there is room for all; until then its leases are not held.
func (l *Limiter) renew(g *slotGroup) {
	d := Debit{Key: g.key, Holder: l.holder, Charges: g.charges}
	if !g.lost {
		begun := time.Now()
		held, err := l.askRenewal(g, func(ctx context.Context) (bool, error) { return l.slotStore.Renew(ctx, l.now(), d) })
		if err == nil && held {
			l.holdings.acknowledge(g.slotKey, begun)
		}
		if err != nil || held {
			return
		}
		l.holdings.lose(g.slotKey)
	}
	// It is a take like any other: if its answer is lost nothing is held, and the next renewal
	// takes again. Settings that have changed since the leases began do not end them.
	d.Charges, d.SettingsRev = slices.Clone(g.charges), math.MaxInt64
	begun := time.Now()
	taken, err := l.askRenewal(g, func(ctx context.Context) (bool, error) {
		_, err := l.store.Take(ctx, l.now(), 0, []Debit{d})
		return err == nil, err
	})
	if err == nil && taken {
		g.takenAgain(l, &d, begun)
	}
}

// askRenewal calls the store in time for the leases to stay held.
func (l *Limiter) askRenewal(g *slotGroup, call func(context.Context) (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), min(l.timeout, g.hold/8))
	defer cancel()
	return call(ctx)
}

// lose notes that an entry was removed.
func (h *holdings) lose(k slotKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.entries[k]; e != nil {
		e.lost = true
	}
}

// takenAgain has the leases know the slots that were taken again by a debit. What a lease has
// released meanwhile is released once more: it was released under the receipt of before.
func (g *slotGroup) takenAgain(l *Limiter, d *Debit, begun time.Time) {
	extra := Debit{Key: g.key, Holder: d.Holder}
	for i := range g.parts {
		for _, c := range g.parts[i].takenAgain(g.slotKey, d.Charges[0].Receipt.Generation, begun) {
			extra.release(d.Charges, c)
		}
	}
	if len(extra.Charges) > 0 {
		_ = l.adjust(context.Background(), []Debit{extra}) // if it fails, they stay taken until the hold ends
	}
}

// takenAgain has the lease know the slots that were taken again by their new receipt. It
// returns how many of them it does not hold any more: all, if it has taken more meanwhile, as
// the next renewal then takes everything.
func (p *slotPart) takenAgain(k slotKey, generation uint64, begun time.Time) (extra []bucket.Count) {
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
		return p.counts
	}
	for _, c := range charges {
		c.Receipt.Generation = generation
	}
	if len(charges) > 0 {
		p.lease.renewEntries([]slotKey{{k.key, generation}}, begun)
	}
	return extra
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
