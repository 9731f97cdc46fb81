package zael

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// prepare checks req and makes its debits. What is known of stored limits and
// entities may be up to maxAge old.
func (l *Limiter) prepare(ctx context.Context, req *Request, now time.Time, maxAge time.Duration, c *call) error {
	if plain := !req.UseStoredLimits && !req.Cascade && len(req.ParentLimits) == 0 && req.MaxWait >= 0 && req.FailureMode <= FailOpen; plain && c.bindPlain(req) {
		return nil
	}
	c.reset()
	if err := req.check(); err != nil {
		return err
	}
	parent := ""
	if req.UseStoredLimits || req.Cascade {
		var err error
		if parent, err = l.parent(ctx, &c.op, req.Entity, req.Cascade, now, maxAge); err != nil {
			return err
		}
	}
	found, err := l.bind(ctx, req, Key{req.Entity, req.Resource}, req.Limits, now, maxAge, c)
	if err != nil {
		return err
	}
	c.own = len(c.charges)
	if c.own == 0 {
		return noLimits(req.Entity, req.Resource)
	}
	if parent != "" {
		limits := req.ParentLimits
		if limits == nil {
			limits = req.Limits
		}
		if _, err := l.bind(ctx, req, Key{parent, req.Resource}, limits, now, maxAge, c); err != nil {
			return err
		}
	}
	c.unknown = req.UseStoredLimits && found != len(req.Consume) && c.lacks(req.Consume)
	c.debits = append(c.debits, Debit{Key: Key{req.Entity, req.Resource}, Charges: c.charges[:c.own:c.own]})
	if len(c.charges) > c.own {
		c.debits = append(c.debits, Debit{Key: Key{parent, req.Resource}, Charges: c.charges[c.own:]})
	}
	return nil
}

// bindPlain is prepare for what nearly every call is: valid, on one bucket, under
// limits that it names. Otherwise it returns false. A limit that c was made for
// before is not checked again.
func (c *call) bindPlain(req *Request) bool {
	n := len(req.Limits)
	if n == 0 || n > maxLimits || !validEntity(req.Entity) {
		return false
	}
	if len(c.checked) != n || len(c.debits) != 1 {
		c.reset()
		c.charges = slices.Grow(c.charges, n)[:n]
		c.checked = slices.Grow(c.checked, n)[:n]
		clear(c.checked)
		c.debits = append(c.debits, Debit{Charges: c.charges})
		c.own = n
	}
	key := &c.debits[0].Key
	if req.Resource == "" || key.Resource != req.Resource && !validName(req.Resource) {
		return false
	}
	key.Entity, key.Resource = req.Entity, req.Resource
	found := 0
	for i := range req.Limits {
		limit, ch := &req.Limits[i], &c.charges[i]
		if limit.Name == "" || c.checked[i] != *limit {
			d, err := definitionOf(limit)
			if err != nil {
				c.reset()
				return false
			}
			for j := range req.Limits {
				if j != i && req.Limits[j].Name == limit.Name {
					c.reset()
					return false
				}
			}
			c.checked[i], ch.Name, ch.Definition = *limit, limit.Name, d
		}
		amount, named := req.Consume[limit.Name]
		if named {
			found++
		}
		if amount < 0 || amount > bucket.MaxAmount {
			return false
		}
		ch.Amount = amount
	}
	return found == len(req.Consume)
}

// bind adds a charge for each limit of a bucket: of the stored ones if they are
// asked for and there are any, else of the call's. It tells how many of the
// names in Consume it found.
func (l *Limiter) bind(
	ctx context.Context, req *Request, key Key, limits []Limit, now time.Time, maxAge time.Duration, c *call,
) (found int, err error) {
	add := func(name string, d bucket.Definition) {
		amount, named := req.Consume[name]
		found += btoi(named)
		c.add(name, d, amount)
	}
	var rev int64
	if req.UseStoredLimits {
		set, err := l.limitSet(ctx, c, key, limits, now, maxAge)
		if err != nil {
			return 0, err
		}
		for i := range set.bounds {
			add(set.bounds[i].name, set.bounds[i].definition)
		}
		if len(set.bounds) > 0 {
			return found, nil
		}
		rev = set.rev
	}
	for i := range limits {
		d, err := definitionOf(&limits[i])
		if err != nil {
			return 0, err
		}
		d.Rev = rev
		add(limits[i].Name, d)
	}
	return found, nil
}

// A bound is a limit that was checked.
type bound struct {
	name       string
	definition bucket.Definition
}

// A limitSet is what binds a key by stored limits.
type limitSet struct {
	bounds []bound // none if no level has any
	// rev is the greatest of all levels looked at, and at least 1: limits
	// named by a call that looked for stored ones give way to such that come.
	rev int64
}

// levels are where the limits of a key may be stored; the first that has any
// decides.
func levels(key Key) []Scope {
	return []Scope{
		{Entity: key.Entity, Resource: key.Resource},
		{Entity: key.Entity},
		{Resource: key.Resource},
		{},
	}
}

// limitSet reads what is stored for key; limits are the call's.
func (l *Limiter) limitSet(ctx context.Context, c *call, key Key, limits []Limit, now time.Time, maxAge time.Duration) (limitSet, error) {
	if l.limits == nil {
		return limitSet{}, l.unsupported("LimitStore")
	}
	if set, ok := l.sets.lookup(key, now, maxAge); ok {
		return set, nil
	}
	o := &c.op
	set, err := l.sets.get(o.begin(ctx, l.timeout), key, now, maxAge, func() (limitSet, error) {
		var sets []LimitSet
		err := l.ask(ctx, o, key, func(ctx context.Context) error {
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
		return set, c.supersede(key, &set, limits)
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
	set.bounds, err = boundsOf(chosen, set.rev)
	return set, err
}

// boundsOf is what limits of a revision bind by.
func boundsOf(limits []Limit, rev int64) ([]bound, error) {
	var bounds []bound
	for i := range limits {
		d, err := definitionOf(&limits[i])
		if err != nil {
			return nil, err
		}
		d.Rev = rev
		bounds = append(bounds, bound{limits[i].Name, d})
	}
	return bounds, nil
}

// parent is the entity that a request on id takes from as well; "" if there is
// none. Without asked it is only so if the entity itself says so.
func (l *Limiter) parent(ctx context.Context, o *op, id string, asked bool, now time.Time, maxAge time.Duration) (string, error) {
	if l.entities == nil {
		if asked {
			return "", l.unsupported("EntityStore")
		}
		return "", nil
	}
	e, ok := l.parents.lookup(id, now, maxAge)
	if !ok {
		var err error
		e, err = l.parents.get(o.begin(ctx, l.timeout), id, now, maxAge, func() (Entity, error) {
			return l.readEntity(ctx, o, id)
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
func (l *Limiter) readEntity(ctx context.Context, o *op, id string) (Entity, error) {
	var found []Entity
	err := l.ask(ctx, o, Key{Entity: id}, func(ctx context.Context) error {
		var err error
		found, err = l.entities.Entities(ctx, []string{id})
		return err
	})
	if err != nil {
		return Entity{}, err
	}
	return found[0], nil
}
