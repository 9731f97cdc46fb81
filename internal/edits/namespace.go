package edits

import (
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storearg"
)

// A Move is a change of a namespace's state.
type Move struct {
	From, To zael.NamespaceState // From is "" if the namespace is to be registered
}

// MoveOf returns the move that an event is about, for NamespaceStore.EditNamespace.
func MoveOf(event *zael.AuditEvent) (Move, error) {
	switch event.Action {
	case zael.NamespaceRegistered:
		return Move{"", zael.NamespaceActive}, nil
	case zael.NamespaceRemoved:
		return Move{zael.NamespaceActive, zael.NamespaceDeleted}, nil
	case zael.NamespaceRecovered:
		return Move{zael.NamespaceDeleted, zael.NamespaceActive}, nil
	}
	return Move{}, storearg.Invalid("AuditEvent.Action", string(event.Action), "is not a change of a namespace")
}

// Purge is the move with which a purge begins.
//
//nolint:gochecknoglobals // a constant
var Purge = Move{zael.NamespaceDeleted, zael.NamespacePurging}

// Check reports whether the move has been made by now, of the namespace that has a name, which is n
// if it is registered. The error says why the move cannot be made.
func (m Move) Check(name string, n *zael.Namespace, registered bool) (made bool, err error) {
	switch {
	case m.From == "":
		return registered, nil
	case !registered:
		return false, fmt.Errorf("%w: %s", zael.ErrNamespaceNotFound, name)
	case m == Purge && n.State == zael.NamespacePurging:
		return true, nil // and was interrupted
	case m == Purge && n.State != m.From:
		return false, fmt.Errorf("%w: %s is %s, not deleted: delete it first", zael.ErrNamespaceState, name, n.State)
	case n.State != m.From:
		return false, fmt.Errorf("%w: %s is %s, not %s", zael.ErrNamespaceState, name, n.State, m.From)
	}
	return false, nil
}

// Begun returns the event with which a purge begins, by that of its end.
func Begun(name string, end zael.AuditEvent) zael.AuditEvent {
	end.Details = map[string]string{"namespace": name, "state": "begun"}
	return end
}

// FirstUse returns the event of a namespace that is registered as it is used.
func FirstUse(name string, now time.Time) zael.AuditEvent {
	return zael.AuditEvent{Time: now.UTC(), Action: zael.NamespaceRegistered, Details: map[string]string{"namespace": name, "by": "first use"}}
}

// Purged is the error of a purge of a namespace that somebody else has purged meanwhile.
func Purged(name string) error {
	return fmt.Errorf("%w: somebody else has purged %s", zael.ErrNamespaceNotFound, name)
}
