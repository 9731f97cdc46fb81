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

// filtered is an iteration without some of its values.
func filtered[T any](seq iter.Seq2[T, error], keep func(i int, v T) bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		i := 0
		for v, err := range seq {
			if (err != nil || keep(i, v)) && !yield(v, err) {
				return
			}
			i++
		}
	}
}

// sorted is an iteration in another order.
func sorted[T any](seq iter.Seq2[T, error], compare func(a, b T) int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var all []T
		for v, err := range seq {
			if err != nil {
				yield(v, err)
				return
			}
			all = append(all, v)
		}
		slices.SortStableFunc(all, compare)
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// silent is an iteration that ends without a word when its context is done.
func silent[T any](ctx context.Context, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if ctx.Err() == nil {
			seq(yield)
		}
	}
}

// created is a store that creates another entity than it was asked to.
func created(change func(good *reference, e *zael.Entity)) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
			change(good, &e)
			return good.CreateEntity(ctx, e, event)
		}
	})
}

// brokenEntities have a defect as EntityStore or CapacityReader.
func brokenEntities() []brokenStore {
	const back = "EntityStore/an entity comes back as it was created"
	return []brokenStore{
		{name: "no metadata", make: created(func(_ *reference, e *zael.Entity) { e.Metadata = nil }), fails: []string{back}},
		{name: "no flag", make: created(func(_ *reference, e *zael.Entity) { e.Cascade = false }), fails: []string{back}},
		{
			name:  "created by the second",
			make:  created(func(_ *reference, e *zael.Entity) { e.CreatedAt = e.CreatedAt.Truncate(time.Second) }),
			fails: []string{back},
		},
		{
			name:  "created in local time",
			make:  created(func(_ *reference, e *zael.Entity) { e.CreatedAt = e.CreatedAt.In(time.FixedZone("here", 3600)) }),
			fails: []string{back},
		},
		{
			name: "metadata is the caller's",
			make: method(func(o *override, good *reference) {
				o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
					err := good.CreateEntity(ctx, e, event)
					good.entities[e.ID] = e
					return err
				}
			}),
			fails: []string{back},
		},
		{
			name: "metadata is the reader's",
			make: method(func(o *override, good *reference) {
				o.entities = func(_ context.Context, ids []string) ([]zael.Entity, error) {
					all := make([]zael.Entity, len(ids))
					for i, id := range ids {
						all[i] = good.entities[id]
					}
					return all, nil
				}
			}),
			fails: []string{back},
		},
		{
			name: "creating again replaces",
			make: method(func(o *override, good *reference) {
				o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
					if err := good.CreateEntity(ctx, e, event); err == nil {
						return nil
					}
					good.entities[e.ID] = e
					return zael.ErrEntityExists
				}
			}),
			fails: []string{"EntityStore/an entity is created once"},
		},
		{
			name: "creating again works",
			make: created(func(good *reference, e *zael.Entity) { delete(good.entities, e.ID) }),
			fails: []string{
				"EntityStore/an entity is created once", "AuditStore/what changes nothing records nothing",
			},
		},
		{
			name: "creators look, and then create",
			make: method(func(o *override, good *reference) {
				var m meeting
				o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
					if found, err := good.Entities(ctx, []string{e.ID}); err != nil || found[0].ID != "" {
						return errors.Join(err, zael.ErrEntityExists)
					}
					m.wait()
					good.mu.Lock()
					defer good.mu.Unlock()
					good.entities[e.ID] = e
					good.write(event)
					return nil
				}
			}),
			fails: []string{"EntityStore/one of many creators wins", "AuditStore/one of many creators is recorded"},
		},
		{
			name: "missing entities are left out",
			make: method(func(o *override, good *reference) {
				o.entities = func(ctx context.Context, ids []string) ([]zael.Entity, error) {
					all, err := good.Entities(ctx, ids)
					return slices.DeleteFunc(all, func(e zael.Entity) bool { return e.ID == "" }), err
				}
			}),
			fails: []string{"EntityStore/entities are read in order, missing ones as zero"},
		},
		{
			name: "a hundred entities at a time",
			make: method(func(o *override, good *reference) {
				o.entities = func(ctx context.Context, ids []string) ([]zael.Entity, error) {
					all, err := good.Entities(ctx, ids)
					clear(all[min(len(all), 100):])
					return all, err
				}
			}),
			fails: []string{"EntityStore/entities are read in order, missing ones as zero"},
		},
		{
			name:  "ids are folded to lower case",
			make:  created(func(_ *reference, e *zael.Entity) { e.ID = strings.ToLower(e.ID) }),
			fails: []string{"EntityStore/ids that differ are different entities"},
		},
		{
			name: "the first page of children",
			make: method(func(o *override, good *reference) {
				o.children = func(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
					return filtered(good.Children(ctx, parent), func(i int, _ zael.Entity) bool { return i < 100 })
				}
			}),
			fails: []string{"EntityStore/children are complete and in order"},
		},
		{
			name: "children in an order without case",
			make: method(func(o *override, good *reference) {
				o.children = func(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
					return sorted(good.Children(ctx, parent), func(a, b zael.Entity) int {
						return strings.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID))
					})
				}
			}),
			fails: []string{"EntityStore/children are complete and in order"},
		},
		{
			name: "children of all parents that begin so",
			make: method(func(o *override, good *reference) {
				o.children = func(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
					return list(ctx, func() []zael.Entity {
						var all []zael.Entity
						for _, id := range slices.Sorted(maps.Keys(good.entities)) {
							if e := good.entities[id]; e.ParentID != "" && strings.HasPrefix(e.ParentID, parent) {
								all = append(all, e)
							}
						}
						return all
					})
				}
			}),
			fails: []string{"EntityStore/children are those of the parent alone"},
		},
		{
			name: "the store is locked while it iterates",
			make: method(func(o *override, good *reference) {
				o.ofEntity = func(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
					return func(yield func(zael.Bucket, error) bool) {
						all := good.EntityBuckets(ctx, entity)
						all(func(b zael.Bucket, err error) bool {
							good.mu.Lock()
							defer good.mu.Unlock()
							return yield(b, err)
						})
					}
				}
			}),
			fails:    []string{"EntityStore/an iteration may stop and may call the store"},
			patience: time.Second,
		},
		{
			name: "an iteration goes on",
			make: method(func(o *override, good *reference) {
				o.children = func(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
					return func(yield func(zael.Entity, error) bool) {
						for e, err := range good.Children(ctx, parent) {
							yield(e, err)
						}
					}
				}
			}),
			fails: []string{"EntityStore/an iteration may stop and may call the store"},
		},
		{
			name:  "25 buckets are deleted",
			make:  deleted(func(k zael.Key, id string, n int) bool { return k.Entity == id && n < 25 }),
			fails: []string{"EntityStore/deleting an entity removes all of it"},
		},
		{
			name:  "entities that begin so are deleted",
			make:  deleted(func(k zael.Key, id string, _ int) bool { return strings.HasPrefix(k.Entity, id) }),
			fails: []string{"EntityStore/deleting an entity leaves the others"},
		},
		{
			name: "entities that look so are deleted",
			make: deleted(func(k zael.Key, id string, _ int) bool {
				return len(k.Entity) == len(id) && strings.ReplaceAll(id, "_", k.Entity[min(2, len(k.Entity)-1):min(3, len(k.Entity))]) == k.Entity
			}),
			fails: []string{"EntityStore/deleting an entity leaves the others"},
		},
		{
			name: "children are deleted with the parent",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					err := good.DeleteEntity(ctx, id, event)
					maps.DeleteFunc(good.entities, func(_ string, e zael.Entity) bool { return e.ParentID == id })
					return err
				}
			}),
			fails: []string{"EntityStore/deleting an entity leaves the others"},
		},
		{
			name: "deleting nothing works",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					if err := good.DeleteEntity(ctx, id, event); !errors.Is(err, zael.ErrEntityNotFound) {
						return err
					}
					good.write(event)
					return nil
				}
			}),
			fails: []string{"EntityStore/deleting finds what there is", "AuditStore/what changes nothing records nothing"},
		},
		{
			name: "deleting needs an entity",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					if _, ok := good.entities[id]; !ok {
						return zael.ErrEntityNotFound
					}
					return good.DeleteEntity(ctx, id, event)
				}
			}),
			fails: []string{
				"EntityStore/deleting finds what there is", "LimitStore/deleting an entity removes its limits", "UsageStore/deleting an entity removes its usage",
			},
		},
		{
			name: "a context that ends has created",
			make: method(func(o *override, good *reference) {
				o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
					return errors.Join(good.CreateEntity(context.WithoutCancel(ctx), e, event), ctx.Err())
				}
			}),
			fails: []string{"EntityStore/a done context: all or nothing", "AuditStore/a done context: all or nothing"},
		},
		{
			name: "100 buckets of a resource",
			make: method(func(o *override, good *reference) {
				o.ofResource = func(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
					return filtered(good.ResourceBuckets(ctx, resource), func(i int, _ zael.Bucket) bool { return i < 100 })
				}
			}),
			fails: []string{"CapacityReader/a resource's buckets are complete"},
		},
		{
			name: "buckets in debt are left out",
			make: method(func(o *override, good *reference) {
				o.ofResource = func(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
					return filtered(good.ResourceBuckets(ctx, resource), func(_ int, b zael.Bucket) bool {
						return !slices.ContainsFunc(b.Limits, func(l zael.LimitState) bool { return l.State.Available(good.latest) < 0 })
					})
				}
			}),
			fails: []string{"CapacityReader/a resource's buckets are complete"},
		},
		{
			name: "resources without case",
			make: method(func(o *override, good *reference) {
				o.ofResource = func(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
					return good.list(ctx, func(k zael.Key) bool { return strings.EqualFold(k.Resource, resource) })
				}
			}),
			fails: []string{"CapacityReader/resources that differ are kept apart"},
		},
		{
			name: "capacity is silent when the context ends",
			make: method(func(o *override, good *reference) {
				o.ofResource = func(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
					return silent(ctx, good.ResourceBuckets(ctx, resource))
				}
			}),
			fails: []string{"CapacityReader/a done context: all or nothing"},
		},
	}
}

// deleted is a store that deletes other buckets and entities.
func deleted(matches func(k zael.Key, id string, n int) bool) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.remove = func(_ context.Context, id string, event zael.AuditEvent) error {
			good.write(event)
			delete(good.entities, id)
			n := 0
			maps.DeleteFunc(good.buckets, func(k zael.Key, _ *record) bool {
				gone := matches(k, id, n)
				if gone {
					n++
				}
				return gone
			})
			return nil
		}
	})
}
