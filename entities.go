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

// An Entity is somebody or something that limits apply to, such as a user, an API key
// or a project. Entities need not be created to be limited: a record is for a parent, a
// name and metadata.
type Entity struct {
	ID        string            `json:"id"`                  // see Request.Entity
	Name      string            `json:"name"`                // for people, at most 256 bytes; empty means ID
	ParentID  string            `json:"parent_id,omitempty"` // empty for none; the parent need not exist
	Cascade   bool              `json:"cascade"`             // requests with stored limits take from the parent too
	Metadata  map[string]string `json:"metadata,omitempty"`  // at most 16 KiB of keys and values
	CreatedAt time.Time         `json:"created_at"`          // UTC
}

const (
	maxDisplayName = 256
	maxMetadata    = 16 << 10 // bytes of keys and values together
)

// CreateEntity stores an entity and returns it as stored: an empty Name is filled in,
// and CreatedAt is the time of the call. Errors: [ErrEntityExists]; [*ValidationError].
//
// Like all methods for stored data (entities, limits, reports), it runs as long as ctx
// lets it, without Config.Timeout and the breaker, as an entity may have any number of
// children and buckets. All these methods can also return an [*UnavailableError], in
// both failure modes, [errors.ErrUnsupported] if the store lacks the role, [ErrClosed],
// and what the store says besides, such as denied access.
func (l *Limiter) CreateEntity(ctx context.Context, e Entity) (Entity, error) {
	if err := l.checkOpen(); err != nil {
		return Entity{}, err
	}
	edit, err := l.creationEdit(ctx, e)
	if err != nil {
		return Entity{}, err
	}
	if err := l.createEntity(ctx, &edit); err != nil {
		return Entity{}, err
	}
	return edit.Entity, nil
}

func (l *Limiter) createEntity(ctx context.Context, e *Edit) error {
	if l.entityStore == nil {
		return l.unsupported("EntityStore")
	}
	if err := l.entityStore.CreateEntity(ctx, e.Entity, e.Event); err != nil {
		return l.storeError(ctx, Key{Entity: e.Entity.ID}, err)
	}
	l.entityCache.drop(e.Entity.ID)
	return nil
}

// creationEdit returns the checked edit that creates e.
func (l *Limiter) creationEdit(ctx context.Context, e Entity) (Edit, error) {
	if err := e.validate(); err != nil {
		return Edit{}, err
	}
	if e.Name == "" {
		e.Name = e.ID
	}
	var err error
	if e.CreatedAt, err = l.auditTime(); err != nil {
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
	return Edit{Entity: e, Event: l.auditEvent(ctx, e.CreatedAt, EntityCreated, Scope{Entity: e.ID}, details)}, nil
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
		return invalid("Entity.ParentID", e.ParentID, "is the entity itself: leave it empty, or name another")
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

// Entity returns the entity with an ID. Errors: [ErrEntityNotFound]; [*ValidationError];
// and those of [Limiter.CreateEntity] that all methods for stored data have.
func (l *Limiter) Entity(ctx context.Context, id string) (Entity, error) {
	if err := l.checkOpen(); err != nil {
		return Entity{}, err
	}
	if err := checkEntity("Entity.ID", id); err != nil {
		return Entity{}, err
	}
	if l.entityStore == nil {
		return Entity{}, l.unsupported("EntityStore")
	}
	found, err := l.entityStore.Entities(ctx, []string{id})
	if err != nil {
		return Entity{}, l.storeError(ctx, Key{Entity: id}, err)
	}
	if found[0].ID == "" {
		return Entity{}, fmt.Errorf("%w: %s", ErrEntityNotFound, id)
	}
	return found[0], nil
}

// Children returns the entities with this parent, in order of their IDs. There may be
// some even if the parent itself was never created. Errors are those of
// [Limiter.Entity] except ErrEntityNotFound.
func (l *Limiter) Children(ctx context.Context, parent string) ([]Entity, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if err := checkEntity("Entity.ID", parent); err != nil {
		return nil, err
	}
	if l.entityStore == nil {
		return nil, l.unsupported("EntityStore")
	}
	children, err := collect(l.entityStore.Children(ctx, parent))
	return children, l.storeError(ctx, Key{Entity: parent}, err)
}

// DeleteEntity removes an entity with its buckets, stored limits and usage. Its audit
// events and its children stay. Errors are those of [Limiter.Entity]; the error matches
// [ErrEntityNotFound] if there is nothing to remove.
func (l *Limiter) DeleteEntity(ctx context.Context, id string) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if err := checkEntity("Entity.ID", id); err != nil {
		return err
	}
	if l.entityStore == nil {
		return l.unsupported("EntityStore")
	}
	now, err := l.auditTime()
	if err != nil {
		return err
	}
	err = l.entityStore.DeleteEntity(ctx, id, l.auditEvent(ctx, now, EntityDeleted, Scope{Entity: id}, nil))
	l.entityCache.drop(id)
	l.limitCache.clear()
	if errors.Is(err, ErrEntityNotFound) {
		return fmt.Errorf("%w: %s", ErrEntityNotFound, id)
	}
	return l.storeError(ctx, Key{Entity: id}, err)
}

func (l *Limiter) auditEvent(ctx context.Context, at time.Time, action AuditAction, scope Scope, details map[string]string) AuditEvent {
	return AuditEvent{
		Time: at, Action: action, Principal: l.principalOf(ctx),
		Entity: scope.Entity, Resource: scope.Resource, Details: details,
	}
}

// storeError turns the error of a call that runs without Config.Timeout into an
// *UnavailableError where that applies.
func (l *Limiter) storeError(ctx context.Context, key Key, err error) error {
	if err != nil && ctx.Err() == nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
		return l.unavailable(key, err)
	}
	return err
}

// collect returns all values of seq, or its first error.
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
