package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
)

func adminChecks() []check {
	return []check{
		{name: "settings come back as they were set", run: settingsComeBack},
		{name: "revisions of settings always rise", run: settingsRise},
		{name: "removing no settings changes nothing", run: removingNoSettings},
		{name: "settings of scopes that differ in name are kept apart", run: settingsApart},
		{name: "the state tells whether there are settings", run: stateOfSettings},
		{name: "takes under older settings are stale", run: settingsStale},
		{name: "bypass changes no bucket", run: bypassChangesNothing},
		{name: "bypass is counted", also: []Role{UsageStore}, run: bypassIsCounted},
		{name: "a parent is set and removed", also: []Role{EntityStore}, run: parentIsSet},
		{name: "a parent must exist", also: []Role{EntityStore}, run: parentMustExist},
		{name: "no entity is its own ancestor", also: []Role{EntityStore}, run: noCycle},
		{name: "concurrent changes of parents make no cycle", also: []Role{EntityStore}, run: noCycleTogether},
		{name: "a key makes a change once", run: keyOnce},
		{name: "a key belongs to one change", run: keyOfOneChange},
		{name: "the key of a change that failed is free", also: []Role{EntityStore}, run: failedKeyIsFree},
		{name: "a key may be used again after its time", run: keyAfterItsTime},
		{name: "keys that differ are different keys", run: keysOfChangesApart},
		{name: "one of many changes with a key is made", also: []Role{AuditStore}, run: keyTogether},
		{name: "each change of administration records its event", also: []Role{EntityStore, AuditStore}, run: adminRecorded},
		{name: "a reset fills limits", run: resetFills},
		{name: "receipts from before a reset give nothing", run: resetEndsReceipts},
		{name: "a top-up gives tokens, up to the burst of a rate", run: topUpGives},
		{name: "a refill needs a definition", run: refillNeedsDefinition},
		{name: "a refill with a key is made once", run: refillOnce},
		{name: "a refill is no usage", also: []Role{UsageStore}, run: refillIsNoUsage},
		{name: "concurrent top-ups and takes all count", run: refillTogether},
		{name: "deleting an entity removes its settings", also: []Role{EntityStore, LimitStore}, run: deletesSettings},
		{name: "a done context: all or nothing", run: adminDone},
	}
}

// switches returns the edit that sets a scope's switch.
func (e *env) switches(after time.Duration, scope zael.Scope, to zael.Switch) zael.Edit {
	action := map[zael.Switch]zael.AuditAction{
		zael.Inherit: zael.SwitchRemoved, zael.Enabled: zael.SwitchEnabled, zael.Disabled: zael.SwitchDisabled, zael.Bypass: zael.SwitchBypass,
	}[to]
	return zael.Edit{Event: e.event(after, action, scope.Entity, scope.Resource)}
}

// fails returns the edit that sets a scope's failure mode.
func (e *env) fails(after time.Duration, scope zael.Scope, mode zael.FailureMode) zael.Edit {
	action := zael.FailureModeSet
	if mode == 0 {
		action = zael.FailureModeRemoved
	}
	return zael.Edit{Event: e.event(after, action, scope.Entity, scope.Resource), FailureMode: mode}
}

// parent returns the edit that sets an entity's parent.
func (e *env) parent(after time.Duration, id, parent string) zael.Edit {
	return zael.Edit{Event: e.event(after, zael.ParentSet, id, ""), Entity: zael.Entity{ID: id, ParentID: parent}}
}

// administer makes an edit, and wants an error or none.
func (s *script) administer(edit zael.Edit, want error) {
	s.once(edit, zael.Once{}, false, want)
}

// once makes an edit with a key, and wants an error, or that it was repeated or was not.
func (s *script) once(edit zael.Edit, once zael.Once, repeated bool, want error) {
	s.do(func() error {
		result, err := role[zael.AdminStore](s.e).Administer(s.ctx, edit.Event.Time, edit, once)
		if !errors.Is(err, want) {
			return fmt.Errorf("Administer of %s: got %w, want %w", edit.Event.Action, orNil(err), orNil(want))
		}
		if err == nil && result.Repeated != repeated {
			return fmt.Errorf("Administer of %s with key %q: got repeated %t, want %t", edit.Event.Action, once.Key, result.Repeated, repeated)
		}
		return nil
	})
}

