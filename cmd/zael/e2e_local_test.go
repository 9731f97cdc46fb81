//go:build unix

package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/needs"
)

// TestLocal: DynamoDB Local in the background, started by one process and
// stopped by another.
func TestLocal(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.cache = cacheWithEngine(t)
	if out, _ := s.run(0, "local", "status"); out != "not running; to start it: zael local start\n" {
		t.Errorf("status before: got %q", out)
	}
	defer s.run(0, "local", "stop")
	first, _ := s.run(0, "local", "start")
	if !strings.HasPrefix(first, "started at http://127.0.0.1:") {
		t.Fatalf("start: got %q", first)
	}
	endpoint, hint, _ := strings.Cut(strings.TrimPrefix(first, "started at "), "\n")
	if out, _ := s.run(0, "local", "start"); !strings.HasPrefix(out, "already running at "+endpoint+"\n") {
		t.Errorf("start again: got %q, want it at %s", out, endpoint)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(hint), "--store ")
	s.store = strings.Trim(url, "'")
	if out, _ := s.run(0, "table", "create"); out != "created the table ZAEL-demo\n" { // as start says
		t.Errorf("table create on %s: got %q", s.store, out)
	}
	if out, _ := s.run(0, under("true")...); out != "" {
		t.Errorf("acquire: got %q", out)
	}
	s.left("9")
	out, _ := s.run(0, "local", "status", "--json")
	var state struct {
		Running  bool   `json:"running"`
		Answers  bool   `json:"answers"`
		Endpoint string `json:"endpoint"`
	}
	if err := json.Unmarshal([]byte(out), &state); err != nil || !state.Running || !state.Answers || state.Endpoint != endpoint {
		t.Errorf("status: got %s (%v), want it to run and answer at %s", out, err, endpoint)
	}
	if out, _ := s.run(0, "local", "stop"); out != "stopped; it was at "+endpoint+"\n" {
		t.Errorf("stop: got %q", out)
	}
	if out, _ := s.run(0, "local", "stop"); out != "not running\n" {
		t.Errorf("stop again: got %q", out)
	}
	s.run(2, "local", "start", "--port", "99999")
}

// cacheWithEngine is a cache directory of its own that has DynamoDB Local in it.
func cacheWithEngine(t *testing.T) string {
	t.Helper()
	needs.Engine(t)
	fetch := exec.CommandContext(t.Context(), filepath.Join(root, "tools/dynamodb-local/fetch"))
	fetch.Stderr = os.Stderr
	jars, err := fetch.Output()
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	path := strings.TrimSpace(string(jars))
	if err := os.Mkdir(filepath.Join(cache, "zael"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(cache, "zael", filepath.Base(path))); err != nil {
		t.Fatal(err)
	}
	return cache
}
