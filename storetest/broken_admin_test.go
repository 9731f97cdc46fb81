package storetest_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// administering is a store that makes changes of administration in its own way, one at a time.
func administering(change func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error)) func() zael.Store {
	return method(func(o *override, good *reference) {
		var mu sync.Mutex
		o.administer = func(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
			mu.Lock()
			defer mu.Unlock()
			return change(ctx, good, now, edit, once)
		}
	})
}

// readingSettings is a store that reads settings in its own way.
func readingSettings(change func(good *reference, scopes []zael.Scope, all []zael.Settings) []zael.Settings) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.settings = func(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
			all, err := good.Settings(ctx, scopes)
			return change(good, scopes, all), err
		}
	})
}

// settingScopes is a store that keeps settings under other scopes.
func settingScopes(change func(zael.Scope) zael.Scope) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.administer = func(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
			to := change(edit.Scope())
			edit.Event.Entity, edit.Event.Resource = to.Entity, to.Resource
			return good.Administer(ctx, now, edit, once)
		}
		o.settings = func(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
			scopes = slices.Clone(scopes)
			for i, scope := range scopes {
				scopes[i] = change(scope)
			}
			return good.Settings(ctx, scopes)
		}
	})
}

// takingDebits is a store that takes in its own way.
func takingDebits(change func(good *reference, debits []zael.Debit)) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.take = func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
			changed := slices.Clone(debits) // with the same charges
			change(good, changed)
			return good.Take(ctx, now, maxWait, changed)
		}
	})
}

// refilling is a store that changes edits of buckets before it makes them.
func refilling(change func(edit *zael.Edit)) func() zael.Store {
	return administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
		if edit.Event.Action == zael.BucketReset || edit.Event.Action == zael.BucketToppedUp {
			change(&edit)
		}
		return good.Administer(ctx, now, edit, once)
	})
}

