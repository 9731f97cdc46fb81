package zael

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeroae/zael/bucket"
)

const (
	maxDisplayName = 256
	maxMetadata    = 16 << 10 // bytes of keys and values together
)

// The calls on this page change or read what is stored besides buckets. They
// run as long as their context lets them, past Config.Timeout and the breaker:
// an entity may have any number of children and buckets. If the store cannot
// answer it is an *UnavailableError, in both failure modes; if it lacks the
// role, errors.ErrUnsupported.

// CreateEntity adds an entity and returns it as stored: with Name, where it was
// empty, and CreatedAt, which is always now. The parent need not exist. Errors:
// ErrEntityExists, *ValidationError.
func (l *Limiter) CreateEntity(ctx context.Context, e Entity) (Entity, error) {
	if err := l.checkOpen(); err != nil {
		return Entity{}, err
	}
	edit, err := l.creation(e)
	if err != nil {
		return Entity{}, err
	}
	if err := l.create(ctx, &edit); err != nil {
		return Entity{}, err
	}
	return edit.Entity, nil
}

func (l *Limiter) create(ctx context.Context, e *Edit) error {
	if l.entities == nil {
		return l.unsupported("EntityStore")
	}
	if err := l.entities.CreateEntity(ctx, e.Entity, e.Event); err != nil {
		return l.stored(ctx, Key{Entity: e.Entity.ID}, err)
	}
	l.parents.drop(e.Entity.ID)
	return nil
}

// creation is the checked edit that creates e now.
func (l *Limiter) creation(e Entity) (Edit, error) {
	if err := e.validate(); err != nil {
		return Edit{}, err
	}
	if e.Name == "" {
		e.Name = e.ID
	}
	var err error
	if e.CreatedAt, err = l.date(); err != nil {
		return Edit{}, err
	}
	e.Metadata = maps.Clone(e.Metadata)
	details := map[string]string{"name": e.Name}
	if e.ParentID != "" {
		details["parent_id"] = e.ParentID
	}
	if e.Cascade {
		details["cascade"] = "true"
	}
	return Edit{Entity: e, Event: l.event(e.CreatedAt, EntityCreated, Scope{Entity: e.ID}, details)}, nil
}

func (e *Entity) validate() error {
	if err := checkEntity("Entity.ID", e.ID); err != nil {
		return err
	}
	if e.ParentID != "" {
		if err := checkEntity("Entity.ParentID", e.ParentID); err != nil {
			return err
		}
	}
	if e.ParentID == e.ID {
		return invalid("Entity.ParentID", e.ParentID, "is the entity itself")
	}
	if len(e.Name) > maxDisplayName || !utf8.ValidString(e.Name) {
		return invalid("Entity.Name", e.Name, fmt.Sprintf("is not UTF-8 text of at most %d bytes", maxDisplayName))
	}
	size := 0
	for k, v := range e.Metadata {
		size += len(k) + len(v)
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return invalid("Entity.Metadata", k, "is not a key and value of UTF-8 text, the key not empty")
		}
	}
	if size > maxMetadata {
		return invalid("Entity.Metadata", size, fmt.Sprintf("bytes are more than %d", maxMetadata))
	}
	return nil
}

// Entity reads an entity. Errors: ErrEntityNotFound, *ValidationError.
func (l *Limiter) Entity(ctx context.Context, id string) (Entity, error) {
	if err := l.checkOpen(); err != nil {
		return Entity{}, err
	}
	if err := checkEntity("Entity.ID", id); err != nil {
		return Entity{}, err
	}
	if l.entities == nil {
		return Entity{}, l.unsupported("EntityStore")
	}
	found, err := l.entities.Entities(ctx, []string{id})
	if err != nil {
		return Entity{}, l.stored(ctx, Key{Entity: id}, err)
	}
	if found[0].ID == "" {
		return Entity{}, fmt.Errorf("%w: %s", ErrEntityNotFound, id)
	}
	return found[0], nil
}

