package zael

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// prepare checks req and makes its debits. known says how old cached limits and
// entities may be.
func (l *Limiter) prepare(ctx context.Context, req *Request, known age, a *attempt) error {
	a.settings = [2]effectiveSettings{}
	p, err := a.policyOf(req)
	if err != nil {
		return err
	}
	if err := req.check(p); err != nil {
		return err
	}
	if err := l.bindSettings(ctx, a, 0, Key{req.Entity, p.bound.Resource}, known); err != nil {
		return err
	}
	parent := req.Parent
	if parent == "" && (req.stored() || req.Cascade) {
		if parent, err = l.parentOf(ctx, &a.budget, req.Entity, req.Cascade, known); err != nil {
			return err
		}
	}
	limits, revs := [2][]bucket.Limit{p.bound.Limits}, [2]int64{}
	keys := [2]Key{{req.Entity, p.bound.Resource}, {parent, p.bound.Resource}}
	if err := l.bindSettings(ctx, a, 1, keys[1], known); err != nil {
		return err
	}
	if parent != "" {
		limits[1] = p.parent
		if p.parent == nil {
			limits[1] = p.bound.Limits
		}
	}
	for i := range keys {
		if !req.stored() || keys[i].Entity == "" {
			continue
		}
		set, err := l.storedLimits(ctx, a, keys[i], limits[i], known)
		if err != nil {
			return err
		}
		if revs[i] = set.rev; len(set.limits) > 0 {
			limits[i], revs[i] = set.limits, 0
		}
	}
	if len(limits[0]) == 0 {
		return noLimitsError(req.Entity, p.bound.Resource)
	}
	a.bind(req, p, keys, limits, revs)
	l.holdSlots(a)
	if a.policy = nil; parent == "" && sameLimits(limits[0], p.bound.Limits) && revs == [2]int64{} {
		a.policy = &p.bound
	}
	if err := a.checkSlots(); err != nil {
		return err
	}
	return a.checkNames(req, p)
}

// checkSlots returns an error if a takes slots and there will be no lease on them.
func (a *attempt) checkSlots() error {
	if !a.leaseless {
		return nil
	}
	for i := range a.charges {
		if c := &a.charges[i]; c.Definition.Kind == bucket.Slots && c.Amount > 0 {
			return invalid("Request.Consume "+c.Name, c.Amount, "are slots, which are held until they are released: use Acquire or Do, whose lease releases them")
		}
	}
	return nil
}

// bind makes the debits: a charge for each limit of each bucket. A limit that the
// request before had at the same place keeps its name and definition.
func (a *attempt) bind(req *Request, p *Policy, keys [2]Key, limits [2][]bucket.Limit, revs [2]int64) {
	n := len(limits[0]) + len(limits[1])
	same := len(a.charges) == n && sameLimits(a.parts[0], limits[0]) && sameLimits(a.parts[1], limits[1]) && revs == [2]int64{}
	if !same {
		a.reset()
		a.charges = slices.Grow(a.charges, n)[:n]
		a.limits = slices.Grow(a.limits, n)[:n]
	}
	a.own, a.unknown = len(limits[0]), false
	a.debits = a.debits[:0]
	defer a.applySettings()
	first := 0
	for b, bound := range limits {
		if len(bound) == 0 {
			continue
		}
		charges := a.charges[first : first+len(bound) : first+len(bound)]
		for i := range bound {
			if ch := &charges[i]; !same {
				*ch = Charge{Name: bound[i].Name, Definition: bound[i].Definition}
				if revs[b] > 0 {
					ch.Definition.Rev = revs[b]
				}
				a.limits[first+i] = &bound[i]
			}
			charges[i].Amount = req.amount(p, i, bound[i].Name, bound[i].Definition.Kind)
		}
		a.debits = append(a.debits, Debit{Key: keys[b], Charges: charges})
		first += len(bound)
	}
	if revs == [2]int64{} {
		a.parts = limits
	}
}

// sameLimits reports whether two slices are one, as compiled limits are shared
// and never changed.
func sameLimits(a, b []bucket.Limit) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// checkNames looks for amounts of limits that are not stored. If none of the names is
// stored it returns an error: mistyped names must not admit anybody.
func (a *attempt) checkNames(req *Request, p *Policy) error {
	if !req.stored() {
		return nil
	}
	known, unknown := false, []string(nil)
	look := func(name string) {
		if slices.ContainsFunc(a.charges, func(ch Charge) bool { return ch.Name == name }) {
			known = true
		} else {
			unknown = append(unknown, name)
		}
	}
	if req.Consume != nil {
		for name := range req.Consume {
			look(name)
		}
	} else if p.stored {
		for _, name := range p.names {
			look(name)
		}
	}
	if a.unknown = len(unknown) > 0; a.unknown && !known {
		return invalid("Request.Consume", unknown[0], "is not the name of a stored limit, and no other name is: those stored are "+a.nameList())
	}
	return nil
}

