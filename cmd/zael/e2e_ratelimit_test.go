//go:build unix

package main_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Started as ratelimit, the program stands in for envoyproxy/ratelimit.
func TestStandsInForRatelimit(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	link := filepath.Join(root, "ratelimit")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "config")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "a.yaml"), []byte("domain: d\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 1}}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(more ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.CommandContext(t.Context(), link, "-ignored")
		cmd.Env = append([]string{"RUNTIME_ROOT=" + root, "HOST=127.0.0.1", "PORT=0", "GRPC_HOST=127.0.0.1", "GRPC_PORT=0", "DEBUG_PORT=0", "LOG_LEVEL=info"}, more...)
		return cmd, new(bytes.Buffer)
	}

	cmd, said := start()
	cmd.Stderr = said
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(said.String(), "ratelimit: there is no store: set REDIS_URL") {
		t.Errorf("without a store: got %v and %s, want exit code 2", err, said)
	}

	cmd, _ = start("ZAEL_STORE=memory:")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(log)
	for scanner.Scan() {
		if strings.Contains(scanner.Text(), "serving Envoy's rate limit service") {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for scanner.Scan() { // until the pipe ends
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: got %v, want exit code 0", err)
	}
}
