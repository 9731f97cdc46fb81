package storetest_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// admin is what a reference keeps for the role AdminStore.
type admin struct {
	settings map[zael.Scope]zael.Settings
	latest   int64 // revision of settings
	once     map[string]zael.Once
	results  map[string]zael.EditResult
}

func newAdmin() admin {
	return admin{settings: map[zael.Scope]zael.Settings{}, once: map[string]zael.Once{}, results: map[string]zael.EditResult{}}
}

// settingsRev is the greatest revision of the settings that hold for a key.
func (s *reference) settingsRev(k zael.Key) (rev int64) {
	for _, scope := range []zael.Scope{zael.Scope(k), {Entity: k.Entity}, {Resource: k.Resource}, {}} {
		rev = max(rev, s.admin.settings[scope].Rev)
	}
	return rev
}

// staleSettings reports whether a debit is made under settings that are too old.
func (s *reference) staleSettings(debits []zael.Debit) bool {
	for _, d := range debits {
		if s.settingsRev(d.Key) > d.SettingsRev {
			return true
		}
	}
	return false
}

func (s *reference) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
	if err := ctx.Err(); err != nil {
		return zael.EditResult{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.admin.once[once.Key]; ok && known.Until.After(now) {
		if known.Hash != once.Hash {
			return zael.EditResult{}, zael.ErrKeyUsed
		}
		result := s.admin.results[once.Key]
		result.Repeated = true
		return result, nil
	}
	result, err := s.administer(now, &edit)
	if err == nil && once.Key != "" {
		s.admin.once[once.Key], s.admin.results[once.Key] = once, result
	}
	return result, err
}

func (s *reference) administer(now time.Time, edit *zael.Edit) (result zael.EditResult, err error) {
	event := edit.Event
	switch event.Action {
	case zael.BucketReset, zael.BucketToppedUp:
		if result.Available, err = s.fill(now, edit); err != nil {
			return result, err
		}
	case zael.ParentSet:
		if err := s.setParent(edit.Entity.ID, edit.Entity.ParentID); err != nil {
			return result, err
		}
	case zael.FailureModeSet, zael.FailureModeRemoved:
		scope := edit.Scope()
		have := s.admin.settings[scope]
		if have.FailureMode == 0 && edit.FailureMode == 0 {
			return result, nil
		}
		have.FailureMode = edit.FailureMode
		s.setSettings(scope, have, event.Time)
	default:
		scope, to := edit.Scope(), event.Action.Switch()
		have := s.admin.settings[scope]
		if have.Switch == zael.Inherit && to == zael.Inherit {
			return result, nil
		}
		have.Switch = to
		s.setSettings(scope, have, event.Time)
	}
	s.write(event)
	return result, nil
}

func (s *reference) setSettings(scope zael.Scope, to zael.Settings, at time.Time) {
	s.admin.latest = max(s.admin.latest+1, at.UnixMicro())
	to.Rev = s.admin.latest
	s.admin.settings[scope] = to
}

func (s *reference) setParent(id, parent string) error {
	e, ok := s.entities[id]
	if !ok {
		return zael.ErrEntityNotFound
	}
	if _, ok := s.entities[parent]; parent != "" && !ok {
		return zael.ErrEntityNotFound
	}
	seen := map[string]bool{}
	for above := parent; above != "" && !seen[above]; above = s.entities[above].ParentID {
		if above == id {
			return zael.ErrParentCycle
		}
		seen[above] = true
	}
	e.ParentID = parent
	s.entities[id] = e
	return nil
}

func (s *reference) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []zael.Settings
	for _, scope := range scopes {
		all = append(all, s.admin.settings[scope])
	}
	return all, nil
}

func (s *reference) State(ctx context.Context) (zael.StoreState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return zael.StoreState{SettingsRev: s.admin.latest}, ctx.Err()
}

// deleteSettings removes the settings of an entity, and reports whether it had any.
func (s *reference) deleteSettings(id string) bool {
	before := len(s.admin.settings)
	maps.DeleteFunc(s.admin.settings, func(scope zael.Scope, _ zael.Settings) bool { return scope.Entity == id })
	return len(s.admin.settings) < before
}

func (s *reference) fill(now time.Time, edit *zael.Edit) (zael.Amounts, error) {
	at, err := s.at(now)
	if err != nil {
		return nil, err
	}
	key := zael.Key(edit.Scope())
	other := slices.ContainsFunc(edit.Stored, func(l bucket.Limit) bool { return !l.Definition.Plain() })
	if r := s.kinds.records[key]; r != nil || other {
		changed := bucket.Record{}
		if r != nil {
			changed = *r
			changed.Limits = slices.Clone(r.Limits)
		}
		available, err := edit.Fill(&changed, at, s.birth(s))
		if err == nil && len(changed.Limits) > 0 {
			s.kinds.kept(&changed)
			s.kinds.records[key] = &changed
		}
		return available, err
	}
	kept := s.record(key)
	r := bucket.Record{Latest: max(kept.seen, 0)}
	for _, name := range slices.Sorted(maps.Keys(kept.limits)) {
		r.Limits = append(r.Limits, zael.LimitState{Name: name, State: kept.limits[name]})
	}
	available, err := edit.Fill(&r, at, s.birth(s))
	for _, l := range r.Limits {
		kept.limits[l.Name] = l.State
	}
	return available, err
}
