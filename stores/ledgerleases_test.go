package stores_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/limiters"
)

// use does something with a lease of this process.
func (m *ledgerModel) use(le *modelLease) error {
	i := m.rng.IntN(len(le.parts))
	p := le.parts[i]
	lease := le.here.On(p.key.Entity, p.key.Resource)
	amounts := m.some(p.names(), 4)
	ctx := m.t.Context()
	if m.rng.IntN(3) == 0 {
		left, cancel := context.WithCancel(ctx)
		cancel()
		ctx = left
	}
	switch m.rng.IntN(6) {
	case 0:
		return m.consume(le, p, amounts, func() error { return lease.Consume(m.t.Context(), amounts) })
	case 1:
		m.note("%v releases %v", p.key, amounts)
		return m.ended("release", lease.Release(amounts), func() { m.released(p, amounts) })
	case 2:
		delete(amounts, "slots")
		m.note("%v settles %v", p.key, amounts)
		if err := lease.Settle(amounts); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
		maps.Copy(p.used, amounts)
	case 3:
		delete(amounts, "slots")
		for name := range amounts {
			amounts[name] -= 2
		}
		m.note("%v adjusts %v", p.key, amounts)
		if err := lease.Adjust(amounts); err != nil {
			return fmt.Errorf("adjust: %w", err)
		}
		for name, n := range amounts {
			p.used[name] = max(0, p.used[name]+n)
		}
	case 4:
		m.note("%v commits", p.key)
		return m.ended("commit", lease.Commit(ctx), func() { m.committed(le) })
	case 5:
		m.note("%v rolls back", p.key)
		return m.ended("rollback", lease.Rollback(ctx), func() { m.undone(le) })
	}
	return nil
}

// released reduces what a part of a lease of this process has used. Slots are given back at once.
func (m *ledgerModel) released(p *modelPart, amounts zael.Amounts) {
	for name, n := range amounts {
		p.used[name] = max(0, p.used[name]-n)
	}
	if _, ok := amounts["slots"]; !ok {
		return
	}
	m.settle(p, func(l zael.Limit) int64 {
		if l.Kind() == zael.KindSlots {
			return p.used[l.Name]
		}
		return p.taken[l.Name]
	})
	p.taken["slots"] = p.used["slots"]
}

// consume takes more for a part of a lease, by take.
func (m *ledgerModel) consume(le *modelLease, p *modelPart, amounts zael.Amounts, take func() error) error {
	if m.switched(p) {
		return nil
	}
	m.note("%v consumes %v (detached %v)", p.key, amounts, le.detached != nil)
	amount := func(l zael.Limit) int64 { return amounts[l.Name] }
	fits := m.fits(p, amount)
	err := take()
	if le.older {
		fits = err == nil
	}
	took, err := m.took(err, fits)
	switch {
	case err != nil:
		return err
	case took:
		m.add(p, amount)
		return nil
	default:
		return m.unsure(func() { m.chargeAll(p, amount, 1) })
	}
}

// committed ends a lease with what was used.
func (m *ledgerModel) committed(le *modelLease) {
	for _, p := range le.parts {
		m.settle(p, func(l zael.Limit) int64 {
			if l.Kind() == zael.KindSlots {
				return 0
			}
			return p.used[l.Name]
		})
	}
	m.closed(le)
}

// holds reports whether all slots of a lease are there.
func (m *ledgerModel) holds(le *modelLease) bool {
	holds := true
	le.slots(func(k zael.Key, c *chunk) { holds = holds && (c.n == 0 || m.counted(k, "slots", *c)) })
	return holds
}

// switched reports whether the limits of a bucket were turned off, or on again, since the lease began.
func (m *ledgerModel) switched(p *modelPart) (switched bool) {
	p.limits(func(k zael.Key, _ zael.Limit) {
		switched = switched || p.bypassed[k] != m.bypassed[k]
	})
	return switched
}

// undone ends a lease with nothing.
func (m *ledgerModel) undone(le *modelLease) {
	for _, p := range le.parts {
		m.settle(p, func(zael.Limit) int64 { return 0 })
	}
	m.closed(le)
}

func (m *ledgerModel) closed(le *modelLease) {
	m.open = slices.DeleteFunc(m.open, func(o *modelLease) bool { return o == le })
}

