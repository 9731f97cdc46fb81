package limitsfile_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/limitsfile"
	"github.com/zeroae/zael/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t *testing.T, text string) *limitsfile.File {
	t.Helper()
	f, err := limitsfile.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func limiter(t *testing.T) *zael.Limiter {
	t.Helper()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// text returns changes, one a line.
func text(changes []limitsfile.Change) string {
	var b strings.Builder
	for _, c := range changes {
		if c.Entity != nil {
			fmt.Fprintf(&b, "%s entity %s %q parent %q cascade %t %v\n", c.Action, c.Entity.ID, c.Entity.Name, c.Entity.ParentID, c.Entity.Cascade, c.Entity.Metadata)
			continue
		}
		fmt.Fprintf(&b, "%s limits of %s: %v to %v\n", c.Action, c.Scope, c.Before, c.After)
	}
	return b.String()
}

const example = `
system:
  limits: [rpm=1000/min]
resources:
  gpt-4:
    limits: &big
      - rpm=100/min
      - tpm=10000/min burst 20000
  gpt-5:
    limits: *big
entities:
  key-1:
    parent: project-1
    cascade: true
    resources:
      gpt-4:
        limits: []
      gpt-5: {limits: [rpm=1/s]}
  project-1:
    name: Project one
    metadata: {team: search, floor: 007}
    limits: [rpm=500/min]
  "123":
`

func TestPlanAndApply(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiter(t)
	if err := l.SetLimits(ctx, zael.Scope{Resource: "gpt-4"}, []zael.Limit{zael.PerMinute("tpm", 10_000).WithBurst(20_000), zael.PerMinute("rpm", 100)}); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []zael.Scope{{Resource: "gpt-5"}, {Entity: "key-1", Resource: "gpt-4"}, {Entity: "other"}} {
		if err := l.SetLimits(ctx, scope, []zael.Limit{zael.PerSecond("rpm", 7)}); err != nil {
			t.Fatal(err)
		}
	}
	f := parse(t, example)
	plan, err := limitsfile.Compare(ctx, l, f)
	if err != nil {
		t.Fatal(err)
	}
	want := `create limits of system: [] to [rpm=1000/min]
change limits of resource gpt-5: [rpm=7/s] to [rpm=100/min tpm=10000/min burst 20000]
create limits of entity key-1 resource gpt-5: [] to [rpm=1/s]
create limits of entity project-1: [] to [rpm=500/min]
create entity project-1 "Project one" parent "" cascade false map[floor:007 team:search]
create entity key-1 "" parent "project-1" cascade true map[]
create entity 123 "" parent "" cascade false map[]
delete limits of entity key-1 resource gpt-4: [rpm=7/s] to []
`
	if got := text(plan.Changes); got != want || plan.Unchanged != 1 {
		t.Errorf("got %d unchanged and\n%swant 1 and\n%s", plan.Unchanged, got, want)
	}
	done, err := limitsfile.Apply(ctx, l, plan)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(done); got != want {
		t.Errorf("applied\n%swant\n%s", got, want)
	}
	plan, err = limitsfile.Compare(ctx, l, f)
	if err != nil || len(plan.Changes) != 0 || plan.Unchanged != 9 {
		t.Errorf("a second plan: got %+v (%v), want no changes", plan, err)
	}
	if limits, err := l.Limits(ctx, zael.Scope{Entity: "other"}); err != nil || len(limits) != 1 {
		t.Errorf("got %v (%v), want limits that the file does not name to stay", limits, err)
	}
	if e, err := l.Entity(ctx, "key-1"); err != nil || e.ParentID != "project-1" || !e.Cascade || e.Name != "key-1" {
		t.Errorf("got %+v (%v), want the entity", e, err)
	}
}

// TestConflicts checks that entities which cannot be changed are errors of Compare.
func TestConflicts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiter(t)
	for _, e := range []zael.Entity{{ID: "a", ParentID: "p", Metadata: map[string]string{"k": "v"}}, {ID: "b"}} {
		if _, err := l.CreateEntity(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ file, want string }{
		{`entities: {a: {name: x}}`, `1: entity a exists and has the name "a", not "x"`},
		{`entities: {a: {parent: q}}`, `has the parent "p", not "q"`},
		{`entities: {a: {cascade: true}}`, `has cascade false, not true`},
		{`entities: {a: {metadata: {}}}`, `has other metadata`},
		{"entities:\n  a: {parent: q, cascade: true}\n  b: {parent: a}", "2: entity a exists and has the parent \"p\", not \"q\" and has cascade false, not true; it cannot be changed by a file: correct the file, or delete the entity first ('zael entity set-parent' changes the parent)\n3: entity b"},
	} {
		_, err := limitsfile.Compare(ctx, l, parse(t, c.file))
		var about *limitsfile.Error
		if !errors.As(err, &about) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.file, err, c.want)
		}
	}
	// Fields that are not in the file may have any value.
	for _, file := range []string{`entities: {a: {}}`, `entities: {a: {parent: p, name: a, cascade: false, metadata: {k: v}}}`, `entities: {b: {parent: "", name: ""}}`} {
		if plan, err := limitsfile.Compare(ctx, l, parse(t, file)); err != nil || len(plan.Changes) != 0 {
			t.Errorf("%s: got %+v (%v), want no change", file, plan, err)
		}
	}
}

