package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/oncerig"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/testrig/slotrig"
	"github.com/zeroae/zael/redisstore"
)

// jobVariable makes the test binary a process on a store: its value is what it does, and the store's
// URL.
const jobVariable = "ZAEL_REDISSTORE_JOB"

// work is what a process does.
func work(ctx context.Context, job string) error {
	what, where, _ := strings.Cut(job, " ")
	s, err := openJob(where)
	if err != nil {
		return err
	}
	switch what {
	case "slots":
		err = slotrig.Serve(ctx, s)
	case "once":
		err = oncerig.Serve(ctx, s)
	default:
		err = acquireAll(ctx, s, what)
	}
	return errors.Join(err, s.Close(ctx))
}

// openJob opens the store of a process: on a cluster by its URL, and otherwise by the server's address
// and the namespace, with calls that wait for their answer for a minute. On a machine that is slow
// they would be repeated before it comes: takes are then charged twice if others came between, and
// slots are not taken.
func openJob(where string) (*redisstore.Store, error) {
	address, namespace, patient := strings.Cut(where, " ")
	if !patient {
		return redisstore.Open(where)
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, AlwaysPipelining: true, ConnWriteTimeout: time.Minute,
		Dialer: net.Dialer{Timeout: time.Minute},
	})
	if err != nil {
		return nil, err
	}
	return redisstore.New(client, &redisstore.Config{Namespace: namespace, CallTimeout: time.Minute})
}

const (
	processes = 8
	perWorker = 200
	inFlight  = 8 // callers of a worker
	thousand  = 1000
)

// requestFor returns the request of a job: a thousand of these are admitted.
func requestFor(job string) zael.Request {
	switch job {
	case "quota":
		return zael.MustPolicy("gpt-4", zael.EachYear("n", thousand)).For("alice", 1)
	case "cascade": // each process has a child of its own
		return zael.Request{
			Entity: fmt.Sprintf("child-%d", os.Getpid()), Resource: "gpt-4", Parent: "alice",
			Limits: []zael.Limit{zael.PerDay("n", 1e9)}, ParentLimits: []zael.Limit{zael.EachYear("n", thousand)},
		}
	case "debt": // which only package bucket can count, so that every write is one of a record
		return zael.MustPolicy("gpt-4", zael.EachYear("n", thousand).CarryDebt()).For("alice", 1)
	}
	l := zael.PerDay("n", thousand)
	l.RefillAmount, l.RefillPeriod = 1, 366*24*time.Hour
	l.Capacity = 1
	return zael.MustPolicy("gpt-4", l).For("alice", 1)
}

// acquireAll waits for a line, acquires, and says of each what came of it.
func acquireAll(ctx context.Context, s *redisstore.Store, job string) error {
	l, err := zael.New(s, &zael.Config{Timeout: time.Hour})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var next atomic.Int64
	errs := make([]error, inFlight, inFlight+1)
	var wg sync.WaitGroup
	for i := range inFlight {
		wg.Go(func() {
			for next.Add(1) <= perWorker {
				switch err := l.Allow(ctx, requestFor(job)); {
				case err == nil:
					fmt.Println("ok")
				case errors.Is(err, zael.ErrExceeded):
					fmt.Println("no")
				default:
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, l.Close(ctx))...)
}

// command returns that of a process.
func command(t *testing.T, job, where string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), jobVariable+"="+job+" "+where, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// A worker is a process that acquires.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	ok  int
	all int
}

func hire(t *testing.T, job, where string) *worker {
	t.Helper()
	w := &worker{cmd: command(t, job, where)}
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewScanner(out)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	if !w.out.Scan() || w.out.Text() != "ready" {
		t.Fatalf("a process's first line: got %q, want ready", w.out.Text())
	}
	return w
}

// follow reads what a process says, and kills it after a number of answers, if that is not 0.
func (w *worker) follow(kill int) error {
	for w.out.Scan() {
		w.all++
		if w.out.Text() == "ok" {
			w.ok++
		}
		if w.all == kill {
			if err := w.cmd.Process.Kill(); err != nil {
				return err
			}
		}
	}
	if err := w.cmd.Wait(); kill == 0 {
		return err
	}
	return nil // by a signal
}

// Processes that share a server together admit exactly what one would, whatever the limit is of, and
// whether the children of one parent are of one process. One of them is killed: what it had in
// flight may be charged, and told to nobody.
func TestProcessesAdmitExactlyTheLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		job  string
		kind redistest.Kind
		kill int // the first process is killed after so many answers
	}{
		{"rate", redistest.Valkey, 0},
		{"rate", redistest.Redis, 0},
		{"quota", redistest.Valkey, 0},
		{"debt", redistest.Redis, 0},
		{"cascade", redistest.Valkey, 0},
		{"rate", redistest.Valkey, 20},
		{"cascade", redistest.Redis, 20},
	} {
		t.Run(fmt.Sprintf("%s on %s, kill %d", tt.job, tt.kind, tt.kill), func(t *testing.T) {
			t.Parallel()
			where := engines.Address(t, tt.kind) + " " + newNamespace()
			workers := make([]*worker, processes)
			for i := range workers {
				workers[i] = hire(t, tt.job, where)
			}
			var wg sync.WaitGroup
			for i, w := range workers {
				if _, err := io.WriteString(w.in, "go\n"); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					kill := 0
					if i == 0 {
						kill = tt.kill
					}
					if err := w.follow(kill); err != nil {
						t.Errorf("process %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			ok, all := 0, 0
			for _, w := range workers {
				ok, all = ok+w.ok, all+w.all
			}
			switch {
			case tt.kill == 0 && (ok != thousand || all != processes*perWorker):
				t.Errorf("got %d admitted of %d asked, want %d of %d", ok, all, thousand, processes*perWorker)
			case tt.kill > 0 && (ok > thousand || ok < thousand-inFlight):
				t.Errorf("got %d admitted, want %d, or up to %d less, which the killed process took without answering", ok, thousand, inFlight)
			}
		})
	}
}

// Processes never hold more slots than there are, and the slots of those that are killed come
// back.
func TestSlotsOfProcesses(t *testing.T) {
	t.Parallel()
	where := engines.Address(t, redistest.Valkey) + " " + newNamespace()
	s, err := redisstore.Open("redis://" + strings.Replace(where, " ", "?namespace=", 1))
	opened(t, s, err)
	slotrig.Run(t, func() *exec.Cmd { return command(t, "slots", where) }, s)
}

// Callers that repeat with their idempotency keys what a replica that was killed has not answered
// are told exactly what is charged.
func TestKeysOfProcesses(t *testing.T) {
	t.Parallel()
	where := engines.Address(t, redistest.Redis) + " " + newNamespace()
	s, err := redisstore.Open("redis://" + strings.Replace(where, " ", "?namespace=", 1))
	opened(t, s, err)
	oncerig.Run(t, func() *exec.Cmd { return command(t, "once", where) }, s, 100)
}
