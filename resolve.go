package zael

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// prepare checks req and makes its debits. What is known of stored limits and
// entities may be as old as known says.
func (l *Limiter) prepare(ctx context.Context, req *Request, known age, a *attempt) error {
	p, err := a.policy(req)
	if err != nil {
		return err
	}
	if err := req.check(p); err != nil {
		return err
	}
	parent := ""
	if req.stored(p) || req.Cascade {
		if parent, err = l.parent(ctx, &a.budget, req.Entity, req.Cascade, known); err != nil {
			return err
		}
	}
	limits, revs := [2][]bucket.Limit{p.limits}, [2]int64{}
	keys := [2]Key{{req.Entity, p.resource}, {parent, p.resource}}
	if parent != "" {
		limits[1] = p.parent
		if p.parent == nil {
			limits[1] = p.limits
		}
	}
	for i := range keys {
		if !req.stored(p) || keys[i].Entity == "" {
			continue
		}
		set, err := l.limitSet(ctx, a, keys[i], limits[i], known)
		if err != nil {
			return err
		}
		if revs[i] = set.rev; len(set.limits) > 0 {
			limits[i], revs[i] = set.limits, 0
		}
	}
	if len(limits[0]) == 0 {
		return noLimits(req.Entity, p.resource)
	}
	a.bind(req, p, keys, limits, revs)
	return a.checkNames(req, p)
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
			charges[i].Amount = req.amount(p, i, bound[i].Name)
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

// checkNames looks for amounts of limits that are not stored. If no other one is
// there it is an error: nobody is to be admitted by what was mistyped.
func (a *attempt) checkNames(req *Request, p *Policy) error {
	if !req.stored(p) {
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

// An age says how old what is remembered may be at an instant.
type age struct {
	now time.Time
	max time.Duration
}

// A limitSet is what binds a key by stored limits.
type limitSet struct {
	limits []bucket.Limit // none if no level has any
	// rev is the greatest of all levels looked at, and at least 1: limits
	// named by a request that looked for stored ones give way to such that come.
	rev int64
}

// levels returns where the limits of a key may be stored; the first that has any
// decides.
func levels(key Key) []Scope {
	return []Scope{
		{Entity: key.Entity, Resource: key.Resource},
		{Entity: key.Entity},
		{Resource: key.Resource},
		{},
	}
}

// limitSet reads what is stored for key; fallback is what the request has.
func (l *Limiter) limitSet(ctx context.Context, a *attempt, key Key, fallback []bucket.Limit, known age) (limitSet, error) {
	if l.limits == nil {
		return limitSet{}, l.unsupported("LimitStore")
	}
	if set, ok := l.sets.lookup(key, known.now, known.max); ok {
		return set, nil
	}
	b := &a.budget
	set, err := l.sets.get(b.begin(ctx, l.timeout), key, known.now, known.max, func() (limitSet, error) {
		var sets []LimitSet
		err := l.ask(ctx, b, key, func(ctx context.Context) error {
			var err error
			sets, err = l.limits.Limits(ctx, levels(key))
			return err
		})
		if err != nil {
			return limitSet{}, err
		}
		set, err := decide(sets)
		if err != nil {
			return limitSet{}, err
		}
		a.supersede(key, &set, fallback)
		return set, nil
	})
	return set, l.waited(ctx, key, err)
}

// waited is an error of cache.get in the caller's terms: a deadline that passed
// while another caller was reading speaks of the store.
func (l *Limiter) waited(ctx context.Context, key Key, err error) error {
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return l.unavailable(key, err)
}

func decide(sets []LimitSet) (limitSet, error) {
	set := limitSet{rev: 1}
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

// parent is the entity that a request on id takes from as well; "" if there is
// none. Without asked it is only so if the entity itself says so.
func (l *Limiter) parent(ctx context.Context, b *budget, id string, asked bool, known age) (string, error) {
	if l.entities == nil {
		if asked {
			return "", l.unsupported("EntityStore")
		}
		return "", nil
	}
	e, ok := l.parents.lookup(id, known.now, known.max)
	if !ok {
		var err error
		e, err = l.parents.get(b.begin(ctx, l.timeout), id, known.now, known.max, func() (Entity, error) {
			return l.readEntity(ctx, b, id)
		})
		if err != nil {
			return "", l.waited(ctx, Key{Entity: id}, err)
		}
	}
	if !asked && !e.Cascade {
		return "", nil
	}
	if e.ParentID == id {
		return "", nil // a store should not have it
	}
	return e.ParentID, nil
}

// readEntity reads one entity; zero if there is none.
func (l *Limiter) readEntity(ctx context.Context, b *budget, id string) (Entity, error) {
	var found []Entity
	err := l.ask(ctx, b, Key{Entity: id}, func(ctx context.Context) error {
		var err error
		found, err = l.entities.Entities(ctx, []string{id})
		return err
	})
	if err != nil {
		return Entity{}, err
	}
	return found[0], nil
}
