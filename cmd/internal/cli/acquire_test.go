package cli_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/zeroae/zael/cmd/internal/cli"
)

// These limits are so slow that nothing refills while a test runs.
const key1 = "--entity key-1 --resource gpt-4 --limit rpm=100/d --limit tpm=10000/90d "

func TestAcquire(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if got, want := m.ok("acquire "+key1+"--consume rpm=1 --consume tpm=500"), "took rpm=1 tpm=500 for key-1 on gpt-4; left rpm=99 tpm=9500\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// A limit that --consume does not name takes 1. The first acquire shows.
	var r struct {
		Admitted  bool             `json:"admitted"`
		Degraded  bool             `json:"degraded"`
		Entity    string           `json:"entity_id"`
		Resource  string           `json:"resource"`
		Consumed  map[string]int64 `json:"consumed"`
		Available map[string]int64 `json:"available"`
		Waited    float64          `json:"waited_seconds"`
	}
	m.json("acquire "+key1+"--consume tpm=100 --json", &r)
	if !r.Admitted || r.Degraded || r.Entity != "key-1" || r.Resource != "gpt-4" || r.Consumed["rpm"] != 1 || r.Consumed["tpm"] != 100 ||
		r.Available["rpm"] != 98 || r.Available["tpm"] != 9400 || r.Waited != 0 {
		t.Errorf("got %+v", r)
	}
	if got := m.ok("acquire -q " + key1); got != "" {
		t.Errorf("quietly: got %q", got)
	}
	if got := m.ok("acquire " + key1 + "-c rpm=0 -c tpm=0"); got != "took nothing for key-1 on gpt-4; left rpm=97 tpm=9399\n" {
		t.Errorf("got %q", got)
	}
	refused := m.fails("acquire "+key1+"-c tpm=9400", 3, "zael: rate limit exceeded: tpm of key-1 on gpt-4: 9400 requested, 9399 available")
	if want := "" +
		"  entity  limit          requested  available\n" +
		"  key-1   rpm=100/d              1         97\n" +
		"  key-1   tpm=10000/90d      9,400      9,399  refused\n"; refused.out != "" || !strings.HasSuffix(refused.err, want) {
		t.Errorf("got %q and %q, want\n%s", refused.out, refused.err, want)
	}
	refused = m.fails("acquire "+key1+"-c tpm=20000 --json", 3, "no wait helps")
	var e struct {
		Error  string   `json:"error"`
		After  *float64 `json:"retry_after_seconds"`
		Limits []struct {
			Name     string `json:"limit_name"`
			Exceeded bool   `json:"exceeded"`
		} `json:"limits"`
	}
	if err := json.Unmarshal([]byte(refused.out), &e); err != nil || e.Error != "rate_limit_exceeded" || e.After != nil || len(e.Limits) != 2 || e.Limits[0].Exceeded || !e.Limits[1].Exceeded {
		t.Errorf("got %+v (%v) of %s", e, err, refused.out)
	}
	m.fails("acquire "+key1+"-c tpm=9400 --refused-exit-code 75", 75, "rate limit exceeded")
}

func TestAcquireInLine(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const who = "--entity e --resource r --limit n=1/s "
	inLine := regexp.MustCompile(`^took n=1 for e on r after \S+( \S+)? in line; left n=0\n$`)
	for tries := 0; ; tries++ {
		m.ok("acquire -q " + who + "--max-wait 10s")
		got := m.ok("acquire " + who + "--max-wait 10s")
		if inLine.MatchString(got) {
			break
		}
		if tries == 20 { // on a busy machine the second may have passed before it asked
			t.Fatalf("got %q, want it to wait in line", got)
		}
	}
	m.fails("acquire --entity e --resource r --limit n=1/h --max-wait 2s", 3, "retry after")

	// A caller that leaves the line gives back its place.
	const slow = "--entity f --resource r --limit n=1/h "
	m.ok("acquire -q " + slow)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var out, stderr bytes.Buffer
	code := cli.Main(ctx, split("acquire "+slow+"--max-wait 2h"), cli.IO{Out: &out, Err: &stderr, Getenv: func(name string) string { return m.env[name] }})
	if code == 0 || out.Len() > 0 {
		t.Errorf("got %d, %q and %q, want it to end", code, out.String(), stderr.String())
	}
	var r struct {
		After float64 `json:"retry_after_seconds"`
	}
	if m.json("available "+slow+"--consume n=1 --json", &r); r.After < 3000 || r.After > 3600 {
		t.Errorf("got a wait of %v s, want that of the one token taken", r.After)
	}
}