func TestParentsFirst(t *testing.T) {
	t.Parallel()
	plan, err := limitsfile.Compare(t.Context(), limiter(t), parse(t, `entities: {c: {parent: b}, x: {parent: y}, b: {parent: a}, a: , y: {parent: x}}`))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, c := range plan.Changes {
		order = append(order, c.Entity.ID)
	}
	if got, want := strings.Join(order, " "), "a b c y x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A failingStore has no transactions, and fails after some changes.
type failingStore struct {
	zael.BucketStore
	zael.EntityStore
	zael.LimitStore
	left int
}

func (b *failingStore) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	if b.left--; b.left < 0 {
		return 0, zael.ErrUnavailable
	}
	return b.LimitStore.SetLimits(ctx, scope, limits, event)
}

// TestHalfApplied checks that Apply returns what it did, and that a new plan has the rest.
func TestHalfApplied(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := memstore.New(nil)
	l, err := zael.New(&failingStore{store, store, store, 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, example)
	plan, err := limitsfile.Compare(ctx, l, f)
	if err != nil {
		t.Fatal(err)
	}
	done, err := limitsfile.Apply(ctx, l, plan)
	if !errors.Is(err, zael.ErrUnavailable) || len(done) != 2 {
		t.Errorf("got %v after %d changes, want 2", err, len(done))
	}
	rest, err := limitsfile.Compare(ctx, l, f)
	if err != nil || text(rest.Changes) != text(plan.Changes[2:]) {
		t.Errorf("got\n%s(%v), want the rest", text(rest.Changes), err)
	}
}

// TestAllOrNothing checks that a store with transactions makes all changes or none.
func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiter(t)
	f := parse(t, example)
	plan, err := limitsfile.Compare(ctx, l, f)
	if err != nil {
		t.Fatal(err)
	}
	// Another program creates one of the entities first.
	if _, err := l.CreateEntity(ctx, zael.Entity{ID: "key-1"}); err != nil {
		t.Fatal(err)
	}
	done, err := limitsfile.Apply(ctx, l, plan)
	if !errors.Is(err, zael.ErrEntityExists) || len(done) != 0 {
		t.Errorf("got %v after %d changes, want ErrEntityExists after none", err, len(done))
	}
	if limits, err := l.Limits(ctx, zael.Scope{}); err != nil || len(limits) != 0 {
		t.Errorf("got the system's limits %v (%v), want none", limits, err)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file string
		line int
		want string
	}{
		{"", 0, "the file is empty"},
		{"# nothing\n", 0, "the file is empty"},
		{"x", 1, "the file: not a mapping"},
		{"[]", 1, "the file: not a mapping"},
		{"sistem: {}", 1, `unknown key "sistem"; its keys are entities, namespaces, resources, system`},
		{"system: {}\nsystem: {}", 2, `key "system" is already in line 1`},
		{"system:\n  limit: []", 2, `system: unknown key "limit"; its keys are failure_mode, limits`},
		{"system:\n", 1, "system: not a mapping"},
		{"system:\n  limits: rpm=1/s", 2, "not a list"},
		{"system:\n  limits:\n", 2, "not a list"},
		{"system:\n  limits:\n    - rpm", 3, `limits of system: "rpm" has no =`},
		{"system:\n  limits:\n    - {rpm: 1}", 3, "not a limit"},
		{"system:\n  limits: [rpm=1/s, rpm=2/s]", 2, `limits of system: "rpm" is named twice`},
		{"system:\n  limits: [rpm=99999999999/s]", 2, "9000000000 tokens a second"},
		{"resources:\n  gpt-4:\n    limits: []\n  \"a \":\n    limits: []", 5, `resource "a " is not 1 to 256`},
		{"resources:\n  _default_: {limits: []}", 2, "no entity is named"},
		{"resources:\n  gpt-4: {burst: 1}", 2, `resource gpt-4: unknown key "burst"`},
		{"entities:\n  a: {}\n  \"a \": {}", 3, `entity a : "a " is not 1 to 256`},
		{"entities:\n  a: {parents: b}", 2, `entity a: unknown key "parents"; its keys are cascade, failure_mode, limits, metadata, name, parent, resources, switch`},
		{"entities:\n  a: {parent: a}", 2, `entity a: parent "a" is the entity itself`},
		{"entities:\n  a: {parent: [b]}", 2, "parent: not text"},
		{"entities:\n  a: {parent: }", 2, "parent: not text"},
		{"entities:\n  a: {cascade: maybe}", 2, `cascade: "maybe" is not true or false`},
		{"entities:\n  a: {cascade: }", 2, `is not true or false`},
		{"entities:\n  a: {metadata: {k: [1]}}", 2, "k: not text"},
		{"entities:\n  a: {metadata: {'': x}}", 2, "metadata"},
		{"entities:\n  a:\n    limits: []\n    resources:\n      _default_: {limits: []}", 5, "limits of entity a are already in line 3"},
		{"entities:\n  <<: {a: {}}", 2, "entity <<"},
		{"entities:\n  ? [a]\n  : {}", 2, "a key that is not text"},
		{"system:\n  switch: disabled", 2, `system: unknown key "switch"`},
		{"system:\n  failure_mode: maybe", 2, `failure_mode of system: "maybe" is not open, closed, inherit`},
		{"resources:\n  gpt-4:\n    switch:\n      on", 4, `switch of resource gpt-4: "on" is not enabled, disabled`},
		{"resources:\n  gpt-4:\n    switch: true", 3, `"true" is not enabled`},
		{"resources:\n  gpt-4:\n    switch: [disabled]", 3, "what is there is not enabled"},
		{"resources:\n  \"a \":\n    switch: disabled", 3, "settings of resource a : resource \"a \" is not 1 to 256"},
		{"entities:\n  a:\n    switch: bypass\n    resources:\n      _default_: {switch: enabled}", 5, "entity a: its switch is already in line 3"},
		{"namespaces: team-a", 1, "namespaces: not a list"},
		{"namespaces:\n  - team-a\n  - a/b", 3, `namespaces: "a/b" is not 1 to 64`},
		{"namespaces: [a, b, a]", 1, `namespaces: "a" is named twice`},
		{"system: {}\n---\nsystem: {}", 2, "a second document"},
		{"system: {}\n---\n\tx", 3, ""},
		{"a: b: c", 0, "mapping values are not allowed"},
		{"system:\n  limits: [\"rpm=1/s]\n", 2, "unexpected end"},
	} {
		_, err := limitsfile.Parse(strings.NewReader(c.file))
		var about *limitsfile.Error
		if !errors.As(err, &about) || about.Line != c.line || !strings.Contains(about.Reason, c.want) {
			t.Errorf("%q: got %v, want line %d, %q", c.file, err, c.line, c.want)
		}
	}
}

