package storetest_test

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/zeroae/zael"
)

// mixUps are ways in which a store can mix up names: whether it takes one that it has
// for one that it is asked for.
func mixUps() map[string]func(asked, has string) bool {
	composed := strings.NewReplacer("e\u0301", "\u00e9").Replace
	return map[string]func(asked, has string) bool{
		"all that begin so, up to a #": func(asked, has string) bool { return has == asked || strings.HasPrefix(has, asked+"#") },
		"all that end so, after a /":   func(asked, has string) bool { return has == asked || strings.HasSuffix(has, "/"+asked) },
		"all but for a / at the end":   func(asked, has string) bool { return strings.TrimSuffix(has, "/") == strings.TrimSuffix(asked, "/") },
		"all without case":             strings.EqualFold,
		"all that compose alike":       func(asked, has string) bool { return composed(has) == composed(asked) },
		"all that unescape alike": func(asked, has string) bool {
			return strings.ReplaceAll(has, "%23", "#") == strings.ReplaceAll(asked, "%23", "#")
		},
	}
}

// brokenNames mix up names where they select by them.
func brokenNames() []brokenStore {
	var list []brokenStore
	for how, same := range mixUps() {
		list = append(
			list,
			brokenStore{
				name: "buckets of a resource: " + how,
				make: method(func(o *override, good *reference) {
					o.ofResource = func(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
						return good.list(ctx, func(k zael.Key) bool { return same(resource, k.Resource) })
					}
				}),
				fails: []string{"CapacityReader/resources that differ are kept apart"},
			},
			brokenStore{
				name: "usage of an entity: " + how,
				make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
					entity := q.Entity
					if q.Entity = ""; q.Resource != "" {
						q.Entity = entity // by both it is right
					}
					return filtered(good.Usage(ctx, q), func(_ int, r zael.UsageRecord) bool { return entity == "" || same(entity, r.Entity) })
				}),
				fails: []string{"UsageStore/names that differ are counted apart"},
			},
			brokenStore{
				name: "usage of a resource: " + how,
				make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
					resource := q.Resource
					q.Resource = ""
					return filtered(good.Usage(ctx, q), func(_ int, r zael.UsageRecord) bool { return resource == "" || same(resource, r.Resource) })
				}),
				fails: []string{"UsageStore/names that differ are counted apart"},
			},
			brokenStore{
				name: "events of an entity: " + how,
				make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
					entity := q.Entity
					q.Entity, q.Max = "", 1000
					return filtered(good.Audit(ctx, q), func(_ int, event zael.AuditEvent) bool { return entity == "" || same(entity, event.Entity) })
				}),
				fails: []string{"AuditStore/names that differ have events apart"},
			},
		)
	}
	slices.SortFunc(list, func(a, b brokenStore) int { return strings.Compare(a.name, b.name) })
	return list
}
