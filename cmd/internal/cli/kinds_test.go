package cli_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestKindsOfLimits stores each kind of limit from a file, reads it, and takes from it.
func TestKindsOfLimits(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	file := filepath.Join(t.TempDir(), "limits.yaml")
	write(t, file, `
resources:
  gpt-4:
    limits:
      - rpm=100/d
      - q=5 each year Europe/Berlin
      - parallel=2 at once hold 300s
      - soft=1 each year soft
      - free=unlimited
  gpt-5: {limits: [n=0/5h]}
`)
	m.ok("limits apply --file " + file)
	want := "free=unlimited\nparallel=2 at once hold 5min\nq=5 each year Europe/Berlin\nrpm=100/d\nsoft=1 each year soft\n"
	got := strings.Split(strings.TrimSpace(m.ok("limits get --resource gpt-4")), "\n")
	if len(got) != 5 {
		t.Errorf("limits get: got %q, want\n%s", got, want)
	}
	for _, line := range got {
		if !strings.Contains(want, line+"\n") {
			t.Errorf("limits get: got %q, want it as in\n%s", line, want)
		}
	}
	var r struct {
		Limits []struct {
			Name  string `json:"limit_name"`
			Kind  string `json:"kind"`
			Limit string `json:"limit"`
			Soft  bool   `json:"soft"`
			Burst *int64 `json:"burst"`
		} `json:"limits"`
	}
	m.json("limits get --resource gpt-4 --json", &r)
	kinds := map[string]string{}
	for _, l := range r.Limits {
		kinds[l.Name] = l.Kind
		if l.Soft != (l.Name == "soft") || (l.Burst == nil) != (l.Name == "free") || l.Limit == "" {
			t.Errorf("limits get --json: got %+v", l)
		}
	}
	if kinds["rpm"] != "rate" || kinds["q"] != "quota" || kinds["parallel"] != "slots" || kinds["free"] != "unlimited" {
		t.Errorf("kinds: got %v", kinds)
	}
	const who = "acquire --stored --entity key-1 --resource gpt-4 "
	m.ok(who + "-c q=3 -c soft=4")
	m.fails(who+"-c q=3", 3, "q of key-1 on gpt-4: 3 requested, 2 available")
	m.fails(who+"-c q=9", 3, "more than the amount of 5")
	m.fails(who+"-c parallel=1", 2, "write the command after --")
	m.fails("acquire --stored --entity key-1 --resource gpt-5 -c n=1", 3, "blocked")
	var refusal struct {
		Limits []struct {
			Name     string  `json:"limit_name"`
			ResetsAt *string `json:"resets_at"`
		} `json:"limits"`
	}
	out := m.fails(who+"-c q=3 --json", 3, "").out
	if err := json.Unmarshal([]byte(out), &refusal); err != nil {
		t.Fatalf("got %v of %q, want JSON", err, out)
	}
	for _, l := range refusal.Limits {
		if quota := l.Name == "q" || l.Name == "soft"; quota != (l.ResetsAt != nil) {
			t.Errorf("resets_at of %s: got %v", l.Name, l.ResetsAt)
		}
	}
}
