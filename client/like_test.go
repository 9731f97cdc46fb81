package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/client"
	"github.com/zeroae/zael/memstore"
)

// An administration is what a Limiter and a Client both have.
type administration interface { //nolint:interfacebloat // all of it is compared
	Apply(ctx context.Context, changes []zael.Change) (int, error)
	Audit(ctx context.Context, q zael.AuditQuery) ([]zael.AuditEvent, error)
	Available(ctx context.Context, q zael.Query) (zael.Amounts, error)
	Children(ctx context.Context, parent string) ([]zael.Entity, error)
	CreateEntity(ctx context.Context, e zael.Entity) (zael.Entity, error)
	DeleteEntity(ctx context.Context, id string) error
	DeleteLimits(ctx context.Context, scope zael.Scope) error
	DeleteNamespace(ctx context.Context, name string) error
	Entities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error)
	Entity(ctx context.Context, id string) (zael.Entity, error)
	Limits(ctx context.Context, scope zael.Scope) ([]zael.Limit, error)
	Namespace(ctx context.Context, name string) (zael.Namespace, error)
	Namespaces(ctx context.Context) ([]zael.Namespace, error)
	Overridden(ctx context.Context, changes []zael.Change) ([]zael.Override, error)
	Ping(ctx context.Context) error
	PurgeNamespace(ctx context.Context, name string) (int, error)
	RecoverNamespace(ctx context.Context, name string) error
	RegisterNamespace(ctx context.Context, name string) error
	Reset(ctx context.Context, entity, resource string, names []string, options zael.AdminOptions) (zael.Amounts, error)
	Resources(ctx context.Context, q zael.ListQuery) ([]string, error)
	ResourceCapacity(ctx context.Context, resource, limit string, options zael.CapacityOptions) (zael.ResourceCapacity, error)
	Scopes(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error)
	SetFailureMode(ctx context.Context, scope zael.Scope, mode zael.FailureMode, options zael.AdminOptions) error
	SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit) error
	SetParent(ctx context.Context, id, parent string, options zael.AdminOptions) error
	SetSwitch(ctx context.Context, scope zael.Scope, s zael.Switch, options zael.AdminOptions) error
	Settings(ctx context.Context, scope zael.Scope) (zael.Settings, error)
	TimeUntilAvailable(ctx context.Context, q zael.Query, amounts zael.Amounts) (time.Duration, error)
	TopUp(ctx context.Context, entity, resource string, amounts zael.Amounts, options zael.AdminOptions) (zael.Amounts, error)
	Usage(ctx context.Context, q zael.UsageQuery) (zael.Usage, error)
}

var (
	_ administration = (*zael.Limiter)(nil)
	_ administration = (*client.Client)(nil)
)

// A step is a call of administration; what it returns is compared.
type step struct {
	name string
	call func(ctx context.Context, a administration) (any, error)
}

