package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/zeroae/zael/cmd/internal/cli"
)

// A machine runs the program on a store of its own.
type machine struct {
	t   *testing.T
	env map[string]string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{t, map[string]string{
		"ZAEL_STORE": "sqlite:" + filepath.Join(t.TempDir(), "zael.db"), "USER": "ann",
	}}
}

// split splits args into words; a word between two | may have blanks.
func split(args string) []string {
	var words []string
	for i, part := range strings.Split(args, "|") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

func (m *machine) zaelIn(stdin, args string) result {
	m.t.Helper()
	var out, stderr bytes.Buffer
	code := cli.Main(context.Background(), split(args), cli.IO{
		In: strings.NewReader(stdin), Out: &out, Err: &stderr, Getenv: func(name string) string { return m.env[name] },
	})
	return result{code, out.String(), stderr.String()}
}

// ok runs the program, which must succeed and print nothing to standard error, and
// returns its output.
func (m *machine) ok(args string) string {
	m.t.Helper()
	r := m.zaelIn("", args)
	if r.code != 0 || r.err != "" {
		m.t.Fatalf("zael %s: got exit code %d, %q and %q, want it to work", args, r.code, r.out, r.err)
	}
	return r.out
}

// json decodes the output of ok.
func (m *machine) json(args string, v any) {
	m.t.Helper()
	out := m.ok(args)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		m.t.Fatalf("zael %s: got %v of %q, want JSON", args, err, out)
	}
}

// fails runs the program, which must fail with an exit code and a message.
func (m *machine) fails(args string, code int, want string) result {
	m.t.Helper()
	r := m.zaelIn("", args)
	if r.code != code || !strings.Contains(r.err, want) || !strings.HasPrefix(r.err, "zael: ") {
		m.t.Errorf("zael %s: got exit code %d, %q and %q, want %d and %q", args, r.code, r.out, r.err, code, want)
	}
	return r
}

