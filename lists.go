package zael

import (
	"cmp"
	"context"
)

// A ListQuery selects a page of a list: names that begin with Prefix and come after
// After, in the order of bytes.
type ListQuery struct {
	Prefix string // empty: all
	After  string // the last name of the page before; empty: from the first
	Max    int    // at most this many; 0 means 100
}

// A ScopeQuery selects a page of the scopes that have limits.
type ScopeQuery struct {
	Prefix string // of the entity; empty: all scopes, those of resources and the system too
	After  *Scope // the last scope of the page before; nil: from the first
	Max    int    // at most this many; 0 means 100
}

// ScopeLimits are the limits that are stored for a scope.
type ScopeLimits struct {
	Scope  Scope
	Limits []Limit // one or more
}

const defaultListMax = 100

// Selects reports whether the query selects a name, apart from Max.
func (q ListQuery) Selects(name string) bool {
	return len(name) >= len(q.Prefix) && name[:len(q.Prefix)] == q.Prefix && (q.After == "" || name > q.After)
}

// Selects reports whether the query selects a scope, apart from Max.
func (q ScopeQuery) Selects(s Scope) bool {
	return len(s.Entity) >= len(q.Prefix) && s.Entity[:len(q.Prefix)] == q.Prefix && (q.After == nil || s.Compare(*q.After) > 0)
}

// Compare returns the order of two scopes, by entity and then by resource, as cmp.Compare
// does.
func (s Scope) Compare(other Scope) int {
	return cmp.Or(cmp.Compare(s.Entity, other.Entity), cmp.Compare(s.Resource, other.Resource))
}

// Entities returns a page of the entities that were created, by ID. Whoever was only
// limited is not among them. Errors: [*ValidationError], and those of
// [Limiter.CreateEntity] that all methods for stored data have.
func (l *Limiter) Entities(ctx context.Context, q ListQuery) ([]Entity, error) {
	return listed(ctx, l, &q, ListStore.ListEntities)
}

// Resources returns a page of the resources that are in use or have limits, by name; it
// may have some that were and had. Errors are those of [Limiter.Entities].
func (l *Limiter) Resources(ctx context.Context, q ListQuery) ([]string, error) {
	return listed(ctx, l, &q, ListStore.ListResources)
}

// Scopes returns a page of the scopes for which limits are stored, with their limits, by
// entity and then resource: that of the system and those of resources are the first.
// Errors are those of [Limiter.Entities].
func (l *Limiter) Scopes(ctx context.Context, q ScopeQuery) ([]ScopeLimits, error) {
	if err := checkMax("ScopeQuery.Max", &q.Max); err != nil {
		return nil, err
	}
	if q.After != nil {
		after, err := q.After.normalized()
		if err != nil {
			return nil, err
		}
		q.After = &after
	}
	store, err := l.listStore()
	if err != nil {
		return nil, err
	}
	found, err := store.ListScopes(ctx, q)
	return found, l.storeError(ctx, Key{Entity: q.Prefix}, err)
}

func listed[T any](ctx context.Context, l *Limiter, q *ListQuery, list func(ListStore, context.Context, ListQuery) ([]T, error)) ([]T, error) {
	if err := checkMax("ListQuery.Max", &q.Max); err != nil {
		return nil, err
	}
	store, err := l.listStore()
	if err != nil {
		return nil, err
	}
	found, err := list(store, ctx, *q)
	return found, l.storeError(ctx, Key{}, err)
}

func checkMax(field string, n *int) error {
	if *n < 0 {
		return invalid(field, *n, "is negative: use 0 for the default of 100")
	}
	*n = cmp.Or(*n, defaultListMax)
	return nil
}

func (l *Limiter) listStore() (ListStore, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	store, ok := l.store.(ListStore)
	if !ok {
		return nil, l.unsupported("ListStore")
	}
	return store, nil
}
