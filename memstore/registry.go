package memstore

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/zeroae/zael"
)

// eventsKept is how many audit events are kept: the newest.
const eventsKept = 10_000

// A book has what is stored besides buckets and usage.
type book struct {
	mu       sync.RWMutex
	entities map[string]zael.Entity
	children map[string]map[string]bool // by parent
	limits   map[zael.Scope]zael.LimitSet
	events   []zael.AuditEvent // oldest first
}

func (b *book) init() {
	b.entities = map[string]zael.Entity{}
	b.children = map[string]map[string]bool{}
	b.limits = map[zael.Scope]zael.LimitSet{}
}

func (b *book) record(event zael.AuditEvent) {
	event.Details = maps.Clone(event.Details)
	b.events = append(b.events, event)
	if len(b.events) >= 2*eventsKept {
		b.events = append([]zael.AuditEvent(nil), b.events[len(b.events)-eventsKept:]...)
	}
}

// CreateEntity implements zael.EntityStore.
func (s *Store) CreateEntity(_ context.Context, e zael.Entity, event zael.AuditEvent) error {
	b := &s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.entities[e.ID]; ok {
		return zael.ErrEntityExists
	}
	b.create(e, event)
	return nil
}

func (b *book) create(e zael.Entity, event zael.AuditEvent) {
	e.Metadata = maps.Clone(e.Metadata)
	b.entities[e.ID] = e
	if e.ParentID != "" {
		if b.children[e.ParentID] == nil {
			b.children[e.ParentID] = map[string]bool{}
		}
		b.children[e.ParentID][e.ID] = true
	}
	b.record(event)
}

// Entities implements zael.EntityStore.
func (s *Store) Entities(_ context.Context, ids []string) ([]zael.Entity, error) {
	b := &s.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	found := make([]zael.Entity, len(ids))
	for i, id := range ids {
		found[i] = b.entity(id)
	}
	return found, nil
}

func (b *book) entity(id string) zael.Entity {
	e := b.entities[id]
	e.Metadata = maps.Clone(e.Metadata)
	return e
}

// Children implements zael.EntityStore.
func (s *Store) Children(_ context.Context, parent string) iter.Seq2[zael.Entity, error] {
	b := &s.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	ids := slices.Sorted(maps.Keys(b.children[parent]))
	children := make([]zael.Entity, len(ids))
	for i, id := range ids {
		children[i] = b.entity(id)
	}
	return seq(children)
}

// DeleteEntity implements zael.EntityStore.
func (s *Store) DeleteEntity(_ context.Context, id string, event zael.AuditEvent) error {
	b := &s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	e, found := b.entities[id]
	delete(b.entities, id)
	if siblings := b.children[e.ParentID]; siblings != nil {
		delete(siblings, id)
		if len(siblings) == 0 {
			delete(b.children, e.ParentID)
		}
	}
	maps.DeleteFunc(b.limits, func(scope zael.Scope, _ zael.LimitSet) bool {
		found = found || scope.Entity == id
		return scope.Entity == id
	})
	found = s.deleteBuckets(id) || found
	if s.usage != nil {
		found = s.usage.deleteEntity(id) || found
	}
	if !found {
		return zael.ErrEntityNotFound
	}
	b.record(event)
	return nil
}

// SetLimits implements zael.LimitStore.
func (s *Store) SetLimits(_ context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	b := &s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set(scope, limits, event), nil
}

