package zael

import (
	"context"
	"iter"
	"time"
)

// A Namespace keeps tenants of one store apart: each has entities, limits, buckets, usage
// and audit events of its own. The default namespace has no name, and always exists.
type Namespace struct {
	Name         string         `json:"name"` // 1 to 64 characters of A-Z a-z 0-9 _ . -
	State        NamespaceState `json:"state"`
	RegisteredAt time.Time      `json:"registered_at"` // UTC
	ChangedAt    time.Time      `json:"changed_at"`    // UTC: when the state began
}

// A NamespaceState is what can be done with a namespace.
type NamespaceState string

// The states of a namespace.
const (
	NamespaceActive  NamespaceState = "active"
	NamespaceDeleted NamespaceState = "deleted" // refuses everything; it can be recovered or purged
	NamespacePurging NamespaceState = "purging" // is being purged; if that was interrupted, purge again
)

// maxNamespace is how many characters the name of a namespace may have.
const maxNamespace = 64

// CheckNamespace returns a [*ValidationError] unless name can be that of a namespace.
func CheckNamespace(name string) error {
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '_' && c != '.' && c != '-' {
			return invalid("namespace", name, "is not 1 to 64 characters of A-Z a-z 0-9 _ . -")
		}
	}
	if name == "" {
		return invalid("namespace", name, "is empty: the default namespace always exists, and cannot be deleted")
	}
	if len(name) > maxNamespace {
		return invalid("namespace", name, "is not 1 to 64 characters of A-Z a-z 0-9 _ . -")
	}
	return nil
}

// RegisterNamespace adds a namespace to those of [Limiter.Namespaces]; one that is
// there stays as it is. It need not be registered to be used: the first administrative
// write in it does that, where it may.
//
// Errors of this and the other methods for namespaces: [*ValidationError];
// [ErrNamespaceNotFound] if it is not registered, [ErrNamespaceState] if it is in another
// state than the method needs; and those of [Limiter.CreateEntity] that all methods for
// stored data have. Their audit events are in the default namespace.
func (l *Limiter) RegisterNamespace(ctx context.Context, name string) error {
	return l.editNamespace(ctx, name, NamespaceRegistered)
}

// DeleteNamespace makes all requests and changes in a namespace fail with
// [ErrNamespaceDeleted], those of other processes within Config.ConfigTTL. What is in it
// stays, and can be recovered, until it is purged.
func (l *Limiter) DeleteNamespace(ctx context.Context, name string) error {
	return l.editNamespace(ctx, name, NamespaceRemoved)
}

// RecoverNamespace makes a deleted namespace active again, with all that was in it.
func (l *Limiter) RecoverNamespace(ctx context.Context, name string) error {
	return l.editNamespace(ctx, name, NamespaceRecovered)
}

// PurgeNamespace removes a deleted namespace with all that is in it, and frees its name. It
// returns how many records it removed. If it is interrupted it must be called again.
func (l *Limiter) PurgeNamespace(ctx context.Context, name string) (records int, err error) {
	store, event, err := l.namespaceEvent(ctx, name, NamespacePurged)
	if err != nil {
		return 0, err
	}
	records, err = store.PurgeNamespace(ctx, name, event)
	l.forgetSettings()
	return records, l.storeError(ctx, Key{}, err)
}

// Namespaces returns the registered namespaces, in order of their names.
func (l *Limiter) Namespaces(ctx context.Context) ([]Namespace, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	store, ok := l.store.(NamespaceStore)
	if !ok {
		return nil, l.unsupported("NamespaceStore")
	}
	all, err := collect(store.Namespaces(ctx))
	return all, l.storeError(ctx, Key{}, err)
}

// Namespace returns a registered namespace.
func (l *Limiter) Namespace(ctx context.Context, name string) (Namespace, error) {
	store, _, err := l.namespaceEvent(ctx, name, "")
	if err != nil {
		return Namespace{}, err
	}
	n, err := store.Namespace(ctx, name)
	return n, l.storeError(ctx, Key{}, err)
}

func (l *Limiter) editNamespace(ctx context.Context, name string, action AuditAction) error {
	store, event, err := l.namespaceEvent(ctx, name, action)
	if err != nil {
		return err
	}
	err = store.EditNamespace(ctx, name, event)
	l.forgetSettings()
	return l.storeError(ctx, Key{}, err)
}

func (l *Limiter) namespaceEvent(ctx context.Context, name string, action AuditAction) (NamespaceStore, AuditEvent, error) {
	if err := l.checkOpen(); err != nil {
		return nil, AuditEvent{}, err
	}
	if err := CheckNamespace(name); err != nil {
		return nil, AuditEvent{}, err
	}
	store, ok := l.store.(NamespaceStore)
	if !ok {
		return nil, AuditEvent{}, l.unsupported("NamespaceStore")
	}
	now, err := l.auditTime()
	return store, l.auditEvent(ctx, now, action, Scope{}, map[string]string{"namespace": name}), err
}

// A NamespaceStore keeps several namespaces, one of which it works in. Its methods are
// about any of them, and record their events in the default one.
type NamespaceStore interface {
	// EditNamespace makes a change as the event's action says, in one step with the
	// event: NamespaceRegistered, which changes nothing if it is registered;
	// NamespaceRemoved of an active one; NamespaceRecovered of a deleted one.
	// ErrNamespaceNotFound and ErrNamespaceState mean that nothing was changed.
	// Administrative changes in a namespace that is not active return
	// ErrNamespaceDeleted, and State tells that it is not.
	EditNamespace(ctx context.Context, name string, event AuditEvent) error
	// PurgeNamespace removes all records of a namespace that is deleted or purging, and
	// then itself, with the event. It returns how many records it removed.
	PurgeNamespace(ctx context.Context, name string, event AuditEvent) (records int, err error)
	// Namespace reads one, or returns ErrNamespaceNotFound.
	Namespace(ctx context.Context, name string) (Namespace, error)
	// Namespaces iterates the registered namespaces by name.
	Namespaces(ctx context.Context) iter.Seq2[Namespace, error]
}
