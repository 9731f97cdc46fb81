//go:build unix

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// runOn runs a command on a store, with standard input.
func (s shop) runOn(store, stdin string, args ...string) run {
	s.t.Helper()
	s.store = store
	return s.main(stdin, args...)
}

// The times in outputs, which differ from run to run.
var timesOfRuns = regexp.MustCompile(`20\d\d-\d\d-\d\d[T ]\d\d:\d\d[0-9:.]*( UTC|Z)?|(after|in) [0-9hms.]+|("[a-z_]*seconds": )[0-9.]+|("retry_after_ms": )[0-9]+`)

func (r run) withoutTimes() run {
	r.out, r.errs = timesOfRuns.ReplaceAllString(r.out, "$2$3$4 TIME"), timesOfRuns.ReplaceAllString(r.errs, "$2$3$4 TIME")
	return r
}

// remoteSteps are commands on data, in the order in which they are run. A line is split at spaces, and a
// word in single quotes may have some. One that begins with ! makes changes that the audit log has.
const remoteSteps = `
ping
! entity create team --name 'The team'
! entity create a/b --parent team --cascade --metadata k=v
! entity create a/b
entity show a/b
entity show a/b --json
entity show nobody
entity children team
entity children team --json
! entity set-parent a/b nobody
! entity set-parent a/b --none
! entity set-parent a/b team --idempotency-key p1
! limits set --system --limit n=100000 each year
! limits set --resource gpt-4 --limit 'n=100 each year' --limit 'tpm=1000 each year' --limit 'p=3 at once' --json
! limits set --resource gpt-4 --limit n=unlimited
! limits set --entity team --limit 'n=1000 each year'
! limits set --entity a/b --resource gpt-4 --limit 'n=100 each year' --limit 'tpm=1000 each year' --limit 'p=3 at once'
limits get --resource gpt-4
limits get --entity a/b --resource gpt-4 --json
limits get --entity nobody
limits plan -f -
! limits apply -f -
limits plan -f - --json
acquire --entity a/b --resource gpt-4 --stored --consume tpm=5 --consume other=1
acquire --entity a/b --resource gpt-4 --stored --json
acquire --entity a/b --resource gpt-4 --stored --consume tpm=2000
acquire --entity a/b --resource gpt-4 --stored --consume tpm=2000 --json
acquire --entity a/b --resource gpt-4 --stored --consume tpm=996
acquire --entity lit --resource r --limit 'n=5 each year' --consume n=5 --quiet
acquire --entity lit --resource r --limit 'n=5 each year'
acquire --entity lit --resource r --limit 'n=5 each year' --limit 'm=6 each year' --refused-exit-code 9
acquire --entity lit --resource r --limit 'n=5 each year' --consume zzz=1
acquire --entity lit --resource r --limit 'p=5 at once' --consume p=1
acquire --entity ' lit' --resource r --limit 'n=5 each year'
acquire --entity a/b --resource gpt-4 --stored --consume tpm=7 --consume p=1 -- sh -c 'echo tpm=2 >>$ZAEL_SETTLE; echo ran'
acquire --entity a/b --resource gpt-4 --stored --consume tpm=7 -- sh -c 'exit 5'
acquire --entity a/b --resource gpt-4 --stored --consume tpm=7 -- sh -c 'echo nothing=2 >>$ZAEL_SETTLE'
available --entity a/b --resource gpt-4 --stored
available --entity a/b --resource gpt-4 --stored --consume tpm=20 --json
available --entity a/b --resource gpt-4 --stored --consume tpm=2000
available --entity x --resource y --limit 'n=5 each year' --parent-limit 'n=1 each year' --cascade
available --entity x --resource y --stored
available --entity x --resource nothing --stored --consume n=7
capacity --resource gpt-4 --limit-name tpm
capacity --resource gpt-4 --limit-name tpm --parents-only --json
capacity --resource gpt-4 --limit-name none
usage --entity a/b
usage --entity a/b --window monthly --csv
usage --resource gpt-4 --json
usage --entity nobody
! top-up --entity a/b --resource gpt-4 --amount tpm=5 --idempotency-key t1
! top-up --entity a/b --resource gpt-4 --amount tpm=5 --idempotency-key t1 --json
! top-up --entity a/b --resource gpt-4 --amount tpm=6 --idempotency-key t1
! reset --entity a/b --resource gpt-4
! reset --entity a/b --resource gpt-4 --limit-name nope
! disable --entity a/b --resource gpt-4
acquire --entity a/b --resource gpt-4 --stored
acquire --entity a/b --resource gpt-4 --stored --json
! bypass --entity a/b --resource gpt-4 --json
acquire --entity a/b --resource gpt-4 --stored --json
acquire --entity a/b --resource gpt-4 --stored
! enable --entity a/b --resource gpt-4
! failure-mode open --resource gpt-4
! failure-mode inherit --system --json
settings --resource gpt-4
settings --entity a/b --resource gpt-4 --json
! limits delete --entity team
! limits delete --entity team
! entity delete a/b
! entity delete a/b
entity list
entity list --prefix a --json
entity list --after a/b --max 1
entity list --prefix zzz
entity list --max 0
resources --prefix v --json
resources
limits list
limits list --prefix a --json
limits list --max 1
namespace list
namespace show x
! namespace register x
audit --entity a/b
audit --max 3 --json
audit --max 0
audit
`

const remoteFile = "entities: {new: {parent: team}}\nresources: {gpt-4: {limits: [n=100 each year, tpm=1000 each year, p=3 at once]}, video: {limits: [n=7 each year]}}\n"