func (e *env) settingsOf(ctx context.Context, scopes ...zael.Scope) ([]zael.Settings, error) {
	got, err := role[zael.AdminStore](e).Settings(ctx, scopes)
	if err == nil && len(got) != len(scopes) {
		err = fmt.Errorf("Settings of %d scopes: got %d", len(scopes), len(got))
	}
	return got, err
}

// settings reads a scope and wants its switch and failure mode. It returns the revision.
func (s *script) settings(scope zael.Scope, sw zael.Switch, mode zael.FailureMode) (rev int64) {
	s.do(func() error {
		got, err := s.e.settingsOf(s.ctx, scope)
		if err != nil {
			return err
		}
		if got[0].Switch != sw || got[0].FailureMode != mode {
			return fmt.Errorf("Settings of %s: got %s and %s, want %s and %s", scope, got[0].Switch, got[0].FailureMode, sw, mode)
		}
		rev = got[0].Rev
		return nil
	})
	return rev
}

func settingsComeBack(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scopes := []zael.Scope{{Entity: "alice", Resource: "gpt-4"}, {Entity: "alice"}, {Resource: "gpt-4"}}
	for _, scope := range scopes {
		if rev := s.settings(scope, zael.Inherit, 0); rev != 0 && s.err == nil {
			return fmt.Errorf("Settings of %s, which were never stored: got revision %d, want 0", scope, rev)
		}
		for i, to := range []zael.Switch{zael.Disabled, zael.Enabled, zael.Bypass, zael.Bypass} {
			s.administer(e.switches(time.Duration(i)*time.Second, scope, to), nil)
			s.settings(scope, to, 0)
		}
		s.administer(e.fails(0, scope, zael.FailOpen), nil)
		s.settings(scope, zael.Bypass, zael.FailOpen)
		s.administer(e.fails(0, scope, zael.FailClosed), nil)
		s.administer(e.switches(0, scope, zael.Inherit), nil)
		s.settings(scope, zael.Inherit, zael.FailClosed)
		s.administer(e.fails(0, scope, 0), nil)
		s.settings(scope, zael.Inherit, 0)
	}
	s.administer(e.fails(0, zael.Scope{}, zael.FailOpen), nil)
	s.settings(zael.Scope{}, zael.Inherit, zael.FailOpen)
	for i, scope := range scopes { // and in their order
		s.administer(e.switches(0, scope, zael.Switch(i+1)), nil)
	}
	s.do(func() error {
		got, err := e.settingsOf(ctx, scopes[2], zael.Scope{Entity: "bob"}, scopes[0], scopes[2], scopes[1])
		if err != nil {
			return err
		}
		for i, want := range []zael.Switch{3, 0, 1, 3, 2} {
			if got[i].Switch != want {
				return fmt.Errorf("Settings in place %d: got %s, want %s", i, got[i].Switch, want)
			}
		}
		return nil
	})
	return s.err
}

// settingsRise sets switches by clocks that stand still and go back.
func settingsRise(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope, last := zael.Scope{Entity: "alice", Resource: "gpt-4"}, int64(0)
	for i, after := range []time.Duration{time.Hour, time.Hour, 0, -time.Hour, 0, 2 * time.Hour} {
		to := zael.Switch(i%2 + 1)
		if i == 4 {
			to = zael.Inherit
		}
		s.administer(e.switches(after, scope, to), nil)
		rev := s.settings(scope, to, 0)
		if s.err == nil && (rev <= last || rev < e.micros(after)) {
			return fmt.Errorf("change %d: got revision %d, want more than %d, and at least %d", i, rev, last, e.micros(after))
		}
		last = rev
	}
	return s.err
}