func TestCommandUsageErrors(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	const request = " --entity e --resource r --limit n=1/s"
	for _, c := range []struct{ args, want string }{
		{"acquire", "--entity"},
		{"acquire --entity e", "--resource"},
		{"acquire --entity e --resource r", "--limit rpm=100/min"},
		{"acquire" + request + " --consume m=1", `--consume m=1: no limit "m"; the limits are n`},
		{"acquire" + request + " --consume n", `"n" is not NAME=N`},
		{"acquire" + request + " --consume =1", `"=1" is not NAME=N`},
		{"acquire" + request + " --consume n=-1", `n: "-1" is not a whole number`},
		{"acquire" + request + " --consume n=1.5", `n: "1.5" is not a whole number`},
		{"acquire" + request + " --consume n=9999999999999999", "is not a whole number from 0 to"},
		{"acquire" + request + " --consume n=1 --consume n=1", "n is given twice"},
		{"acquire" + request + " --limit n=2/s", "limit n is given twice"},
		{"acquire" + request + " --parent-limit n=2/s", "--parent-limit has no effect"},
		{"acquire" + request + " --max-wait -1s", "--max-wait -1s is negative"},
		{"acquire" + request + " --timeout 0s", "--timeout 0s is not above 0"},
		{"acquire" + request + " --failure-mode ajar", "is neither closed nor open"},
		{"acquire" + request + " --refused-exit-code 256", "--refused-exit-code 256 is not 0 to 255"},
		{"acquire" + request + " --unavailable-exit-code -1", "--unavailable-exit-code -1 is not 0 to 255"},
		{"acquire" + request + " true", `unexpected argument "true": put a command after --`},
		{"acquire" + request + " key -- true", `unexpected argument "key": put a command after --`},
		{"acquire" + request + " --", "no command after --"},
		{"acquire |--entity|| ef| --resource r --limit n=1/s", "--entity"},
		{"acquire --entity | ef| --resource r --limit n=1/s", `--entity " ef" is not 1 to 256`},
		{"acquire --entity e --resource _default_ --limit n=1/s", `--resource "_default_" is reserved`},
		{"acquire" + request + " --store nowhere", `--store "nowhere" is not`},
		{"acquire" + request + " --store ftp://x", "unknown kind of store"},
		{"acquire" + request + " --store http://x", "is not encrypted and not of this machine"},
		{"available", "--entity"},
		{"available" + request + " --consume m=1", `no limit "m"`},
		{"available" + request + " x", "unknown command"},
		{"available --entity | ef| --resource r --limit n=1/s", `--entity " ef" is not`},
		{"entity creat", `unknown command "creat" for "zael entity"`},
		{"entity create", "name one entity"},
		{"entity create a b", "name one entity, not 2"},
		{"entity create | ab|", `entity " ab" is not`},
		{"entity create a --parent a", `--parent "a" is the entity itself`},
		{"entity create a --metadata k", `"k" is not KEY=VALUE`},
		{"entity create a --metadata k=1 --metadata k=2", "k is given twice"},
		{"entity show", "name one entity"},
		{"entity show | /|", `entity " /" is not`},
		{"entity children", "name one entity"},
		{"entity delete", "name one entity"},
		{"limits sett", `unknown command "sett"`},
		{"limits set --limit n=1/s", "--system"},
		{"limits set --system --entity e --limit n=1/s", "--system does not go with"},
		{"limits set --entity e", "name at least one limit"},
		{"limits set --resource | ab| --limit n=1/s", `--resource " ab" is not`},
		{"limits get", "--system"},
		{"limits delete", "--system"},
		{"limits plan", "-f FILE"},
		{"limits apply", "-f FILE"},
		{"limits apply file.yaml", "unknown command"},
		{"capacity", "--resource"},
		{"capacity --resource r", "--limit-name"},
		{"capacity --resource r --limit-name | ab|", `--limit-name " ab" is not`},
		{"usage", "name an --entity, a --resource or both"},
		{"usage --entity e --window yearly", "is not hourly, daily or monthly"},
		{"usage --entity e --from yesterday", "is not a time: write 2026-01-13"},
		{"usage --entity e --from 2026-01-02 --to 2026-01-01", "--to"},
		{"audit --max 0", "--max 0 is not at least 1"},
		{"audit --entity | ab|", `--entity " ab" is not`},
		{"audit --from 2026-01-02 --to 2026-01-01", "--to"},
		{"bench --processes 0", "--processes 0 is not 1 to"},
		{"bench --callers 0", "--callers 0 is not 1 to"},
		{"bench --keys -1", "--keys -1 is not 1 to"},
		{"bench --rate -1", "--rate -1 is not 0 to 1000000000"},
		{"bench --rate nan", "--rate NaN is not 0 to 1000000000"},
		{"bench --max-wait -1s", "--max-wait -1s is negative"},
		{"bench --rate 1 --max-wait 1s --give-up -1s", "--give-up -1s is negative"},
		{"bench --give-up 1s", "--give-up has no effect without --max-wait"},
		{"bench --max-wait 1s", "--max-wait needs --rate"},
		{"bench --max-wait 1s --rate 10 --callers 5", "--callers has no effect with --max-wait"},
		{"bench --max-wait 1h --rate 100000", "1000000 callers may wait in each process"},
		{"bench --duration 0s", "--duration 0s is not above 0"},
		{"bench --parent-limit n=1/s", "--parent-limit has no effect without --cascade"},
		{"bench --consume m=1", `no limit "m"; the limits are n`},
		{"bench --limit n=1/s --consume n=0", "takes nothing from any limit"},
		{"bench --processes 2 --store memory:", "processes cannot share memory"},
	} {
		r := m.zaelIn("", c.args)
		if r.code != 2 || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("zael %s: got exit code %d, %q and %q on standard output, want 2 and %q", c.args, r.code, r.err, r.out, c.want)
		}
		if !strings.HasPrefix(r.err, "zael: ") || strings.Count(r.err, "zael: ") != 1 || !strings.Contains(r.err, " --help' for usage.\n") {
			t.Errorf("zael %s: got %q, want one message and the hint", c.args, r.err)
		}
	}
}

