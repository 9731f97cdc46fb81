package zael

import (
	"context"
	"iter"
	"slices"

	"github.com/zeroae/zael/bucket"
)

// A BucketStatus tells how a bucket in use stands, and which stored limits hold for it.
type BucketStatus struct {
	Resource string
	Statuses []Status // of the limits that it was last used with; Requested and what follows from it are zero
	// Stored is the scope that decides for the bucket, with the limits that requests for
	// stored limits are held to. Without limits no scope decides.
	Stored ScopeLimits
}

// EntityBuckets returns the buckets of an entity that are in use, by resource: the first of
// them, as many as most says, or 100 if it is 0. Full buckets may be missing, as stores
// forget them. It takes nothing. Errors are those of [Limiter.Limits].
func (l *Limiter) EntityBuckets(ctx context.Context, entity string, most int) ([]BucketStatus, error) {
	if err := checkMax("most", &most); err != nil {
		return nil, err
	}
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if err := checkEntity("entity", entity); err != nil {
		return nil, err
	}
	if l.limitStore == nil {
		return nil, l.unsupported("LimitStore")
	}
	statuses, err := l.entityBuckets(ctx, entity, most)
	return statuses, l.storeError(ctx, Key{Entity: entity}, err)
}

func (l *Limiter) entityBuckets(ctx context.Context, entity string, most int) ([]BucketStatus, error) {
	buckets, err := collect(l.ofTheLiving(ctx, firstN(most, l.limitStore.EntityBuckets(ctx, entity))))
	if err != nil || len(buckets) == 0 {
		return []BucketStatus{}, err
	}
	at, err := l.instant()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(buckets, func(a, b Bucket) int { return Scope(a.Key).Compare(Scope(b.Key)) })
	scopes := []Scope{{}, {Entity: entity}}
	for _, b := range buckets {
		scopes = append(scopes, Scope{Entity: entity, Resource: b.Key.Resource}, Scope{Resource: b.Key.Resource})
	}
	sets, err := l.limitStore.Limits(ctx, scopes)
	if err != nil {
		return nil, err
	}
	limits := make(map[Scope][]Limit, len(scopes))
	for i, scope := range scopes {
		limits[scope] = sets[i].Limits
	}
	statuses := make([]BucketStatus, len(buckets))
	for i := range buckets {
		statuses[i] = buckets[i].status(at)
		for _, scope := range scopesOf(buckets[i].Key) {
			if len(limits[scope]) > 0 {
				statuses[i].Stored = ScopeLimits{scope, limits[scope]}
				break
			}
		}
	}
	return statuses, nil
}

// ofTheLiving is liveBuckets for the slots of all limits.
func (l *Limiter) ofTheLiving(ctx context.Context, buckets iter.Seq2[Bucket, error]) iter.Seq2[Bucket, error] {
	return l.liveBuckets(ctx, buckets, func(b *Bucket) bool {
		return slices.ContainsFunc(b.Limits, func(s LimitState) bool { return holdsSlots(s.State) })
	})
}

// holdsSlots reports whether slots of a limit are held, perhaps by holders that have died.
func holdsSlots(s bucket.State) bool { return s.Definition.Kind == bucket.Slots && s.Used > 0 }

// status returns how a bucket stands at an instant.
func (b *Bucket) status(at bucket.Instant) BucketStatus {
	d := Decision{Admitted: true, at: at}
	m := &standings{resource: b.Key.Resource, entities: [2]string{b.Key.Entity}, own: len(b.Limits)}
	for i := range b.Limits {
		s := &b.Limits[i]
		m.limits = append(m.limits, &bucket.Limit{Name: s.Name, Definition: s.State.Definition})
		m.marks, m.used = append(m.marks, s.State.Mark), append(m.used, s.State.Used)
	}
	m.amounts = make([]int64, len(b.Limits))
	d.stand(m)
	return BucketStatus{Resource: b.Key.Resource, Statuses: slices.AppendSeq([]Status{}, d.All())}
}