func removingNoSettings(ctx context.Context, e *env) error {
	s := e.script(ctx)
	scope := zael.Scope{Entity: "alice", Resource: "gpt-4"}
	s.administer(e.switches(0, scope, zael.Inherit), nil)
	s.administer(e.fails(0, scope, 0), nil)
	if rev := s.settings(scope, zael.Inherit, 0); s.err == nil && rev != 0 {
		return fmt.Errorf("after nothing was removed: got revision %d, want 0", rev)
	}
	s.administer(e.switches(0, scope, zael.Disabled), nil)
	before := s.settings(scope, zael.Disabled, 0)
	s.administer(e.fails(time.Hour, scope, 0), nil)
	if rev := s.settings(scope, zael.Disabled, 0); s.err == nil && rev != before {
		return fmt.Errorf("after no failure mode was removed: got revision %d, want %d", rev, before)
	}
	if audit, ok := e.store.(zael.AuditStore); ok && s.err == nil {
		events, err := collect(audit.Audit(ctx, zael.AuditQuery{}))
		if err == nil && len(events) != 1 {
			err = fmt.Errorf("got %d events, want 1: removing what is not there records none", len(events))
		}
		return err
	}
	return s.err
}

// settingsApart sets switches of scopes with names that a store could mix up.
func settingsApart(ctx context.Context, e *env) error {
	s := e.script(ctx)
	var scopes []zael.Scope
	for _, n := range names() {
		if n.plain && passes(n.text) {
			scopes = append(scopes, zael.Scope{Entity: n.text}, zael.Scope{Resource: n.text}, zael.Scope{Entity: n.text, Resource: "r"}, zael.Scope{Entity: "e", Resource: n.text})
		}
	}
	slices.SortFunc(scopes, func(a, b zael.Scope) int { return len(a.String()) - len(b.String()) })
	for i, scope := range scopes {
		s.administer(e.switches(0, scope, zael.Switch(i%3+1)), nil)
	}
	s.do(func() error {
		got, err := e.settingsOf(ctx, scopes...)
		if err != nil {
			return err
		}
		for i, scope := range scopes {
			if want := zael.Switch(i%3 + 1); got[i].Switch != want {
				return fmt.Errorf("Settings of %q: got %s, want %s", scope, got[i].Switch, want)
			}
		}
		return nil
	})
	return s.err
}

func stateOfSettings(ctx context.Context, e *env) error {
	s := e.script(ctx)
	state := func() (rev int64) {
		s.do(func() error {
			state, err := role[zael.AdminStore](e).State(ctx)
			rev = state.SettingsRev
			return err
		})
		return rev
	}
	if rev := state(); s.err == nil && rev != 0 {
		return fmt.Errorf("State of an empty store: got revision %d, want 0", rev)
	}
	last := int64(0)
	for i, scope := range []zael.Scope{{Entity: "alice"}, {Resource: "gpt-4"}, {Entity: "alice", Resource: "gpt-4"}, {Entity: "bob"}} {
		s.administer(e.switches(-time.Duration(i)*time.Hour, scope, zael.Disabled), nil)
		rev, own := state(), s.settings(scope, zael.Disabled, 0)
		if s.err == nil && (rev < own || rev < last) {
			return fmt.Errorf("State after the settings of %s: got revision %d, want at least theirs, %d, and %d before", scope, rev, own, last)
		}
		last = rev
	}
	return s.err
}

// settingsStale takes from live buckets under settings from before a change.
func settingsStale(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(100)
	one, two := key("alice"), key("bob")
	take := func(revs [2]int64, want error) {
		s.do(func() error {
			a, b := debit(one, ask("rpm", d, 1)), debit(two, ask("rpm", d, 1))
			a.SettingsRev, b.SettingsRev = revs[0], revs[1]
			if _, err := e.take(ctx, e.t0, 0, a, b); !errors.Is(err, want) {
				return fmt.Errorf("Take under settings of %v: got %w, want %w", revs, orNil(err), orNil(want))
			}
			return nil
		})
	}
	take([2]int64{}, nil)
	scope := zael.Scope{Entity: "bob", Resource: "gpt-4"}
	for i, change := range []zael.Scope{scope, {Entity: "bob"}, scope} {
		s.administer(e.switches(0, change, zael.Switch(i+1)), nil)
		rev := s.settings(change, zael.Switch(i+1), 0)
		take([2]int64{}, zael.ErrStaleSettings)
		take([2]int64{0, rev - 1}, zael.ErrStaleSettings)
		s.left(0, one, "rpm", d, int64(99-i)) // nothing of either was taken
		s.left(0, two, "rpm", d, int64(99-i))
		take([2]int64{0, rev}, nil)
	}
	s.administer(e.switches(0, zael.Scope{Entity: "carol"}, zael.Disabled), nil)
	rev := s.settings(scope, zael.Bypass, 0)
	take([2]int64{0, rev}, nil) // the settings of others do not count
	return s.err
}

