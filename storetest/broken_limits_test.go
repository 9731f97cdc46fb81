package storetest_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

// scoped is a store that keeps limits under other scopes.
func scoped(change func(zael.Scope) zael.Scope) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.set = func(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
			return good.SetLimits(ctx, change(scope), limits, event)
		}
		o.unset = func(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
			return good.DeleteLimits(ctx, change(scope), event)
		}
		o.limits = func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
			scopes = slices.Clone(scopes)
			for i, scope := range scopes {
				scopes[i] = change(scope)
			}
			return good.Limits(ctx, scopes)
		}
	})
}

// setting is a store that sets limits in its own way.
func setting(set func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error)) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.set = func(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
			return set(ctx, good, scope, limits, event)
		}
	})
}

// reading is a store that reads limits in its own way.
func reading(change func(good *reference, scopes []zael.Scope, sets []zael.LimitSet) []zael.LimitSet) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.limits = func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
			sets, err := good.Limits(ctx, scopes)
			return change(good, scopes, sets), err
		}
	})
}

// brokenLimits have a defect as LimitStore.
func brokenLimits() []brokenStore {
	return []brokenStore{
		{
			name: "limits in order of name",
			make: reading(func(_ *reference, _ []zael.Scope, sets []zael.LimitSet) []zael.LimitSet {
				for _, set := range sets {
					slices.SortFunc(set.Limits, func(a, b zael.Limit) int { return strings.Compare(a.Name, b.Name) })
				}
				return sets
			}),
			fails: []string{"LimitStore/limits come back as they were set"},
		},
		{
			name: "periods by the second",
			make: setting(func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
				limits = slices.Clone(limits)
				for i := range limits {
					limits[i].RefillPeriod = limits[i].RefillPeriod.Truncate(time.Second)
				}
				return good.SetLimits(ctx, scope, limits, event)
			}),
			fails: []string{"LimitStore/limits come back as they were set"},
		},
		{
			name: "limits are the caller's",
			make: setting(func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
				rev, err := good.SetLimits(ctx, scope, limits, event)
				good.limits[scope] = zael.LimitSet{Limits: limits, Rev: rev}
				return rev, err
			}),
			fails: []string{"LimitStore/limits come back as they were set"},
		},
		{
			name: "limits are the reader's",
			make: reading(func(good *reference, scopes []zael.Scope, sets []zael.LimitSet) []zael.LimitSet {
				for i, scope := range scopes {
					sets[i] = good.limits[scope]
				}
				return sets
			}),
			fails: []string{"LimitStore/limits come back as they were set"},
		},
		{
			name: "limits are merged",
			make: setting(func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
				limits = slices.Clone(limits)
				for _, old := range good.limits[scope].Limits {
					if !slices.ContainsFunc(limits, func(l zael.Limit) bool { return l.Name == old.Name }) {
						limits = append(limits, old)
					}
				}
				return good.SetLimits(ctx, scope, limits, event)
			}),
			fails: []string{"LimitStore/limits are replaced as a whole"},
		},
		{
			name: "the revision is the time",
			make: setting(func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
				_, err := good.SetLimits(ctx, scope, limits, event)
				rev := event.Time.UnixMicro()
				good.mu.Lock()
				defer good.mu.Unlock()
				good.limits[scope] = zael.LimitSet{Limits: slices.Clone(limits), Rev: rev}
				return rev, err
			}),
			fails: []string{"LimitStore/revisions are the time in µs and always rise", "LimitStore/writers get revisions of their own"},
		},
		{
			name: "the revision is a counter",
			make: setting(func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
				event.Time = time.Unix(0, 0)
				return good.SetLimits(ctx, scope, limits, event)
			}),
			fails: []string{"LimitStore/revisions are the time in µs and always rise"},
		},
		{
			name: "deleting leaves nothing",
			make: method(func(o *override, good *reference) {
				o.unset = func(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
					rev, err := good.DeleteLimits(ctx, scope, event)
					delete(good.limits, scope)
					return rev, err
				}
			}),
			fails: []string{"LimitStore/deleting leaves a revision"},
		},
		{
			name: "deleting again is a change",
			make: method(func(o *override, good *reference) {
				o.unset = func(_ context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
					rev := max(event.Time.UnixMicro(), good.limits[scope].Rev+1)
					good.limits[scope] = zael.LimitSet{Rev: rev}
					good.write(event)
					return rev, nil
				}
			}),
			fails: []string{
				"LimitStore/deleting nothing changes nothing", "LimitStore/deleting leaves a revision", "AuditStore/what changes nothing records nothing",
			},
		},
		{
			name:  "an entity's scope is also a resource's",
			make:  scoped(func(s zael.Scope) zael.Scope { return zael.Scope{Entity: s.Entity + s.Resource} }),
			fails: []string{"LimitStore/the four scopes are kept apart"},
		},
		{
			name: "the system's scope is an entity's",
			make: scoped(func(s zael.Scope) zael.Scope {
				if s == (zael.Scope{}) {
					return zael.Scope{Entity: "SYSTEM"}
				}
				return s
			}),
			fails: []string{"LimitStore/the four scopes are kept apart"},
		},
		{
			name: "an entity's scope is its resource called default",
			make: scoped(func(s zael.Scope) zael.Scope {
				if s.Entity != "" && s.Resource == "" {
					s.Resource = "default"
				}
				return s
			}),
			fails: []string{"LimitStore/the four scopes are kept apart"},
		},
		{
			name:  "scopes are folded to lower case",
			make:  scoped(func(s zael.Scope) zael.Scope { return zael.Scope(lower(zael.Key(s))) }),
			fails: []string{"LimitStore/scopes that differ in name are different scopes"},
		},
		{
			name: "scopes without limits are left out",
			make: reading(func(_ *reference, _ []zael.Scope, sets []zael.LimitSet) []zael.LimitSet {
				return slices.DeleteFunc(sets, func(set zael.LimitSet) bool { return set.Rev == 0 })
			}),
			fails: []string{"LimitStore/limits are read in the order of scopes"},
		},
		{
			name: "a hundred scopes at a time",
			make: reading(func(_ *reference, _ []zael.Scope, sets []zael.LimitSet) []zael.LimitSet {
				clear(sets[min(len(sets), 100):])
				return sets
			}),
			fails: []string{"LimitStore/limits are read in the order of scopes"},
		},
		{
			name: "limits are written one by one",
			make: method(func(o *override, good *reference) {
				var m meeting
				o.set = func(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
					rev, err := good.SetLimits(ctx, scope, limits[:1], event)
					for i := range limits {
						m.wait()
						good.mu.Lock()
						good.limits[scope] = zael.LimitSet{Limits: slices.Clone(limits[:i+1]), Rev: rev}
						good.mu.Unlock()
					}
					return rev, err
				}
				o.limits = func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
					defer m.arrive()
					return good.Limits(ctx, scopes)
				}
			}),
			fails: []string{"LimitStore/readers see whole sets, and what was finished before"},
		},
		{
			name: "limits are read from a cache",
			make: method(func(o *override, good *reference) {
				var cached []zael.LimitSet
				reads := 0
				o.limits = func(ctx context.Context, scopes []zael.Scope) (sets []zael.LimitSet, err error) {
					good.mu.Lock()
					fresh := reads%10 == 0
					reads++
					good.mu.Unlock()
					if fresh {
						sets, err = good.Limits(ctx, scopes)
					}
					good.mu.Lock()
					defer good.mu.Unlock()
					if fresh {
						cached = sets
					}
					return slices.Clone(cached), err
				}
			}),
			fails: []string{"LimitStore/readers see whole sets, and what was finished before", "LimitStore/limits are replaced as a whole"},
		},
		{
			name: "writers look, and then write",
			make: method(func(o *override, good *reference) {
				var m meeting
				o.set = func(_ context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
					good.mu.Lock()
					rev := max(event.Time.UnixMicro(), good.limits[scope].Rev+1)
					good.mu.Unlock()
					m.wait()
					good.mu.Lock()
					defer good.mu.Unlock()
					good.limits[scope] = zael.LimitSet{Limits: slices.Clone(limits), Rev: rev}
					return rev, nil
				}
			}),
			fails: []string{"LimitStore/writers get revisions of their own"},
		},
		{
			name: "new limits are new buckets",
			make: setting(func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
				delete(good.buckets, zael.Key(scope))
				return good.SetLimits(ctx, scope, limits, event)
			}),
			fails: []string{"LimitStore/setting limits leaves buckets alone"},
		},
		{
			name: "50 buckets of an entity",
			make: method(func(o *override, good *reference) {
				o.ofEntity = func(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
					return filtered(good.EntityBuckets(ctx, entity), func(i int, _ zael.Bucket) bool { return i < 50 })
				}
			}),
			fails: []string{"LimitStore/an entity's buckets are complete and in order"},
		},
		{
			name: "an entity's buckets without order",
			make: method(func(o *override, good *reference) {
				o.ofEntity = func(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
					return sorted(good.EntityBuckets(ctx, entity), func(a, b zael.Bucket) int { return strings.Compare(b.Key.Resource, a.Key.Resource) })
				}
			}),
			fails: []string{"LimitStore/an entity's buckets are complete and in order"},
		},
		{
			name: "an entity's limits outlive it",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					limits := maps.Clone(good.limits)
					defer func() { good.limits = limits }()
					return good.DeleteEntity(ctx, id, event)
				}
			}),
			fails: []string{"LimitStore/deleting an entity removes its limits"},
		},
		{
			name: "an entity's tombstones outlive it",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					stones := maps.Clone(good.limits)
					maps.DeleteFunc(stones, func(scope zael.Scope, set zael.LimitSet) bool { return scope.Entity != id || len(set.Limits) > 0 })
					err := good.DeleteEntity(ctx, id, event)
					maps.Copy(good.limits, stones)
					return err
				}
			}),
			fails: []string{"LimitStore/deleting an entity removes its limits"},
		},
		{
			name: "a context that ends has set half",
			make: setting(func(ctx context.Context, good *reference, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
				if ctx.Err() != nil {
					limits = limits[:1]
				}
				rev, err := good.SetLimits(context.WithoutCancel(ctx), scope, limits, event)
				return rev, errors.Join(err, ctx.Err())
			}),
			fails: []string{"LimitStore/a done context: all or nothing"},
		},
	}
}