func TestEntityCommands(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if got, want := m.ok("entity create project-1 --name |Project one| --metadata team=search --metadata |odd=a=b|"), "created entity project-1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var e struct {
		ID       string            `json:"id"`
		Name     string            `json:"name"`
		Parent   string            `json:"parent_id"`
		Cascade  bool              `json:"cascade"`
		Metadata map[string]string `json:"metadata"`
	}
	m.json("entity create key-1 --parent project-1 --cascade --json", &e)
	if e.ID != "key-1" || e.Name != "key-1" || e.Parent != "project-1" || !e.Cascade {
		t.Errorf("created %+v", e)
	}
	m.json("entity show project-1 --json", &e)
	if e.Name != "Project one" || e.Metadata["team"] != "search" || e.Metadata["odd"] != "a=b" {
		t.Errorf("got %+v, want what was created", e)
	}
	if got := m.ok("entity show key-1"); !strings.HasPrefix(got, "id        key-1\nname      key-1\nparent    project-1\ncascade   yes\ncreated   ") {
		t.Errorf("got %q", got)
	}
	var c struct {
		Parent   string `json:"parent_id"`
		Children []struct {
			ID string `json:"id"`
		} `json:"children"`
	}
	m.json("entity children project-1 --json", &c)
	if c.Parent != "project-1" || len(c.Children) != 1 || c.Children[0].ID != "key-1" {
		t.Errorf("got %+v, want key-1", c)
	}
	m.ok("entity create key-2 --parent project-1 --name Two")
	if got := m.ok("entity children project-1"); !strings.HasPrefix(got, "entity  name   cascade  created\n") || !strings.Contains(got, "\nkey-2   Two    no       ") {
		t.Errorf("got %q", got)
	}
	if got := m.ok("entity children key-1"); got != "key-1 has no children\n" {
		t.Errorf("got %q", got)
	}
	if got := m.ok("entity children key-1 --json"); !strings.Contains(got, `"children": []`) {
		t.Errorf("got %q, want a list, if an empty one", got)
	}
	m.fails("entity create key-1", 1, "zael: entity key-1 already exists\n")
	m.fails("entity show nobody", 1, "entity not found: nobody")
	m.fails("entity delete nobody", 1, "entity not found: nobody")
	if got := m.ok("entity delete key-1"); got != "deleted entity key-1\n" {
		t.Errorf("got %q", got)
	}
	m.fails("entity show key-1", 1, "entity not found")
	m.ok("entity create evil --name |\x1b[2J|")
	if got := m.ok("entity show evil"); strings.Contains(got, "\x1b") || !strings.Contains(got, `name      "\x1b[2J"`) {
		t.Errorf("got %q, want nothing that reaches the terminal", got)
	}
}

