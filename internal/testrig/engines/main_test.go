//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	dynamotest.NotShort(t)
	file := filepath.Join(t.TempDir(), "endpoint")
	code, err := run(t.Context(), []string{"sh", "-c", `echo "$` + dynamotest.EndpointVariable + `" >"$0"; exit 7`, file}, t.Output())
	if code != 7 || err != nil {
		t.Errorf("got exit code %d and %v, want the command's, 7", code, err)
	}
	endpoint, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(endpoint), "http://127.0.0.1:") {
		t.Fatalf("the command's endpoint: got %q and %v, want one on 127.0.0.1", endpoint, err)
	}
	if dynamolocal.Answers(t.Context(), strings.TrimSpace(string(endpoint))) {
		t.Errorf("%s: got an answer, want that the engine has ended with the command", endpoint)
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	if code, err := run(t.Context(), nil, t.Output()); code != 2 || err == nil || !strings.Contains(err.Error(), "usage") {
		t.Errorf("without a command: got %d and %v, want 2 and the usage", code, err)
	}
	dynamotest.NotShort(t)
	if code, err := run(t.Context(), []string{"no-such-command"}, t.Output()); code != 1 || err == nil {
		t.Errorf("a command that is missing: got %d and %v, want 1 and why", code, err)
	}
	if code, err := run(t.Context(), []string{"sh", "-c", "kill -KILL $$"}, t.Output()); code != 1 || err == nil {
		t.Errorf("a command that is killed: got %d and %v, want 1 and why", code, err)
	}
}