// useDetached does something with a lease that left its process.
func (m *ledgerModel) useDetached(le *modelLease) error {
	if m.rng.IntN(2) == 0 {
		le.detached = limiters.Moved(m.t, le.detached)
	}
	if m.rng.IntN(4) == 0 {
		return m.renew(le)
	}
	p := le.parts[0]
	if m.rng.IntN(3) == 0 && !le.lapsed() {
		amounts := m.some(p.names(), 4)
		key, ask := m.perhapsKey()
		lost := false
		err := m.consume(le, p, amounts, func() error {
			err := ask(func(ctx context.Context) error {
				more, err := m.limiter().ConsumeDetached(ctx, le.detached, amounts, zael.ConsumeOptions{IdempotencyKey: key})
				if err == nil {
					le.detached = more
				}
				return err
			})
			lost = m.failed(err)
			return err
		})
		if err == nil && lost && amounts["slots"] > 0 {
			// It may have more slots than it knows of, until a hold after its end.
			err = m.rollBack(le)
			m.outlastHolds()
			return err
		}
		if err == nil && m.inTime && amounts["slots"] > 0 {
			return m.renew(le) // or its slots would have several deadlines
		}
		return err
	}
	e := zael.Ending{Verb: []zael.LeaseVerb{zael.LeaseCommit, zael.LeaseRollback, zael.LeaseSettle, zael.LeaseRelease}[m.rng.IntN(4)]}
	if e.Verb == zael.LeaseSettle || e.Verb == zael.LeaseRelease {
		for i, p := range le.parts {
			amounts := m.some(p.names(), 4)
			if e.Verb == zael.LeaseSettle {
				delete(amounts, "slots")
			}
			for name, n := range amounts {
				if e.Verb == zael.LeaseRelease {
					n = max(0, p.used[name]-n)
				}
				p.used[name] = n
			}
			if i == 0 {
				e.Amounts = amounts
			} else {
				e.Also = append(e.Also, zael.PartAmount{Entity: p.key.Entity, Resource: p.key.Resource, Amounts: amounts})
			}
		}
	}
	m.note("%v ends by %+v", p.key, e)
	failed := m.broken
	var got zael.Ended
	if err := m.ask(func(ctx context.Context) (err error) {
		got, err = m.limiter().EndDetached(ctx, le.detached, e)
		return err
	}); err != nil || got.Repeated && !failed {
		return fmt.Errorf("end: got %+v, %w", got, err)
	}
	if e.Verb == zael.LeaseRollback {
		m.undone(le)
	} else {
		m.committed(le)
	}
	if m.rng.IntN(3) == 0 {
		m.repair()
		if got, err := m.limiter().EndDetached(m.t.Context(), le.detached, zael.Ending{Verb: zael.LeaseRollback}); err != nil || !got.Repeated {
			return fmt.Errorf("end again: got %+v, %w", got, err)
		}
	}
	return nil
}

// renew renews the slots of a detached lease.
func (m *ledgerModel) renew(le *modelLease) error {
	m.note("%v renews", le.parts[0].key)
	var r zael.Renewal
	err := m.ask(func(ctx context.Context) (err error) {
		r, err = m.limiter().RenewDetached(ctx, le.detached)
		return err
	})
	if err == nil && le.lapsed() {
		m.repair()
		err = m.revived(le)
	}
	if err != nil || r.Held != m.holds(le) {
		return fmt.Errorf("renew of %v: got %+v, %w, want held: %v", le.parts[0].key, r, err, m.holds(le))
	}
	le.deadline = time.Now().Add(hold)
	if m.inTime && !r.Held { // whether what is left of its slots was renewed does not matter
		return m.rollBack(le)
	}
	return nil
}

// rollBack ends a lease, wherever it is.
func (m *ledgerModel) rollBack(le *modelLease) error {
	m.note("%v rolls back at last", le.parts[0].key)
	undone := func() { m.undone(le) }
	if le.here != nil {
		return m.ended("rollback", le.here.Rollback(m.t.Context()), undone)
	}
	err := m.ask(func(ctx context.Context) error {
		_, err := m.limiter().EndDetached(ctx, le.detached, zael.Ending{Verb: zael.LeaseRollback})
		return err
	})
	undone()
	return err
}
