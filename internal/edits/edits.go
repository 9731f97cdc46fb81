// Package edits has what changes of administration come to, whatever a store keeps it in.
package edits

import (
	"errors"
	"fmt"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storearg"
)

// Refused is the error of an edit that a method of a store does not make.
func Refused(edit *zael.Edit) error {
	return storearg.Invalid("Edit.Event.Action", string(edit.Event.Action), "is not a change that this method makes")
}

// A Kind is what an edit is about.
type Kind uint8

// The kinds of edits.
const (
	Unknown  Kind = iota
	Settings      // of a scope: its switch or its failure mode
	Bucket        // is refilled
	Parent        // of an entity
	Limits        // of a scope
	Create        // an entity
)

// KindOf returns what an edit is about.
func KindOf(edit *zael.Edit) Kind {
	switch edit.Event.Action {
	case zael.SwitchEnabled, zael.SwitchDisabled, zael.SwitchBypass, zael.SwitchRemoved, zael.FailureModeSet, zael.FailureModeRemoved:
		return Settings
	case zael.BucketReset, zael.BucketToppedUp:
		return Bucket
	case zael.ParentSet:
		return Parent
	case zael.LimitsSet, zael.LimitsDeleted:
		return Limits
	case zael.EntityCreated:
		return Create
	}
	return Unknown
}

// ChangeSettings makes an edit of settings whose scope has s, and reports whether that changes
// anything. latest is the greatest revision of settings that the store knows.
func ChangeSettings(edit *zael.Edit, s *zael.Settings, latest int64) (changed bool) {
	if action := edit.Event.Action; action == zael.FailureModeSet || action == zael.FailureModeRemoved {
		changed = s.FailureMode != 0 || edit.FailureMode != 0
		s.FailureMode = edit.FailureMode
	} else {
		to := action.Switch()
		changed = s.Switch != zael.Inherit || to != zael.Inherit
		s.Switch = to
	}
	if changed {
		s.Rev = max(edit.Event.Time.UnixMicro(), latest+1, s.Rev+1)
	}
	return changed
}

// CheckParent returns an error unless parent can become the parent of an entity: zael.ErrEntityNotFound
// if one of them was not created, zael.ErrParentCycle if parent is the entity or has it above itself.
// above returns the parent of an entity, and whether that was created. parent may be "".
func CheckParent(id, parent string, above func(id string) (parent string, created bool, err error)) error {
	if _, created, err := above(id); err != nil || !created {
		return notCreated(id, err)
	}
	seen := map[string]bool{}
	for at := parent; at != "" && !seen[at]; {
		if at == id {
			return zael.ErrParentCycle
		}
		seen[at] = true
		next, created, err := above(at)
		if err != nil || !created && at == parent {
			return notCreated(at, err)
		}
		at = next
	}
	return nil
}

func notCreated(id string, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", zael.ErrEntityNotFound, id)
}

// IsAnswer reports whether an error is what a change answers, having changed nothing.
func IsAnswer(err error) bool {
	for _, answer := range []error{
		zael.ErrEntityExists, zael.ErrEntityNotFound, zael.ErrKeyUsed, zael.ErrParentCycle, zael.ErrNoLimits, zael.ErrLeaseClosed,
		zael.ErrNamespaceDeleted, zael.ErrNamespaceNotFound, zael.ErrNamespaceState,
	} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}
