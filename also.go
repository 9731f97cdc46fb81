package zael

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Part is one more bucket that a request takes from: see Request.Also. The fields are
// those of [Request].
type Part struct {
	Entity   string // empty: the request's
	Policy   *Policy
	Resource string
	Limits   []Limit
	Consume  Amounts

	positional positional
}

// PartFor is [Policy.For] for a part of a request:
//
//	req := chat.For("key-1", 1, 500)
//	req.Also = []zael.Part{tools.PartFor("key-1", 3)}
func (p *Policy) PartFor(entity string, amounts ...int64) Part {
	part := Part{Entity: entity, Policy: p}
	part.positional.set(amounts)
	return part
}

// maxParts is how many parts a request may have, its own included.
const maxParts = 16

// requests returns the parts of req as requests of their own, req's first.
func (req *Request) requests() ([]Request, error) {
	switch {
	case len(req.Also) >= maxParts:
		return nil, invalid("Request.Also", len(req.Also), fmt.Sprintf("and the request itself are more than %d parts", maxParts))
	case req.MaxWait != 0:
		return nil, invalid("Request.MaxWait", req.MaxWait, "is given beside Also: such a request cannot wait")
	}
	all := make([]Request, 0, 1+len(req.Also))
	own := *req
	own.Also = nil
	all = append(all, own)
	for i := range req.Also {
		p := &req.Also[i]
		r := Request{
			Entity: cmp.Or(p.Entity, req.Entity), Policy: p.Policy, Resource: p.Resource, Limits: p.Limits, Consume: p.Consume,
			Cascade: req.Cascade, Parent: req.Parent, UseStoredLimits: req.UseStoredLimits, FailureMode: req.FailureMode, positional: p.positional,
		}
		if r.stored() != own.stored() || req.UseStoredLimits && p.Limits != nil {
			return nil, invalid("Request.Also", r.resourceName(), "mixes stored limits and others: make them requests of their own")
		}
		if slices.ContainsFunc(all, func(o Request) bool { return o.Entity == r.Entity && o.resourceName() == r.resourceName() }) {
			return nil, invalid("Request.Also", r.Entity+" on "+r.resourceName(), "is named twice: put its amounts into one part")
		}
		all = append(all, r)
	}
	return all, nil
}

// A manyTake is a request with several parts on its way.
type manyTake struct {
	budget
	requests []Request
	attempts []*attempt // of each
	debits   []Debit    // of all, which share their charges
	detach   *detaching // nil: the lease stays in the process
	at       time.Time  // of the take
}

// takeMany takes what all parts of req ask for, or nothing. The result is never nil.
func (l *Limiter) takeMany(ctx context.Context, req *Request, leaseless bool, detach *detaching) (m *manyTake, err error) {
	m = &manyTake{detach: detach}
	defer m.end()
	if err := errors.Join(l.checkOpen(), ctx.Err()); err != nil {
		return m, err
	}
	if m.requests, err = req.requests(); err != nil {
		return m, err
	}
	now := l.now()
	if err := l.prepareMany(ctx, m, now, leaseless, l.refusedBehind); err != nil {
		return m, err
	}
	behind, reread := false, false
	for range 4 {
		whole := &attempt{budget: m.budget, debits: m.debits, detach: detach}
		m.at, err = l.askStore(ctx, whole, now, 0)
		switch {
		case err == nil:
			for _, a := range m.attempts {
				a.begun = whole.begun
			}
			return m, nil
		case errors.Is(err, ErrExceeded):
			if !behind {
				if now, behind = l.caughtUp(now); behind {
					continue
				}
			}
			return m, &ExceededError{m.decision(true)}
		case errors.Is(err, ErrStaleSettings):
			err = m.each(func(_ *Request, a *attempt) error { return l.refreshSettings(ctx, a, false) })
		case errors.Is(err, ErrStaleLimits) && !reread:
			reread = true
			l.stats.staleLimits.Add(1)
			err = m.each(func(r *Request, a *attempt) error { return l.refreshLimits(ctx, r, now, a) })
		case errors.Is(err, ErrStaleLimits):
			err = m.each(func(_ *Request, a *attempt) error { a.adoptNewer(); return nil })
		}
		if err == nil {
			err = m.collect()
		}
		if err != nil {
			return m, err
		}
	}
	return m, fmt.Errorf("%w: its limits keep changing", ErrContention)
}

// prepareMany checks all parts and makes their debits, of which check may refuse those of a
// part. Of several errors, that something is disabled outranks that it is not valid, and both
// that the store is unavailable.
func (l *Limiter) prepareMany(ctx context.Context, m *manyTake, now time.Time, leaseless bool, check func(*attempt) error) error {
	m.begin(ctx, l.within)
	for range m.requests {
		m.attempts = append(m.attempts, &attempt{budget: m.budget, leaseless: leaseless, detach: m.detach})
	}
	err := m.each(func(r *Request, a *attempt) error {
		if err := l.prepare(ctx, r, age{now, l.ttl}, a); err != nil {
			return err
		}
		l.countUnknown(a)
		return check(a)
	})
	if err != nil {
		return err
	}
	return m.collect()
}

// rank orders errors of parts: a greater one outranks the others.
func rank(err error) int {
	switch {
	case errors.Is(err, ErrDisabled):
		return 3
	case errors.Is(err, ErrExceeded):
		return 1
	case errors.Is(err, ErrUnavailable):
		return 0
	}
	return 2
}

