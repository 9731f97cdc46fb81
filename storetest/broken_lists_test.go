package storetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

const (
	listedEntities  = "ListStore/entities are listed in order and in pages"
	listedIDs       = "ListStore/ids that differ are listed apart"
	listedScopes    = "ListStore/scopes are listed in order and in pages"
	listedResources = "ListStore/resources are listed in order and in pages"
)

// lists is a store that lists entities in another way.
func lists(list func(ctx context.Context, good *reference, q zael.ListQuery) ([]zael.Entity, error)) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.listed = func(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error) { return list(ctx, good, q) }
	})
}

// brokenLists have a defect as ListStore.
func brokenLists() []brokenStore {
	errEnded := errors.New("it ended")
	return []brokenStore{
		{
			name: "entities are listed without case",
			make: lists(func(ctx context.Context, good *reference, q zael.ListQuery) ([]zael.Entity, error) {
				all, err := good.ListEntities(ctx, q)
				slices.SortStableFunc(all, func(a, b zael.Entity) int { return strings.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID)) })
				return all, err
			}),
			fails: []string{listedEntities},
		},
		{
			name: "a page begins with the last of the page before",
			make: lists(func(ctx context.Context, good *reference, q zael.ListQuery) ([]zael.Entity, error) {
				after := q.After
				q.After = ""
				q.Max += 1000
				all, err := good.ListEntities(ctx, q)
				all = slices.DeleteFunc(all, func(e zael.Entity) bool { return e.ID < after })
				return all[:min(len(all), q.Max-1000)], err
			}),
			fails: []string{listedEntities},
		},
		{
			name: "a page has one too many",
			make: lists(func(ctx context.Context, good *reference, q zael.ListQuery) ([]zael.Entity, error) {
				q.Max++
				return good.ListEntities(ctx, q)
			}),
			fails: []string{listedEntities},
		},
		{
			name: "a prefix is a pattern",
			make: lists(func(ctx context.Context, good *reference, q zael.ListQuery) ([]zael.Entity, error) {
				prefix := q.Prefix
				q.Prefix = ""
				all, err := good.ListEntities(ctx, q)
				return slices.DeleteFunc(all, func(e zael.Entity) bool {
					return len(e.ID) < len(prefix) || strings.ReplaceAll(e.ID[:len(prefix)], "-", "_") != strings.ReplaceAll(prefix, "-", "_")
				}), err
			}),
			fails: []string{listedEntities},
		},
		{
			name: "ids with spaces at the end are listed once",
			make: lists(func(ctx context.Context, good *reference, q zael.ListQuery) ([]zael.Entity, error) {
				all, err := good.ListEntities(ctx, q)
				return slices.CompactFunc(all, func(a, b zael.Entity) bool { return strings.TrimRight(a.ID, " ") == strings.TrimRight(b.ID, " ") }), err
			}),
			fails: []string{listedIDs},
		},
		{
			name: "scopes without limits are listed",
			make: method(func(o *override, good *reference) {
				o.scopes = func(_ context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
					var all []zael.ScopeLimits
					for scope, set := range good.limits {
						all = append(all, zael.ScopeLimits{Scope: scope, Limits: set.Limits})
					}
					return firstOf(all, func(l zael.ScopeLimits) bool { return q.Selects(l.Scope) },
						func(a, b zael.ScopeLimits) int { return a.Scope.Compare(b.Scope) }, q.Max), nil
				}
			}),
			fails: []string{listedScopes},
		},
		{
			name: "pages of scopes have gaps",
			make: method(func(o *override, good *reference) {
				o.scopes = func(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
					all, err := good.ListScopes(ctx, q)
					return slices.DeleteFunc(all, func(l zael.ScopeLimits) bool { return l.Scope.Resource == "a" }), err
				}
			}),
			fails: []string{listedScopes},
		},
		{
			name: "resources are those of buckets alone",
			make: method(func(o *override, good *reference) {
				o.resources = func(ctx context.Context, q zael.ListQuery) ([]string, error) {
					all, err := good.ListResources(ctx, q)
					return slices.DeleteFunc(all, func(name string) bool {
						return good.limits[zael.Scope{Resource: name}].Rev > 0
					}), err
				}
			}),
			fails:    []string{listedResources},
			patience: time.Second, // it may come yet
		},
		{
			name: "a resource is listed for each bucket",
			make: method(func(o *override, good *reference) {
				o.resources = func(ctx context.Context, q zael.ListQuery) ([]string, error) {
					all, err := good.ListResources(ctx, q)
					return append(all, all...), err
				}
			}),
			fails: []string{listedResources},
		},
		{
			name: "a list with a context that is done fails in its own way",
			make: lists(func(ctx context.Context, good *reference, q zael.ListQuery) ([]zael.Entity, error) {
				if ctx.Err() != nil {
					return nil, errEnded
				}
				return good.ListEntities(ctx, q)
			}),
			fails: []string{"ListStore/a done context ends a list"},
		},
	}
}
