package dynamostore

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/schema"
)

// Buckets implements zael.BucketStore.
func (s *Store) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return now, nil, err
		}
	}
	if s.closed.Load() {
		return now, nil, errClosed
	}
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, nil, err
	}
	const what = "reading buckets"
	itemKeys := make([]item, len(keys))
	for i, k := range keys {
		itemKeys[i] = s.itemKey(k)
	}
	found, err := s.getAll(ctx, what, itemKeys)
	if err != nil {
		return now, nil, err
	}
	buckets := make([]zael.Bucket, len(keys))
	for i, k := range keys {
		r, err := recordOf(found[keyOf(itemKeys[i])])
		if err != nil {
			return now, nil, err
		}
		s.cache.observe(k, r, at, nil)
		buckets[i] = r.Bucket(k, at)
	}
	return now, buckets, nil
}

// bucketOf returns the bucket in an item; ok reports whether it has any limits.
func (s *Store) bucketOf(it item) (b zael.Bucket, ok bool, err error) {
	r, err := recordOf(it)
	if err != nil {
		return b, false, err
	}
	b = r.Bucket(zael.Key{
		Entity:   strings.TrimPrefix(schema.TextIn(it, "PK"), s.keys.Entity("")),
		Resource: strings.TrimPrefix(schema.TextIn(it, "SK"), bucketKey),
	}, 0) // all slots count, also those of holders that may have died
	return b, len(b.Limits) > 0, nil
}

// EntityBuckets implements zael.LimitStore.
func (s *Store) EntityBuckets(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	if err := checkName("entity", entity); err != nil {
		return pages.Failed[zael.Bucket](err)
	}
	q := query{pk: s.keys.Entity(entity)}.prefixed(bucketKey)
	return func(yield func(zael.Bucket, error) bool) {
		for page, err := range s.pages(ctx, "reading an entity's buckets", q) {
			if err != nil {
				yield(zael.Bucket{}, err)
				return
			}
			if !s.yieldBuckets(page, yield) {
				return
			}
		}
	}
}

func (s *Store) yieldBuckets(items []item, yield func(zael.Bucket, error) bool) bool {
	for _, it := range items {
		b, ok, err := s.bucketOf(it)
		if (ok || err != nil) && (!yield(b, err) || err != nil) {
			return false
		}
	}
	return true
}

// ResourceBuckets implements zael.CapacityReader. It reads the index, which may
// be a moment behind, and then the buckets themselves.
func (s *Store) ResourceBuckets(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
	if err := checkName("resource", resource); err != nil {
		return pages.Failed[zael.Bucket](err)
	}
	const what = "reading a resource's buckets"
	return func(yield func(zael.Bucket, error) bool) {
		for shard := range uint32(shards) {
			q := query{index: true, pk: s.keys.shard(resource, shard)}
			for page, err := range s.pages(ctx, what, q) {
				var items []item
				if err == nil {
					items, err = s.readByIndex(ctx, what, page)
				}
				if err != nil {
					yield(zael.Bucket{}, err)
					return
				}
				if !s.yieldBuckets(items, yield) {
					return
				}
			}
		}
	}
}