// words splits a line as remoteSteps says.
func words(line string) (all []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

// A step is one of remoteSteps, and what came of it on a file.
type step struct {
	args    []string // as run on the file
	remote  []string // as run on a server
	changes bool
	file    string // its URL
	run     run
}

var (
	steps     []step
	stepsOnce sync.Once
)

// onFile runs each command on data on a file, once for all tests.
func onFile(t *testing.T) []step {
	t.Helper()
	stepsOnce.Do(func() {
		s := newShop(t)
		codes := map[int]int{}
		for line := range strings.Lines(remoteSteps) {
			line, changes := strings.CutPrefix(strings.TrimSpace(line), "! ")
			args := words(line)
			if len(args) == 0 {
				continue
			}
			c := step{args: args, remote: args, changes: changes, file: s.store}
			if changes {
				c.args = append(slices.Clone(args), "--principal", "local") // as a server calls those without a token
			}
			c.run = s.runOn(s.store, remoteFile, c.args...)
			if strings.Contains(c.run.errs, "unknown flag") || strings.Contains(c.run.errs, "unknown command") {
				t.Errorf("zael %s: %s", line, c.run.errs)
			}
			codes[c.run.code]++
			steps = append(steps, c)
		}
		if codes[0] < 40 || codes[1] < 3 || codes[2] < 3 || codes[3] < 4 || codes[5] != 1 || codes[9] != 1 {
			t.Errorf("got the exit codes %v, want some of each", codes)
		}
	})
	return steps
}

// TestRemote runs each command on data through a server: outputs and exit codes are those of a file, and
// what the server has made of its file is what commands find there.
func TestRemote(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	server := s.serve("")
	for _, c := range onFile(t) {
		line := strings.Join(c.remote, " ")
		got := s.runOn(server.base, remoteFile, c.remote...)
		if got.withoutTimes() != c.run.withoutTimes() {
			t.Errorf("zael %s:\ngot  %+v\nwant %+v", line, got, c.run)
		}
		if !c.changes && c.args[0] != "acquire" {
			if there := s.runOn(s.store, remoteFile, c.args...); there.withoutTimes() != got.withoutTimes() {
				t.Errorf("zael %s: the server says\n%+v\nand its file\n%+v", line, got, there)
			}
		}
	}
	server.signal(syscall.SIGTERM)
	server.ended()
}

// TestRemoteToken: the token comes from the environment, bounds what commands may do, and is in no output.
func TestRemoteToken(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	out, _ := s.run(0, "token", "new", "--json")
	var token struct {
		Token string `json:"token"`
		Hash  string `json:"hash"`
	}
	if err := json.Unmarshal([]byte(out), &token); err != nil {
		t.Fatal(err)
	}
	server := s.serve("tokens: [{name: web, role: acquire, prefix: a/, hash: '" + token.Hash + "'}]\n")
	as := func(secret string, args ...string) run {
		t.Helper()
		return shop{t: t, store: server.base, env: []string{"ZAEL_TOKEN=" + secret}}.main("", args...)
	}
	s.run(0, "limits", "set", "--system", "--limit", "n=2 each year")
	for _, c := range []struct {
		secret string
		args   string
		code   int
		says   string
	}{
		{token.Token + "\n", "acquire --entity a/1 --resource r --stored", 0, "left n=1"},
		{token.Token, "acquire --entity b/1 --resource r --stored", 1, "may not acquire for b/1"},
		{token.Token, "acquire --entity a/1 --resource r --limit n=9/s", 1, "may not send limits"},
		{token.Token, "available --entity a/1 --resource r --stored", 0, "n"},
		{token.Token, "audit", 1, "may not read"},
		{token.Token, "entity create a/1", 1, "may not change a/1"},
		{"", "ping", 1, "send a token"},
		{"zael_wrong", "ping", 1, "is not known"},
		{"two words", "ping", 2, "ZAEL_TOKEN"},
	} {
		got := as(c.secret, words(c.args)...)
		if got.code != c.code || !strings.Contains(got.out+got.errs, c.says) || strings.Contains(got.out+got.errs, token.Token) {
			t.Errorf("zael %s: got %+v, want %d and %q", c.args, got, c.code, c.says)
		}
	}
	server.signal(syscall.SIGTERM)
	server.ended()
	if got := as(token.Token, "ping"); got.code != 4 || !strings.Contains(got.errs, "store unavailable: "+server.base) {
		t.Errorf("without a server: got %+v, want exit code 4", got)
	}
	if got := as(token.Token, words("acquire --entity a/1 --resource r --limit n=1/s --failure-mode open")...); got.code != 0 || !strings.Contains(got.errs, "admitted without charging") {
		t.Errorf("without a server, failure mode open: got %+v, want it admitted", got)
	}
}

// TestRemoteRefused: commands that need the store itself say so, and so do addresses that nobody should
// call.
func TestRemoteRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	trace := filepath.Join(t.TempDir(), "trace.csv")
	if err := os.WriteFile(trace, []byte("at\n2026-01-01T00:00:00Z\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const server = "http://127.0.0.1:1"
	for _, args := range []string{
		"replay " + trace + " --limit n=1/s --store " + server, "bench --limit n=1/s --duration 1s --store " + server, "serve --store " + server,
		"table create --store " + server, "aggregate --once --store " + server, "redrive --store " + server,
		"ping --store http://limits.example.com", "ping --store http://user:secret@localhost", "ping --store https://", "entity create x --principal ann --store " + server,
	} {
		if out, errs := s.run(2, words(args)...); out != "" || !strings.Contains(errs, "--store") && !strings.Contains(errs, "--principal") || strings.Contains(errs, "secret") {
			t.Errorf("zael %s: got %q and %q", args, out, errs)
		}
	}
}