func TestLimitsCommands(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if got, want := m.ok("limits set --resource gpt-4 --limit rpm=100/min --limit |tpm=10000/min burst 20000|"),
		"set limits of resource gpt-4: rpm=100/min, tpm=10000/min burst 20000\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m.ok("limits set --system --limit rpm=9/s")
	m.ok("limits set --entity key-1 --limit rpm=8/s")
	m.ok("limits set --entity key-1 --resource gpt-4 --limit rpm=7/s")
	for args, want := range map[string]string{
		"--resource gpt-4": "rpm=100/min\ntpm=10000/min burst 20000\n", "--system": "rpm=9/s\n", "--entity key-1": "rpm=8/s\n",
		"--entity key-1 --resource gpt-4": "rpm=7/s\n", "--entity other": "no limits of entity other are stored\n",
	} {
		if got := m.ok("limits get " + args); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
	var s struct {
		Resource string `json:"resource"`
		Limits   []struct {
			Name    string  `json:"limit_name"`
			Burst   int64   `json:"burst"`
			Amount  int64   `json:"refill_amount"`
			Seconds float64 `json:"refill_period_seconds"`
		} `json:"limits"`
	}
	m.json("limits get --resource gpt-4 --json", &s)
	if l := s.Limits[1]; s.Resource != "gpt-4" || l.Name != "tpm" || l.Burst != 20000 || l.Amount != 10000 || l.Seconds != 60 {
		t.Errorf("got %+v", s)
	}
	// The scope that decides.
	const available = "available --stored --resource gpt-4 --entity "
	for _, step := range []struct{ command, entity, want string }{
		{"", "key-1", "limit  available\nrpm            7\n"},
		{"limits delete --entity key-1 --resource gpt-4", "key-1", "limit  available\nrpm            8\n"},
		{"limits delete --entity key-1", "key-1", "limit  available\nrpm          100\ntpm       20,000\n"},
		{"limits delete --resource gpt-4", "key-1", "limit  available\nrpm            9\n"},
	} {
		if step.command != "" {
			if got := m.ok(step.command); !strings.HasPrefix(got, "deleted limits of ") {
				t.Errorf("%s: got %q", step.command, got)
			}
		}
		if got := m.ok(available + step.entity); got != step.want {
			t.Errorf("after %q: got %q, want %q", step.command, got, step.want)
		}
	}
	m.ok("limits delete --system")
	if got := m.ok("limits delete --system"); got != "no limits of system were stored\n" {
		t.Errorf("got %q", got)
	}
	m.fails(available+"key-1", 1, "zael: no limits are stored for key-1 on gpt-4: store some with 'zael limits set'")
	m.fails("acquire --stored --consume rpm=1 --entity key-1 --resource gpt-4", 1, "no limits are stored for key-1 on gpt-4")
}

func TestReadingCommands(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, args := range []string{"capacity --resource r --limit-name n", "usage --entity e", "audit"} {
		if got := m.ok(args); !strings.HasPrefix(got, "no ") {
			t.Errorf("%s: got %q, want that there is nothing", args, got)
		}
	}
	m.ok("entity create child --parent parent")
	m.ok("acquire --entity parent --resource r --limit n=100/d --limit m=5/d --consume n=60 --consume m=5")
	m.ok("acquire --entity child --resource r --limit n=100/d --consume n=10")
	if got, want := m.ok("capacity --resource r --limit-name n"), ""+
		"entity  capacity  available  in use\n"+
		"child        100         90  10.0 %\n"+
		"parent       100         40  60.0 %\n"+
		"total        200        130  35.0 %\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var c struct {
		Total    int64 `json:"total_capacity"`
		Entities []struct {
			ID string `json:"entity_id"`
		} `json:"entities"`
	}
	m.json("capacity --resource r --limit-name n --parents-only --json", &c)
	if c.Total != 100 || len(c.Entities) != 1 || c.Entities[0].ID != "parent" {
		t.Errorf("got %+v, want the parent alone", c)
	}
	got := m.ok("usage --resource r --window daily")
	lines := strings.Split(got, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	// The total has what was taken with cascade twice, and so it is told apart.
	if len(lines) != 8 || !strings.HasSuffix(lines[0], " acquires m n") || !strings.HasPrefix(lines[6], "usage since ") ||
		!slices.Equal(lines[3:6], []string{"total 2 5 70", "of parents 1 5 60", "of others 1 0 10"}) {
		t.Errorf("got\n%s", got)
	}
	var u struct {
		Records []struct {
			Entity  string           `json:"entity_id"`
			Window  string           `json:"window"`
			Start   string           `json:"start"`
			Amounts map[string]int64 `json:"amounts"`
		} `json:"records"`
		Amounts map[string]int64 `json:"amounts"`
		Events  int64            `json:"events"`
	}
	m.json("usage --entity child --from 2020-01-01 --json", &u)
	if len(u.Records) != 1 || u.Records[0].Entity != "child" || u.Records[0].Window != "hourly" || u.Amounts["n"] != 10 || u.Events != 1 {
		t.Errorf("got %+v", u)
	}
	if got := m.ok("usage --entity child --to 2020-01-01T00:00:00+02:00"); got != "no usage\n" {
		t.Errorf("before there was any: got %q", got)
	}
	m.ok("limits set --entity child --limit n=1/s --principal robot")
	if got := m.ok("audit"); !strings.Contains(got, "limits_set      robot") || !strings.Contains(got, "  ann@") {
		t.Errorf("got\n%s", got)
	}
	var a struct {
		Events []struct {
			Action    string `json:"action"`
			Principal string `json:"principal"`
			Entity    string `json:"entity_id"`
		} `json:"events"`
	}
	m.json("audit --entity child --max 1 --json", &a)
	if len(a.Events) != 1 || a.Events[0].Action != "limits_set" || a.Events[0].Principal != "robot" {
		t.Errorf("got %+v, want the newest", a)
	}
}

// TestDefaultStore checks where the default store is, and what overrides it.
func TestDefaultStore(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the path is another here")
	}
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		env  map[string]string
		file string
	}{
		{"XDG", map[string]string{"HOME": dir + "/a", "XDG_DATA_HOME": dir + "/data"}, "data/zael/zael.db"},
		{"home", map[string]string{"HOME": dir + "/b"}, "b/.local/share/zael/zael.db"},
		{"relative XDG", map[string]string{"HOME": dir + "/c", "XDG_DATA_HOME": "data"}, "c/.local/share/zael/zael.db"},
		{"ZAEL_STORE", map[string]string{"HOME": dir + "/d", "ZAEL_STORE": "sqlite:" + dir + "/e.db"}, "e.db"},
		{"blanks and signs", map[string]string{"XDG_DATA_HOME": dir + "/my data?#%20;&"}, "my data?#%20;&/zael/zael.db"},
	} {
		m := &machine{t, c.env}
		m.ok("entity create x")
		info, err := os.Stat(filepath.Join(dir, c.file))
		if err != nil || info.Size() == 0 {
			t.Errorf("%s: got %v, want the store in %s", c.name, err, c.file)
		}
		if c.env["ZAEL_STORE"] != "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(filepath.Join(dir, c.file))); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: got mode %v (%v), want a directory for its user alone", c.name, info.Mode(), err)
		}
	}
	m := &machine{t, map[string]string{"ZAEL_STORE": "sqlite:" + dir + "/f.db"}}
	m.ok("entity create x --store sqlite:" + dir + "/g.db")
	if _, err := os.Stat(dir + "/f.db"); err == nil {
		t.Error("--store does not come before ZAEL_STORE")
	}
	m = &machine{t, map[string]string{}}
	m.fails("entity show x", 1, "use --store, or set ZAEL_STORE")
	m = &machine{t, map[string]string{"ZAEL_STORE": "nowhere"}}
	if r := m.zaelIn("t\n2024-01-01\n", "replay - -l n=1/s"); r.code != 0 {
		t.Errorf("replay looks at ZAEL_STORE: %q", r.err)
	}
}

