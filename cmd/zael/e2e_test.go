//go:build unix

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/cmd/internal/cli"
	main "github.com/zeroae/zael/cmd/zael"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

// root is the checkout.
const root = "../.."

var (
	program string // this program, which is zael if it is called so
	engine  dynamotest.Engine
)

// TestMain runs the tests, or what the name of the program asks for: this program is zael too, so the
// race detector watches all that the tests start, and nothing is built twice.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "zael" || cli.StandsIn(name) {
		main.Main()
		return
	}
	if os.Getenv(countInterrupts) != "" {
		os.Exit(interrupts())
	}
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) { // in the background of a shell: the programs that are started here are to get it all the same
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	dir, err := os.MkdirTemp("", "zael")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "zael")
	if err := copySelf(program); err != nil {
		panic(err)
	}
	// Most tests wait for processes most of the time.
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	engine.Main(emulator.Tests(m), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// copySelf makes a second file of this program, or a copy where that does not go. A symbolic link would not
// do: a zael that starts itself, as zael bench does, has to find its own name.
func copySelf(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Link(self, path); err == nil {
		return nil
	}
	in, err := os.Open(self)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// manyProcesses skips a test with -short that starts many processes.
func manyProcesses(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts many processes: is a part of make check")
	}
}

// zael runs the program as a process, which must end with an exit code.
func zael(t *testing.T, wantCode int, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != wantCode {
		t.Errorf("zael %s: got exit code %d, want %d; it said %s%s", strings.Join(args, " "), code, wantCode, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	if out, err := zael(t, 2, "replay", azure); out != "" || !strings.Contains(err, "zael replay --help") {
		t.Errorf("got %q and %q, want the hint alone", out, err)
	}
	if out, err := zael(t, 0, "version", "--json"); err != "" || !json.Valid([]byte(out)) {
		t.Errorf("got %q and %q, want JSON", out, err)
	}
	s := shop{t: t}
	if out, err := s.run(1, "replay", "none.csv", "--limit", "n=1/s"); out != "" || err != "zael: open none.csv: no such file or directory\n" {
		t.Errorf("got %q and %q, want one error", out, err)
	}
	if out, _ := s.run(0); !strings.Contains(out, "replay") {
		t.Errorf("got %q, want help", out)
	}
}

// TestHelpExamples runs the examples in the help of replay, on the begin of the trace.
func TestHelpExamples(t *testing.T) {
	t.Parallel()
	help, _ := shop{t: t}.run(0, "replay", "--help")
	_, examples, ok := strings.Cut(help, "Examples:\n")
	examples, _, ok2 := strings.Cut(examples, "\nFlags:")
	if !ok || !ok2 || strings.Count(examples, "zael replay") < 3 {
		t.Fatalf("no examples in %s", help)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "examples"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, strings.TrimPrefix(azure, root)), bytes.Join(azureLines(t)[:1+900], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", examples)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "900 requests") != 2 || !strings.Contains(string(out), "standard input: 2 requests at 2025-01-01") {
		t.Errorf("got %v and:\n%s", err, out)
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || !bytes.Contains(page, []byte("</html>")) {
		t.Errorf("got %v and a page of %d bytes", err, len(page))
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full here")
	}
	defer full.Close()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "version")
	cmd.Stdout, cmd.Stderr = full, &errs
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "writing to standard output") {
		t.Errorf("got %v and %q, want exit code 1 and a message", err, errs.String())
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, "replay", "-", "--limit", "n=1/s", "--html", filepath.Join(dir, "page.html"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// This is more than a pipe holds, so the program is reading.
	if _, err := in.Write([]byte("t\n" + strings.Repeat("2024-01-01\n", 15_000))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 130 || errs.String() != "zael: interrupted\n" {
		t.Errorf("got %v and %q, want exit code 130", err, errs.String())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("got %v (%v), want no file left", files, err)
	}
}

// TestMemoryOfReplay checks that memory does not grow with the trace: nine tenths of it add little to what
// the first takes. The log has the processor time.
func TestMemoryOfReplay(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const rows, most = 300_000, 12 << 20 // 12 MB are 44 bytes for each row of the nine tenths
	cmd := exec.CommandContext(t.Context(), program, "replay", "-", "--json",
		"--limit", "rpm=700/min", "--limit", "tpm=2500000/min", "--consume", "tpm=a+b")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "TIMESTAMP,a,b\r\n"); err != nil {
		t.Fatal(err)
	}
	hour, first := hourOfRows(), int64(0)
	for day, left := 16, rows; left > 0; day++ {
		for h := 0; h < 24 && left > 0; h++ {
			if first == 0 && left <= rows*9/10 {
				first = mostMemory(t, cmd.Process.Pid)
			}
			some := hour[:min(left, len(hour))]
			left -= len(some)
			text := bytes.ReplaceAll(bytes.Join(some, nil), []byte("-16 00:"), fmt.Appendf(nil, "-%d %02d:", day, h))
			if _, err := in.Write(text); err != nil {
				t.Fatal(err, errs.String())
			}
		}
	}
	used := mostMemory(t, cmd.Process.Pid) // rows that are not read yet fit into a pipe
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err, errs.String())
	}
	var report struct {
		Requests int64 `json:"requests"`
		Admitted int64 `json:"admitted"`
		Denied   int64 `json:"denied"`
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || report.Requests != rows || report.Admitted == 0 || report.Denied == 0 {
		t.Errorf("got %+v (%v), want %d requests, some of them refused", report, err, rows)
	}
	if used-first > most {
		t.Errorf("got %d MB at a tenth and %d MB at the end, want at most %d MB more", first>>20, used>>20, most>>20)
	}
	state := cmd.ProcessState
	t.Logf("%v, %v of processor time, %d and %d MB", time.Since(begin), state.UserTime()+state.SystemTime(), first>>20, used>>20)
}

// hourOfRows returns the rows of the first hour, one each 80 ms on average.
func hourOfRows() (rows [][]byte) {
	begin := time.Date(2023, 11, 16, 0, 0, 0, 0, time.UTC)
	for at := begin; at.Hour() == 0; {
		i := len(rows)
		row := at.AppendFormat(nil, "2006-01-02 15:04:05.0000000")
		rows = append(rows, fmt.Appendf(row, ",%d,%d\r\n", i*104729%7000, i%200))
		at = at.Add(time.Duration(i*7919%160_000) * time.Microsecond)
	}
	return rows
}

// mostMemory returns the peak of a running process's resident memory in bytes, or 0
// where that is not known. The figure of wait4 would include the memory of the process
// that forked (Linux, getrusage(2)).
func mostMemory(t *testing.T, pid int) int64 {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(status), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscanf(text, "%d kB", &kb); err != nil {
		t.Fatal(err, string(status))
	}
	return kb << 10
}

// TestCompletion checks that the shells can parse their scripts.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script, _ := shop{t: t}.run(0, "completion", shell)
		if !strings.Contains(script, "zael") {
			t.Errorf("%s: got %q, want a script", shell, script)
		}
		path, err := exec.LookPath(shell)
		if err != nil || shell == "powershell" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), path, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s -n: %v: %s", shell, err, out)
		}
	}
}
