package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplayKinds replays a trace across the clock change of a time zone, with slots.
func TestReplayKinds(t *testing.T) {
	t.Parallel()
	const trace = `t,seconds,tokens
2026-03-28T23:00:00Z,10,0
2026-03-29T12:00:00Z,10,100
2026-03-29T12:00:01Z,10,1
2026-03-29T22:00:00Z,1min,0
2026-03-29T22:00:01Z,1,1
`
	file := filepath.Join(t.TempDir(), "decisions.jsonl")
	r := zaelIn(trace, "replay", "-", "--limit", "q=100 each day Europe/Berlin", "--consume", "q=tokens",
		"--limit", "parallel=1 at once", "--duration-column", "seconds", "--decisions", file, "--json")
	if r.code != 0 || r.err != "" {
		t.Fatalf("got exit code %d and %q", r.code, r.err)
	}
	var report struct {
		Admitted int64            `json:"admitted"`
		DeniedBy map[string]int64 `json:"denied_by"`
		Limits   []struct {
			Periods []struct {
				Start string `json:"start"`
				End   string `json:"end"`
				Asked int64  `json:"asked"`
				Used  int64  `json:"used"`
			} `json:"periods"`
		} `json:"limits"`
	}
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Admitted != 3 || report.DeniedBy["q"] != 1 || report.DeniedBy["parallel"] != 2 {
		t.Errorf("got %s", r.out)
	}
	if p := report.Limits[0].Periods; len(p) != 2 || p[0].Start != "2026-03-28T23:00:00Z" || p[0].End != "2026-03-29T22:00:00Z" || p[0].Asked != 101 || p[0].Used != 100 {
		t.Errorf("got periods %+v, want one of 23 hours with 100 of 101 used", p)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 5 {
		t.Fatalf("got %d decisions, want 5", len(lines))
	}
	for i, want := range []string{
		`"available":100,"requested":0,`,
		`"available":0,"requested":100,`,
		`"admitted":false,"delay_seconds":0,"limits":[{"entity_id":"trace","resource":"trace","limit_name":"q","kind":"quota",` +
			`"limit":"q=100 each day Europe/Berlin","soft":false,"capacity":100,"burst":100,"available":0,"requested":1,"exceeded":true,"overdrawn":false,` +
			`"period_start":"2026-03-28T23:00:00Z","resets_at":"2026-03-29T22:00:00Z","retry_after_seconds":35999,"full_in_seconds":35999}`,
		`"period_start":"2026-03-29T22:00:00Z","resets_at":"2026-03-30T22:00:00Z"`,
		`"kind":"slots","limit":"parallel=1 at once","soft":false,"capacity":1,"burst":1,"available":0,"requested":1,"exceeded":true`,
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("decision %d: got %s\nwant it to contain %s", i, lines[i], want)
		}
	}
}

func TestReplayUsageErrorsOfSlots(t *testing.T) {
	t.Parallel()
	slots := []string{"replay", "-", "--limit", "parallel=1 at once"}
	for _, c := range []struct {
		args []string
		want string
	}{
		{slots, "--limit parallel=1 at once: slots are held as long as a request takes: name the column of that with --duration-column"},
		{append(slots[:4:4], "--duration-column", "x"), `no column "x"`},
		{append(slots[:4:4], "--duration-column", "d", "--settle", "parallel=d"), "--settle parallel: slots are not settled"},
		{append(slots[:4:4], "--duration-column", "d", "--store", "sqlite:/nowhere/x.db"), "slots are replayed in memory"},
		{[]string{"replay", "-", "--limit", "n=1/s", "--duration-column", "d"}, "--duration-column has no effect without slots"},
	} {
		r := zaelIn("t,d\n2026-01-01,1\n", c.args...)
		if r.code != 2 || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%v: got exit code %d, %q and %q, want 2 and %q", c.args, r.code, r.err, r.out, c.want)
		}
	}
}