func (b *book) set(scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (rev int64) {
	rev = max(event.Time.UnixMicro(), b.limits[scope].Rev+1)
	b.limits[scope] = zael.LimitSet{Limits: slices.Clone(limits), Rev: rev}
	b.record(event)
	return rev
}

// DeleteLimits implements zael.LimitStore.
func (s *Store) DeleteLimits(_ context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
	b := &s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unset(scope, event), nil
}

func (b *book) unset(scope zael.Scope, event zael.AuditEvent) (rev int64) {
	set := b.limits[scope]
	if len(set.Limits) == 0 {
		return set.Rev
	}
	return b.set(scope, nil, event)
}

// Apply implements zael.Applier.
func (s *Store) Apply(_ context.Context, edits []zael.Edit) error {
	b := &s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	created := map[string]bool{}
	for _, e := range edits {
		if e.Event.Action != zael.EntityCreated {
			continue
		}
		if _, ok := b.entities[e.Entity.ID]; ok || created[e.Entity.ID] {
			return fmt.Errorf("%w: %s", zael.ErrEntityExists, e.Entity.ID)
		}
		created[e.Entity.ID] = true
	}
	for _, e := range edits {
		scope := e.Scope()
		switch e.Event.Action {
		case zael.EntityCreated:
			b.create(e.Entity, e.Event)
		case zael.LimitsSet:
			b.set(scope, e.Limits, e.Event)
		case zael.LimitsDeleted:
			b.unset(scope, e.Event)
		}
	}
	return nil
}

// Limits implements zael.LimitStore.
func (s *Store) Limits(_ context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	b := &s.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	sets := make([]zael.LimitSet, len(scopes))
	for i, scope := range scopes {
		sets[i] = b.limits[scope]
		sets[i].Limits = slices.Clone(sets[i].Limits)
	}
	return sets, nil
}

// Audit implements zael.AuditStore.
func (s *Store) Audit(_ context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	b := &s.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	var found []zael.AuditEvent
	for i := len(b.events) - 1; i >= max(0, len(b.events)-eventsKept); i-- {
		e := b.events[i]
		if q.Entity != "" && q.Entity != e.Entity ||
			!q.From.IsZero() && e.Time.Before(q.From) || !q.To.IsZero() && !e.Time.Before(q.To) {
			continue
		}
		e.Details = maps.Clone(e.Details)
		found = append(found, e)
	}
	// Events are recorded in the order of the changes, which clocks can differ
	// from; of equals the later change is the newer.
	slices.SortStableFunc(found, func(a, b zael.AuditEvent) int { return b.Time.Compare(a.Time) })
	return seq(found[:min(len(found), cmp.Or(q.Max, 100))])
}

// deleteBuckets removes an entity's buckets and tells whether it had any.
func (s *Store) deleteBuckets(id string) bool {
	_, index := s.hash(zael.Key{Entity: id})
	sh := &s.shards[index]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	deleted := 0
	for i := 0; i < len(sh.table.slots); {
		if r := sh.table.slots[i].record; r != nil && r.isEntity(id) {
			sh.table.remove(i) // and another may stand there now
			deleted++
			continue
		}
		i++
	}
	s.count.Add(int64(-deleted))
	return deleted > 0
}

// EntityBuckets implements zael.LimitStore.
func (s *Store) EntityBuckets(_ context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	_, index := s.hash(zael.Key{Entity: entity})
	found := s.shards[index].buckets(func(r *record) bool { return r.isEntity(entity) })
	slices.SortFunc(found, func(a, b zael.Bucket) int { return cmp.Compare(a.Key.Resource, b.Key.Resource) })
	return seq(found)
}

// ResourceBuckets implements zael.CapacityReader.
func (s *Store) ResourceBuckets(_ context.Context, resource string) iter.Seq2[zael.Bucket, error] {
	return func(yield func(zael.Bucket, error) bool) {
		for i := range s.shards {
			for _, b := range s.shards[i].buckets(func(r *record) bool { return r.resource.Value() == resource }) {
				if !yield(b, nil) {
					return
				}
			}
		}
	}
}

// buckets are copies of the shard's buckets that match.
func (sh *shard) buckets(match func(*record) bool) []zael.Bucket {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var found []zael.Bucket
	for _, s := range sh.table.slots {
		if s.record != nil && s.record.first[0].limit != nil && match(s.record) {
			found = append(found, zael.Bucket{Key: s.record.key(), Limits: s.record.states()})
		}
	}
	return found
}

func seq[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}
