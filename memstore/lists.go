package memstore

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/zeroae/zael"
)

// A page has those of what is listed that come first, up to twice as many as are asked for.
type page[T any] struct {
	max     int
	compare func(a, b T) int
	found   []T
}

func (p *page[T]) add(v T) {
	if p.found = append(p.found, v); len(p.found) >= 2*p.max {
		p.found = p.first()
	}
}

// first returns the page.
func (p *page[T]) first() []T {
	slices.SortFunc(p.found, p.compare)
	return p.found[:min(len(p.found), p.max)]
}

// names returns the page of names that q selects.
func names(q zael.ListQuery, all iter.Seq[string]) []string {
	p := page[string]{max: q.Max, compare: strings.Compare, found: []string{}}
	for name := range all {
		if q.Selects(name) {
			p.add(name)
		}
	}
	return p.first()
}

// ListEntities implements zael.ListStore. It looks at all entities.
func (s *Store) ListEntities(_ context.Context, q zael.ListQuery) ([]zael.Entity, error) {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	entities := []zael.Entity{}
	for _, id := range names(q, maps.Keys(r.entities)) {
		entities = append(entities, r.entity(id))
	}
	return entities, nil
}

// ListScopes implements zael.ListStore. It looks at all scopes.
func (s *Store) ListScopes(_ context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := page[zael.Scope]{max: q.Max, compare: zael.Scope.Compare}
	for scope, set := range r.limits {
		if len(set.Limits) > 0 && q.Selects(scope) {
			p.add(scope)
		}
	}
	scopes := []zael.ScopeLimits{}
	for _, scope := range p.first() {
		scopes = append(scopes, zael.ScopeLimits{Scope: scope, Limits: slices.Clone(r.limits[scope].Limits)})
	}
	return scopes, nil
}

// ListResources implements zael.ListStore. It looks at all buckets, a shard at a time.
func (s *Store) ListResources(_ context.Context, q zael.ListQuery) ([]string, error) {
	resources := map[string]struct{}{}
	for i := range s.shards {
		s.shards[i].addResources(resources)
	}
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	for scope, set := range r.limits {
		if scope.Entity == "" && scope.Resource != "" && len(set.Limits) > 0 {
			resources[scope.Resource] = struct{}{}
		}
	}
	return names(q, maps.Keys(resources)), nil
}

func (sh *shard) addResources(to map[string]struct{}) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, s := range sh.table.slots {
		if s.record != nil && s.record.first[0].limit != nil {
			to[s.record.resource.Value()] = struct{}{}
		}
	}
}
