package zael_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// TestSwitchesBindEveryRequest checks that switches bind requests with limits of their own,
// on every path, at once in the process that sets them and in others on the store.
func TestSwitchesBindEveryRequest(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := memstore.New(&memstore.Config{Usage: true})
	clock := new(handClock)
	config := &zael.Config{Clock: clock.now}
	admin, other := limiterOn(t, store, config), limiterOn(t, store, config)
	policy := zael.MustPolicy("gpt-4", zael.PerDay("rpm", 3))
	literal := zael.Request{Entity: "alice", Resource: "gpt-4", Limits: []zael.Limit{zael.PerDay("rpm", 3)}}
	paths := map[string]func(l *zael.Limiter) error{
		"Allow with a policy": func(l *zael.Limiter) error { return l.Allow(ctx, policy.For("alice")) },
		"Allow with limits":   func(l *zael.Limiter) error { return l.Allow(ctx, literal) },
		"Decide": func(l *zael.Limiter) error {
			_, err := l.Decide(ctx, policy.For("alice"))
			return err
		},
		"Reserve": func(l *zael.Limiter) error { _, err := l.Reserve(ctx, literal); return err },
		"Acquire in line": func(l *zael.Limiter) error {
			r := literal
			r.MaxWait = time.Hour
			_, err := l.Acquire(ctx, r)
			return err
		},
		"FailOpen": func(l *zael.Limiter) error {
			r := literal
			r.FailureMode = zael.FailOpen
			return l.Allow(ctx, r)
		},
		"Do": func(l *zael.Limiter) error {
			return l.Do(ctx, literal, func(context.Context, *zael.Lease) error { return nil })
		},
	}
	set := func(scope zael.Scope, s zael.Switch) {
		t.Helper()
		if err := admin.SetSwitch(ctx, scope, s, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
		if s != zael.Disabled {
			clock.forward(time.Second) // then processes look whether it is
		}
	}
	if err := other.Allow(ctx, policy.For("alice")); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []zael.Scope{{Entity: "alice", Resource: "gpt-4"}, {Entity: "alice"}, {Resource: "gpt-4"}} {
		set(scope, zael.Disabled)
		for name, path := range paths {
			for who, l := range map[string]*zael.Limiter{"the setter": admin, "another": other} {
				var off *zael.DisabledError
				if err := path(l); !errors.As(err, &off) || !errors.Is(err, zael.ErrDisabled) || off.Scope != scope || off.Entity != "alice" {
					t.Errorf("%s by %s under %s: got %v, want a DisabledError of the scope", name, who, scope, err)
				}
			}
		}
		set(scope, zael.Inherit)
	}
	for _, l := range []*zael.Limiter{admin, other} {
		if err := l.Allow(ctx, policy.For("alice")); err != nil {
			t.Errorf("after the switches were removed: got %v, want it admitted", err)
		}
	}
	if err := other.Allow(ctx, policy.For("alice")); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("got %v, want a refusal: what was refused as disabled took nothing, what was admitted 3", err)
	}
}

// TestEntityEnabledOnDisabledResource checks that the first scope that does not inherit
// decides.
func TestEntityEnabledOnDisabledResource(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	rpm := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100))
	for _, step := range []struct {
		scope zael.Scope
		to    zael.Switch
		alice error
	}{
		{zael.Scope{Resource: "gpt-4"}, zael.Disabled, zael.ErrDisabled},
		{zael.Scope{Entity: "alice"}, zael.Enabled, nil},
		{zael.Scope{Entity: "alice", Resource: "gpt-4"}, zael.Disabled, zael.ErrDisabled},
		{zael.Scope{Entity: "alice", Resource: "gpt-4"}, zael.Bypass, nil},
		{zael.Scope{Entity: "alice", Resource: "gpt-4"}, zael.Inherit, nil},
		{zael.Scope{Entity: "alice"}, zael.Inherit, zael.ErrDisabled},
	} {
		if err := l.SetSwitch(ctx, step.scope, step.to, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := l.Allow(ctx, rpm.For("alice")); !errors.Is(err, step.alice) {
			t.Errorf("after %s %s: got %v, want %v", step.scope, step.to, err, step.alice)
		}
		if err := l.Allow(ctx, rpm.For("bob")); !errors.Is(err, zael.ErrDisabled) {
			t.Errorf("bob after %s %s: got %v, want ErrDisabled", step.scope, step.to, err)
		}
	}
}

