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
	"github.com/zeroae/zael/internal/edits"
)

// eventsKept is how many audit events are kept: the newest ones.
const eventsKept = 10_000

// A registry holds entities, stored limits and audit events.
type registry struct {
	mu       sync.RWMutex
	entities map[string]zael.Entity
	children map[string]map[string]bool // by parent
	limits   map[zael.Scope]zael.LimitSet
	events   []zael.AuditEvent // oldest first

	once      map[string]onceRecord
	purgeOnce int // the number at which old ones are dropped
}

func (r *registry) init() {
	r.entities = map[string]zael.Entity{}
	r.children = map[string]map[string]bool{}
	r.limits = map[zael.Scope]zael.LimitSet{}
	r.once, r.purgeOnce = map[string]onceRecord{}, onceKept
}

func (r *registry) record(event zael.AuditEvent) {
	event.Details = maps.Clone(event.Details)
	r.events = append(r.events, event)
	if len(r.events) >= 2*eventsKept {
		r.events = append([]zael.AuditEvent(nil), r.events[len(r.events)-eventsKept:]...)
	}
}

// CreateEntity implements zael.EntityStore.
func (s *Store) CreateEntity(_ context.Context, e zael.Entity, event zael.AuditEvent) error {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.entities[e.ID]; ok {
		return zael.ErrEntityExists
	}
	r.create(e, event)
	return nil
}

func (r *registry) create(e zael.Entity, event zael.AuditEvent) {
	e.Metadata = maps.Clone(e.Metadata)
	r.link(&e)
	r.record(event)
}

// link keeps e, and it as a child of its parent.
func (r *registry) link(e *zael.Entity) {
	r.entities[e.ID] = *e
	if e.ParentID != "" {
		if r.children[e.ParentID] == nil {
			r.children[e.ParentID] = map[string]bool{}
		}
		r.children[e.ParentID][e.ID] = true
	}
}

// unlink drops e, also as a child of its parent.
func (r *registry) unlink(e *zael.Entity) {
	delete(r.entities, e.ID)
	if siblings := r.children[e.ParentID]; siblings != nil {
		delete(siblings, e.ID)
		if len(siblings) == 0 {
			delete(r.children, e.ParentID)
		}
	}
}

// Entities implements zael.EntityStore.
func (s *Store) Entities(_ context.Context, ids []string) ([]zael.Entity, error) {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	found := make([]zael.Entity, len(ids))
	for i, id := range ids {
		found[i] = r.entity(id)
	}
	return found, nil
}

func (r *registry) entity(id string) zael.Entity {
	e := r.entities[id]
	e.Metadata = maps.Clone(e.Metadata)
	return e
}

// Children implements zael.EntityStore.
func (s *Store) Children(_ context.Context, parent string) iter.Seq2[zael.Entity, error] {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	ids := slices.Sorted(maps.Keys(r.children[parent]))
	children := make([]zael.Entity, len(ids))
	for i, id := range ids {
		children[i] = r.entity(id)
	}
	return seq(children)
}

// DeleteEntity implements zael.EntityStore.
func (s *Store) DeleteEntity(_ context.Context, id string, event zael.AuditEvent) error {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	e, found := r.entities[id]
	r.unlink(&zael.Entity{ID: id, ParentID: e.ParentID})
	maps.DeleteFunc(r.limits, func(scope zael.Scope, _ zael.LimitSet) bool {
		found = found || scope.Entity == id
		return scope.Entity == id
	})
	found = s.settings.deleteEntity(id) || found
	found = s.deleteBuckets(id) || found
	if s.usage != nil {
		found = s.usage.deleteEntity(id) || found
	}
	if !found {
		return zael.ErrEntityNotFound
	}
	r.record(event)
	return nil
}

// SetLimits implements zael.LimitStore.
func (s *Store) SetLimits(_ context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set(scope, limits, event), nil
}

func (r *registry) set(scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (rev int64) {
	rev = max(event.Time.UnixMicro(), r.limits[scope].Rev+1)
	r.limits[scope] = zael.LimitSet{Limits: slices.Clone(limits), Rev: rev}
	r.record(event)
	return rev
}

// DeleteLimits implements zael.LimitStore.
func (s *Store) DeleteLimits(_ context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unset(scope, event), nil
}

func (r *registry) unset(scope zael.Scope, event zael.AuditEvent) (rev int64) {
	set := r.limits[scope]
	if len(set.Limits) == 0 {
		return set.Rev
	}
	return r.set(scope, nil, event)
}

// Apply implements zael.Applier.
func (s *Store) Apply(_ context.Context, all []zael.Edit) error {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	created := map[string]bool{}
	for _, e := range all {
		if !e.Applies() {
			return edits.Refused(&e)
		}
		if e.Event.Action != zael.EntityCreated {
			continue
		}
		if _, ok := r.entities[e.Entity.ID]; ok || created[e.Entity.ID] {
			return fmt.Errorf("%w: %s", zael.ErrEntityExists, e.Entity.ID)
		}
		created[e.Entity.ID] = true
	}
	for _, e := range all {
		scope := e.Scope()
		switch e.Event.Action {
		case zael.EntityCreated:
			r.create(e.Entity, e.Event)
		case zael.LimitsSet:
			r.set(scope, e.Limits, e.Event)
		case zael.LimitsDeleted:
			r.unset(scope, e.Event)
		default:
			_, _ = s.administer(e.Event.Time, &e) // checked above
		}
	}
	return nil
}

// Limits implements zael.LimitStore.
func (s *Store) Limits(_ context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	sets := make([]zael.LimitSet, len(scopes))
	for i, scope := range scopes {
		sets[i] = r.limits[scope]
		sets[i].Limits = slices.Clone(sets[i].Limits)
	}
	return sets, nil
}

// Audit implements zael.AuditStore.
func (s *Store) Audit(_ context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	var found []zael.AuditEvent
	for i := len(r.events) - 1; i >= max(0, len(r.events)-eventsKept); i-- {
		e := r.events[i]
		if q.Entity != "" && q.Entity != e.Entity ||
			!q.From.IsZero() && e.Time.Before(q.From) || !q.To.IsZero() && !e.Time.Before(q.To) {
			continue
		}
		e.Details = maps.Clone(e.Details)
		found = append(found, e)
	}
	// Events are in the order of the changes, and clocks may differ. Of two at the
	// same time, that of the later change is the newer.
	slices.SortStableFunc(found, func(a, b zael.AuditEvent) int { return b.Time.Compare(a.Time) })
	return seq(found[:min(len(found), cmp.Or(q.Max, 100))])
}

// deleteBuckets removes the buckets of an entity, and reports whether it had any.
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

// buckets returns copies of the shard's buckets that match.
func (sh *shard) buckets(match func(*record) bool) []zael.Bucket {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var found []zael.Bucket
	for _, s := range sh.table.slots {
		if s.record != nil && s.record.first[0].limit != nil && match(s.record) {
			found = append(found, zael.Bucket{Key: s.record.key(), Limits: s.record.states(s.record.latest)})
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
