//go:build unix

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeroae/zael/internal/testrig/schedules"
)

const (
	azure = root + "/examples/azure_llm_code_2023.csv"
	total = "tpm=ContextTokens+GeneratedTokens"
)

// A replayed has a part of the JSON of a replay.
type replayed struct {
	Requests int64            `json:"requests"`
	Admitted int64            `json:"admitted"`
	Denied   int64            `json:"denied"`
	Waited   int64            `json:"waited"`
	DeniedBy map[string]int64 `json:"denied_by"`
	Amounts  map[string]int64 `json:"admitted_amounts"`
}

// replay replays in this process.
func replay(t *testing.T, args ...string) replayed {
	t.Helper()
	return replayBy(t, shop{t: t}.run, args...)
}

// replayBy replays by a function that runs the program and wants an exit code.
func replayBy(t *testing.T, zael func(wantCode int, args ...string) (stdout, stderr string), args ...string) (r replayed) {
	t.Helper()
	out, _ := zael(0, append([]string{"replay", "--json", "--limit", "rpm=200/min", "--limit", "tpm=400000/min", "--consume", "rpm=1"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %v", err, out)
	}
	return r
}

func (r replayed) String() string {
	return fmt.Sprintf("%d requests, %d admitted, %d denied, %d waited, rpm %d, tpm %d, %d tokens",
		r.Requests, r.Admitted, r.Denied, r.Waited, r.DeniedBy["rpm"], r.DeniedBy["tpm"], r.Amounts["tpm"])
}

// TestReplayAzure checks exact figures for the trace in examples/, in memory, and in a long
// run in a file too.
func TestReplayAzure(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--consume", total}, "8819 requests, 7118 admitted, 1701 denied, 0 waited, rpm 1401, tpm 383, 14451900 tokens"},
		{[]string{"--consume", total, "--max-wait", "30s"}, "8819 requests, 7811 admitted, 1008 denied, 2590 waited, rpm 648, tpm 418, 15894899 tokens"},
		{[]string{"--consume", "tpm=ContextTokens", "--settle", total}, "8819 requests, 7118 admitted, 1701 denied, 0 waited, rpm 1403, tpm 374, 14451652 tokens"},
	} {
		if i == 0 && testing.Short() {
			continue // the others also take, refuse, wait and settle
		}
		stores := []string{"memory:"}
		if schedules.Long(t) {
			stores = append(stores, "sqlite:"+filepath.Join(t.TempDir(), "zael.db"))
		}
		for _, store := range stores {
			t.Run(fmt.Sprint(store[:6], c.args), func(t *testing.T) {
				t.Parallel()
				if got := replay(t, append([]string{azure, "--store", store}, c.args...)...).String(); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			})
		}
	}
}

// TestReplayOnEngines replays a part of the trace in which both limits refuse, and wants the figures of
// memory.
func TestReplayOnEngines(t *testing.T) {
	t.Parallel()
	part := filepath.Join(t.TempDir(), "part.csv")
	if err := os.WriteFile(part, bytes.Join(azureLines(t)[:600], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	variants := [][]string{{part, "--consume", total}, {part, "--consume", "tpm=ContextTokens", "--settle", total, "--max-wait", "30s"}}
	for name, store := range map[string]func(*testing.T, int) string{
		"dynamodb": func(t *testing.T, i int) string {
			t.Helper()
			return fmt.Sprintf("%s&namespace=replay-%d", onDynamoDB(t).store, i)
		},
		"sqlite": func(t *testing.T, _ int) string { t.Helper(); return newShop(t).store },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, args := range variants {
				if i == 0 && (name == "dynamodb" || testing.Short()) && !schedules.Long(t) {
					continue // the other one takes, refuses, waits and settles
				}
				want := replay(t, args...)
				if want.DeniedBy["rpm"] == 0 || want.DeniedBy["tpm"] == 0 {
					t.Fatalf("in memory: got %v, want both limits to refuse", want)
				}
				if got := replay(t, append(args, "--store", store(t, i))...); got.String() != want.String() {
					t.Errorf("%v:\ngot  %s\nwant %s, as in memory", args, got, want)
				}
			}
		})
	}
}

// azureLines returns the lines of the trace in examples/, the header first.
func azureLines(t *testing.T) [][]byte {
	t.Helper()
	whole, err := os.ReadFile(azure)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.SplitAfter(whole, []byte("\n"))
}

// TestReplayRestart checks that a trace in three parts, replayed by three processes on
// one file, gives the figures of the whole in memory.
func TestReplayRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lines := azureLines(t)
	if !schedules.Long(t) {
		lines = lines[:1+schedules.Count(t, 3000)]
	}
	whole := filepath.Join(dir, "whole.csv")
	if err := os.WriteFile(whole, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	want := replay(t, whole, "--consume", total)
	process := func(wantCode int, args ...string) (stdout, stderr string) {
		t.Helper()
		return zael(t, wantCode, args...)
	}
	store := "sqlite:" + filepath.Join(dir, "zael.db")
	sum := replayed{DeniedBy: map[string]int64{}, Amounts: map[string]int64{}}
	cuts := []int{1, len(lines) / 7, len(lines) / 2, len(lines)}
	for i, from := range cuts[:3] {
		part := filepath.Join(dir, fmt.Sprint("part", i, ".csv"))
		if err := os.WriteFile(part, append(bytes.Clone(lines[0]), bytes.Join(lines[from:cuts[i+1]], nil)...), 0o600); err != nil {
			t.Fatal(err)
		}
		r := replayBy(t, process, part, "--store", store, "--consume", total)
		sum.Requests += r.Requests
		sum.Admitted += r.Admitted
		sum.Denied += r.Denied
		for name, n := range r.DeniedBy {
			sum.DeniedBy[name] += n
		}
		for name, n := range r.Amounts {
			sum.Amounts[name] += n
		}
	}
	if got := sum.String(); got != want.String() || !testing.Short() && (want.DeniedBy["rpm"] == 0 || want.DeniedBy["tpm"] == 0) {
		t.Errorf("in three processes:\ngot  %s\nwant %s, as in one", got, want)
	}
}