func steps() []step {
	type (
		ctx  = context.Context
		with = administration
	)
	none := func(f func(ctx, with) error) func(ctx, with) (any, error) {
		return func(c ctx, a with) (any, error) { return nil, f(c, a) }
	}
	n, m := zael.EachYear("n", 10), zael.EachYear("m/x.y-z", 1000)
	const odd = "a/b ?%2F#é"
	onR := zael.Query{Entity: odd, Resource: "r", UseStoredLimits: true}
	disabled, bypass, open := zael.Disabled, zael.Bypass, zael.FailOpen
	var list []step
	add := func(name string, call func(ctx, with) (any, error)) { list = append(list, step{name, call}) }
	add("ping", none(func(c ctx, a with) error { return a.Ping(c) }))
	add("create", func(c ctx, a with) (any, error) {
		return a.CreateEntity(c, zael.Entity{ID: odd, Name: "N", ParentID: "team", Cascade: true, Metadata: map[string]string{"k": "v"}})
	})
	add("create again", func(c ctx, a with) (any, error) { return a.CreateEntity(c, zael.Entity{ID: odd}) })
	add("create badly", func(c ctx, a with) (any, error) { return a.CreateEntity(c, zael.Entity{ID: " x"}) })
	add("create the parent", func(c ctx, a with) (any, error) { return a.CreateEntity(c, zael.Entity{ID: "team"}) })
	add("create dots", func(c ctx, a with) (any, error) { return a.CreateEntity(c, zael.Entity{ID: "..", ParentID: "team"}) })
	for _, id := range []string{odd, "..", "nobody"} {
		add("entity "+id, func(c ctx, a with) (any, error) { return a.Entity(c, id) })
	}
	add("children", func(c ctx, a with) (any, error) { return a.Children(c, "team") })
	add("no children", func(c ctx, a with) (any, error) { return a.Children(c, "x") })
	add("a cycle", none(func(c ctx, a with) error { return a.SetParent(c, "team", odd, zael.AdminOptions{}) }))
	add("another parent", none(func(c ctx, a with) error { return a.SetParent(c, "..", "nobody", zael.AdminOptions{}) }))
	add("no parent", none(func(c ctx, a with) error { return a.SetParent(c, "..", "", zael.AdminOptions{IdempotencyKey: "p"}) }))
	add("delete", none(func(c ctx, a with) error { return a.DeleteEntity(c, "..") }))
	add("delete again", none(func(c ctx, a with) error { return a.DeleteEntity(c, "..") }))
	for _, scope := range []zael.Scope{{}, {Resource: odd}, {Entity: odd}, {Entity: odd, Resource: "r"}} {
		set := []zael.Limit{n, m, zael.AtOnce("p", 3), zael.PerMinute("rpm", 5).Soft()}
		add("set limits of "+scope.String(), none(func(c ctx, a with) error { return a.SetLimits(c, scope, set) }))
		add("limits of "+scope.String(), func(c ctx, a with) (any, error) { return a.Limits(c, scope) })
		add("settings of "+scope.String(), func(c ctx, a with) (any, error) { return a.Settings(c, scope) })
		add("open "+scope.String(), none(func(c ctx, a with) error { return a.SetFailureMode(c, scope, zael.FailOpen, zael.AdminOptions{}) }))
	}
	add("hide", func(c ctx, a with) (any, error) {
		return a.Overridden(c, []zael.Change{{Scope: zael.Scope{Entity: odd, Resource: "r"}, Limits: []zael.Limit{zael.Unlimited("z")}}})
	})
	add("no limits", none(func(c ctx, a with) error { return a.SetLimits(c, zael.Scope{}, nil) }))
	add("limits of a bad name", none(func(c ctx, a with) error {
		return a.SetLimits(c, zael.Scope{Entity: "x\n"}, []zael.Limit{n})
	}))
	add("delete limits", none(func(c ctx, a with) error { return a.DeleteLimits(c, zael.Scope{Resource: odd}) }))
	add("top up", func(c ctx, a with) (any, error) {
		return a.TopUp(c, odd, "r", zael.Amounts{"n": 5}, zael.AdminOptions{IdempotencyKey: "k"})
	})
	add("top up again", func(c ctx, a with) (any, error) {
		return a.TopUp(c, odd, "r", zael.Amounts{"n": 5}, zael.AdminOptions{IdempotencyKey: "k"})
	})
	add("top up otherwise", func(c ctx, a with) (any, error) {
		return a.TopUp(c, odd, "r", zael.Amounts{"n": 6}, zael.AdminOptions{IdempotencyKey: "k"})
	})
	add("reset", func(c ctx, a with) (any, error) { return a.Reset(c, odd, "r", []string{"n"}, zael.AdminOptions{}) })
	add("reset nothing", func(c ctx, a with) (any, error) { return a.Reset(c, odd, "r", []string{"zzz"}, zael.AdminOptions{}) })
	add("available", func(c ctx, a with) (any, error) { return a.Available(c, onR) })
	add("available of limits", func(c ctx, a with) (any, error) {
		return a.Available(c, zael.Query{Entity: "e", Resource: "r", Limits: []zael.Limit{n, m}, ParentLimits: []zael.Limit{n}, Cascade: true})
	})
	add("no limits to ask about", func(c ctx, a with) (any, error) { return a.Available(c, zael.Query{Entity: "e", Resource: "r"}) })
	add("time now", func(c ctx, a with) (any, error) { return a.TimeUntilAvailable(c, onR, zael.Amounts{"n": 5}) })
	add("time never", func(c ctx, a with) (any, error) { return a.TimeUntilAvailable(c, onR, zael.Amounts{"n": 11}) })
	add("time of no name", func(c ctx, a with) (any, error) { return a.TimeUntilAvailable(c, onR, zael.Amounts{"zzz": 11}) })
	add("capacity", func(c ctx, a with) (any, error) { return a.ResourceCapacity(c, "r", "n", zael.CapacityOptions{}) })
	add("capacity of parents", func(c ctx, a with) (any, error) {
		return a.ResourceCapacity(c, "r", "n", zael.CapacityOptions{ParentsOnly: true})
	})
	add("capacity badly", func(c ctx, a with) (any, error) { return a.ResourceCapacity(c, "r", "1x", zael.CapacityOptions{}) })
	add("usage", func(c ctx, a with) (any, error) { return a.Usage(c, zael.UsageQuery{Entity: odd}) })
	add("usage of a resource", func(c ctx, a with) (any, error) {
		return a.Usage(c, zael.UsageQuery{Resource: "r", Window: zael.Daily})
	})
	add("usage of nothing", func(c ctx, a with) (any, error) { return a.Usage(c, zael.UsageQuery{}) })
	add("disable", none(func(c ctx, a with) error {
		return a.SetSwitch(c, zael.Scope{Resource: "r"}, zael.Disabled, zael.AdminOptions{})
	}))
	add("disable all", none(func(c ctx, a with) error { return a.SetSwitch(c, zael.Scope{}, zael.Disabled, zael.AdminOptions{}) }))
	add("disabled", func(c ctx, a with) (any, error) { return a.Settings(c, zael.Scope{Resource: "r"}) })
	add("apply", func(c ctx, a with) (any, error) {
		return a.Apply(c, []zael.Change{
			{Create: &zael.Entity{ID: "new"}},
			{Scope: zael.Scope{Entity: "new"}, Limits: []zael.Limit{n}},
			{Scope: zael.Scope{Entity: "new"}, Switch: &bypass},
			{Scope: zael.Scope{Resource: "q"}, Switch: &disabled},
			{FailureMode: &open},
			{Delete: true},
		})
	})
	add("apply what is there", func(c ctx, a with) (any, error) { return a.Apply(c, []zael.Change{{Create: &zael.Entity{ID: "new"}}}) })
	add("apply nothing", func(c ctx, a with) (any, error) { return a.Apply(c, nil) })
	add("apply two in one", func(c ctx, a with) (any, error) {
		return a.Apply(c, []zael.Change{{Scope: zael.Scope{Entity: "new"}, Limits: []zael.Limit{n}, Switch: &bypass}})
	})
	for _, q := range []zael.ListQuery{{}, {Max: 1}, {Prefix: "a"}, {After: odd}, {After: "b", Max: 5}, {Prefix: "zzz"}, {Max: -1}} {
		add(fmt.Sprintf("entities %+v", q), func(c ctx, a with) (any, error) { return a.Entities(c, q) })
		add(fmt.Sprintf("resources %+v", q), func(c ctx, a with) (any, error) { return a.Resources(c, q) })
	}
	for _, q := range []zael.ScopeQuery{{}, {Max: 2}, {Prefix: "a"}, {After: &zael.Scope{}}, {After: &zael.Scope{Entity: odd}, Max: 5}, {Max: -1}} {
		add(fmt.Sprintf("scopes %+v", q), func(c ctx, a with) (any, error) { return a.Scopes(c, q) })
	}
	for _, most := range []int{0, 3, 1, -1} {
		add(fmt.Sprint("audit ", most), func(c ctx, a with) (any, error) { return a.Audit(c, zael.AuditQuery{Max: most}) })
	}
	add("audit of one", func(c ctx, a with) (any, error) { return a.Audit(c, zael.AuditQuery{Entity: odd}) })
	add("audit of before", func(c ctx, a with) (any, error) { return a.Audit(c, zael.AuditQuery{To: time.Unix(1, 0)}) })
	add("namespaces", func(c ctx, a with) (any, error) { return a.Namespaces(c) })
	add("namespace", func(c ctx, a with) (any, error) { return a.Namespace(c, "x") })
	add("bad namespace", func(c ctx, a with) (any, error) { return a.Namespace(c, "a/b") })
	add("register", none(func(c ctx, a with) error { return a.RegisterNamespace(c, "x") }))
	add("remove", none(func(c ctx, a with) error { return a.DeleteNamespace(c, "x") }))
	add("recover", none(func(c ctx, a with) error { return a.RecoverNamespace(c, "x") }))
	add("purge", func(c ctx, a with) (any, error) { return a.PurgeNamespace(c, "x") })
	return list
}

