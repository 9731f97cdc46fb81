//go:build unix

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zeroae/zael/cmd/internal/cli"
)

// countInterrupts is the environment variable that makes this test program count signals.
const countInterrupts = "ZAEL_TEST_COUNT_INTERRUPTS"

// interrupts counts the SIGINTs within half a second. A shell would count two in quick
// succession as one.
func interrupts() int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT)
	fmt.Println("ready")
	<-signals
	<-time.After(500 * time.Millisecond)
	fmt.Println("got", 1+len(signals))
	return 4
}

// A shop is the program with a store of its own.
type shop struct {
	t     *testing.T
	store string
	cache string // directory; the user's if empty
	env   []string
}

func newShop(t *testing.T) shop {
	t.Helper()
	return shop{t: t, store: "sqlite:" + filepath.Join(t.TempDir(), "zael.db")}
}

// patient has acquire and available give a store a minute: it is a second by default, in which a
// machine with other work may not answer.
func patient(args []string) []string {
	if len(args) > 0 && (args[0] == "acquire" || args[0] == "available") {
		return slices.Insert(slices.Clone(args), 1, "--timeout", "1m")
	}
	return args
}

// command is the program with arguments, to be run as a process.
func (s shop) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), program, patient(args)...)
	cmd.Env = append(append(os.Environ(), "ZAEL_STORE="+s.store), s.env...)
	if s.cache != "" {
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+s.cache)
	}
	return cmd
}

// A run is what came of a command.
type run struct {
	code      int
	out, errs string
}

// main runs a command with standard input, as the main function does, in this process. One that starts
// itself is run as a process.
func (s shop) main(stdin string, args ...string) run {
	s.t.Helper()
	var out, errs bytes.Buffer
	if s.cache != "" || slices.Contains(args, "--processes") {
		cmd := s.command(args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			s.t.Fatal(err)
		}
		return run{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	}
	code := cli.Main(context.WithoutCancel(s.t.Context()), patient(args), cli.IO{In: strings.NewReader(stdin), Out: &out, Err: &errs, Getenv: func(name string) string {
		for _, setting := range append(s.env, "ZAEL_STORE="+s.store) {
			if value, ok := strings.CutPrefix(setting, name+"="); ok {
				return value
			}
		}
		return os.Getenv(name)
	}})
	return run{code, out.String(), errs.String()}
}

// run runs a command, which must end with an exit code.
func (s shop) run(wantCode int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	got := s.main("", args...)
	if got.code != wantCode {
		s.t.Errorf("zael %s: got exit code %d, want %d; it said %s%s", strings.Join(args, " "), got.code, wantCode, got.out, got.errs)
	}
	return got.out, got.errs
}

// under returns the arguments to run a shell script with 1 of the 10 tokens of e.
func under(script string) []string {
	return []string{"acquire", "--entity", "e", "--resource", "r", "--limit", "n=10/d", "--", "sh", "-c", script}
}

// left checks how many tokens of e are left.
func (s shop) left(want string) {
	s.t.Helper()
	if out, _ := s.run(0, "available", "--entity", "e", "--resource", "r", "--limit", "n=10/d"); out != "limit  available\nn      "+strings.Repeat(" ", 9-len(want))+want+"\n" {
		s.t.Errorf("got %q, want %s left", out, want)
	}
}

// TestCommandUnderLease checks what is charged, by how the command ends.
func TestCommandUnderLease(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		code         int
		out, err     string
		left         string
	}{
		{"works", "echo out; echo err >&2", 0, "out\n", "err\n", "9"},
		{"fails", "exit 3", 3, "", "", "10"},
		{"killed", "kill -KILL $$", 137, "", "", "10"},
		{"settles to less", `echo n=0 >>"$ZAEL_SETTLE"`, 0, "", "", "10"},
		{"settles to more", `echo n=5 >>"$ZAEL_SETTLE"; echo; echo n=12 >>"$ZAEL_SETTLE"`, 0, "\n", "", "-2"},
		{"settles and fails", `echo n=5 >>"$ZAEL_SETTLE"; false`, 1, "", "", "5"},
		{"settles wrongly", `echo n=many >>"$ZAEL_SETTLE"`, 0, "", "zael: the command was run; settling: line 1 of $ZAEL_SETTLE: n: \"many\" is not a whole number from 0 to 1000000000000000\n", "9"},
		{"settles something else", `echo m=1 >>"$ZAEL_SETTLE"`, 0, "", "zael: the command was run; settling: $ZAEL_SETTLE: \"m\" is not the name of a limit of the lease\n", "9"},
		{"removes the file", `rm "$ZAEL_SETTLE"`, 0, "", "zael: the command was run; settling: open", "9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			out, err := s.run(c.code, under(c.script)...)
			if out != c.out || !strings.HasPrefix(err, c.err) || c.err == "" && err != "" {
				t.Errorf("got %q and %q, want %q and %q", out, err, c.out, c.err)
			}
			s.left(c.left)
		})
	}
}

func TestCommandGetsInput(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	cmd := s.command(under("tr a-z A-Z; echo $1")...)
	cmd.Stdin = strings.NewReader("hello\n")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "HELLO\n\n" {
		t.Errorf("got %q (%v), want the input through the command", out, err)
	}
}

