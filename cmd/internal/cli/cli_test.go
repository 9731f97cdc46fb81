package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/cmd/internal/cli"
)

// A result is the result of a run of the program.
type result struct {
	code     int
	out, err string
}

func zaelIn(stdin string, args ...string) result {
	var out, stderr bytes.Buffer
	code := cli.Main(context.Background(), args, cli.IO{In: strings.NewReader(stdin), Out: &out, Err: &stderr})
	return result{code, out.String(), stderr.String()}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	const trace = "t,n\n2024-01-01,1\n"
	for _, c := range []struct{ args, want string }{
		{"bogus", `unknown command "bogus"`},
		{"replai", "replay"}, // suggested
		{"--bogus", "unknown flag: --bogus"},
		{"version 1", "unknown command"},
		{"replay", "name one file"},
		{"replay - - -l n=1/s", "name one file"},
		{"replay -", "at least one limit"},
		{"replay - -l n", `invalid argument "n" for "-l, --limit" flag: has no =`},
		{"replay - -l n=-1/s", `amount "-1" is not`},
		{"replay - -l n=1/week", `period "week" is not`},
		{"replay - -l n=1/s -l n=2/s", "limit n is given twice"},
		{"replay - -l n=1/s -c n", "is not NAME=EXPR"},
		{"replay - -l n=1/s -c m=1", `no limit "m"; the limits are n`},
		{"replay - -l n=1/s -c n=", "is not a sum"},
		{"replay - -l n=1/s -c n=1 -c n=2", "--consume names n twice"},
		{"replay - -l n=1/s --settle m=1", `--settle "m=1": no limit "m"`},
		{"replay - -l n=1/s -c n=x", `no column "x"; the columns are t, n`},
		{"replay - -l n=1/s --time-column x", `no column "x"`},
		{"replay - -l n=1/s --entity-column x", `no column "x"`},
		{"replay - -l n=1/s --max-wait -1s", "--max-wait -1s is negative"},
		{"replay - -l n=1/s --max-wait soon", "invalid argument"},
		{"replay - -l n=1/s --store nowhere", "--store"},
		{"replay - -l n=1/s --store dynamodb://x", "--store"},
		{"replay - -l n=1/s --format xml", `--format "xml" is neither csv nor jsonl`},
		{"replay - -l n=1/s --format jsonl --delimiter ;", "--delimiter and --columns are for CSV"},
		{"replay - -l n=1/s --format jsonl --columns t,n", "--delimiter and --columns are for CSV"},
		{"replay - -l n=1/s --delimiter ;;", `--delimiter ";;" is not one character`},
		{`replay - -l n=1/s --delimiter "`, `is not one character`},
		{"replay - -l n=1/s --delimiter \xff", `is not one character`},
		{"replay - -l n=1/s --time-unit min", `--time-unit "min" is not s, ms, us or ns`},
		{"replay - -l n=1/s --resource _default_", `--resource "_default_" is reserved`},
	} {
		r := zaelIn(trace, strings.Fields(c.args)...)
		if r.code != 2 || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("zael %s: got exit code %d, %q and %q on standard output, want 2 and %q", c.args, r.code, r.err, r.out, c.want)
		}
		command := "zael"
		if strings.HasPrefix(c.args, "replay ") || strings.HasPrefix(c.args, "version") {
			command = "zael " + strings.Fields(c.args)[0]
		}
		if hint := "Run '" + command + " --help' for usage.\n"; !strings.HasPrefix(r.err, "zael: ") || strings.Count(r.err, "zael: ") != 1 ||
			!strings.HasSuffix(r.err, hint) && c.args != "replay" {
			t.Errorf("zael %s: got %q, want one message and %q", c.args, r.err, hint)
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ args, trace, want string }{
		{"replay - -l n=1/s", "t\nnow\n", "zael: standard input: line 2, column t: \"now\" is not a time"},
		{"replay - -l n=1/s", "t\n2024-01-02\n2024-01-01\n", "use --sort"},
		{"replay - -l n=1/s --entity-column u", "t,u\n2024-01-01,\n", "line 2, column u: the cell is empty: --skip-bad-rows"},
		{"replay - -l n=1/s", "", "the file is empty"},
		{"replay - -l n=1/s", "user,t\na,2024-01-01\n", "name the time column with --time-column; the columns are user, t"},
		{"replay - -l n=1/s", "t\n1700158623979\n", "--time-unit ms would make it 2023-11-16T18:17:03Z"},
		{"replay " + dir + " -l n=1/s", "", "is a directory"},
		{"replay " + dir + "/none -l n=1/s", "", "no such file"},
		{"replay - -l n=1/s --html " + dir + "/none/page.html", "t\n", "zael: writing " + dir + "/none/page.html: no such file or directory\n"},
		{"replay - -l n=1/s --html " + dir, "t\n", "is not a regular file"},
	} {
		r := zaelIn(c.trace, strings.Fields(c.args)...)
		if r.code != 1 || !strings.Contains(r.err, c.want) || r.out != "" || strings.Count(r.err, "\n") != 1 {
			t.Errorf("zael %s: got exit code %d, %q and %q on standard output, want 1 and %q", c.args, r.code, r.err, r.out, c.want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("got %v (%v), want no file left behind", left, err)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{context.Background(), nil, 0},
		{context.Background(), errors.New("x"), 1},
		{context.Background(), &zael.ValidationError{}, 1},
		{context.Background(), fmt.Errorf("line 1: %w", &zael.ExceededError{}), 3},
		{context.Background(), zael.ErrNever, 1},
		{context.Background(), fmt.Errorf("line 1: %w", &zael.UnavailableError{Cause: errors.New("x")}), 4},
		{context.Background(), context.DeadlineExceeded, 1},
		{cancelled, fmt.Errorf("reading: %w", context.Canceled), 130},
		{cancelled, errors.New("x"), 1},
	} {
		if got := cli.ExitCode(c.ctx, c.err); got != c.want {
			t.Errorf("%v: got exit code %d, want %d", c.err, got, c.want)
		}
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("%w", &zael.UnavailableError{Cause: errors.New("connection refused\n"), Store: "db"})
	for _, c := range []struct {
		err  error
		want string
	}{
		{err, "store unavailable: db: connection refused"},
		{fmt.Errorf("trace.csv: line 7: %w", err), "trace.csv: line 7: store unavailable: db: connection refused"},
	} {
		if got := cli.Message(c.err); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe() // like a terminal without input
	defer w.Close()
	go func() {
		_, _ = w.Write([]byte("t\n2024-01-01\n"))
		cancel()
	}()
	var out, stderr bytes.Buffer
	code := cli.Main(ctx, []string{"replay", "-", "-l", "n=1/s"}, cli.IO{In: r, Out: &out, Err: &stderr})
	if code != 130 || stderr.String() != "zael: interrupted\n" || out.Len() > 0 {
		t.Errorf("got exit code %d, %q and %q, want 130", code, stderr.String(), out.String())
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 20_000)
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(text), "data with the error": iotest.DataErrReader(strings.NewReader(text)),
		"halves": iotest.HalfReader(strings.NewReader(text)),
	} {
		got, err := io.ReadAll(iotest.OneByteReader(cli.NewInput(context.Background(), r)))
		if err != nil || string(got) != text {
			t.Errorf("%s: got %d bytes (%v), want the %d that went in", name, len(got), err, len(text))
		}
	}
	broken := errors.New("gone")
	if _, err := io.ReadAll(cli.NewInput(context.Background(), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	const trace = "t,who,n\n2024-01-01 00:00:00,a,4\n2024-01-01 00:00:00,b,9\n"
	r := zaelIn(trace, "replay", "-", "-l", "rpm=1/min", "-l", "tpm=5/min burst 6", "-c", "tpm=n+1", "--json")
	var report struct {
		Requests        int64             `json:"requests"`
		Denied          int64             `json:"denied"`
		DeniedBy        map[string]int64  `json:"denied_by"`
		AdmittedAmounts map[string]int64  `json:"admitted_amounts"`
		LeastBurst      map[string]*int64 `json:"least_burst"`
		LeastRate       map[string]*int64 `json:"least_rate"`
	}
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != 0 || r.err != "" {
		t.Fatalf("got exit code %d, %q, %q (%v), want JSON", r.code, r.out, r.err, err)
	}
	// A limit that --consume does not name takes 1.
	if report.Requests != 2 || report.Denied != 1 || report.DeniedBy["rpm"] != 1 || report.DeniedBy["tpm"] != 1 || report.AdmittedAmounts["tpm"] != 5 {
		t.Errorf("got %+v, want 1 of 2 refused by both limits", report)
	}
	if b := report.LeastBurst["tpm"]; b == nil || *b != 15 || report.LeastRate["tpm"] != nil {
		t.Errorf("got %s, want a least burst of 15 and no rate", r.out)
	}
	r = zaelIn(trace, "replay", "-", "-l", "rpm=1/min", "--entity-column", "who")
	if r.code != 0 || !strings.HasPrefix(r.out, "standard input: 2 requests of 2 entities at 2024-01-01 00:00:00 UTC\n") {
		t.Errorf("got exit code %d, %q, %q", r.code, r.out, r.err)
	}
}

// TestReplayForms checks the flags about the form of a file, and warnings on standard
// error.
func TestReplayForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trace  string
		args   []string
		out    string // beginning
		warned string
	}{
		{"t§n\n0§4\n3540§5\n", []string{"--delimiter", "§"}, "2 requests in 59 min, ", ""},
		{"t\tn\n0\t4\n1\t5\n", []string{"--delimiter", "tab"}, "2 requests in 1 s, ", ""},
		{"0,4\n1,5\n", []string{"--columns", "t, n"}, "2 requests in 1 s, ", ""},
		{"{\"t\":0,\"n\":4}\n{\"t\":3540000,\"n\":5}\n", []string{"--time-unit", "ms"}, "2 requests in 59 min, ", ""},
		{"\n{\"t\":0,\"n\":4}\n{\"t\":3540000000,\"n\":5}\n", []string{"--format", "jsonl", "--time-unit", "us"}, "2 requests in 59 min, ", ""},
		{"t,n\n0,4\n3540000,5\n", nil, "2 requests in 40 d 23 h, ", "the trace takes 40 d 23 h, with a request every 40 d 23 h on average, if its times are in s; --time-unit ms would make it 59 min"},
		{"t,n\n0,4\n1,x\n", []string{"--skip-bad-rows"}, "1 request (and 1 bad row skipped) at 2025-01-01", "1 bad row skipped, the first: line 3, column n: \"x\" is not a number from 0 to 1000000000000000"},
	} {
		r := zaelIn(c.trace, append([]string{"replay", "-", "-l", "x=1/min", "-c", "x=n"}, c.args...)...)
		warned := c.warned
		if warned != "" {
			warned = "zael: warning: standard input: " + warned + "\n"
		}
		if r.code != 0 || !strings.HasPrefix(r.out, "standard input: "+c.out) || r.err != warned {
			t.Errorf("%v: got exit code %d, %q and on standard error %q, want %q and %q", c.args, r.code, r.out, r.err, c.out, warned)
		}
	}
}

// TestPageIsWhole checks that a page stays until a new one is complete.
func TestPageIsWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "page.html")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("got %.40q (%v), want %q", got, err, want)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("got %v (%v), want the page alone", files, err)
		}
	}
	if r := zaelIn("t\n2024-01-01\nx\n", "replay", "-", "-l", "n=1/s", "--html", path); r.code != 1 {
		t.Errorf("got exit code %d, want 1", r.code)
	}
	check("old")
	if r := zaelIn("t\n2024-01-01\n", "replay", "-", "-l", "n=1/s", "--html", path); r.code != 0 {
		t.Errorf("got exit code %d (%s), want 0", r.code, r.err)
	}
	check("<!DOCTYPE html>")
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestOutputFails(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"version", "version --json", "replay - -l n=1/s", "replay - -l n=1/s --json", "--help", "completion bash"} {
		var stderr bytes.Buffer
		code := cli.Main(context.Background(), strings.Fields(args), cli.IO{In: strings.NewReader("t\n"), Out: failing{}, Err: &stderr})
		if code != 1 || stderr.String() != "zael: writing to standard output: no space left\n" {
			t.Errorf("zael %s: got exit code %d, %q, want 1 and a message", args, code, stderr.String())
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := zaelIn("", "version", "--json")
	var v struct {
		Version      string   `json:"version"`
		Go           string   `json:"go"`
		Platform     string   `json:"platform"`
		FunctionCode []string `json:"function_code"`
	}
	err := json.Unmarshal([]byte(r.out), &v)
	if err != nil || v.Version == "" || v.FunctionCode == nil || !strings.HasPrefix(v.Go, "go") || v.Platform == "" {
		t.Errorf("got %q (%v), want version, function_code, go and platform", r.out, err)
	}
	want := "zael " + v.Version + "\n"
	if r := zaelIn("", "version"); r.code != 0 || !strings.HasPrefix(r.out, want) {
		t.Errorf("got %d, %q, want %q", r.code, r.out, want)
	}
	if r := zaelIn("", "--version"); r.code != 0 || r.out != want {
		t.Errorf("got %d, %q, want %q", r.code, r.out, want)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"rep":                     "replay\t",
		"replay --st":             "--store\t",
		"replay --store m":        "memory:\n",
		"replay --entity-column ": ":4\n", // no files
		"replay ":                 "csv\ntsv\njsonl\nndjson\ngz\n:8\n",
		"replay --format ":        "csv\njsonl\n",
		"replay --time-unit ":     "s\nms\nus\nns\n",
	} {
		words := append([]string{"__complete"}, strings.Split(args, " ")...)
		if r := zaelIn("", words...); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%q: got %d, %q, want %q", args, r.code, r.out, want)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var terminal strings.Builder
	rows, done, reader := cli.NewProgress(&terminal, 4000, func() time.Time { return now })
	r := reader(strings.NewReader(strings.Repeat("x", 4000)))
	steps := []struct {
		after time.Duration
		read  int
		rows  int64
		want  string
	}{
		{500 * time.Millisecond, 1000, 50, ""}, // too early
		{500 * time.Millisecond, 1000, 100, "\r\x1b[K 50 %  100 rows, 100/s"},
		{100 * time.Millisecond, 100, 150, ""}, // too soon after the last
		{time.Second, 1900, 420, "\r\x1b[K100 %  420 rows, 200/s"},
	}
	for i, s := range steps {
		now = now.Add(s.after)
		if _, err := io.ReadFull(r, make([]byte, s.read)); err != nil {
			t.Fatal(err)
		}
		terminal.Reset()
		rows(s.rows)
		if got := terminal.String(); got != s.want {
			t.Errorf("step %d: got %q, want %q", i, got, s.want)
		}
	}
	terminal.Reset()
	done()
	if got, want := terminal.String(), "\r\x1b[K"; got != want {
		t.Errorf("at the end: got %q, want %q", got, want)
	}
}