func bypassChangesNothing(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	k, other := key("alice"), key("team")
	s.admit(0, debit(k, ask("rpm", d, 4)))
	s.adjust(0, debit(k, ask("tpm", d, 17))) // in debt
	bypass := debit(k, ask("rpm", d, 100), ask("tpm", d, 1), ask("new", d, 3))
	bypass.Bypass = true
	s.admit(0, bypass, debit(other, ask("rpm", d, 10)))
	s.do(func() error {
		for _, c := range bypass.Charges {
			at, err := e.counted("Take", e.t0, e.t0)
			if err != nil {
				return err
			}
			state := c.Taken()
			if got, want := state.Available(at), map[string]int64{"rpm": 6, "tpm": -7, "new": 10}[c.Name]; got != want {
				return fmt.Errorf("Take with Bypass: got %d of %s left, want %d", got, c.Name, want)
			}
		}
		return nil
	})
	s.refuse(0, bypass, debit(other, ask("rpm", d, 1))) // the other bucket binds
	back := debit(k, ask("rpm", d, 100), ask("new", d, 100), zael.Charge{Name: "rpm", Definition: d, Amount: -100, Receipt: bypass.Charges[0].Receipt})
	back.Bypass = true
	s.adjust(0, back)
	s.left(0, k, "rpm", d, 6)
	s.left(0, k, "tpm", d, -7)
	s.left(0, k, "new", d, 10)
	s.left(0, other, "rpm", d, 0)
	return s.err
}

func bypassIsCounted(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	for i, k := range []zael.Key{key("alice"), key("bob")} {
		want := zael.UsageRecord{Entity: k.Entity, Resource: k.Resource, Window: zael.Hourly, Start: e.t0, Amounts: zael.Amounts{"rpm": 30, "tpm": 2}, Events: 2}
		if i == 1 { // one that has a bucket
			s.admit(0, debit(k, ask("rpm", d, 5)))
			want.Events, want.Amounts["rpm"] = 3, 35
		}
		for range 2 {
			taken := debit(k, ask("rpm", d, 20), ask("tpm", d, 1))
			taken.Bypass = true
			s.admit(0, taken)
			settled := debit(k, zael.Charge{Name: "rpm", Definition: d, Amount: -5, Receipt: taken.Charges[0].Receipt})
			settled.Bypass = true
			s.adjust(0, settled)
		}
		s.usage(zael.UsageQuery{Entity: k.Entity, Window: zael.Hourly}, want)
	}
	return s.err
}

func deletesSettings(ctx context.Context, e *env) error {
	s := e.script(ctx)
	own, all, resource := zael.Scope{Entity: "alice", Resource: "gpt-4"}, zael.Scope{Entity: "alice"}, zael.Scope{Resource: "gpt-4"}
	s.administer(e.switches(0, own, zael.Disabled), nil)
	s.administer(e.switches(0, all, zael.Disabled), nil)
	s.administer(e.switches(0, resource, zael.Disabled), nil)
	s.administer(e.switches(0, zael.Scope{Entity: "bob"}, zael.Disabled), nil)
	s.remove("alice", nil) // who was not created, but has settings
	s.settings(own, zael.Inherit, 0)
	s.settings(all, zael.Inherit, 0)
	s.settings(resource, zael.Disabled, 0)
	s.settings(zael.Scope{Entity: "bob"}, zael.Disabled, 0)
	return s.err
}

func adminDone(ctx context.Context, e *env) error {
	for name, gone := range done(ctx) {
		s := e.script(ctx)
		edit := e.switches(0, zael.Scope{Entity: name}, zael.Disabled)
		once := zael.Once{Key: name, Hash: "h", Until: e.t0.Add(time.Hour)}
		_, err := role[zael.AdminStore](e).Administer(gone, e.t0, edit, once)
		made, err := heeds(gone, "Administer", err)
		if err != nil {
			return err
		}
		if made {
			s.settings(zael.Scope{Entity: name}, zael.Disabled, 0)
		} else {
			s.settings(zael.Scope{Entity: name}, zael.Inherit, 0)
		}
		s.once(edit, once, made, nil)
		if s.err != nil {
			return s.err
		}
	}
	return nil
}
