package dynamolocal_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/zeroae/zael/internal/dynamolocal"
)

// The engine ends with the process that started it, and leaves no file, also when
// that one is killed.
func TestParentDies(t *testing.T) {
	t.Parallel()
	need(t)
	temp := t.TempDir()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), holderVariable+"=1", "TMPDIR="+temp)
	in, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var endpoint string
	if _, err := fmt.Fscan(bufio.NewReader(out), &pid, &endpoint); err != nil {
		t.Fatalf("reading what the parent says: %v", err)
	}
	if !dynamolocal.Answers(t.Context(), endpoint) {
		t.Fatalf("%s: got no answer", endpoint)
	}
	contains(t, "command line", dynamolocal.CommandLine(pid), "ServerRunner", temp)

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // by a signal
	eventually(t, "the engine has ended", func() bool { return dynamolocal.CommandLine(pid) == "" })
	eventually(t, "its files are gone", func() bool {
		left, err := filepath.Glob(filepath.Join(temp, "zael-*"))
		return err == nil && len(left) == 0
	})
	if dynamolocal.Answers(t.Context(), endpoint) {
		t.Errorf("%s: got an answer, want none", endpoint)
	}
}