// Children reads the entities whose parent this is, in order of their IDs;
// there may be some although the parent itself does not exist.
func (l *Limiter) Children(ctx context.Context, parent string) ([]Entity, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if err := checkEntity("Entity.ID", parent); err != nil {
		return nil, err
	}
	if l.entities == nil {
		return nil, l.unsupported("EntityStore")
	}
	children, err := collect(l.entities.Children(ctx, parent))
	return children, l.stored(ctx, Key{Entity: parent}, err)
}

// DeleteEntity removes an entity with its buckets, stored limits and usage; its
// audit events and its children stay. Errors: ErrEntityNotFound if there is
// nothing to remove, *ValidationError.
func (l *Limiter) DeleteEntity(ctx context.Context, id string) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if err := checkEntity("Entity.ID", id); err != nil {
		return err
	}
	if l.entities == nil {
		return l.unsupported("EntityStore")
	}
	now, err := l.date()
	if err != nil {
		return err
	}
	err = l.entities.DeleteEntity(ctx, id, l.event(now, EntityDeleted, Scope{Entity: id}, nil))
	l.parents.drop(id)
	l.sets.clear()
	if errors.Is(err, ErrEntityNotFound) {
		return fmt.Errorf("%w: %s", ErrEntityNotFound, id)
	}
	return l.stored(ctx, Key{Entity: id}, err)
}

// maxConverted is how many live buckets SetLimits and DeleteLimits convert at
// once; further ones follow within Config.ConfigTTL.
const maxConverted = 100

// SetLimits replaces the limits stored for a scope. The scope's entity need not
// exist. An entity's buckets follow at once, in every process (the first 100 of
// them; further ones, and those under limits of a resource or the system, within
// ConfigTTL). What was taken stays taken. Errors: *ValidationError.
func (l *Limiter) SetLimits(ctx context.Context, scope Scope, limits []Limit) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if len(limits) == 0 {
		return invalid("limits", len(limits), "is none: use DeleteLimits to remove them")
	}
	edit, err := l.setting(scope, limits)
	if err != nil {
		return err
	}
	return l.set(ctx, &edit)
}

// DeleteLimits removes the limits stored for a scope, if there are any: the next
// level decides, as SetLimits says. Errors: *ValidationError.
func (l *Limiter) DeleteLimits(ctx context.Context, scope Scope) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	edit, err := l.setting(scope, nil)
	if err != nil {
		return err
	}
	return l.set(ctx, &edit)
}

// Limits reads the limits stored for a scope itself; none if there are none.
// Errors: *ValidationError.
func (l *Limiter) Limits(ctx context.Context, scope Scope) ([]Limit, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	scope, err := scope.checked()
	if err != nil {
		return nil, err
	}
	if l.limits == nil {
		return nil, l.unsupported("LimitStore")
	}
	sets, err := l.limits.Limits(ctx, []Scope{scope})
	if err != nil {
		return nil, l.stored(ctx, Key(scope), err)
	}
	return sets[0].Limits, nil
}

// checked is the scope in the form that stores know.
func (s Scope) checked() (Scope, error) {
	if s.Resource == DefaultResource {
		if s.Entity == "" {
			return s, invalid("Scope.Resource", s.Resource, "stands for an entity's default, and no entity is named")
		}
		s.Resource = ""
	}
	if s.Entity != "" {
		if err := checkEntity("Scope.Entity", s.Entity); err != nil {
			return s, err
		}
	}
	if s.Resource != "" {
		if err := checkResource("Scope.Resource", s.Resource); err != nil {
			return s, err
		}
	}
	return s, nil
}

// setting is the checked edit that sets a scope's limits now; that deletes them
// if there are none.
func (l *Limiter) setting(scope Scope, limits []Limit) (Edit, error) {
	scope, err := scope.checked()
	if err != nil {
		return Edit{}, err
	}
	now, err := l.date()
	if err != nil {
		return Edit{}, err
	}
	if len(limits) == 0 {
		return Edit{Event: l.event(now, LimitsDeleted, scope, nil)}, nil
	}
	if err := checkLimits("limits", limits); err != nil {
		return Edit{}, err
	}
	filled := make([]Limit, len(limits))
	texts := make([]string, len(limits))
	for i := range limits {
		filled[i] = limits[i].withDefaults()
		texts[i] = filled[i].String()
	}
	details := map[string]string{"limits": strings.Join(texts, ", ")}
	return Edit{Limits: filled, Event: l.event(now, LimitsSet, scope, details)}, nil
}