func TestAcquireStored(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.ok("limits set --resource r --limit n=10/h")
	m.ok("limits set --entity team --limit n=5/h")
	m.ok("entity create key --parent team --cascade")
	// With --stored, the entity's own cascade applies; the team has the lower limit.
	if got, want := m.ok("acquire --entity key --resource s --stored --limit n=100/h --limit x=1/h --consume n=2"), "took n=2 x=1 for key on s; left n=3 x=0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m.fails("acquire --entity key --resource s --stored --limit n=100/h --consume n=4", 3, "n of team on s: 4 requested, 3 available")
	r := m.zaelIn("", "acquire --entity other --resource r --stored --consume n=1 --consume tokens=5")
	if r.code != 0 || r.out != "took n=1 for other on r; left n=9\n" || r.err != "zael: warning: no limit \"tokens\" of other on r is stored: nothing was taken from it\n" {
		t.Errorf("got %+v, want a warning", r)
	}
	// Without --stored, the flags alone decide about the parent.
	if got := m.ok("acquire --entity key --resource t --limit n=3/h --parent-limit n=2/h --cascade"); got != "took n=1 for key on t; left n=1\n" {
		t.Errorf("got %q, want the parent's limit to count", got)
	}
	if got := m.ok("available --entity key --resource t --limit n=3/h"); got != "limit  available\nn              2\n" {
		t.Errorf("got %q, want the entity's own", got)
	}
	if got := m.ok("available --entity key --resource t --limit n=3/h --parent-limit n=2/h --cascade --consume n=1"); got != "limit  available\nn              1\nn=1 now\n" {
		t.Errorf("got %q, want the lesser of both", got)
	}
	if got := m.ok("available --entity key --resource t --limit n=3/h --consume n=3"); !strings.Contains(got, "\nn=3 in ") {
		t.Errorf("got %q, want a wait", got)
	}
	if got := m.ok("available --entity key --resource t --limit n=3/h --consume n=4"); !strings.Contains(got, "\nn=4 never: no wait helps: 4 of n is more than its burst of 3") {
		t.Errorf("got %q, want never", got)
	}
	if got := m.ok("available --entity key --resource t --limit n=3/h --consume n=4 --json"); !strings.Contains(got, `"retry_after_seconds": null`) {
		t.Errorf("got %q, want null", got)
	}
	// Debt that takes longer to refill than a duration can be.
	m.ok("acquire -q --entity key --resource debt --limit n=1/d -- sh -c |echo n=1000000000000000 >>$ZAEL_SETTLE|")
	if got := m.ok("available --entity key --resource debt --limit n=1/d --consume n=1"); !strings.HasSuffix(got, "\nn=1 in more than 292 years\n") {
		t.Errorf("got %q, want a wait of more than 292 years", got)
	}
	if got := m.ok("available --entity key --resource debt --limit n=1/d --consume n=1 --json"); !strings.Contains(got, `"retry_after_seconds": null`) {
		t.Errorf("got %q, want null", got)
	}
}

