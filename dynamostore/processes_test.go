package dynamostore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/trial"
)

// workVariable makes the test binary a process that acquires: it has the work as
// JSON, and finds the engine by dynamotest.EndpointVariable.
const workVariable = "ZAEL_DYNAMOSTORE_WORK"

type work struct {
	Table   string `json:"table"`
	Callers int    `json:"callers"`
	Times   int    `json:"times"` // in all
	Door    string `json:"door"`  // of those that hold slots: where they are counted
}

// A result is what a process says in the end.
type result struct {
	Admitted int64  `json:"admitted"`
	Refused  int64  `json:"refused"`
	Calls    uint64 `json:"calls"`
	Units    uint64 `json:"units"` // written
}

// working is what a process with work does instead of tests: it waits for a line
// and writes its result.
func working(ctx context.Context, text string) error {
	var job work
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return err
	}
	c, wire := clientOf(os.Getenv(dynamotest.EndpointVariable))
	defer wire.CloseIdleConnections()
	s, err := dynamostore.NewTrial(c, job.Table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{CountUnits: true})
	if err != nil {
		return err
	}
	l, err := zael.New(s, &zael.Config{Timeout: time.Hour}) // on a busy machine 64 callers wait long for each other
	if err != nil {
		return err
	}
	if _, err := fmt.Println("ready"); err != nil {
		return err
	}
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var admitted, refused atomic.Int64
	use := func() error { return acquire(ctx, l) }
	if job.Door != "" {
		use = func() error { return holdSlot(ctx, l, job.Door) }
	}
	errs := make([]error, job.Callers, job.Callers+3)
	var wg sync.WaitGroup
	for i := range job.Callers {
		wg.Go(func() {
			for n := i; n < job.Times && errs[i] == nil; n += job.Callers {
				err := use()
				switch {
				case err == nil:
					admitted.Add(1)
				case errors.Is(err, zael.ErrExceeded):
					refused.Add(1)
				default:
					errs[i] = err
				}
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	report, err := json.Marshal(result{admitted.Load(), refused.Load(), st.Writes + st.Reads, uint64(st.WriteUnits)})
	_, said := fmt.Println(string(report))
	errs = append(errs, l.Close(ctx), s.Close(ctx), err, said)
	return errors.Join(errs...)
}

func thousandAnHour() zael.Limit { return zael.PerHour("rph", 1000) }

// acquire takes one token for good.
func acquire(ctx context.Context, l *zael.Limiter) error {
	for {
		lease, err := l.Acquire(ctx, zael.Request{
			Entity: "shared", Resource: "gpt-4", Limits: []zael.Limit{thousandAnHour()}, Consume: zael.Amounts{"rph": 1},
		})
		if err == nil {
			return lease.Commit(ctx)
		}
		if !errors.Is(err, zael.ErrContention) { // nothing was taken
			return err
		}
	}
}

// A process is one that acquires.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// hire starts a process and waits until it is ready.
func hire(t *testing.T, endpoint string, job work) *process {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	// The race detector lets a process sleep for a second at its end otherwise.
	p.cmd.Env = append(os.Environ(), workVariable+"="+string(text), dynamotest.EndpointVariable+"="+endpoint, "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("a process's first line: got %q and %v, want ready", line, err)
	}
	return p
}

// I5 with real processes: together they admit what one would, exactly, and what
// refills in the time that they take.
func TestProcessesAdmitExactlyTheLimit(t *testing.T) {
	t.Parallel()
	const processes, callers, times = 8, 8, 500
	c, _ := newClient(t)
	table := newTable(t, c)
	var all []*process
	for range processes {
		all = append(all, hire(t, engine.Endpoint(t), work{Table: table, Callers: callers, Times: times}))
	}
	begin := time.Now()
	for _, p := range all {
		if _, err := io.WriteString(p.in, "go\n"); err != nil {
			t.Fatal(err)
		}
	}
	var sum result
	for i, p := range all {
		var r result
		if err := json.NewDecoder(p.out).Decode(&r); err != nil {
			t.Fatalf("process %d: %v", i, err)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("process %d: got %v, want it to end well", i, err)
		}
		if r.Admitted+r.Refused != times {
			t.Errorf("process %d: got %d answers, want %d", i, r.Admitted+r.Refused, times)
		}
		sum.Admitted += r.Admitted
		sum.Refused += r.Refused
		sum.Calls += r.Calls
		sum.Units += r.Units
	}
	end := time.Now()
	d := define(1000, 1000, time.Hour)
	first, err := bucket.At(begin)
	if err != nil {
		t.Fatal(err)
	}
	last, err := bucket.At(end)
	if err != nil {
		t.Fatal(err)
	}
	most := (d.Burst*d.Unit() + d.Drip(last) - d.Drip(first) + 1) / d.Unit()
	if sum.Admitted < d.Burst || sum.Admitted > most {
		t.Errorf("%d acquires of %d processes in %v: got %d admitted, want %d to %d", processes*times, processes, end.Sub(begin), sum.Admitted, d.Burst, most)
	}
	s, err := dynamostore.New(c, table, patient())
	opened(t, s, err)
	_, buckets, err := s.Buckets(t.Context(), end, []zael.Key{{Entity: "shared", Resource: "gpt-4"}})
	if err != nil || len(buckets[0].Limits) != 1 {
		t.Fatalf("the bucket: got %+v and %v, want one limit", buckets, err)
	}
	if got, want := buckets[0].Limits[0].State.Available(last), most-sum.Admitted; got > want {
		t.Errorf("left: got %d, want %d at most, as %d were admitted", got, want, sum.Admitted)
	}
	asked := float64(processes * times)
	t.Logf("%v: %d admitted; %.3f calls and %.3f write units an acquire", end.Sub(begin).Round(time.Millisecond), sum.Admitted, float64(sum.Calls)/asked, float64(sum.Units)/asked)
}
