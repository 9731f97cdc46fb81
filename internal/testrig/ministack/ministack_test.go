package ministack_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/testrig/ministack"
)

// endVariable says how TestEndpoint ends in a process of its own: "fail" or "panic".
const endVariable = "ZAEL_MINISTACK_END"

var (
	table    dynamotest.Engine
	emulator ministack.Engine
)

func TestMain(m *testing.M) { table.Main(emulator.Tests(m)) }

func TestEndpoint(t *testing.T) {
	t.Parallel()
	endpoint := emulator.Endpoint(t)
	if !ministack.Answers(t.Context(), endpoint) {
		t.Errorf("%s: got no answer, want one", endpoint)
	}
	switch os.Getenv(endVariable) {
	case "fail":
		t.Fatal("on purpose, with", endpoint)
	case "panic":
		panic("on purpose, with " + endpoint)
	}
}

// The engine ends with the tests, also when one fails or panics.
func TestEndpointEnds(t *testing.T) {
	t.Parallel()
	emulator.Endpoint(t) // skips with -short
	for end, code := range map[string]int{"fail": 1, "panic": 2} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEndpoint$")
			cmd.Env = append(os.Environ(), endVariable+"="+end, ministack.EndpointVariable+"=")
			out, _ := cmd.CombinedOutput() // the exit code says it
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("exit code: got %d, want %d", got, code)
			}
			found := regexp.MustCompile(`on purpose, with (http://127\.0\.0\.1:\d+)`).FindSubmatch(out)
			if found == nil {
				t.Fatalf("output: got %s, want its endpoint", out)
			}
			t.Logf("until %s does not answer", found[1])
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ministack.Answers(t.Context(), string(found[1])) {
				<-tick.C
			}
		})
	}
}

func TestProgram(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), ministack.Program(t, "cfn-lint"), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "1.58") {
		t.Errorf("cfn-lint --version: got %q and %v, want 1.58", out, err)
	}
}

// Not parallel: it sets the environment.
func TestMissing(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("PYTHON", "no-such-python")
	_, err := ministack.Install(t.Context(), os.Stderr)
	if err == nil || !strings.Contains(err.Error(), "no-such-python") || !strings.Contains(err.Error(), "python3-venv") {
		t.Errorf("without Python: got %v, want ErrMissing with the remedy", err)
	}
	// A test that needs the emulator does not pass unnoticed.
	for flag, want := range map[string]string{"-test.short=false": "--- FAIL", "-test.short=true": "--- SKIP"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEndpoint$", "-test.v", flag)
		cmd.Env = append(os.Environ(), ministack.EndpointVariable+"=")
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), want) {
			t.Errorf("TestEndpoint without Python, %s: got %s, want %s", flag, out, want)
		}
	}
}
