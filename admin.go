package zael

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

// AdminOptions tune a change of administration, such as [Limiter.SetSwitch].
type AdminOptions struct {
	// IdempotencyKey makes the change once, however often it is asked for: a repetition
	// within three days changes nothing and has the result of the first. It is 1 to 64
	// characters of A-Z a-z 0-9 . _ : -, and belongs to one change: with another one, the
	// error matches ErrKeyUsed. Without a key, a change whose answer was lost may have
	// been made.
	IdempotencyKey string
}

type principalKey struct{}

// WithPrincipal returns a context in which changes of entities, limits, settings and
// namespaces are made by a principal: audit events name it instead of
// Config.Principal. It is for programs that make changes for others, such as a
// server. An empty principal is that of the Config.
func WithPrincipal(ctx context.Context, principal string) context.Context {
	return context.WithValue(ctx, principalKey{}, principal)
}

// principalOf returns the principal that audit events of a call with this context name.
func (l *Limiter) principalOf(ctx context.Context) string {
	principal, _ := ctx.Value(principalKey{}).(string)
	return cmp.Or(principal, l.principal)
}

// keepOnce is how long an idempotency key is kept.
const keepOnce = 72 * time.Hour

const keyRuleOnce = "is not 1 to 64 characters of A-Z a-z 0-9 . _ : -"

// validOnceKey reports whether s can be an idempotency key.
func validOnceKey(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != ':' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// editArguments are what makes two edits the same, as JSON: the fields in this order, and
// maps in order of name.
type editArguments struct {
	Action   AuditAction `json:"action"`
	Entity   string      `json:"entity"`
	Resource string      `json:"resource"`
	Parent   string      `json:"parent"`
	Mode     FailureMode `json:"mode"`
	Amounts  Amounts     `json:"amounts"`
	Names    []string    `json:"names"`
}

// once returns the Once of an edit.
func (o *AdminOptions) once(e *Edit, now time.Time) (Once, error) {
	if o.IdempotencyKey == "" {
		return Once{}, nil
	}
	if !validOnceKey(o.IdempotencyKey) {
		return Once{}, invalid("AdminOptions.IdempotencyKey", o.IdempotencyKey, keyRuleOnce)
	}
	arguments, err := json.Marshal(editArguments{e.Event.Action, e.Event.Entity, e.Event.Resource, e.Entity.ParentID, e.FailureMode, e.Amounts, e.Names})
	if err != nil {
		return Once{}, err
	}
	sum := sha256.Sum256(arguments)
	return Once{Key: o.IdempotencyKey, Hash: hex.EncodeToString(sum[:16]), Until: now.Add(keepOnce)}, nil
}

// administer makes a change. It completes the event of the edit, which has the action,
// the scope and the details.
func (l *Limiter) administer(ctx context.Context, edit Edit, options AdminOptions) (EditResult, error) {
	if err := l.checkOpen(); err != nil {
		return EditResult{}, err
	}
	now, err := l.auditTime()
	if err != nil {
		return EditResult{}, err
	}
	once, err := options.once(&edit, now)
	if err != nil {
		return EditResult{}, err
	}
	if l.adminStore == nil {
		return EditResult{}, l.unsupported("AdminStore")
	}
	e := &edit.Event
	e.Time, e.Principal = now, l.principalOf(ctx)
	if once.Key != "" {
		details := maps.Clone(e.Details)
		if details == nil {
			details = map[string]string{}
		}
		details["idempotency_key"] = once.Key
		e.Details = details
	}
	result, err := l.adminStore.Administer(ctx, now, edit, once)
	l.forgetSettings()
	l.entityCache.drop(e.Entity)
	if err == nil {
		return result, nil
	}
	err = l.storeError(ctx, Key(edit.Scope()), err)
	if once.Key == "" && (errors.Is(err, ErrUnavailable) || ctx.Err() != nil) {
		err = fmt.Errorf("%w (the change may have been made; with an idempotency key it could be repeated)", err)
	}
	return result, err
}

// SetFailureMode stores what happens to the requests of a scope when the store cannot
// answer; 0 removes it. The first of (entity, resource), (entity), (resource) and system
// that has one decides, unless the request has one itself. As last read it also holds
// while the store is unavailable. Errors are those of [Limiter.SetSwitch].
func (l *Limiter) SetFailureMode(ctx context.Context, scope Scope, mode FailureMode, options AdminOptions) error {
	edit, err := failureModeEdit(scope, mode)
	if err == nil {
		_, err = l.administer(ctx, edit, options)
	}
	return err
}

// failureModeEdit returns the checked edit that stores a failure mode.
func failureModeEdit(scope Scope, mode FailureMode) (Edit, error) {
	scope, err := scope.normalized()
	if err != nil {
		return Edit{}, err
	}
	if mode > FailOpen {
		return Edit{}, invalid("FailureMode", uint8(mode), "is neither FailClosed nor FailOpen: use one of them, or 0 to remove what is stored")
	}
	event := AuditEvent{Action: FailureModeSet, Entity: scope.Entity, Resource: scope.Resource, Details: map[string]string{"failure_mode": mode.String()}}
	if mode == failureInherit {
		event.Action, event.Details = FailureModeRemoved, nil
	}
	return Edit{Event: event, FailureMode: mode}, nil
}

// SetParent gives an entity another parent, or none if parent is empty. Both must have
// been created, and the entity must not be the parent's ancestor. What was charged to
// the parent before stays there, and so does what leases of before settle.
//
// The error matches [ErrEntityNotFound] if one of the two was not created, and
// [ErrParentCycle] if the entity would be its own ancestor; other errors are those of
// [Limiter.SetSwitch].
func (l *Limiter) SetParent(ctx context.Context, id, parent string, options AdminOptions) error {
	if err := checkEntity("Entity.ID", id); err != nil {
		return err
	}
	details := map[string]string{}
	if parent != "" {
		if err := checkEntity("Entity.ParentID", parent); err != nil {
			return err
		}
		details["parent_id"] = parent
	}
	event := AuditEvent{Action: ParentSet, Entity: id, Details: details}
	_, err := l.administer(ctx, Edit{Event: event, Entity: Entity{ID: id, ParentID: parent}}, options)
	return err
}

// Ping returns nil if the store answers, for health checks: it reads what binds all
// requests, past what is remembered and past the breaker, within ctx and at most
// Config.Timeout. If the store does not answer, that is an [*UnavailableError]. A store
// that is no [AdminStore] is asked for a bucket instead.
func (l *Limiter) Ping(ctx context.Context) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	var err error
	if l.adminStore != nil {
		_, err = l.adminStore.State(within)
	} else {
		_, _, err = l.store.Buckets(within, l.now(), []Key{{Entity: "ping", Resource: "ping"}})
	}
	return clockError(l.storeError(ctx, Key{}, err))
}