// A tenantStore is memstore with a registry of namespaces.
type tenantStore struct {
	*memstore.Store

	registered []zael.Namespace
}

func (s *tenantStore) EditNamespace(_ context.Context, name string, _ zael.AuditEvent) error {
	s.registered = append(s.registered, zael.Namespace{Name: name})
	return nil
}

func (s *tenantStore) PurgeNamespace(context.Context, string, zael.AuditEvent) (int, error) {
	return 0, errors.ErrUnsupported
}

func (s *tenantStore) Namespace(context.Context, string) (zael.Namespace, error) {
	return zael.Namespace{}, zael.ErrNamespaceNotFound
}

func (s *tenantStore) Namespaces(context.Context) iter.Seq2[zael.Namespace, error] {
	return func(yield func(zael.Namespace, error) bool) {
		for _, n := range s.registered {
			if !yield(n, nil) {
				return
			}
		}
	}
}

const administration = `
system:
  failure_mode: closed
resources:
  gpt-4: {limits: [rpm=1/s], failure_mode: open, switch: disabled}
  gpt-5: {switch: inherit}
namespaces: [team-a, team-b]
entities:
  key-1:
    switch: enabled
    resources:
      gpt-4: {switch: bypass, failure_mode: inherit}
`

// settingsText returns the changes of settings and namespaces, one a line, and what others
// are about.
func settingsText(changes []limitsfile.Change) string {
	var b strings.Builder
	for _, c := range changes {
		switch {
		case c.Namespace != "":
			fmt.Fprintf(&b, "%s namespace %s\n", c.Action, c.Namespace)
		case c.Setting != nil:
			fmt.Fprintf(&b, "%s setting of %s: %s to %s\n", c.Action, c.Scope, c.Was, c.Setting)
		case c.Entity != nil:
			fmt.Fprintf(&b, "%s entity\n", c.Action)
		default:
			fmt.Fprintf(&b, "%s limits\n", c.Action)
		}
	}
	return b.String()
}

