package zael_test

import (
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A server makes changes for others: audit events name them, whatever the change.
func TestWithPrincipal(t *testing.T) {
	t.Parallel()
	l := limiterOn(t, memstore.New(nil), &zael.Config{Principal: "server"})
	ctx := zael.WithPrincipal(t.Context(), "ann")
	scope, disabled, open := zael.Scope{Entity: "alice", Resource: "gpt-4"}, zael.Disabled, zael.FailOpen
	limits := []zael.Limit{zael.PerMinute("rpm", 2)}
	_, err := l.CreateEntity(ctx, zael.Entity{ID: "team"})
	changes := map[string]error{
		"create":       err,
		"apply":        apply(t, l, zael.Change{Create: &zael.Entity{ID: "alice"}}, zael.Change{Scope: scope, Limits: limits}, zael.Change{Scope: scope, Switch: &disabled}, zael.Change{Scope: scope, FailureMode: &open}),
		"set":          l.SetLimits(ctx, scope, limits),
		"switch":       l.SetSwitch(ctx, scope, zael.Enabled, zael.AdminOptions{}),
		"failure mode": l.SetFailureMode(ctx, scope, zael.FailClosed, zael.AdminOptions{}),
		"parent":       l.SetParent(ctx, "alice", "team", zael.AdminOptions{}),
	}
	_, changes["reset"] = l.Reset(ctx, "alice", "gpt-4", nil, zael.AdminOptions{})
	_, changes["top up"] = l.TopUp(ctx, "alice", "gpt-4", zael.Amounts{"rpm": 1}, zael.AdminOptions{})
	changes["unset"] = l.DeleteLimits(ctx, scope)
	changes["delete"] = l.DeleteEntity(ctx, "alice")
	for what, err := range changes {
		if err != nil {
			t.Fatalf("%s: got %v, want nil", what, err)
		}
	}
	events, err := l.Audit(ctx, zael.AuditQuery{})
	if want := 1 + 4 + 8; err != nil || len(events) != want {
		t.Fatalf("got %d events (%v), want %d", len(events), err, want)
	}
	for _, e := range events {
		if e.Principal != "ann" {
			t.Errorf("%s: got %q, want ann", e.Action, e.Principal)
		}
	}
	if err := l.SetLimits(zael.WithPrincipal(ctx, ""), scope, limits); err != nil {
		t.Fatal(err)
	}
	if events, err = l.Audit(ctx, zael.AuditQuery{Max: 1}); err != nil || events[0].Principal != "server" {
		t.Errorf("without one: got %v (%v), want the Config's", events, err)
	}
}

func apply(t *testing.T, l *zael.Limiter, changes ...zael.Change) error {
	t.Helper()
	_, err := l.Apply(zael.WithPrincipal(t.Context(), "ann"), changes)
	return err
}
