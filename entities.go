package zael

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

// The calls on this page change or read what is stored besides buckets. They
// run as long as their context lets them, past Config.Timeout and the breaker:
// an entity may have any number of children and buckets. If the store cannot
// answer it is an *UnavailableError, in both failure modes; if it lacks the
// role, errors.ErrUnsupported.

// An Entity is who is limited: a user, an API key, a project.
type Entity struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`                // ID if it was left empty
	ParentID  string            `json:"parent_id,omitempty"` // none if empty; it need not exist
	Cascade   bool              `json:"cascade"`             // acquires with stored limits take from the parent too
	Metadata  map[string]string `json:"metadata,omitempty"`
	CreatedAt time.Time         `json:"created_at"` // UTC
}

const (
	maxDisplayName = 256
	maxMetadata    = 16 << 10 // bytes of keys and values together
)

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