func TestCommandCompletion(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for args, want := range map[string]string{
		"acq":                       "acquire\t",
		"limits ":                   "apply\t",
		"acquire --failure-mode ":   "closed\nopen\n:4\n",
		"acquire --store s":         "sqlite:\ndynamodb://\nhttp://\nhttps://\n:6\n",
		"usage --window ":           "hourly\ndaily\nmonthly\n:4\n",
		"limits apply --file ":      "yaml\nyml\n:8\n",
		"entity show ":              ":4\n",
		"bench --processes ":        ":4\n",
		"capacity --limit-name ":    ":4\n",
		"available --parent-limit ": ":4\n",
	} {
		words := append([]string{"__complete"}, strings.Split(args, " ")...)
		if r := zaelIn("", words...); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%q: got %d, %q, want %q", args, r.code, r.out, want)
		}
	}
	if out := m.ok("--help"); strings.Contains(out, "bench-worker") {
		t.Errorf("got\n%s\nwant nothing of bench-worker", out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Lists show what is stored, in pages.
func TestLists(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, empty := range []struct{ args, want string }{
		{"entity list", "no entities\n"}, {"resources", "no resources\n"}, {"limits list", "no limits are stored\n"}, {"limits list --json", "{\n  \"scopes\": []\n}\n"},
	} {
		if got := m.ok(empty.args); got != empty.want {
			t.Errorf("zael %s: got %q, want %q", empty.args, got, empty.want)
		}
	}
	m.ok("entity create a/1 --parent a")
	m.ok("entity create a/2")
	m.ok("entity create b")
	m.ok("limits set --system --limit n=5/min")
	m.ok("limits set --resource gpt-4 --limit n=5/min --limit m=6/min")
	m.ok("limits set --entity a/1 --resource gpt-4 --limit n=5/min --limit m=6/min")
	if got := m.ok("entity list"); !strings.Contains(got, "\nb  ") || strings.Count(got, "\n") != 4 {
		t.Errorf("got %q, want three entities", got)
	}
	r := m.zaelIn("", "entity list --prefix a --max 1")
	if strings.Count(r.out, "\n") != 2 || r.err != "zael: there may be more: --after \"a/1\" shows those that follow, or raise --max\n" {
		t.Errorf("got %+v, want one, and the next", r)
	}
	if got := m.ok("entity list --after a/1 --prefix a"); !strings.Contains(got, "\na/2 ") || strings.Contains(got, "a/1") {
		t.Errorf("got %q, want a/2", got)
	}
	if got := m.ok("resources"); got != "gpt-4\n" {
		t.Errorf("got %q, want gpt-4", got)
	}
	if got := m.ok("limits list"); !strings.Contains(got, "entity a/1 resource gpt-4  ") || !strings.Contains(got, "system ") {
		t.Errorf("got %q, want three scopes", got)
	}
	m.fails("resources --max 0", 2, "--max 0 is not at least 1")
	m.fails("limits list --max 0", 2, "--max 0 is not at least 1")
}
