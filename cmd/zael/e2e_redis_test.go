//go:build unix

package main_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/redistest"
)

// TestRedis runs each command on data on a Redis: outputs and exit codes are those of a file.
func TestRedis(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	server := redistest.Start(t, redistest.Options{})
	url := "redis://" + server.Address() + "?usage=true"
	compareWithFile(t, s, url)
	s.store = url
	for _, args := range [][]string{
		{"namespace", "register", "team-a"},
		{"namespace", "list"},
		{"namespace", "delete", "team-a"},
		{"namespace", "recover", "team-a"},
		{"namespace", "delete", "team-a"},
		{"namespace", "purge", "team-a", "--yes"},
		{"bench", "--duration", "200ms", "--processes", "2"},
	} {
		s.run(0, args...)
	}
	server.Kill()
	if got := s.runOn(url, "", "ping"); got.code != 4 || !strings.Contains(got.errs, "refused") {
		t.Errorf("ping of a server that is gone: got %+v, want the code 4", got)
	}
}

// compareWithFile runs each command on data on a store that is empty: outputs and exit codes are those
// of a file.
func compareWithFile(t *testing.T, s shop, url string) {
	t.Helper()
	for _, c := range onFile(t) {
		if c.args[0] == "namespace" { // a file has none
			continue
		}
		want, got := c.run.withoutTimes(), s.runOn(url, remoteFile, c.args...).withoutTimes()
		got.out, got.errs = strings.ReplaceAll(got.out, strings.TrimSuffix(url, "?usage=true"), "SQLite file "+strings.TrimPrefix(c.file, "sqlite:")), strings.ReplaceAll(got.errs, url, c.file)
		if got != want {
			t.Errorf("zael %s:\ngot  %+v\nwant %+v", strings.Join(c.args, " "), got, want)
		}
	}
}

// A trace is replayed on Redis as it is in memory.
func TestReplayOnRedis(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	server := redistest.Start(t, redistest.Options{})
	var trace strings.Builder
	trace.WriteString("timestamp,entity,tokens\n")
	for i := range 200 {
		trace.WriteString([]string{"2026-01-01T00:00:00Z,a,5\n", "2026-01-01T00:00:01Z,b,7\n", "2026-01-01T00:01:00Z,a,50\n"}[i*3/200])
	}
	args := []string{"replay", "-", "--limit", "n=100/min", "--consume", "n=1", "--json"}
	want, got := s.runOn("memory:", trace.String(), args...).withoutTimes(), s.runOn("redis://"+server.Address(), trace.String(), args...).withoutTimes()
	if want.code != 0 || got != want {
		t.Errorf("replay on Redis:\ngot  %+v\nwant %+v", got, want)
	}
}
