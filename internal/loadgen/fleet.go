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

// A ProcessError is about a process that ended before its time.
type ProcessError struct {
	Process int    // from 1
	Said    string // to its standard error
	Cause   error  // an *exec.ExitError if it ran
}

// Error has what the process said, or how it ended.
func (e *ProcessError) Error() string {
	said := strings.TrimSpace(e.Said)
	if said == "" {
		said = e.Cause.Error()
	}
	return fmt.Sprintf("process %d: %s", e.Process, said)
}

// Unwrap gives the cause.
func (e *ProcessError) Unwrap() error { return e.Cause }

// grace is how long a process may take to end when it should.
const grace = 15 * time.Second

// A fleet is processes that do one job.
type fleet struct {
	job     *Job
	unready atomic.Int64
	begin   chan struct{} // closed when all are ready

	mu       sync.Mutex
	told     []Counts // by each process
	progress func(Counts)
	sum      *Tally
	errs     []error
}

// Fleet runs a job in n processes, each of which calls Work, and adds up their
// tallies. They begin together, when all are ready. When ctx is done, or when
// one of them fails, they end early. Errors are *ProcessErrors, joined.
// Progress may be nil.
func Fleet(ctx context.Context, n int, command func(context.Context) *exec.Cmd, job *Job, progress func(Counts)) (*Tally, error) {
	if progress == nil {
		progress = func(Counts) {}
	}
	f := &fleet{job: job, begin: make(chan struct{}), told: make([]Counts, n), progress: progress, sum: newTally()}
	f.unready.Store(int64(n))
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var members []*member
	for i := range n {
		m, err := start(command(life), i)
		if err != nil {
			f.fail(&ProcessError{Process: i + 1, Cause: err})
			cancel()
			break
		}
		members = append(members, m)
	}
	var timer *time.Timer
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		for _, m := range members {
			_ = m.in.Close() // which tells it to end
		}
		timer = time.AfterFunc(grace, kill)
	})
	var all sync.WaitGroup
	for _, m := range members {
		all.Go(func() {
			if err := f.lead(ctx, m); err != nil {
				f.fail(&ProcessError{Process: m.number + 1, Said: m.said.String(), Cause: err})
				cancel()
			}
		})
	}
	all.Wait()
	if !stop() {
		<-stopped
		timer.Stop()
	}
	return f.sum, errors.Join(f.errs...)
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// A member is one process.
type member struct {
	number  int // from 0
	cmd     *exec.Cmd
	in      io.WriteCloser
	reports *json.Decoder
	said    bytes.Buffer
}

func start(cmd *exec.Cmd, number int) (*member, error) {
	m := &member{number: number, cmd: cmd}
	var err error
	if m.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	m.reports = json.NewDecoder(out)
	cmd.Stderr = &m.said
	return m, cmd.Start()
}

// lead takes a process through the job, to its end.
func (f *fleet) lead(ctx context.Context, m *member) error {
	err := f.talk(ctx, m)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		_ = m.cmd.Process.Kill() // it does not speak our language
	}
	_ = m.in.Close()
	if ended := m.cmd.Wait(); ended != nil {
		return ended
	}
	return err
}

func (f *fleet) talk(ctx context.Context, m *member) error {
	orders := json.NewEncoder(m.in)
	_ = orders.Encode(order{Job: f.job}) //nolint:errchkjson,musttag // both ends are this package; that it cannot be written shows in the answer
	for {
		var r report
		if err := m.reports.Decode(&r); err != nil {
			return err
		}
		switch {
		case r.Tally != nil:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.sum.Add(r.Tally)
			return nil
		case r.Progress != nil:
			f.tell(m.number, *r.Progress)
		case r.Ready:
			if f.unready.Add(-1) == 0 {
				close(f.begin)
			}
			select {
			case <-f.begin:
				_ = orders.Encode(order{Begin: true}) //nolint:errchkjson,musttag // likewise
			case <-ctx.Done():
			}
		}
	}
}

// tell adds up the progress of all.
func (f *fleet) tell(process int, c Counts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[process] = c
	var sum Counts
	for _, c := range f.told {
		sum.add(c)
	}
	f.progress(sum)
}
