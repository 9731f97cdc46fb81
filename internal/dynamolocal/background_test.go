package dynamolocal_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/zeroae/zael/internal/dynamolocal"
)

// newBackground is one that ends with the test.
func newBackground(t *testing.T) *dynamolocal.Background {
	t.Helper()
	need(t)
	b := &dynamolocal.Background{Dir: filepath.Join(t.TempDir(), "state")}
	t.Cleanup(func() {
		if _, err := b.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return b
}

func start(t *testing.T, b *dynamolocal.Background, o dynamolocal.Options, wantFresh bool) dynamolocal.State {
	t.Helper()
	s, fresh, err := b.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if fresh != wantFresh || !s.Running || !s.Answers {
		t.Errorf("Start: got fresh %v, running %v, answers %v, want %v, true, true", fresh, s.Running, s.Answers, wantFresh)
	}
	return s
}

func status(t *testing.T, b *dynamolocal.Background) dynamolocal.State {
	t.Helper()
	s, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stop(t *testing.T, b *dynamolocal.Background) dynamolocal.State {
	t.Helper()
	s, err := b.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBackground(t *testing.T) {
	t.Parallel()
	b := newBackground(t)
	var none dynamolocal.State
	if got := status(t, b); got != none {
		t.Errorf("status before: got %+v, want %+v", got, none)
	}
	if got := stop(t, b); got != none {
		t.Errorf("stop before: got %+v, want %+v", got, none)
	}

	s := start(t, b, dynamolocal.Options{}, true)
	call(t, s.Endpoint, "CreateTable", createTable)
	if got := start(t, b, dynamolocal.Options{Port: s.Port}, false); got != s {
		t.Errorf("started again: got %+v, want %+v", got, s)
	}
	if got := status(t, b); got != s {
		t.Errorf("status: got %+v, want %+v", got, s)
	}
	_, _, err := b.Start(t.Context(), dynamolocal.Options{DataDir: "elsewhere"})
	if err == nil {
		t.Fatal("start with another DataDir: got no error")
	}
	contains(t, "error for another DataDir", err.Error(), "runs already", s.Endpoint, "in memory", "stop it first")
	if got, want := call(t, s.Endpoint, "ListTables", "{}"), `{"TableNames":["Table"]}`; got != want {
		t.Errorf("tables at the end: got %s, want %s", got, want)
	}

	if got := stop(t, b); got.PID != s.PID {
		t.Errorf("stopped: got process %d, want %d", got.PID, s.PID)
	}
	if got := dynamolocal.CommandLine(s.PID); got != "" {
		t.Errorf("the process after Stop: got %q, want none", got)
	}
	if got := status(t, b); got != none {
		t.Errorf("status afterwards: got %+v, want %+v", got, none)
	}
	left, err := os.ReadDir(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.Name() != "log" && f.Name() != "lock" {
			t.Errorf("left after Stop: got %s, want log and lock alone", f.Name())
		}
	}
}

func TestBackgroundKeeps(t *testing.T) {
	t.Parallel()
	b := newBackground(t)
	o := dynamolocal.Options{DataDir: filepath.Join(t.TempDir(), "data")}
	s := start(t, b, o, true)
	if s.DataDir != o.DataDir {
		t.Errorf("data_dir: got %q, want %q", s.DataDir, o.DataDir)
	}
	call(t, s.Endpoint, "CreateTable", createTable)

	// As if the machine had stopped: the state file stays, the process does not.
	p, err := os.FindProcess(s.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine has ended", func() bool { return dynamolocal.CommandLine(s.PID) == "" })
	if got := status(t, b); got.Running {
		t.Errorf("status after its death: got %+v, want it not to run", got)
	}
	again := start(t, b, o, true)
	if again.PID == s.PID {
		t.Errorf("started again: got the same process %d", again.PID)
	}
	if got, want := call(t, again.Endpoint, "ListTables", "{}"), `{"TableNames":["Table"]}`; got != want {
		t.Errorf("tables after the restart: got %s, want %s", got, want)
	}
}

// Of several that start it at once, one does.
func TestBackgroundStartedTwice(t *testing.T) {
	t.Parallel()
	b := newBackground(t)
	var mu sync.Mutex
	var fresh int
	pids := map[int]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, isFresh, err := b.Start(t.Context(), dynamolocal.Options{})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if isFresh {
				fresh++
			}
			pids[s.PID] = true
		})
	}
	wg.Wait()
	if fresh != 1 || len(pids) != 1 {
		t.Errorf("4 starts: got %d fresh and processes %v, want 1 and 1", fresh, pids)
	}
}

// A number in the state file that has become another process's is let be.
func TestBackgroundStale(t *testing.T) {
	t.Parallel()
	b := &dynamolocal.Background{Dir: t.TempDir()}
	other := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = other.Wait() // killed
		close(ended)
	}()
	t.Cleanup(func() { <-ended })
	t.Cleanup(func() { _ = other.Process.Kill() })

	file := filepath.Join(b.Dir, "state.json")
	text, err := json.Marshal(map[string]any{
		"running": true, "pid": other.Process.Pid, "endpoint": "http://127.0.0.1:1", "port": 1, "mark": "http://abc.invalid",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := status(t, b); got.Running {
		t.Errorf("status: got %+v, want it not to run", got)
	}
	if got := stop(t, b); got.Running {
		t.Errorf("stop: got %+v, want nothing to stop", got)
	}
	select {
	case <-ended:
		t.Error("the other process has ended")
	default:
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the state file after Stop: got %v, want it gone", err)
	}

	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = b.Status(t.Context())
	if err == nil {
		t.Fatal("status of half a file: got no error")
	}
	contains(t, "error", err.Error(), file, "remove the file")
}

// One that cannot start leaves nothing behind, and says why.
func TestBackgroundFails(t *testing.T) {
	t.Parallel()
	b := newBackground(t)
	_, _, err := b.Start(t.Context(), dynamolocal.Options{Java: fakeJava(t, "echo no such option; exit 1")})
	if err == nil {
		t.Fatal("got no error")
	}
	contains(t, "error", err.Error(), "exit status 1", "no such option")
	if got := status(t, b); got.Running {
		t.Errorf("status: got %+v, want it not to run", got)
	}
	if _, err := os.Stat(filepath.Join(b.Dir, "state.json")); !os.IsNotExist(err) {
		t.Errorf("the state file: got %v, want it gone", err)
	}
}
