package loadgen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A ProcessError is about a process that failed.
type ProcessError struct {
	Process int    // from 1
	Stderr  string // what it wrote there
	Cause   error  // an *exec.ExitError if it ran
}

// Error returns what the process wrote, or else how it ended.
func (e *ProcessError) Error() string {
	text := strings.TrimSpace(e.Stderr)
	if text == "" {
		text = e.Cause.Error()
	}
	return fmt.Sprintf("process %d: %s", e.Process, text)
}

// Unwrap returns the cause.
func (e *ProcessError) Unwrap() error { return e.Cause }

// stopTimeout is how long a process may take to end before it is killed.
const stopTimeout = 15 * time.Second

// A coordinator runs one job in several processes.
type coordinator struct {
	job      *Job
	starting atomic.Int64  // processes that are not ready yet
	ready    chan struct{} // closed when all are

	mu       sync.Mutex
	counts   []Counts // last progress of each process
	progress func(Counts)
	sum      *Tally
	errs     []error
}

// RunProcesses runs a job in n processes, each of which calls Work, and adds up their
// tallies. They begin together, when all are ready. When ctx is done or one of them
// fails, all end early. Its errors are *ProcessErrors, joined. Progress may be nil.
func RunProcesses(ctx context.Context, n int, command func(context.Context) *exec.Cmd, job *Job, progress func(Counts)) (*Tally, error) {
	if progress == nil {
		progress = func(Counts) {}
	}
	c := &coordinator{job: job, ready: make(chan struct{}), counts: make([]Counts, n), progress: progress, sum: newTally()}
	c.starting.Store(int64(n))
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var processes []*process
	for i := range n {
		p, err := start(command(life), i)
		if err != nil {
			c.fail(&ProcessError{Process: i + 1, Cause: err})
			cancel()
			break
		}
		processes = append(processes, p)
	}
	var timer *time.Timer
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		for _, p := range processes {
			_ = p.in.Close() // asks it to end
		}
		timer = time.AfterFunc(stopTimeout, kill)
	})
	var all sync.WaitGroup
	for _, p := range processes {
		all.Go(func() {
			if err := c.supervise(ctx, p); err != nil {
				c.fail(&ProcessError{Process: p.index + 1, Stderr: p.stderr.String(), Cause: err})
				cancel()
			}
		})
	}
	all.Wait()
	if !stop() {
		<-stopped
		timer.Stop()
	}
	return c.sum, errors.Join(c.errs...)
}

func (c *coordinator) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, err)
}

// A process runs Work.
type process struct {
	index   int
	cmd     *exec.Cmd
	in      io.WriteCloser
	reports *json.Decoder
	stderr  bytes.Buffer
}

func start(cmd *exec.Cmd, index int) (*process, error) {
	p := &process{index: index, cmd: cmd}
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.reports = json.NewDecoder(out)
	cmd.Stderr = &p.stderr
	return p, cmd.Start()
}

// supervise gives a process its job and waits until it has ended.
func (c *coordinator) supervise(ctx context.Context, p *process) error {
	err := c.converse(ctx, p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		_ = p.cmd.Process.Kill() // it writes something else than reports
	}
	_ = p.in.Close()
	if exit := p.cmd.Wait(); exit != nil {
		return exit
	}
	return err
}

// converse writes orders and reads reports until the process has sent its tally. That
// an order cannot be written shows in the reports.
func (c *coordinator) converse(ctx context.Context, p *process) error {
	orders := json.NewEncoder(p.in)
	_ = orders.Encode(order{Job: c.job}) //nolint:errchkjson,musttag // see above; both ends are this package
	for {
		var r report
		if err := p.reports.Decode(&r); err != nil {
			return err
		}
		switch {
		case r.Tally != nil:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.sum.Add(r.Tally)
			return nil
		case r.Progress != nil:
			c.count(p.index, *r.Progress)
		case r.Ready:
			if c.starting.Add(-1) == 0 {
				close(c.ready)
			}
			select {
			case <-c.ready:
				_ = orders.Encode(order{Begin: true}) //nolint:errchkjson,musttag // as above
			case <-ctx.Done():
			}
		}
	}
}

// count notes the progress of a process and reports that of all.
func (c *coordinator) count(index int, counts Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[index] = counts
	var sum Counts
	for _, counts := range c.counts {
		sum.add(counts)
	}
	c.progress(sum)
}
