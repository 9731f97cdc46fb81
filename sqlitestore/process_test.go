package sqlitestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/sqlitestore"
)

// workVariable is the environment variable that makes the test binary a worker.
const workVariable = "ZAEL_SQLITESTORE_WORK"

func TestMain(m *testing.M) {
	for variable, run := range map[string]func(context.Context, string) error{workVariable: work, visitVariable: makeVisit, slotsVariable: holdSlots, onceVariable: serveOnce} {
		if what := os.Getenv(variable); what != "" {
			if err := run(context.Background(), what); err != nil {
				fmt.Println("error:", err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

// A job is what a worker process does.
type job struct {
	kind    string // acquire from a limit of 1000, or load without a limit
	callers int
	times   int // of all callers together; 0: until it is killed
	path    string
}

func (j job) String() string {
	return fmt.Sprintf("%s %d %d %s", j.kind, j.callers, j.times, j.path)
}

// environ returns the environment of the worker. GORACE keeps the race detector from
// sleeping for a second at the end.
func (j job) environ() []string {
	return append(os.Environ(), workVariable+"="+j.String(), "GORACE=atexit_sleep_ms=0")
}

func parseJob(text string) (job, error) {
	words := strings.SplitN(text, " ", 4)
	if len(words) != 4 {
		return job{}, fmt.Errorf("job %q: got %d words, want 4", text, len(words))
	}
	callers, err := strconv.Atoi(words[1])
	if err != nil {
		return job{}, err
	}
	times, err := strconv.Atoi(words[2])
	return job{words[0], callers, times, words[3]}, err
}

func work(ctx context.Context, what string) error {
	j, err := parseJob(what)
	if err != nil {
		return err
	}
	switch j.kind {
	case "acquire":
		return workAcquire(ctx, j, thousand)
	case "load":
		return workAcquire(ctx, j, plenty)
	}
	return fmt.Errorf("no work is called %q", j.kind)
}

// workAcquire waits for a line of input, then takes from the shared bucket, always at
// one instant, and prints "ok" or "no" for each answer.
func workAcquire(ctx context.Context, j job, d bucket.Definition) error {
	s, err := sqlitestore.Open(ctx, j.path, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, j.callers+1)
	for i := range j.callers {
		wg.Go(func() {
			for n := i; n < j.times || j.times == 0; n += j.callers {
				if errs[i] = acquireOnce(ctx, s, d); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	errs[j.callers] = s.Close(ctx)
	return errors.Join(errs...)
}

func acquireOnce(ctx context.Context, s zael.Store, d bucket.Definition) error {
	_, err := s.Take(ctx, t0, 0, ask(d, 1))
	switch {
	case err == nil:
		fmt.Println("ok")
	case errors.Is(err, zael.ErrExceeded):
		fmt.Println("no")
	default:
		return err
	}
	return nil
}

// A worker is a process with a job.
type worker struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	count map[string]int // of lines
	last  string         // the last line that is not an answer
}

// hire starts a worker and waits until it is ready.
func hire(t *testing.T, j job) *worker {
	t.Helper()
	w := &worker{count: map[string]int{}}
	w.cmd = exec.CommandContext(t.Context(), os.Args[0])
	w.cmd.Env = j.environ()
	w.cmd.Stderr = os.Stderr
	in, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.in, w.out = in, bufio.NewScanner(out)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	})
	if got := w.line(); got != "ready" {
		t.Fatalf("a worker's first line: got %q, want ready", got)
	}
	return w
}

func (w *worker) line() string {
	if !w.out.Scan() {
		return ""
	}
	return w.out.Text()
}

// begin makes the worker start.
func (w *worker) begin() error {
	_, err := io.WriteString(w.in, "go\n")
	return err
}

// collect reads output until there were oks lines "ok", or to the end if oks is 0.
func (w *worker) collect(oks int) {
	for oks == 0 || w.count["ok"] < oks {
		text := w.line()
		if text == "" {
			return
		}
		w.count[text]++
		if text != "ok" && text != "no" {
			w.last = text
		}
	}
}

// kill kills the worker.
func (w *worker) kill() error { return w.cmd.Process.Kill() }