// brokenAdmins have a defect as AdminStore.
func brokenAdmins() []brokenStore {
	return []brokenStore{
		{
			name: "a switch removes the failure mode",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				have := good.admin.settings[edit.Scope()]
				if edit.Event.Action == zael.SwitchRemoved {
					have.FailureMode = 0
				}
				good.admin.settings[edit.Scope()] = have
				return result, err
			}),
			fails: []string{"AdminStore/settings come back as they were set"},
		},
		{
			name: "settings in another order",
			make: readingSettings(func(_ *reference, _ []zael.Scope, all []zael.Settings) []zael.Settings {
				slices.Reverse(all)
				return all
			}),
			fails: []string{"AdminStore/settings come back as they were set"},
		},
		{
			name: "the revision of settings is the time",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				have := good.admin.settings[edit.Scope()]
				have.Rev = edit.Event.Time.UnixMicro()
				good.admin.settings[edit.Scope()] = have
				return result, err
			}),
			fails: []string{"AdminStore/revisions of settings always rise"},
		},
		{
			name: "removing settings forgets their revision",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				if edit.Event.Action == zael.SwitchRemoved {
					delete(good.admin.settings, edit.Scope())
				}
				return result, err
			}),
			fails: []string{"AdminStore/revisions of settings always rise"},
		},
		{
			name: "removing nothing is a change",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				good.setSettings(edit.Scope(), good.admin.settings[edit.Scope()], now)
				return result, err
			}),
			fails: []string{"AdminStore/removing no settings changes nothing"},
		},
		{
			name:  "an entity's settings are also a resource's",
			make:  settingScopes(func(s zael.Scope) zael.Scope { return zael.Scope{Entity: s.Entity + s.Resource} }),
			fails: []string{"AdminStore/settings of scopes that differ in name are kept apart"},
		},
		{
			name:  "settings are folded to lower case",
			make:  settingScopes(func(s zael.Scope) zael.Scope { return zael.Scope(lower(zael.Key(s))) }),
			fails: []string{"AdminStore/settings of scopes that differ in name are kept apart"},
		},
		{
			name: "the state is that of the last change",
			make: method(func(o *override, good *reference) {
				o.state = func(context.Context) (zael.StoreState, error) {
					return zael.StoreState{SettingsRev: good.admin.settings[zael.Scope{Entity: "alice"}].Rev}, nil
				}
			}),
			fails: []string{"AdminStore/the state tells whether there are settings"},
		},
		{
			name: "takes look at no settings",
			make: takingDebits(func(good *reference, debits []zael.Debit) {
				for i := range debits {
					debits[i].SettingsRev = good.admin.latest
				}
			}),
			fails: []string{"AdminStore/takes under older settings are stale"},
		},
		{
			name: "takes look at the settings of all",
			make: takingDebits(func(good *reference, debits []zael.Debit) {
				for i := range debits {
					if debits[i].SettingsRev < good.admin.latest {
						debits[i].SettingsRev = 0
					}
				}
			}),
			fails: []string{"AdminStore/takes under older settings are stale"},
		},
		{
			name: "takes look at the settings of the first bucket",
			make: takingDebits(func(good *reference, debits []zael.Debit) {
				for i := range debits[1:] {
					debits[1+i].SettingsRev = good.admin.latest
				}
			}),
			fails: []string{"AdminStore/takes under older settings are stale"},
		},
		{
			name: "bypass charges",
			make: takingDebits(func(_ *reference, debits []zael.Debit) {
				for i := range debits {
					debits[i].Bypass = false
				}
			}),
			fails: []string{"AdminStore/bypass changes no bucket"},
		},
		{
			name: "an adjust with bypass charges",
			make: method(func(o *override, good *reference) {
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					debits = slices.Clone(debits)
					for i := range debits {
						debits[i].Bypass = false
					}
					return good.Adjust(ctx, now, debits)
				}
			}),
			fails: []string{"AdminStore/bypass changes no bucket"},
		},
		{
			name: "bypass is not counted",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
					before := maps.Clone(good.usage)
					at, err := good.Take(ctx, now, maxWait, debits)
					if slices.ContainsFunc(debits, func(d zael.Debit) bool { return d.Bypass }) {
						good.usage = before
					}
					return at, err
				}
			}),
			fails: []string{"AdminStore/bypass is counted"},
		},
		{
			name: "any parent will do",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				if e, ok := good.entities[edit.Entity.ID]; ok && edit.Event.Action == zael.ParentSet {
					e.ParentID = edit.Entity.ParentID
					good.entities[e.ID] = e
					return zael.EditResult{}, nil
				}
				return good.Administer(ctx, now, edit, once)
			}),
			fails: []string{
				"AdminStore/a parent must exist", "AdminStore/no entity is its own ancestor", "AdminStore/concurrent changes of parents make no cycle",
				"AdminStore/each change of administration records its event",
			},
		},
		{
			name: "ancestors are looked at 32 deep",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				above := edit.Entity.ParentID
				for range 32 {
					above = good.entities[above].ParentID
				}
				if end, ok := good.entities[above]; ok {
					end.ParentID = ""
					kept := good.entities[above]
					good.entities[above] = end
					defer func() { good.entities[above] = kept }()
				}
				return good.Administer(ctx, now, edit, once)
			}),
			fails: []string{"AdminStore/no entity is its own ancestor"},
		},
		{
			name: "children stay with the first parent",
			make: method(func(o *override, good *reference) {
				o.administer = func(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
					if edit.Event.Action == zael.ParentSet && good.entities[edit.Entity.ID].ParentID != "" {
						return zael.EditResult{}, nil
					}
					return good.Administer(ctx, now, edit, once)
				}
			}),
			fails: []string{"AdminStore/a parent is set and removed"},
		},
		{
			name: "keys are not looked at",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, _ zael.Once) (zael.EditResult, error) {
				return good.Administer(ctx, now, edit, zael.Once{})
			}),
			fails: []string{
				"AdminStore/a key makes a change once", "AdminStore/a key belongs to one change", "AdminStore/the key of a change that failed is free",
				"AdminStore/one of many changes with a key is made",
			},
		},
		{
			name: "a key is for any change",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				once.Hash = ""
				return good.Administer(ctx, now, edit, once)
			}),
			fails: []string{"AdminStore/a key belongs to one change"},
		},
		{
			name: "a key is kept first",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				if err != nil && once.Key != "" {
					good.admin.once[once.Key] = once
				}
				return result, err
			}),
			fails: []string{"AdminStore/the key of a change that failed is free"},
		},
		{
			name: "a key of a caller who left is kept",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				if ctx.Err() != nil {
					good.admin.once[once.Key] = once
				}
				return result, err
			}),
			fails: []string{"AdminStore/a done context: all or nothing"},
		},
		{
			name: "keys are kept for ever",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				once.Until = once.Until.AddDate(100, 0, 0)
				return good.Administer(ctx, now, edit, once)
			}),
			fails: []string{"AdminStore/a key may be used again after its time"},
		},
		{
			name: "keys are folded to lower case",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				once.Key = lower(zael.Key{Entity: once.Key}).Entity
				return good.Administer(ctx, now, edit, once)
			}),
			fails: []string{"AdminStore/keys that differ are different keys"},
		},
		{
			name: "administration is not recorded",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				before := slices.Clone(good.events)
				result, err := good.Administer(ctx, now, edit, once)
				good.events = before
				return result, err
			}),
			fails:    []string{"AdminStore/each change of administration records its event", "AdminStore/one of many changes with a key is made"},
			patience: time.Minute,
		},
		{
			name:  "a reset resets all limits",
			make:  refilling(func(edit *zael.Edit) { edit.Names = nil }),
			fails: []string{"AdminStore/a reset fills limits", "AdminStore/a refill needs a definition"},
		},
		{
			name: "a reset keeps the generation",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				if r := good.buckets[zael.Key(edit.Scope())]; edit.Event.Action == zael.BucketReset && r != nil {
					for name, state := range r.limits {
						state.Generation--
						r.limits[name] = state
					}
				}
				return result, err
			}),
			fails: []string{"AdminStore/receipts from before a reset give nothing"},
		},
		{
			name: "a top-up is of one limit",
			make: refilling(func(edit *zael.Edit) {
				maps.DeleteFunc(edit.Amounts, func(name string, _ int64) bool { return name == "tpm" })
			}),
			fails: []string{"AdminStore/a top-up gives tokens, up to the burst of a rate"},
		},
		{
			name: "a refill takes stored definitions only",
			make: refilling(func(edit *zael.Edit) {
				if edit.Stored == nil {
					edit.Stored = []bucket.Limit{{Name: "rpm", Definition: bucket.Definition{Burst: 1, Amount: 1, Period: time.Second, Capacity: 1}}}
				}
			}),
			fails: []string{"AdminStore/a refill needs a definition"},
		},
		{
			name: "a repetition has a result of its own",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				result, err := good.Administer(ctx, now, edit, once)
				if result.Repeated {
					result.Available = nil
				}
				return result, err
			}),
			fails: []string{"AdminStore/a refill with a key is made once"},
		},
		{
			name: "a refill is a give",
			make: administering(func(ctx context.Context, good *reference, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
				for name, n := range edit.Amounts {
					good.count(0, zael.Debit{Key: zael.Key(edit.Scope()), Charges: []zael.Charge{{Name: name, Amount: -n}}}, 0)
				}
				return good.Administer(ctx, now, edit, once)
			}),
			fails: []string{"AdminStore/a refill is no usage"},
		},
		{
			name: "a top-up is written over what was taken meanwhile",
			make: method(func(o *override, good *reference) {
				var m meeting
				o.administer = func(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
					good.mu.Lock()
					before := maps.Clone(good.record(zael.Key(edit.Scope())).limits)
					good.mu.Unlock()
					m.wait()
					good.mu.Lock()
					if r := good.buckets[zael.Key(edit.Scope())]; r != nil {
						r.limits = before
					}
					good.mu.Unlock()
					return good.Administer(ctx, now, edit, once)
				}
				o.take = func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
					defer m.arrive()
					return good.Take(ctx, now, maxWait, debits)
				}
			}),
			fails: []string{"AdminStore/concurrent top-ups and takes all count"},
		},
		{
			name: "an entity's settings stay",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					before := maps.Clone(good.admin.settings)
					err := good.DeleteEntity(ctx, id, event)
					good.admin.settings = before
					return err
				}
			}),
			fails: []string{"AdminStore/deleting an entity removes its settings"},
		},
		{
			name: "settings are not applied",
			make: applying(func(ctx context.Context, good *reference, edits []zael.Edit) error {
				return good.Apply(ctx, slices.DeleteFunc(slices.Clone(edits), func(e zael.Edit) bool {
					return e.Event.Action != zael.EntityCreated && e.Event.Action != zael.LimitsSet && e.Event.Action != zael.LimitsDeleted
				}))
			}),
			fails: []string{"Applier/edits of settings are made with the others"},
		},
	}
}
