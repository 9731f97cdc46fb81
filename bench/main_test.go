package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTable runs the program with benchmarks that take no time.
func TestTable(t *testing.T) {
	t.Parallel()
	bench := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bench, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	out, err := exec.CommandContext(t.Context(), bench, "-rounds", "1", "-benchtime", "10x", "-run", "keys=one|time.Now").CombinedOutput()
	if err != nil {
		t.Fatalf("bench: %v\n%s", err, out)
	}
	for _, want := range []string{
		"median of 1 rounds of 10x", "floor\n", "time.Now",
		"\nlimits=1/keys=one/serial\n", "\nlimits=2/keys=one/parallel/refused\n",
		"zael Allow", "x/time/rate, locked: check+take", "× peer", " 1.00  yes\n", " no\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
	for _, not := range []string{"keys=zipf", "the loop alone", "heap"} {
		if strings.Contains(string(out), not) {
			t.Errorf("the table has %q, which -run leaves out:\n%s", not, out)
		}
	}

	for _, args := range [][]string{{"-rounds", "0"}, {"-run", "("}, {"-benchtime", "soon"}, {"-nonsense"}} {
		if out, err := exec.CommandContext(t.Context(), bench, args...).CombinedOutput(); err == nil {
			t.Errorf("bench %v: got no error, want one:\n%s", args, out)
		}
	}
}