// TestBypassCountsOnly checks that a bypassed bucket is charged nothing, by takes and
// leases, and that usage counts both.
func TestBypassCountsOnly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(&memstore.Config{Usage: true}), nil)
	req := zael.Request{
		Entity: "alice", Resource: "gpt-4", Limits: []zael.Limit{zael.PerMinute("rpm", 5)}, Consume: zael.Amounts{"rpm": 4},
	}
	if err := l.Allow(ctx, req); err != nil {
		t.Fatal(err)
	}
	if err := l.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Bypass, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	req.MaxWait = time.Minute
	for range 3 {
		lease, err := l.Acquire(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if d := lease.Decision(); !d.Bypassed || d.Status(0).Available != 1 {
			t.Errorf("got bypassed %t, %d available; want true and 1", d.Bypassed, d.Status(0).Available)
		}
		if err := errors.Join(lease.Consume(ctx, zael.Amounts{"rpm": 10}), lease.Settle(zael.Amounts{"rpm": 20}), lease.Commit(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Enabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := l.Available(ctx, zael.Query{Entity: "alice", Resource: "gpt-4", Limits: req.Limits})
	if err != nil || left["rpm"] != 1 {
		t.Errorf("got %v (%v) available, want 1: bypass charges nothing", left, err)
	}
	u, err := l.Usage(ctx, zael.UsageQuery{Entity: "alice"})
	if err != nil || u.Amounts["rpm"] != 64 || u.Events != 7 {
		t.Errorf("got usage %v in %d events (%v), want 4 + 3·20 in 1 + 3·2", u.Amounts, u.Events, err)
	}
}

// TestParentSwitch checks that a parent's switch binds requests that cascade, and that
// each bucket has its own.
func TestParentSwitch(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	if _, err := l.CreateEntity(ctx, zael.Entity{ID: "alice", ParentID: "team"}); err != nil {
		t.Fatal(err)
	}
	req := zael.Request{Entity: "alice", Resource: "gpt-4", Cascade: true, Limits: []zael.Limit{zael.PerMinute("rpm", 2)}}
	set := func(entity string, s zael.Switch) {
		t.Helper()
		if err := l.SetSwitch(ctx, zael.Scope{Entity: entity}, s, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	set("team", zael.Disabled)
	var off *zael.DisabledError
	if err := l.Allow(ctx, req); !errors.As(err, &off) || off.Entity != "team" {
		t.Errorf("got %v, want the parent to be disabled", err)
	}
	set("team", zael.Enabled)
	set("alice", zael.Bypass)
	for i, want := range []error{nil, nil, zael.ErrExceeded} {
		if err := l.Allow(ctx, req); !errors.Is(err, want) {
			t.Errorf("acquire %d: got %v, want %v: the parent binds", i+1, err, want)
		}
	}
	set("team", zael.Bypass)
	if err := l.Allow(ctx, req); err != nil {
		t.Errorf("got %v, want both to be bypassed", err)
	}
	set("alice", zael.Inherit)
	if left, err := l.Available(ctx, zael.Query{Entity: "alice", Resource: "gpt-4", Limits: req.Limits}); err != nil || left["rpm"] != 2 {
		t.Errorf("got %v (%v), want the bypassed child to be full", left, err)
	}
}

// Trap of zae-limiter 0.17: check_availability says allowed for a disabled resource.
func TestTrapAvailabilityOfADisabledResource(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	if err := l.SetSwitch(ctx, zael.Scope{Resource: "gpt-4"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	q := zael.Query{Entity: "alice", Resource: "gpt-4", Limits: []zael.Limit{zael.PerMinute("rpm", 2)}}
	if left, err := l.Available(ctx, q); !errors.Is(err, zael.ErrDisabled) {
		t.Errorf("Available: got %v and %v, want ErrDisabled", left, err)
	}
	if wait, err := l.TimeUntilAvailable(ctx, q, nil); !errors.Is(err, zael.ErrDisabled) {
		t.Errorf("TimeUntilAvailable: got %v and %v, want ErrDisabled", wait, err)
	}
}

// Trap of zae-limiter 0.17: the audit of disable, enable and bypass is limits_set.
func TestTrapAuditTellsSwitchesApart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), &zael.Config{Principal: "ann"})
	scope := zael.Scope{Entity: "alice", Resource: "gpt-4"}
	want := []zael.AuditAction{zael.SwitchDisabled, zael.SwitchEnabled, zael.SwitchBypass, zael.SwitchRemoved, zael.FailureModeSet, zael.FailureModeRemoved}
	for _, s := range []zael.Switch{zael.Disabled, zael.Enabled, zael.Bypass, zael.Inherit, zael.Inherit} {
		if err := l.SetSwitch(ctx, scope, s, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []zael.FailureMode{zael.FailOpen, 0, 0} {
		if err := l.SetFailureMode(ctx, scope, m, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := l.Audit(ctx, zael.AuditQuery{Entity: "alice"})
	if err != nil || len(events) != len(want) {
		t.Fatalf("got %d events (%v), want %d", len(events), err, len(want))
	}
	for i, e := range events {
		if e.Action != want[len(want)-1-i] || e.Principal != "ann" || e.Resource != "gpt-4" {
			t.Errorf("event %d: got %+v, want %s by ann", i, e, want[len(want)-1-i])
		}
	}
}

func TestAdminValidation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	alice := zael.Scope{Entity: "alice"}
	for name, err := range map[string]error{
		"the system":       l.SetSwitch(ctx, zael.Scope{}, zael.Disabled, zael.AdminOptions{}),
		"no switch":        l.SetSwitch(ctx, alice, 9, zael.AdminOptions{}),
		"a name":           l.SetSwitch(ctx, zael.Scope{Entity: " a"}, zael.Disabled, zael.AdminOptions{}),
		"a key":            l.SetSwitch(ctx, alice, zael.Disabled, zael.AdminOptions{IdempotencyKey: "a b"}),
		"no mode":          l.SetFailureMode(ctx, alice, 9, zael.AdminOptions{}),
		"a parent's name":  l.SetParent(ctx, "alice", " a", zael.AdminOptions{}),
		"an entity's name": l.SetParent(ctx, "", "team", zael.AdminOptions{}),
	} {
		if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
			t.Errorf("%s: got %v, want a ValidationError", name, err)
		}
	}
	if events, err := l.Audit(ctx, zael.AuditQuery{}); err != nil || len(events) != 0 {
		t.Errorf("got %v (%v), want nothing recorded", events, err)
	}
	none := limiterOn(t, struct{ zael.Store }{memstore.New(nil)}, nil)
	if err := none.SetSwitch(ctx, alice, zael.Disabled, zael.AdminOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

func limiterOn(t *testing.T, store zael.Store, config *zael.Config) *zael.Limiter {
	t.Helper()
	l, err := zael.New(store, config)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
