package zael

import (
	"context"
	"slices"
)

// An Override is a stored limit that does not bind where limits of a more specific scope
// are stored that do not name it: each scope stands alone.
type Override struct {
	By    Scope // the more specific scope
	Scope Scope // that of the limit
	Limit Limit
}

// Overridden returns the stored limits that no longer bind when changes are applied. For
// each scope whose limits they set, these are the limits of the next scope that has any,
// except those whose names are set as well. It changes nothing. What an entity's limits
// hide on a resource is known for the resources that it uses, or changes name. Errors are
// those of [Limiter.SetLimits].
func (l *Limiter) Overridden(ctx context.Context, changes []Change) ([]Override, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if l.limitStore == nil {
		return nil, l.unsupported("LimitStore")
	}
	levels := overlay{l: l, sets: map[Scope][]Limit{}}
	for i := range changes {
		if c := &changes[i]; c.Delete || len(c.Limits) > 0 {
			scope, err := c.Scope.normalized()
			if err != nil {
				return nil, err
			}
			levels.sets[scope] = c.Limits
			levels.changed = append(levels.changed, scope)
		}
	}
	var all []Override
	for _, scope := range levels.changed {
		if len(levels.sets[scope]) == 0 {
			continue
		}
		hidden, err := levels.hiddenBy(ctx, scope)
		if err != nil {
			return nil, l.storeError(ctx, Key(scope), err)
		}
		all = append(all, hidden...)
	}
	return all, nil
}

// An overlay is what is stored, with changes.
type overlay struct {
	l       *Limiter
	sets    map[Scope][]Limit // changed, or read already
	changed []Scope
}

func (o *overlay) limits(ctx context.Context, scope Scope) ([]Limit, error) {
	if limits, known := o.sets[scope]; known {
		return limits, nil
	}
	sets, err := o.l.limitStore.Limits(ctx, []Scope{scope})
	if err != nil {
		return nil, err
	}
	o.sets[scope] = sets[0].Limits
	return sets[0].Limits, nil
}

// hiddenBy returns what the limits of a scope hide.
func (o *overlay) hiddenBy(ctx context.Context, scope Scope) ([]Override, error) {
	keys := []Key{Key(scope)}
	if scope.Entity != "" && scope.Resource == "" {
		buckets, err := o.l.affectedBuckets(ctx, scope)
		if err != nil {
			return nil, err
		}
		for _, b := range buckets {
			keys = append(keys, b.Key)
		}
		for _, other := range o.changed {
			if other.Resource != "" && other.Entity == "" {
				keys = append(keys, Key{Entity: scope.Entity, Resource: other.Resource})
			}
		}
	}
	var hidden []Override
	for _, key := range keys {
		below := false
		for _, level := range scopesOf(key) {
			if level == scope {
				below = true
				continue
			}
			limits, err := o.limits(ctx, level)
			if err != nil {
				return nil, err
			}
			if len(limits) == 0 {
				continue
			}
			for _, limit := range limits {
				h := Override{By: scope, Scope: level, Limit: limit}
				named := slices.ContainsFunc(o.sets[scope], func(l Limit) bool { return l.Name == limit.Name })
				if below && !named && !slices.Contains(hidden, h) {
					hidden = append(hidden, h)
				}
			}
			break // it decides, before the scope or after it
		}
	}
	return hidden, nil
}
