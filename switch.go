package zael

import (
	"context"
	"errors"
)

// A Switch turns a scope off, or its limits.
type Switch uint8

// The switches. The first of (entity, resource), (entity) and (resource) that does not
// inherit decides, so that one entity can be enabled on a disabled resource.
const (
	Inherit  Switch = iota // nothing is stored: the next scope decides; Enabled if none does
	Enabled                // limits bind
	Disabled               // every request fails with a *DisabledError
	Bypass                 // every request is admitted; it is counted as usage, and charged to no limit
)

// String returns "inherit", "enabled", "disabled" or "bypass".
func (s Switch) String() string {
	switch s {
	case Enabled:
		return "enabled"
	case Disabled:
		return "disabled"
	case Bypass:
		return "bypass"
	}
	return "inherit"
}

// ParseSwitch returns the switch with a name. The error is a [*ValidationError].
func ParseSwitch(name string) (Switch, error) {
	for s := Inherit; s <= Bypass; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return Inherit, invalid("switch", name, "is not enabled, disabled, bypass or inherit")
}

// Settings are what is stored for a scope beside its limits.
type Settings struct {
	Switch      Switch
	FailureMode FailureMode // 0: the next scope decides, and Config.FailureMode at last
	Rev         int64       // of the last change, µs since 1970 or later; 0 if there was none
}

// An effectiveSettings is the settings that hold for a key.
type effectiveSettings struct {
	rev   int64
	sw    Switch
	scope Scope // whose switch it is
	mode  FailureMode
}

// effectiveSettingsOf returns the settings that hold if these are stored for scopes, the
// scopes of a key.
func effectiveSettingsOf(scopes []Scope, all []Settings) effectiveSettings {
	var e effectiveSettings
	for i, s := range all {
		e.rev = max(e.rev, s.Rev)
		if e.sw == Inherit && s.Switch != Inherit {
			e.sw, e.scope = s.Switch, scopes[i]
		}
		if e.mode == failureInherit {
			e.mode = s.FailureMode
		}
	}
	return e
}

// settings returns the settings that hold for a key. They bind all requests, those with
// limits of their own too. If they cannot be read, the result is the last one known,
// however old, and the error says why.
func (l *Limiter) settings(ctx context.Context, b *budget, key Key, known age) (effectiveSettings, error) {
	state, err := l.storeState(ctx, b, key, known)
	if err != nil {
		return l.settingsCache.last(key), err
	}
	if state.Deleted {
		return effectiveSettings{}, ErrNamespaceDeleted
	}
	if state.SettingsRev == 0 {
		return effectiveSettings{}, nil
	}
	e, ok := l.settingsCache.lookup(key, known.now, known.max)
	if ok && e.sw != Disabled {
		return e, nil
	}
	if ok { // nobody asks the store for a bucket that is disabled, so look sooner whether it still is
		known.max = min(known.max, refreshAfter)
	}
	e, err = l.settingsCache.get(b.begin(ctx, l.within), key, known.now, known.max, func() (e effectiveSettings, err error) {
		scopes := scopesOf(key)
		err = l.throughBreaker(ctx, StoreConfig, b, key, func(ctx context.Context) error {
			all, err := l.adminStore.Settings(ctx, scopes)
			if err == nil {
				e = effectiveSettingsOf(scopes, all)
			}
			return err
		})
		return e, err
	})
	if err != nil {
		return l.settingsCache.last(key), l.cacheError(ctx, b, key, err)
	}
	return e, nil
}

// storeState returns what binds all requests. It is read once in ConfigTTL, so that a
// store in which nobody has stored settings is asked for none.
func (l *Limiter) storeState(ctx context.Context, b *budget, key Key, known age) (StoreState, error) {
	entry := l.state.Load()
	if last := entry.fresh(known.now, known.max); last != nil {
		return last.value, nil
	}
	state, err := entry.get(b.begin(ctx, l.within), known.now, known.max, func() (state StoreState, err error) {
		err = l.throughBreaker(ctx, StoreConfig, b, key, func(ctx context.Context) error {
			state, err = l.adminStore.State(ctx)
			return err
		})
		return state, err
	})
	return state, l.cacheError(ctx, b, key, err)
}