// nameList returns the names of the entity's limits for messages.
func (a *attempt) nameList() string {
	names := make([]string, a.own)
	for i := range names {
		names[i] = a.charges[i].Name
	}
	return strings.Join(names, ", ")
}

func (l *Limiter) countUnknown(a *attempt) {
	if a.unknown {
		l.stats.unknownNames.Add(1)
	}
}

// An age says how old a cached value may be.
type age struct {
	now time.Time
	max time.Duration
}

// effectiveLimits are the stored limits that hold for a key.
type effectiveLimits struct {
	limits []bucket.Limit // none if no scope has any
	// rev is the greatest revision of the key's scopes, and at least 1. The request's
	// own limits stand under it where no scope has any, so that limits which are
	// stored later are newer.
	rev int64
}

// scopesOf returns where the limits of a key may be stored. The first scope that has
// any decides.
func scopesOf(key Key) []Scope {
	return []Scope{
		{Entity: key.Entity, Resource: key.Resource},
		{Entity: key.Entity},
		{Resource: key.Resource},
		{},
	}
}

// storedLimits returns the stored limits of a key. fallback are the request's own.
func (l *Limiter) storedLimits(ctx context.Context, a *attempt, key Key, fallback []bucket.Limit, known age) (effectiveLimits, error) {
	if l.limitStore == nil {
		return effectiveLimits{}, l.unsupported("LimitStore")
	}
	if set, ok := l.limitCache.lookup(key, known.now, known.max); ok {
		return set, nil
	}
	b := &a.budget
	set, err := l.limitCache.get(b.begin(ctx, l.within), key, known.now, known.max, func() (effectiveLimits, error) {
		var sets []LimitSet
		err := l.throughBreaker(ctx, StoreConfig, b, key, func(ctx context.Context) error {
			var err error
			sets, err = l.limitStore.Limits(ctx, scopesOf(key))
			return err
		})
		if err != nil {
			return effectiveLimits{}, err
		}
		set, err := effectiveOf(sets)
		if err != nil {
			return effectiveLimits{}, err
		}
		a.reviveRevision(key, &set, fallback)
		return set, nil
	})
	return set, l.cacheError(ctx, b, key, err)
}

// cacheError returns an error of cache.get in the caller's terms: if the deadline
// passed while another caller was reading, the store is unavailable. The breaker counts
// it as if this caller had read.
func (l *Limiter) cacheError(ctx context.Context, b *budget, key Key, err error) error {
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return l.throughBreaker(ctx, StoreConfig, b, key, func(context.Context) error { return err })
}

// effectiveOf returns the limits that hold if sets are stored for the scopes of a key.
func effectiveOf(sets []LimitSet) (effectiveLimits, error) {
	set := effectiveLimits{rev: 1}
	var chosen []Limit
	for _, s := range sets {
		set.rev = max(set.rev, s.Rev)
		if chosen == nil && len(s.Limits) > 0 {
			chosen = s.Limits
		}
	}
	var err error
	if set.limits, err = compile("stored limits", chosen); err != nil {
		return set, err
	}
	for i := range set.limits {
		set.limits[i].Definition.Rev = set.rev
	}
	return set, nil
}

// parentOf returns the entity that a request for id takes from as well, or "". There
// is one if the request asks for it or the entity itself cascades.
func (l *Limiter) parentOf(ctx context.Context, b *budget, id string, asked bool, known age) (string, error) {
	if l.entityStore == nil {
		if asked {
			return "", l.unsupported("EntityStore")
		}
		return "", nil
	}
	e, ok := l.entityCache.lookup(id, known.now, known.max)
	if !ok {
		var err error
		e, err = l.entityCache.get(b.begin(ctx, l.within), id, known.now, known.max, func() (Entity, error) {
			return l.readEntity(ctx, b, id)
		})
		if err != nil {
			return "", l.cacheError(ctx, b, Key{Entity: id}, err)
		}
	}
	if !asked && !e.Cascade {
		return "", nil
	}
	if e.ParentID == id {
		return "", nil // CreateEntity refuses it, but the store may have it
	}
	return e.ParentID, nil
}

// readEntity reads one entity; it is zero if there is none.
func (l *Limiter) readEntity(ctx context.Context, b *budget, id string) (Entity, error) {
	var found []Entity
	err := l.throughBreaker(ctx, StoreConfig, b, Key{Entity: id}, func(ctx context.Context) error {
		var err error
		found, err = l.entityStore.Entities(ctx, []string{id})
		return err
	})
	if err != nil {
		return Entity{}, err
	}
	return found[0], nil
}