// kindOf returns what a program finds out about an error with errors.Is and errors.As.
func kindOf(err error) string {
	var kinds []string
	for _, known := range []error{
		zael.ErrExceeded, zael.ErrNever, zael.ErrUnavailable, zael.ErrDisabled, zael.ErrKeyUsed, zael.ErrParentCycle, zael.ErrNamespaceNotFound,
		zael.ErrEntityExists, zael.ErrEntityNotFound, zael.ErrNoLimits, zael.ErrLeaseClosed, errors.ErrUnsupported,
	} {
		if errors.Is(err, known) {
			kinds = append(kinds, known.Error())
		}
	}
	if v, ok := errors.AsType[*zael.ValidationError](err); ok {
		kinds = append(kinds, "invalid: "+v.Reason)
	}
	if err != nil && len(kinds) == 0 {
		return "other: " + err.Error()
	}
	return strings.Join(kinds, ", ")
}

// A Client does what a Limiter does, and fails as it fails.
func TestLikeALimiter(t *testing.T) {
	t.Parallel()
	s := setup(t)
	other, err := zael.New(memstore.New(&memstore.Config{Usage: true}), &zael.Config{Principal: "ops"})
	s.ok(err)
	times := regexp.MustCompile(`20\d\d-\d\d-\d\dT[0-9:.]+Z`)
	compared := 0
	for _, step := range steps() {
		if step.name == "usage" { // something to report
			for _, l := range []*zael.Limiter{s.limiter, other} {
				s.ok(l.Allow(t.Context(), zael.Request{Entity: "a/b ?%2F#é", Resource: "r", UseStoredLimits: true, Consume: zael.Amounts{"n": 2}}))
				soft := []zael.Limit{zael.PerMinute("soft", 1).Soft()}
				s.ok(l.Allow(t.Context(), zael.Request{Entity: "a/b ?%2F#é", Resource: "r", Limits: soft, Consume: zael.Amounts{"soft": 2}}))
			}
		}
		got, gotErr := step.call(t.Context(), s.Client)
		want, wantErr := step.call(t.Context(), other)
		if kindOf(gotErr) != kindOf(wantErr) {
			t.Errorf("%s: got the error %v (%s), want %v (%s)", step.name, gotErr, kindOf(gotErr), wantErr, kindOf(wantErr))
		}
		if wantErr != nil {
			continue
		}
		gotText, err := json.Marshal(withoutRev(got))
		s.ok(err)
		wantText, err := json.Marshal(withoutRev(want))
		s.ok(err)
		if strings.HasPrefix(step.name, "usage") && strings.Count(string(wantText), `"overdrawn":{"soft":1}`) != 2 {
			t.Errorf("%s: got %s, want a record and totals with an acquire that left a limit overdrawn", step.name, wantText)
		}
		if g, w := times.ReplaceAllString(string(gotText), "T"), times.ReplaceAllString(string(wantText), "T"); g != w {
			t.Errorf("%s: got  %s\nwant %s", step.name, g, w)
		}
		compared++
	}
	if compared < 40 {
		t.Errorf("got %d results compared, want most", compared)
	}
}

func withoutRev(v any) any {
	if s, ok := v.(zael.Settings); ok {
		s.Rev = 0
		return s
	}
	return v
}