// forgetSettings drops what is remembered of settings. Results of reads in flight are not
// kept either.
func (l *Limiter) forgetSettings() {
	l.state.Store(newCacheEntry[StoreState]())
	l.settingsCache.clear()
}

// bindSettings reads and keeps the settings of bucket i of a, the entity's or its
// parent's. known says how old they may be. The error is a *DisabledError if they turn
// the bucket off: those known last do so too while they cannot be read.
func (l *Limiter) bindSettings(ctx context.Context, a *attempt, i int, key Key, known age) error {
	a.settings[i] = effectiveSettings{}
	if l.adminStore == nil || key.Entity == "" {
		return nil
	}
	e, err := l.settings(ctx, &a.budget, key, known)
	a.settings[i] = e
	if e.sw == Disabled && (err == nil || errors.Is(err, ErrUnavailable)) {
		return &DisabledError{Entity: key.Entity, Resource: key.Resource, Scope: e.scope}
	}
	return err
}

// refreshSettings reads the settings of the buckets of a again, as the store has shown
// that they have changed. If a takes more for a lease, its buckets stay bypassed or not,
// as the lease settles by what it was.
func (l *Limiter) refreshSettings(ctx context.Context, a *attempt, more bool) error {
	for i := range a.debits {
		d := &a.debits[i]
		if err := l.bindSettings(ctx, a, i, d.Key, age{now: l.now()}); err != nil {
			return err
		}
		d.SettingsRev = a.settings[i].rev
		if !more {
			d.Bypass = a.settings[i].sw == Bypass
		}
	}
	return nil
}

// applySettings tells the debits of a what settings they are made under.
func (a *attempt) applySettings() {
	for i := range a.debits {
		a.debits[i].SettingsRev = a.settings[i].rev
		a.debits[i].Bypass = a.settings[i].sw == Bypass
	}
}

// bypassed reports whether a bucket of a is bypassed.
func (a *attempt) bypassed() bool {
	for i := range a.debits {
		if a.debits[i].Bypass {
			return true
		}
	}
	return false
}

// SetSwitch stores the switch of a scope, which is an entity on a resource, an entity, or
// a resource; Inherit removes it. It binds every request, those with limits of their own
// too: in the buckets that an entity has in use from the next request on, in every
// process; elsewhere, and for a resource, within Config.ConfigTTL. A process that knows a
// bucket to be disabled finds within a second that it is not any more.
//
// Errors: [*ValidationError]; those of [AdminOptions]; and those of
// [Limiter.CreateEntity] that all methods for stored data have.
func (l *Limiter) SetSwitch(ctx context.Context, scope Scope, s Switch, options AdminOptions) error {
	edit, err := switchEdit(scope, s)
	if err == nil {
		_, err = l.administer(ctx, edit, options)
	}
	return err
}

// switchEdit returns the checked edit that stores a switch.
func switchEdit(scope Scope, s Switch) (Edit, error) {
	scope, err := scope.normalized()
	if err != nil {
		return Edit{}, err
	}
	if scope == (Scope{}) {
		return Edit{}, invalid("Scope", nil, "is the whole system, which has no switch: name an entity, a resource, or both")
	}
	action, ok := map[Switch]AuditAction{Inherit: SwitchRemoved, Enabled: SwitchEnabled, Disabled: SwitchDisabled, Bypass: SwitchBypass}[s]
	if !ok {
		return Edit{}, invalid("Switch", uint8(s), "is not Inherit, Enabled, Disabled or Bypass: use one of them")
	}
	return Edit{Event: AuditEvent{Action: action, Entity: scope.Entity, Resource: scope.Resource}}, nil
}

// Settings returns what is stored for this very scope beside limits. Errors are those of
// [Limiter.Limits].
func (l *Limiter) Settings(ctx context.Context, scope Scope) (Settings, error) {
	if err := l.checkOpen(); err != nil {
		return Settings{}, err
	}
	scope, err := scope.normalized()
	if err != nil {
		return Settings{}, err
	}
	if l.adminStore == nil {
		return Settings{}, l.unsupported("AdminStore")
	}
	all, err := l.adminStore.Settings(ctx, []Scope{scope})
	if err != nil {
		return Settings{}, l.storeError(ctx, Key(scope), err)
	}
	return all[0], nil
}
