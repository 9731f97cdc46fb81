package cli_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/cmd/internal/cli"
	"github.com/zeroae/zael/stores"
)

// usedStore returns the URL of a store with acquires at some hours of a day.
func usedStore(t *testing.T, hours ...int) string {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "zael.db")
	store, err := stores.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 13, 0, 30, 0, 0, time.UTC)
	l, err := zael.New(store, &zael.Config{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for i, hour := range hours {
		now = time.Date(2026, 1, 13, hour, 30, 0, 0, time.UTC)
		for _, entity := range []string{"a", "b"} {
			if err := l.Allow(t.Context(), zael.Request{
				Entity: entity, Resource: "r", Limits: []zael.Limit{zael.PerMinute("rpm", 1), zael.PerMinute("tpm", 100_000)},
				Consume: zael.Amounts{"rpm": 1, "tpm": int64(1000 * (i + 1))},
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return url
}

func TestUsageChart(t *testing.T) {
	t.Parallel()
	r := zaelIn("", "usage", "--resource", "r", "--chart", "--from", "2026-01-13", "--store", usedStore(t, 1, 3, 9))
	want := `hourly, UTC       acquires
2026-01-13 01:00         2  ██████████████████████████████████████████████████
2026-01-13 02:00         0
2026-01-13 03:00         2  ██████████████████████████████████████████████████
…                           (5 windows without usage)
2026-01-13 09:00         2  ██████████████████████████████████████████████████
`
	if r.code != 0 || !strings.HasPrefix(r.out, want) {
		t.Errorf("got %d and\n%s, want\n%s", r.code, r.out, want)
	}
	want = `hourly, UTC         tpm
2026-01-13 01:00  2,000  ████████████████▋
2026-01-13 02:00      0
2026-01-13 03:00  4,000  █████████████████████████████████▎
…                        (5 windows without usage)
2026-01-13 09:00  6,000  ██████████████████████████████████████████████████
`
	if !strings.HasSuffix(r.out, "\n\n"+want) {
		t.Errorf("got\n%s, want at the end\n%s", r.out, want)
	}
}

func TestUsageCSV(t *testing.T) {
	t.Parallel()
	url := usedStore(t, 1, 3)
	want := `start,window,entity_id,resource,events,rpm,tpm
2026-01-13T03:00:00Z,hourly,a,r,1,1,2000
2026-01-13T01:00:00Z,hourly,a,r,1,1,1000
`
	if r := zaelIn("", "usage", "--entity", "a", "--csv", "--store", url); r.code != 0 || r.out != want {
		t.Errorf("got %d and\n%s, want\n%s", r.code, r.out, want)
	}
	if r := zaelIn("", "usage", "--entity", "none", "--csv", "--store", url); r.code != 0 || r.out != "start,window,entity_id,resource,events\n" {
		t.Errorf("no usage: got %d and %q, want the head", r.code, r.out)
	}
	if r := zaelIn("", "usage", "--entity", "a", "--csv", "--chart", "--store", url); r.code != 2 {
		t.Errorf("two forms: got %d and %q, want exit code 2", r.code, r.err)
	}
}

// How often a soft limit was overdrawn is a column of its own, where it ever was.
//
//nolint:dupword // the columns of a table
func TestUsageOverdrawn(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "zael.db")
	store, err := stores.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 13, 14, 30, 0, 0, time.UTC)
	l, err := zael.New(store, &zael.Config{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.CreateEntity(t.Context(), zael.Entity{ID: "child", ParentID: "parent", Cascade: true}); err != nil {
		t.Fatal(err)
	}
	limits := []zael.Limit{zael.PerDay("budget", 10).Soft(), zael.PerMinute("rpm", 100)}
	for range 3 {
		if err := l.Allow(t.Context(), zael.Request{Entity: "child", Resource: "r", Limits: limits, Cascade: true, Consume: zael.Amounts{"budget": 8, "rpm": 1}}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--entity child": `
window                entity  resource  acquires  budget  budget overdrawn  rpm
2026-01-13T16:00:00Z  child   r                1       8                 1    1
2026-01-13T15:00:00Z  child   r                1       8                 1    1
2026-01-13T14:00:00Z  child   r                1       8                      1
total                                          3      24                 2    3
`,
		"--resource r --from 2026-01-13 --window daily": `
window                entity  resource  acquires  budget  budget overdrawn  rpm
2026-01-13T00:00:00Z  child   r                3      24                 2    3
2026-01-13T00:00:00Z  parent  r                3      24                 2    3
total                                          6      48                 4    6
of parents                                     3      24                 2    3
of others                                      3      24                 2    3
`,
		"--entity child --csv": `
start,window,entity_id,resource,events,budget,budget overdrawn,rpm
2026-01-13T16:00:00Z,hourly,child,r,1,8,1,1
2026-01-13T15:00:00Z,hourly,child,r,1,8,1,1
2026-01-13T14:00:00Z,hourly,child,r,1,8,,1
`,
	} {
		if r := zaelIn("", append(strings.Fields("usage --store "+url), strings.Fields(args)...)...); r.code != 0 || r.out != want[1:] {
			t.Errorf("usage %s: got %d and\n%s%s, want\n%s", args, r.code, r.out, r.err, want[1:])
		}
	}
	r := zaelIn("", "usage", "--store", url, "--entity", "child", "--json", "--window", "daily")
	if r.code != 0 || strings.Count(strings.Join(strings.Fields(r.out), ""), `"overdrawn":{"budget":2}`) != 2 {
		t.Errorf("--json: got %d and %s, want 2 overdrawn in the record and in the totals", r.code, r.out)
	}
	r = zaelIn("", "usage", "--store", url, "--entity", "child", "--chart")
	if r.code != 0 || !strings.Contains(r.out, "\nhourly, UTC       budget overdrawn\n") {
		t.Errorf("--chart: got %d and\n%s, want bars of what was overdrawn", r.code, r.out)
	}
}

// Without --from usage of a resource is that of the last windows, which is said.
func TestUsageOfAResourceIsRecent(t *testing.T) {
	t.Parallel()
	url := usedStore(t, 1)
	for args, want := range map[string]string{
		"--resource r":                                   "no usage since 20",
		"--resource r --to 2026-01-13T20:00:00Z":         "usage since 2026-01-12 20:00 UTC; --from reads further back\n",
		"--resource r --window monthly":                  "usage since 20",
		"--resource r --from 2026-01-01":                 " 2    2  2,000\n",
		"--entity a":                                     " 1    1  1,000\n",
		"--entity a --chart":                             "█\n",
		"--resource r --chart --to 2026-01-13T20:00:00Z": "█\nusage since 2026-01-12 20:00 UTC; --from reads further back\n",
	} {
		r := zaelIn("", append(strings.Fields("usage --store "+url), strings.Fields(args)...)...)
		if r.code != 0 || !strings.Contains(r.out, want) || strings.Contains(args, "--from") != !strings.Contains(r.out, "since") && !strings.Contains(args, "--entity") {
			t.Errorf("usage %s: got %d and\n%s, want %q", args, r.code, r.out, want)
		}
	}
}

// Sums stay within int64.
func TestUsageChartDoesNotWrap(t *testing.T) {
	t.Parallel()
	u := zael.Usage{}
	for _, entity := range []string{"a", "b"} {
		u.Records = append(u.Records, zael.UsageRecord{
			Entity: entity, Resource: "r", Window: zael.Daily, Start: time.Date(2026, 1, 13, 0, 0, 0, 0, time.UTC),
			Amounts: zael.Amounts{"rpm": 9e18, "tpm": -9e18}, Events: 9e18,
		})
	}
	var out strings.Builder
	cli.PrintUsageChart(&out, &u, zael.Daily)
	if n := strings.Count(out.String(), " 9,223,372,036,854,775,807  █"); n != 2 || !strings.Contains(out.String(), "-9,223,372,036,854,775,808") {
		t.Errorf("got\n%s, want the ends of int64", &out)
	}
}

// A memory store belongs to one process: the command says where to read its usage.
func TestUsageOfMemory(t *testing.T) {
	t.Parallel()
	for url, code := range map[string]int{"memory:": 1, "memory:?usage=true": 0} {
		r := zaelIn("", "usage", "--entity", "a", "--store", url)
		if r.code != code || !strings.Contains(r.err, "Limiter.Usage") || strings.Contains(r.err, "dynamodb") {
			t.Errorf("%s: got %d, %q and %q, want %d and where usage is", url, r.code, r.out, r.err, code)
		}
	}
}
