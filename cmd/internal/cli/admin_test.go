package cli_test

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSwitchCommands(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const acquire = "acquire --entity key-1 --resource gpt-4 --limit n=1/d"
	if out := m.ok("disable --entity key-1"); out != "switch of entity key-1: disabled\n" {
		t.Errorf("got %q", out)
	}
	r := m.fails(acquire, 3, "disabled: key-1 on gpt-4, by the switch of entity key-1")
	if r.out != "" {
		t.Errorf("got %q on standard output, want nothing", r.out)
	}
	m.fails(acquire+" --failure-mode open", 3, "disabled")
	m.fails(acquire+" --refused-exit-code 9 -- true", 9, "disabled")
	m.fails("available --entity key-1 --resource gpt-4 --limit n=1/d", 3, "disabled")
	var refusal struct {
		Error       string `json:"error"`
		ScopeEntity string `json:"scope_entity_id"`
	}
	if err := json.Unmarshal([]byte(m.zaelIn("", acquire+" --json").out), &refusal); err != nil || refusal.Error != "disabled" || refusal.ScopeEntity != "key-1" {
		t.Errorf("got %+v (%v), want the error and its scope", refusal, err)
	}
	m.ok("bypass --entity key-1 --resource gpt-4")
	for range 3 {
		m.ok(acquire)
	}
	var settings struct{ Switch, Resource string }
	m.json("enable --entity key-1 --resource gpt-4 --inherit --json", &settings)
	if settings.Switch != "inherit" || settings.Resource != "gpt-4" {
		t.Errorf("got %+v, want what is stored now", settings)
	}
	m.fails(acquire, 3, "disabled")
	m.ok("disable --resource gpt-4")
	m.ok("enable --entity key-1")
	m.ok(acquire)
	m.fails(acquire, 3, "rate limit exceeded")
	if out := m.ok("settings --resource gpt-4"); out != "switch        disabled\nfailure mode  inherit\n" {
		t.Errorf("got %q", out)
	}
}

func TestFailureModeCommand(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.ok("failure-mode open --system")
	var settings struct {
		FailureMode string `json:"failure_mode"`
	}
	m.json("settings --system --json", &settings)
	if settings.FailureMode != "open" {
		t.Errorf("got %+v, want open", settings)
	}
	m.json("failure-mode inherit --system --json", &settings)
	if settings.FailureMode != "inherit" {
		t.Errorf("got %+v, want inherit", settings)
	}
	if out := m.ok("ping"); out != "the store answers\n" {
		t.Errorf("got %q", out)
	}
	m.fails("ping --store dynamodb://x?endpoint=http://127.0.0.1:1 --timeout 1s", 4, "store unavailable")
}

func TestSetParentCommand(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, id := range []string{"key-1", "red", "blue --parent red"} {
		m.ok("entity create " + id)
	}
	m.ok("entity set-parent key-1 --parent blue --idempotency-key move-1")
	m.ok("entity set-parent key-1 --none")
	m.ok("entity set-parent key-1 --parent blue --idempotency-key move-1") // which was done before
	if out := m.ok("entity show key-1"); strings.Contains(out, "blue") {
		t.Errorf("got %q, want the change to be made once", out)
	}
	m.fails("entity set-parent key-1 --parent red --idempotency-key move-1", 1, "idempotency key was used for another change")
	m.fails("entity set-parent key-1 --parent nobody", 1, "entity not found: nobody")
	m.fails("entity set-parent red --parent blue", 1, "would be its own ancestor")
	m.ok("entity set-parent key-1 --parent blue")
	if out := m.ok("entity children blue"); !strings.Contains(out, "key-1") {
		t.Errorf("got %q, want the child", out)
	}
	if out := m.ok("audit --entity key-1 --json"); strings.Count(out, `"parent_set"`) != 3 {
		t.Errorf("got %s, want three changes of the parent", out)
	}
}