// TestAdministration checks that switches, failure modes and namespaces of a file are
// planned, applied with their events, and then unchanged.
func TestAdministration(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l, err := zael.New(&tenantStore{Store: memstore.New(nil)}, &zael.Config{Principal: "file"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		l.SetSwitch(ctx, zael.Scope{Resource: "gpt-5"}, zael.Disabled, zael.AdminOptions{}),
		l.SetFailureMode(ctx, zael.Scope{}, zael.FailOpen, zael.AdminOptions{}),
		l.SetFailureMode(ctx, zael.Scope{Entity: "key-1", Resource: "gpt-4"}, zael.FailOpen, zael.AdminOptions{}),
		l.RegisterNamespace(ctx, "team-a"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f := parse(t, administration)
	plan, err := limitsfile.Compare(ctx, l, f)
	if err != nil {
		t.Fatal(err)
	}
	want := `create namespace team-b
create setting of resource gpt-4: inherit to disabled
create limits
create entity
change setting of system: open to closed
create setting of resource gpt-4: inherit to open
delete setting of resource gpt-5: disabled to inherit
create setting of entity key-1: inherit to enabled
create setting of entity key-1 resource gpt-4: inherit to bypass
delete setting of entity key-1 resource gpt-4: open to inherit
`
	if got := settingsText(plan.Changes); got != want || plan.Unchanged != 1 {
		t.Errorf("got %d unchanged and\n%swant 1 and\n%s", plan.Unchanged, got, want)
	}
	if done, err := limitsfile.Apply(ctx, l, plan); err != nil || len(done) != len(plan.Changes) {
		t.Fatalf("got %d changes made (%v), want %d", len(done), err, len(plan.Changes))
	}
	if plan, err := limitsfile.Compare(ctx, l, f); err != nil || len(plan.Changes) != 0 || plan.Unchanged != 11 {
		t.Errorf("a second plan: got %+v (%v), want nothing to do", plan, err)
	}
	if err := l.Allow(ctx, zael.Request{Entity: "key-2", Resource: "gpt-4", UseStoredLimits: true}); !errors.Is(err, zael.ErrDisabled) {
		t.Errorf("got %v, want the resource to be disabled", err)
	}
	// Trap of zae-limiter 0.17: applies write no audit events.
	events, err := l.Audit(ctx, zael.AuditQuery{})
	counts := map[zael.AuditAction]int{}
	for _, e := range events {
		if counts[e.Action]++; e.Principal != "file" {
			t.Errorf("got %+v, want it by file", e)
		}
	}
	if err != nil || counts[zael.SwitchBypass] != 1 || counts[zael.SwitchRemoved] != 1 || counts[zael.FailureModeSet] != 4 || counts[zael.FailureModeRemoved] != 1 {
		t.Errorf("got the events %v (%v), want one of each change", counts, err)
	}
}

// TestEveryMistake checks that one reading names all of them, in their order.
func TestEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := limitsfile.Parse(strings.NewReader("bogus: 1\nsystem: {limits: [many]}\nentities:\n  a: {cascade: 2}\n  b: {parent: []}\n"))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{"1: the file: unknown key", "2: limits of ", "4: cascade: ", "5: parent: "} {
		if len(lines) != 4 || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("got %q, want four mistakes, number %d of them %q", lines, i, want)
		}
	}
}