func TestCommandNotRun(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("not a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	request := []string{"acquire", "--entity", "e", "--resource", "r", "--limit", "n=10/d"}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--", "/there/is/none"}, 127, "zael: cannot run /there/is/none: no such file or directory\n"},
		{[]string{"--", "there-is-none"}, 127, "zael: cannot run there-is-none: executable file not found in $PATH\n"},
		{[]string{"--", plain}, 126, "zael: cannot run " + plain + ": permission denied\n"},
		{[]string{"--", os.TempDir()}, 126, "zael: cannot run " + os.TempDir() + ": is a directory\n"},
		{[]string{"--consume", "n=11", "--", "echo", "run"}, 3, "zael: rate limit exceeded: n of e on r: 11 requested, more than the burst"},
		{[]string{"--consume", "n=11", "--refused-exit-code", "0", "--", "echo", "run"}, 0, "zael: rate limit exceeded"},
		{[]string{"--consume", "n=x", "--", "echo", "run"}, 2, "zael: invalid argument"},
		{[]string{"echo", "run"}, 2, "zael: unexpected argument \"echo\": put a command after --\n"},
	} {
		out, err := s.run(c.code, append(slices.Clip(request), c.args...)...)
		if out != "" || !strings.HasPrefix(err, c.want) {
			t.Errorf("%v: got %q and %q, want %q", c.args, out, err, c.want)
		}
	}
	s.left("10")

	// That an executable file is no program shows only when it is started.
	if err := os.Chmod(plain, 0o700); err != nil { //nolint:gosec // it must be executable
		t.Fatal(err)
	}
	if _, err := s.run(126, append(slices.Clip(request), "--", plain)...); err != "zael: cannot run "+plain+": exec format error\n" {
		t.Errorf("got %q", err)
	}
	s.left("10")
}

// TestSignalsPassedOn checks that the command gets a signal once, and ends the program.
func TestSignalsPassedOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		script string // the trap of the signal; its exit code shows that it ran
		code   int
		left   string
	}{
		{"TERM", syscall.SIGTERM, `trap 'echo got; exit 5' TERM`, 5, "10"},
		{"HUP", syscall.SIGHUP, `trap 'echo got; exit 0' HUP`, 0, "9"},
		{"INT", syscall.SIGINT, `trap 'echo got; exit 7' INT`, 7, "10"},
		{"USR1", syscall.SIGUSR1, `trap 'echo got; exit 0' USR1`, 0, "9"},
		{"QUIT", syscall.SIGQUIT, `trap 'echo got; exit 8' QUIT`, 8, "10"},
		{"TERM by default", syscall.SIGTERM, `:`, 128 + 15, "10"},
	} {
		if testing.Short() && (c.name == "TERM" || c.name == "QUIT") {
			continue // another goes the same way
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			cmd := s.command(under(c.script + `; echo ready; i=0; while [ $((i=i+1)) -lt 400 ]; do sleep 0.05; done; exit 99`)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "ready" {
				t.Fatalf("got %q and %q, want it to begin", lines.Text(), errs.String())
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			var said []string
			for lines.Scan() {
				said = append(said, lines.Text())
			}
			_ = cmd.Wait()
			want := "got"
			if c.code > 128 {
				want = ""
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code || strings.Join(said, " ") != want || errs.Len() > 0 {
				t.Errorf("got exit code %d, %q and %q, want %d and %q", code, said, errs.String(), c.code, want)
			}
			s.left(c.left)
		})
	}
}

// TestIgnoredSignals checks that ignored signals stay ignored, as under nohup.
func TestIgnoredSignals(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	args := under(`kill -HUP $PPID; sleep 0.2; kill -HUP $$; echo still here`)
	cmd := s.command()
	cmd.Path = "/bin/sh"
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`, program}, args...)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "still here\n" {
		t.Errorf("got %q (%v), want neither to hear it", out, err)
	}
}

// TestInterruptedInLine checks that the place in line is given back. There is one as
// soon as the wait for a limit in debt is most of what the caller has time for.
func TestInterruptedInLine(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	request := []string{"acquire", "--entity", "e", "--resource", "r", "--limit", "n=10/d", "--consume", "n=10"}
	s.run(0, append(slices.Clip(request), "--", "sh", "-c", `echo n=25 >>"$ZAEL_SETTLE"`)...)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		cmd := s.command(append(slices.Clip(request), "--max-wait", "61h", "--", "echo", "run")...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.until("-25") // it stands in line
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 128+int(signal) || out.Len() > 0 || errs.String() != "zael: interrupted\n" {
			t.Errorf("%v: got %d, %q and %q, want %d", signal, code, out.String(), errs.String(), 128+int(signal))
		}
		s.left("-15")
	}
}

// until waits until a number of tokens of e is left.
func (s shop) until(want string) {
	s.t.Helper()
	for range 500 {
		out, _ := s.run(0, "available", "--entity", "e", "--resource", "r", "--limit", "n=10/d")
		if strings.HasSuffix(out, " "+want+"\n") {
			return
		}
	}
	s.t.Fatalf("never were %s left", want)
}
