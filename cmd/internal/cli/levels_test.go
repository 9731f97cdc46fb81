package cli_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestLevels stores limits over those of other levels, which then do not bind.
func TestLevels(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.ok("limits set --system --limit rpm=60/min --limit tpm=1000/min")
	const gpt = "limits set --resource gpt-4 --limit "
	r := m.zaelIn("", gpt+"|tpm=10000 each day|")
	if want := "zael: warning: rpm=60/min of system no longer binds resource gpt-4: repeat it there to keep it\n"; r.code != 0 || r.err != want {
		t.Errorf("got exit code %d and %q, want %q", r.code, r.err, want)
	}
	m.ok(gpt + "rpm=1/min --limit tpm=2/min")

	// Unlimited alone lifts other limits: of the scope itself, and of a level below.
	m.fails(gpt+"tpm=unlimited", 1, "limits of resource gpt-4: unlimited alone lifts rpm=1/min, rpm=60/min of system too: repeat what is to stay, or lift all with --replace")
	m.fails("limits set --entity key-1 --limit tpm=unlimited", 1, "unlimited alone lifts rpm=60/min of system too")
	if got := m.ok("limits get --resource gpt-4"); got != "rpm=1/min\ntpm=2/min\n" {
		t.Errorf("after a refused set: got %q", got)
	}
	m.ok("limits set --entity key-1 --resource gpt-4 --limit tpm=unlimited --limit rpm=5/min")
	m.ok("limits set --system --limit rpm=unlimited --limit tpm=unlimited")
	r = m.zaelIn("", gpt+"tpm=unlimited --replace")
	if r.code != 0 || !strings.Contains(r.err, "rpm=unlimited of system no longer binds") {
		t.Errorf("--replace: got exit code %d and %q", r.code, r.err)
	}
}

// TestLevelsOfFile applies a file whose limits hide others, and changes kinds.
func TestLevelsOfFile(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	file := filepath.Join(t.TempDir(), "limits.yaml")
	plan, apply := "limits plan -f |"+file+"|", "limits apply -f |"+file+"|"
	m.ok("limits set --system --limit rpm=60/min --limit |q=5 each day|")
	m.ok("limits set --resource gpt-4 --limit q=5/d --limit rpm=0/min")
	write(t, file, `
resources:
  gpt-4:
    limits: [q=5 each day Europe/Berlin soft, rpm=0/5h]
  gpt-5:
    limits:
      - rpm=unlimited
`)
	if got := m.fails(plan, 1, "").err; !strings.HasSuffix(got, "limits.yaml:6: limits of resource gpt-5: unlimited alone lifts q=5 each day of system too: repeat what is to stay, or lift all with --replace\n") {
		t.Errorf("plan: got %q", got)
	}
	m.fails(apply, 1, "limits.yaml:6: limits of resource gpt-5: unlimited alone")
	if got := m.ok("limits get --resource gpt-5"); !strings.HasPrefix(got, "no limits") {
		t.Errorf("after a refused apply: got %q", got)
	}
	if got, want := m.ok(plan+" --replace"), `~ limits of resource gpt-4
    ~ q=5 each day Europe/Berlin soft, was q=5/d (quota instead of rate)
+ limits of resource gpt-5
    + rpm=unlimited
plan: 1 to create, 1 to change, 0 to delete, 0 unchanged
`; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	r := m.zaelIn("", apply+" --replace")
	if want := "zael: warning: q=5 each day of system no longer binds resource gpt-5: repeat it there to keep it\n"; r.code != 0 || r.err != want {
		t.Errorf("apply: got exit code %d and %q, want %q", r.code, r.err, want)
	}
	if got := m.ok(apply); got != "applied: nothing to do, 2 unchanged\n" {
		t.Errorf("again: got %q", got)
	}
}

// TestMistakesInFile has mistakes in limits of all kinds, in YAML and JSON: each is told
// with its line, and what to write.
func TestMistakesInFile(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	file := filepath.Join(t.TempDir(), "limits.yaml")
	for limit, want := range map[string]string{
		"q=5 each fortnight":              "fortnight",
		"q=5 each day Europe/Berlinn":     "Europe/Berlinn",
		"q=5 each day on mon":             "each week on mon",
		"q=5 each month on 32":            "on 1 to on 31",
		"q=5 each hour at 06:00":          "aligned",
		"q=0 each day":                    "write q=0/min",
		"q=5/min carry debt":              `goes with "each" alone`,
		"q=unlimited soft":                "leave out soft",
		"q=0/min burst 5":                 "leave it out",
		"q=2 at once hold 1s":             "10",
		"q=1000001 at once":               "1000000",
		"q=5 per 5h":                      "from first use",
		"q=5 per 5h from first use burst": "leave it out",
		"q=5":                             "has no period",
	} {
		for _, text := range []string{
			"resources:\n  gpt-4:\n    limits:\n      - n=1/s\n      - " + limit + "\n",
			"{\"resources\": {\n\"gpt-4\":\n{\"limits\":\n [\"n=1/s\",\n\"" + limit + "\"]}}}",
		} {
			write(t, file, text)
			got := m.fails("limits plan -f |"+file+"|", 1, want).err
			if !strings.Contains(got, "limits.yaml:5: limits of resource gpt-4: ") {
				t.Errorf("%s: got %q, want line 5", limit, got)
			}
		}
	}
}