// TestUnavailable checks both failure modes while another process locks the file.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.ok("limits set --system --limit n=1/h")
	db, err := sql.Open("sqlite", strings.TrimPrefix(m.env["ZAEL_STORE"], "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	const who = " --entity e --resource r --limit n=1/h --timeout 150ms "
	m.fails("acquire"+who, 4, "for e on r: sqlitestore: gave up before its turn to write, nothing was changed")
	m.fails("acquire"+who+"--unavailable-exit-code 75", 75, "store unavailable")
	m.fails("limits set --system --limit n=1/s --timeout 150ms", 4, "store unavailable: no answer within 150ms")
	m.fails("bench --timeout 150ms --duration 10ms", 4, "could not be deleted: store unavailable")
	const warning = "zael: warning: the store is unavailable: admitted without charging\n"
	if r := m.zaelIn("", "acquire --failure-mode open"+who); r.code != 0 || r.err != warning || r.out != "took nothing for e on r\n" {
		t.Errorf("got %+v, want it to be admitted", r)
	}
	r := m.zaelIn("", "acquire --failure-mode open --json --cascade --stored"+who)
	var lease struct {
		Degraded bool             `json:"degraded"`
		Consumed map[string]int64 `json:"consumed"`
	}
	if err := json.Unmarshal([]byte(r.out), &lease); err != nil || r.code != 0 || r.err != warning || !lease.Degraded || len(lease.Consumed) != 0 {
		t.Errorf("got %+v (%v), want JSON that says so", r, err)
	}
	m.fails("acquire --failure-mode open --store sqlite:"+t.TempDir()+who, 1, "is not a plain file") // a usage error in both modes
}

func TestApply(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	file := filepath.Join(t.TempDir(), "limits.yaml")
	write(t, file, `
system: {limits: [rpm=1000/min]}
resources:
  gpt-4: {limits: [rpm=100/min, tpm=10000/min burst 20000]}
entities:
  key-1: {parent: project-1, cascade: true, limits: [rpm=5/min]}
  project-1: {name: Project one, metadata: {team: search}}
`)
	const changes = `+ limits of system
    + rpm=1000/min
+ limits of resource gpt-4
    + rpm=100/min
    + tpm=10000/min burst 20000
+ limits of entity key-1
    + rpm=5/min
+ entity project-1 name=Project one team=search
+ entity key-1 parent=project-1 cascade
`
	plan, apply := "limits plan -f |"+file+"|", "limits apply -f |"+file+"|"
	if got, want := m.ok(plan), changes+"plan: 5 to create, 0 to change, 0 to delete, 0 unchanged\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	m.fails("entity show key-1", 1, "not found") // as a plan changes nothing
	applied := m.zaelIn("", apply+" --principal ci")
	if want := changes + "applied: 5 created, 0 changed, 0 deleted, 0 unchanged\n"; applied.code != 0 || applied.out != want {
		t.Errorf("got exit code %d and\n%swant\n%s", applied.code, applied.out, want)
	}
	if want := "zael: warning: tpm=10000/min burst 20000 of resource gpt-4 no longer binds entity key-1: repeat it there to keep it\n"; applied.err != want {
		t.Errorf("got %q, want %q", applied.err, want)
	}
	if got := m.ok(apply); got != "applied: nothing to do, 5 unchanged\n" {
		t.Errorf("again: got %q", got)
	}
	if got := m.ok("limits get --resource gpt-4"); got != "rpm=100/min\ntpm=10000/min burst 20000\n" {
		t.Errorf("got %q", got)
	}
	if got := m.ok("audit --entity key-1"); strings.Count(got, "  ci  ") != 2 {
		t.Errorf("got\n%swant the principal", got)
	}
	write(t, file, `
resources:
  gpt-4: {limits: [rpm=200/min, n=1/s]}
entities:
  key-1: {limits: []}
`)
	const more = `~ limits of resource gpt-4
    ~ rpm=200/min, was rpm=100/min
    + n=1/s
    - tpm=10000/min burst 20000
- limits of entity key-1
    - rpm=5/min
`
	if got, want := m.ok(plan), more+"plan: 0 to create, 1 to change, 1 to delete, 1 unchanged\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var r struct {
		Changes []struct {
			Action, Kind string
			Resource     string
			Entity       string `json:"entity_id"`
			Before       []any
			After        []any
		} `json:"changes"`
		Unchanged int `json:"unchanged"`
	}
	m.json(apply+" --json", &r)
	if got, want := fmt.Sprintln(len(r.Changes), r.Unchanged, r.Changes[0].Action, r.Changes[0].Kind, r.Changes[0].Resource, len(r.Changes[0].Before), len(r.Changes[0].After), r.Changes[1].Action, r.Changes[1].Entity),
		"2 1 change limits gpt-4 2 2 delete key-1\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := m.ok("limits get --system"); got != "rpm=1000/min\n" { // no longer in the file, so not changed
		t.Errorf("got %q", got)
	}
	write(t, file, "entities:\n  key-1: {parent: other}\n  project-1:\n    name: P\n")
	want := "zael: " + file + `:2: entity key-1 exists and has the parent "project-1", not "other"; it cannot be changed by a file: correct the file, or delete the entity first ('zael entity set-parent' changes the parent)` + "\n" +
		"zael: " + file + `:3: entity project-1 exists and has the name "Project one", not "P"; it cannot be changed by a file: correct the file, or delete the entity first ('zael entity set-parent' changes the parent)` + "\n"
	if r := m.fails(apply, 1, ""); r.err != want {
		t.Errorf("got %q, want %q", r.err, want)
	}
	r2 := m.zaelIn("system: {limit: []}", "limits apply -f -")
	if want := "zael: standard input:1: system: unknown key \"limit\"; its keys are failure_mode, limits\n"; r2.code != 1 || r2.err != want {
		t.Errorf("got %+v, want %q", r2, want)
	}
	m.fails("limits apply -f /there/is/none", 1, "no such file")
}