// each calls f for each part, and returns the error that outranks the others.
func (m *manyTake) each(f func(*Request, *attempt) error) error {
	var worst error
	for i, a := range m.attempts {
		if err := f(&m.requests[i], a); err != nil && (worst == nil || rank(err) > rank(worst)) {
			worst = err
		}
	}
	return worst
}

// collect gathers the debits of all parts. Their buckets must differ.
func (m *manyTake) collect() error {
	m.debits = m.debits[:0]
	for _, a := range m.attempts {
		for _, d := range a.debits {
			if slices.ContainsFunc(m.debits, func(o Debit) bool { return o.Key == d.Key }) {
				return invalid("Request.Also", d.Key.Entity+" on "+d.Key.Resource,
					"is the bucket of two parts, as an entity or as a parent: make them requests of their own")
			}
			m.debits = append(m.debits, d)
		}
	}
	if m.detach != nil {
		m.detach.parts = m.detach.parts[:0]
		for i, a := range m.attempts {
			m.detach.parts = append(m.detach.parts, partShape{len(a.debits), partOf(&m.requests[i])})
		}
	}
	return nil
}

// decision returns how all limits stand.
func (m *manyTake) decision(refused bool) Decision {
	all := &standings{given: []Status{}}
	d := Decision{Admitted: !refused}
	d.stand(all)
	for i, a := range m.attempts {
		part, err := a.decision(m.at, refused, 0)
		if err != nil {
			continue // the instant is the store's own
		}
		d.Bypassed = d.Bypassed || part.Bypassed
		all.given = slices.AppendSeq(all.given, part.All())
		if i == 0 {
			all.resource = a.debits[0].Key.Resource
			for j := range a.debits {
				all.entities[j] = a.debits[j].Key.Entity
			}
		}
	}
	return d
}

// mode returns the failure mode of the request: open if it is for all parts.
func (m *manyTake) mode(l *Limiter) FailureMode {
	for i, a := range m.attempts {
		if cmp.Or(a.failureMode(&m.requests[i]), l.mode) != FailOpen {
			return FailClosed
		}
	}
	return FailOpen
}

// decideMany is decide for a request with several parts.
func (l *Limiter) decideMany(ctx context.Context, req *Request) (Decision, error) {
	m, err := l.takeMany(ctx, req, true, nil)
	if err == nil {
		return m.decision(false), nil
	}
	if exceeded, ok := errors.AsType[*ExceededError](err); ok {
		return exceeded.decision, nil
	}
	if len(m.attempts) > 0 && l.admitsUnavailable(m.mode(l), err) {
		return degradedDecision(req), nil
	}
	return Decision{}, err
}

// reserveMany is reserve for a request with several parts. detach is nil if the lease stays in
// the process.
func (l *Limiter) reserveMany(ctx context.Context, req *Request, detach *detaching) (*Lease, error) {
	m, err := l.takeMany(ctx, req, false, detach)
	degraded := err != nil && len(m.attempts) > 0 && l.admitsUnavailable(m.mode(l), err)
	if err != nil && !degraded {
		return nil, err
	}
	leases := make([]*Lease, len(m.requests))
	for i := range m.requests {
		if degraded {
			leases[i] = l.degradedLease(&m.requests[i], m.attempts[i])
		} else {
			leases[i] = l.newLease(&m.requests[i], m.attempts[i], m.at)
		}
	}
	whole := leases[0]
	all := &manyLease{leases: leases}
	for i, le := range leases {
		all.keys = append(all.keys, Key{m.requests[i].Entity, m.requests[i].resourceName()})
		le.mu.Lock() // its slots may be renewed already
		le.mode, le.ledger, le.many = m.mode(l), le.expanded(), all
		le.mu.Unlock()
	}
	if all.decision = whole.decision; !degraded {
		all.decision = m.decision(false)
	}
	return whole, nil
}

// A manyLease is a lease with several parts.
type manyLease struct {
	leases   []*Lease // of the parts; the first is what the caller has
	keys     []Key    // of their buckets
	decision Decision // on all of them
}

// On returns the part of a lease that is for an entity and a resource of Request.Also, or
// for its own; nil if there is none. What is recorded and consumed by a part counts for
// it alone. Ending a part ends the whole lease.
func (le *Lease) On(entity, resource string) *Lease {
	if le.none() {
		return nil
	}
	many := le.many
	if many == nil {
		if e, r := le.decision.bucket(); e == entity && r == resource {
			return le
		}
		return nil
	}
	if i := slices.Index(many.keys, Key{entity, resource}); i >= 0 {
		return many.leases[i]
	}
	return nil
}

// end ends all parts, in one call of the store.
func (m *manyLease) end(ctx context.Context, undo bool) error {
	var debits []Debit
	for _, le := range m.leases {
		if !le.close(undo) { // they are closed in this order: the first decides
			return ErrLeaseClosed
		}
	}
	for _, le := range m.leases {
		debits = append(debits, le.ledger.finalDebits()...)
	}
	first := m.leases[0]
	err := first.limiter.adjust(ctx, debits)
	if err != nil && first.limiter.admitsUnavailable(first.mode, err) {
		err = nil
	}
	if first.limiter.observer != nil {
		for _, le := range m.leases {
			le.observedEnd(ctx, undo, err)
		}
	}
	return err
}

// hasRecorded reports whether something was recorded by a part.
func (m *manyLease) hasRecorded() bool {
	return slices.ContainsFunc(m.leases, func(le *Lease) bool {
		le.mu.Lock()
		defer le.mu.Unlock()
		return le.recorded
	})
}