func TestAdminUsageErrors(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, c := range []struct{ args, want string }{
		{"disable", "name an entity with --entity"},
		{"disable key-1", "unknown command"},
		{"disable --entity | e|", `--entity " e" is not`},
		{"enable --resource _default_", "no entity is named"},
		{"bypass --entity e --idempotency-key |a b|", `--idempotency-key "a b" is not 1 to 64`},
		{"failure-mode ajar --system", `"ajar" is not closed, open or inherit`},
		{"failure-mode open", "--system"},
		{"settings", "--system"},
		{"entity set-parent a", "--parent"},
		{"entity set-parent a --parent b --none", "--parent does not go with --none"},
	} {
		r := m.zaelIn("", c.args)
		if r.code != 2 || !strings.Contains(r.err, c.want) {
			t.Errorf("zael %s: got exit code %d and %q, want 2 and %q", c.args, r.code, r.err, c.want)
		}
	}
}

func TestRefillCommands(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.fails("reset --entity key-1 --resource gpt-4", 1, "no limits for key-1 on gpt-4")
	m.ok("acquire --entity key-1 --resource gpt-4 --limit rpd=10/d --limit tpd=100/d --consume rpd=9 --consume tpd=90")
	if out := m.ok("top-up --entity key-1 --resource gpt-4 --amount rpd=2 --idempotency-key t1"); out != "rpd: 3 available\n" {
		t.Errorf("got %q", out)
	}
	if out := m.ok("top-up --entity key-1 --resource gpt-4 --amount rpd=2 --idempotency-key t1"); out != "rpd: 3 available\n" {
		t.Errorf("a repetition: got %q", out)
	}
	m.fails("top-up --entity key-1 --resource gpt-4 --amount rpd=3 --idempotency-key t1", 1, "idempotency key was used")
	m.fails("top-up --entity key-1 --resource gpt-4 --amount rph=3", 1, "has no limit rph")
	var report struct {
		Available map[string]int64 `json:"available"`
	}
	m.json("reset --entity key-1 --resource gpt-4 --limit-name tpd --json", &report)
	if report.Available["tpd"] != 100 || len(report.Available) != 1 {
		t.Errorf("got %+v, want 100 of tpd", report)
	}
	if out := m.ok("reset --entity key-1 --resource gpt-4"); out != "rpd: 10 available\ntpd: 100 available\n" {
		t.Errorf("got %q", out)
	}
	for _, c := range []struct{ args, want string }{
		{"reset --entity e", "resource"},
		{"top-up --entity e --resource r", "--amount"},
		{"top-up --entity e --resource r --amount n=0", "n 0 is not in 1 to"},
		{"reset --entity e --resource r --limit-name |a b|", `--limit-name "a b" is not`},
	} {
		r := m.zaelIn("", c.args)
		if r.code != 2 || !strings.Contains(r.err, c.want) {
			t.Errorf("zael %s: got exit code %d and %q, want 2 and %q", c.args, r.code, r.err, c.want)
		}
	}
}

func TestNamespaceCommandsWithoutNamespaces(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, args := range []string{"list", "show a", "register a", "delete a", "recover a", "purge a --yes"} {
		m.fails("namespace "+args, 1, "the store has no namespaces: keep a SQLite file for each tenant, such as --store sqlite:team-a.db, or use --store dynamodb://NAME")
	}
	for _, c := range []struct{ args, want string }{
		{"namespace delete", "name one namespace, not 0"},
		{"namespace purge a", "confirm with --yes"},
		{"namespace register |a b|", `namespace "a b" is not 1 to 64`},
		{"namespace delete ||", `namespace "" is empty: the default namespace always exists`},
		{"namespace purge a\x1b[2Jb", `of "a\x1b[2Jb" for good: confirm with --yes`},
	} {
		r := m.zaelIn("", c.args)
		if r.code != 2 || !strings.Contains(r.err, c.want) {
			t.Errorf("zael %s: got exit code %d and %q, want 2 and %q", c.args, r.code, r.err, c.want)
		}
	}
}
