package storetest_test

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/zeroae/zael"
)

// firstOf returns those that are selected, the first max of them in order.
func firstOf[T any](all []T, selects func(T) bool, compare func(a, b T) int, most int) []T {
	all = slices.DeleteFunc(all, func(v T) bool { return !selects(v) })
	slices.SortFunc(all, compare)
	return all[:min(most, len(all))]
}

func (s *reference) ListEntities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	ids := firstOf(slices.Collect(maps.Keys(s.entities)), q.Selects, strings.Compare, q.Max)
	s.mu.Unlock()
	return s.Entities(ctx, ids)
}

func (s *reference) ListScopes(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []zael.ScopeLimits
	for scope, set := range s.limits {
		if len(set.Limits) > 0 {
			found = append(found, zael.ScopeLimits{Scope: scope, Limits: slices.Clone(set.Limits)})
		}
	}
	return firstOf(found, func(l zael.ScopeLimits) bool { return q.Selects(l.Scope) },
		func(a, b zael.ScopeLimits) int { return a.Scope.Compare(b.Scope) }, q.Max), nil
}

func (s *reference) ListResources(ctx context.Context, q zael.ListQuery) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]bool{}
	for k := range s.buckets {
		found[k.Resource] = true
	}
	for scope, set := range s.limits {
		if scope.Entity == "" && scope.Resource != "" && len(set.Limits) > 0 {
			found[scope.Resource] = true
		}
	}
	return firstOf(slices.Collect(maps.Keys(found)), q.Selects, strings.Compare, q.Max), nil
}
