// Package child runs a server for tests: a process, in a directory of its own, that does not
// outlive the test process, however that ends.
package child

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/zeroae/zael/internal/tail"
)

const (
	patience = 2 * time.Minute       // for the first answer; a busy machine may take its time
	every    = 10 * time.Millisecond // a look at what is waited for
)

// A Process is one that Start has started. Safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	log   *tail.Tail
	ended chan struct{} // closed when it has ended
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Succeeded reports whether it has ended, with exit code 0.
func (p *Process) Succeeded() bool {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.Success()
	default:
		return false
	}
}

// Log returns the end of what it wrote, and how it ended if it has.
func (p *Process) Log() string {
	select {
	case <-p.ended:
		return p.log.String() + "\nit has ended: " + p.cmd.ProcessState.String()
	default:
		return p.log.String()
	}
}

// Await returns when answers does, and fails if the process ends before, or two minutes have
// passed.
func (p *Process) Await(ctx context.Context, answers func(context.Context) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("2 minutes have passed"))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !answers(ctx) {
		select {
		case <-p.ended:
			return fmt.Errorf("it ended at its start (%s); it said:\n%s", p.cmd.ProcessState, p.log)
		case <-ctx.Done():
			return fmt.Errorf("waiting for its answer: %w; it said:\n%s", context.Cause(ctx), p.log)
		case <-tick.C:
		}
	}
	return nil
}

// FreePort returns a port of 127.0.0.1 on which nothing listens. Another process may take it
// at any moment.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it waits for nothing
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
