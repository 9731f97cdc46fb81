package zael

import (
	"context"
	"errors"
	"time"
)

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