// set sets or deletes the limits of a scope.
func (l *Limiter) set(ctx context.Context, e *Edit) error {
	if l.limits == nil {
		return l.unsupported("LimitStore")
	}
	scope, dated := e.Scope(), []Edit{*e}
	if err := l.outrank(ctx, dated); err != nil {
		return err
	}
	event := dated[0].Event
	var err error
	if event.Action == LimitsSet {
		_, err = l.limits.SetLimits(ctx, scope, e.Limits, event)
	} else {
		_, err = l.limits.DeleteLimits(ctx, scope, event)
	}
	if scope.Entity != "" && scope.Resource != "" {
		l.sets.drop(Key(scope))
	} else {
		l.sets.clear()
	}
	if err != nil {
		return l.stored(ctx, Key(scope), err)
	}
	return l.follow(ctx, scope)
}

// follow has the live buckets of a changed scope's entity follow.
func (l *Limiter) follow(ctx context.Context, scope Scope) error {
	if scope.Entity == "" {
		return nil
	}
	if err := l.convert(ctx, scope); err != nil {
		return fmt.Errorf("the limits are stored; the buckets in use follow within %s, as this failed: %w",
			l.ttl, l.stored(ctx, Key(scope), err))
	}
	return nil
}

// convert brings an entity's live buckets under the limits that now hold.
func (l *Limiter) convert(ctx context.Context, scope Scope) error {
	buckets, err := l.concerned(ctx, scope)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		sets, err := l.limits.Limits(ctx, levels(b.Key))
		if err != nil {
			return err
		}
		set, err := decide(sets)
		if err != nil {
			return err
		}
		d := Debit{Key: b.Key}
		for _, have := range b.Limits {
			if have.State.Definition.Rev > 0 {
				d.Charges = append(d.Charges, Charge{Name: have.Name, Definition: set.successor(have)})
			}
		}
		if len(d.Charges) == 0 {
			continue
		}
		if _, err := l.store.Adjust(ctx, l.now(), []Debit{d}); err != nil {
			return err
		}
	}
	return nil
}

// concerned are the live buckets that a change of a scope of an entity binds.
func (l *Limiter) concerned(ctx context.Context, scope Scope) ([]Bucket, error) {
	if scope.Resource == "" {
		return collect(first(maxConverted, l.limits.EntityBuckets(ctx, scope.Entity)))
	}
	_, buckets, err := l.store.Buckets(ctx, l.now(), []Key{Key(scope)})
	return buckets, err
}

// successor is the definition that now holds for a limit of a bucket. One that
// is gone keeps its numbers under a newer revision, by which who still knows it
// sees that it is; not under the set's own, so that a limit which takes its
// place counts as the later one.
func (s *limitSet) successor(have LimitState) bucket.Definition {
	for _, b := range s.bounds {
		if b.name == have.Name {
			return b.definition
		}
	}
	d := have.State.Definition
	d.Rev = max(d.Rev, s.rev-1)
	return d
}

func (l *Limiter) event(at time.Time, action AuditAction, scope Scope, details map[string]string) AuditEvent {
	return AuditEvent{
		Time: at, Action: action, Principal: l.principal,
		Entity: scope.Entity, Resource: scope.Resource, Details: details,
	}
}

// stored is an error of a store call that has no deadline of ours.
func (l *Limiter) stored(ctx context.Context, key Key, err error) error {
	if err != nil && ctx.Err() == nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
		return l.unavailable(key, err)
	}
	return err
}

func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	all := []T{}
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return slices.Clip(all), nil
}

func first[T any](n int, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		left := n
		for v, err := range seq {
			if left--; !yield(v, err) || left == 0 {
				return
			}
		}
	}
}
