//go:build unix

package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A benchReport has the output of zael bench --json.
type benchReport struct {
	Rate            float64          `json:"rate_per_s"`
	AcquiresPerS    float64          `json:"acquires_per_s"`
	RefusedPerS     float64          `json:"refused_per_s"`
	P50             float64          `json:"p50_ms"`
	P99             float64          `json:"p99_ms"`
	P999            float64          `json:"p999_ms"`
	Errors          int64            `json:"errors"`
	Admitted        int64            `json:"admitted"`
	Refused         int64            `json:"refused"`
	Ideal           int64            `json:"ideal"`
	AdmittedAmounts map[string]int64 `json:"admitted_amounts"`
	IdealAmounts    map[string]int64 `json:"ideal_amounts"`
	Left            int64            `json:"left"`
	Seconds         []benchSecond    `json:"seconds"`
}

type benchSecond struct {
	Came    int64 `json:"came"`
	Served  int64 `json:"served"`
	Refused int64 `json:"refused"`
	Left    int64 `json:"left"`
}

func (s shop) bench(args ...string) (r benchReport) {
	s.t.Helper()
	out, errs := s.run(0, append([]string{"bench", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || errs != "" {
		s.t.Fatalf("got %q and %q (%v), want JSON", out, errs, err)
	}
	if r.Errors != 0 || r.Admitted > r.Ideal || r.P50 <= 0 || r.P99 < r.P50 || r.P999 < r.P99 {
		s.t.Errorf("got %+v, want no error and no more than the ideal", r)
	}
	return r
}

// nothingLeft checks that a bench left nothing in the store but audit events.
func (s shop) nothingLeft() {
	s.t.Helper()
	if out, _ := s.run(0, "usage", "--resource", "bench"); !strings.HasPrefix(out, "no usage since ") {
		s.t.Errorf("got %q, want no usage left", out)
	}
	if out, _ := s.run(0, "capacity", "--resource", "bench", "--limit-name", "n"); !strings.HasPrefix(out, "no bucket") {
		s.t.Errorf("got %q, want no bucket left", out)
	}
}

// TestBenchProcesses checks that several processes admit what one bucket has.
func TestBenchProcesses(t *testing.T) {
	t.Parallel()
	manyProcesses(t)
	s := newShop(t)
	r := s.bench("--processes", "3", "--callers", "4", "--duration", "1s", "--limit", "n=20/h", "--limit", "m=99999/s", "--consume", "m=2")
	if r.Admitted != 20 || r.Ideal != 20 || r.AdmittedAmounts["n"] != 20 || r.AdmittedAmounts["m"] != 40 || r.IdealAmounts["n"] != 20 || r.RefusedPerS == 0 || r.AcquiresPerS == 0 {
		t.Errorf("got %+v, want 20 admitted", r)
	}
	s.nothingLeft()
	out, _ := s.run(0, "audit", "--json")
	if strings.Count(out, "entity_deleted") != 1 || !strings.Contains(out, `"entity_id": "bench-`) {
		t.Errorf("got %s, want the one deletion", out)
	}
}

func TestBenchCascade(t *testing.T) {
	t.Parallel()
	manyProcesses(t)
	s := newShop(t)
	r := s.bench("--processes", "2", "--callers", "4", "--keys", "5", "--duration", "1s", "--cascade", "--limit", "n=4/h", "--parent-limit", "n=10/h")
	if r.Admitted != 10 || r.Ideal != 10 {
		t.Errorf("got %+v, want the 10 of the parent", r)
	}
	s.nothingLeft()
}

func TestBenchText(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	args := []string{"bench", "--store", "memory:", "--duration", "500ms", "--limit", "n=50/h"}
	if testing.Short() {
		args = append(args, "--rate", "400")
	}
	out, errs := s.run(0, args...)
	if errs != "" || !regexp.MustCompile(`^memory:, 1 process with 64 callers, 1 key, (400 asked a second, )?\d+\.\d s\n`).MatchString(out) || !strings.Contains(out, "\nn=50/h          50     50  100.0 %\n") || !strings.Contains(out, "\nerrors    0\n") {
		t.Errorf("got %q and\n%s", errs, out)
	}
}

// TestBenchRate checks that all processes together keep to the rate.
func TestBenchRate(t *testing.T) {
	t.Parallel()
	manyProcesses(t)
	s := newShop(t)
	r := s.bench("--processes", "2", "--callers", "3", "--duration", "500ms", "--rate", "40", "--limit", "n=5/h")
	if r.Rate != 40 || r.Admitted != 5 || r.Refused == 0 || r.Refused > 16 {
		t.Errorf("got %+v, want 20 acquires, about, of which 5 are admitted", r)
	}
	out, _ := s.run(0, "bench", "--store", "memory:", "--duration", "100ms", "--rate", "50", "--callers", "1")
	if !strings.HasPrefix(out, "memory:, 1 process with 1 caller, 1 key, 50 asked a second, ") {
		t.Errorf("got\n%s\nwant the rate in the first line", out)
	}
}

// TestBenchInterrupted checks that an interrupted bench cleans up and prints its results.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	manyProcesses(t)
	for _, processes := range []string{"1", "2"} {
		s := newShop(t)
		cmd := s.command("bench", "--json", "--processes", processes, "--callers", "2", "--duration", "1h", "--keys", "3", "--limit", "n=10/h", "--cascade")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for begun := false; !begun; {
			usage, _ := s.run(0, "usage", "--resource", "bench")
			begun = strings.Contains(usage, "\ntotal")
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil { // to all, as a terminal does
			t.Fatal(err)
		}
		_ = cmd.Wait()
		var r benchReport
		if err := json.Unmarshal(out.Bytes(), &r); err != nil || cmd.ProcessState.ExitCode() != 130 || errs.String() != "zael: interrupted\n" {
			t.Fatalf("got exit code %d, %q and %q (%v), want 130", cmd.ProcessState.ExitCode(), out.String(), errs.String(), err)
		}
		if r.Admitted < 1 || r.Admitted > r.Ideal || r.Errors != 0 {
			t.Errorf("got %+v, want what was done until then", r)
		}
		s.nothingLeft()
	}
}

// TestBenchFails checks that a failing process ends the others.
func TestBenchFails(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if _, err := s.run(1, "bench", "--processes", "2", "--store", "sqlite:/there/is/none.db"); !strings.Contains(err, "the directory /there/is does not exist") {
		t.Errorf("got %q", err)
	}
	// The other processes fail by themselves.
	var errs bytes.Buffer
	cmd := s.command("bench-worker")
	cmd.Stdin, cmd.Stderr = strings.NewReader("nonsense"), &errs
	if err := cmd.Run(); err == nil || !strings.HasPrefix(errs.String(), "zael: reading the job: ") {
		t.Errorf("got %v and %q, want an error", err, errs.String())
	}
}

// durations are those of benches in help texts.
var durations = regexp.MustCompile(`--duration \d+s`)

// TestNewHelpExamples runs the examples in help texts; a bench does so for less long.
func TestNewHelpExamples(t *testing.T) {
	t.Parallel()
	manyProcesses(t)
	dir := t.TempDir()
	file := []byte("resources: {gpt-4: {limits: [rpm=100/min]}}\nentities: {key-9: {parent: project-1}}\n")
	if err := os.WriteFile(filepath.Join(dir, "limits.yaml"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newShop(t)
	count := 0
	for _, name := range []string{
		"entity create", "entity show", "entity children", "acquire", "available", "limits set", "limits get", "limits list", "entity list", "resources", "limits plan", "limits apply",
		"capacity", "usage", "audit", "limits delete", "entity delete", "bench",
	} {
		help, _ := s.run(0, append(strings.Fields(name), "--help")...)
		_, examples, ok := strings.Cut(help, "Examples:\n")
		examples, _, ok2 := strings.Cut(examples, "\nFlags:")
		if !ok || !ok2 {
			t.Errorf("%s: no examples in %s", name, help)
		}
		count += strings.Count(examples, "zael "+name)
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", durations.ReplaceAllString(examples, "--duration 300ms"))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "ZAEL_STORE="+s.store)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: got %v and:\n%s", name, err, out)
		}
	}
	if count < 25 {
		t.Errorf("got %d examples, want more", count)
	}
}

// TestDefaultStoreFile checks that the first use creates a store in the data directory.
func TestDefaultStoreFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = []string{"HOME=" + dir, "XDG_DATA_HOME=" + filepath.Join(dir, "data"), "USER=ann", "GORACE=" + os.Getenv("GORACE")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return string(out)
	}
	run("entity", "create", "key-1")
	if out := run("audit"); !strings.Contains(out, "entity_created") || !strings.Contains(out, "ann@") {
		t.Errorf("got %q, want it to be there still", out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*", "*", "zael*", "zael.db"))
	more, err2 := filepath.Glob(filepath.Join(dir, "data", "zael", "zael.db"))
	if err != nil || err2 != nil || len(found)+len(more) != 1 {
		t.Errorf("got %v and %v, want the file", found, more)
	}
}
