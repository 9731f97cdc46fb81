package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/zeroae/zael"
)

// A child is a command that runs under a lease.
type child struct {
	args    []string
	path    string
	settle  string         // file to which it writes what it used
	signals chan os.Signal // that zael got since newChild
}

// newChild looks up the command, before anything is taken for it.
func (a *app) newChild(args []string) (*child, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, cannotRun(args[0], err)
	}
	settle, err := os.CreateTemp("", "zael-settle-*")
	if err != nil {
		return nil, fmt.Errorf("creating the file for ZAEL_SETTLE: %w", err)
	}
	_ = settle.Close()
	c := &child{args: args, path: path, settle: settle.Name(), signals: make(chan os.Signal, 16)}
	signal.Notify(c.signals, endSignals()...)
	return c, nil
}

// cannotRun returns an error with the exit code that shells and env use for the cause.
func cannotRun(name string, err error) error {
	if lookup, ok := errors.AsType[*exec.Error](err); ok {
		err = lookup.Err
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	code := exitCannotRun
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotFound
	}
	return &exitError{code: code, cause: fmt.Errorf("cannot run %s: %w", name, err)}
}

func (c *child) close() {
	signal.Stop(c.signals)
	_ = os.Remove(c.settle)
}

// runUnder runs the command, and then commits the lease or rolls it back.
func (a *app) runUnder(ctx context.Context, lease lease, c *child) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.path, c.args[1:]...)
	cmd.Args[0] = c.args[0]
	cmd.Env = append(os.Environ(), "ZAEL_SETTLE="+c.settle)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.stdout, a.err
	if more := moreSignals(); len(more) > 0 {
		signal.Notify(c.signals, more...)
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(cannotRun(c.args[0], err), lease.Rollback(ctx))
	}
	stop := lease.keep(ctx)
	ended := make(chan struct{})
	go c.forward(cmd.Process, ended)
	_ = cmd.Wait() // ProcessState has the result
	close(ended)
	if err := stop(); err != nil {
		a.complain("keeping its slots", err)
	}
	code := codeOf(cmd.ProcessState)
	settled, err := c.settleTo(lease)
	if err != nil {
		a.complain("settling", err)
	}
	if code != 0 && !settled { // as far as is known, nothing was used
		if err := lease.Rollback(ctx); err != nil {
			a.complain("giving back", err)
		}
		return &exitError{code: code}
	}
	if err := lease.Commit(ctx); err != nil {
		a.complain("settling", err)
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// complain writes an error that does not change the exit code.
func (a *app) complain(what string, err error) {
	fmt.Fprintf(a.err, "zael: the command was run; %s: %s\n", what, message(err))
}

// forward passes on signals until the command has ended.
func (c *child) forward(p *os.Process, ended <-chan struct{}) {
	for {
		select {
		case s := <-c.signals:
			if !sentByTerminal(s) {
				_ = p.Signal(s) // it may have ended
			}
		case <-ended:
			return
		}
	}
}

// settleTo settles the lease to what the command wrote to its file, and reports whether
// it wrote anything.
func (c *child) settleTo(lease lease) (settled bool, err error) {
	f, err := os.Open(c.settle)
	if err != nil {
		return false, err
	}
	defer f.Close()
	used := zael.Amounts{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		name, amount, err := parseAmount(text)
		if err != nil {
			return false, fmt.Errorf("line %d of $ZAEL_SETTLE: %w", n, err)
		}
		used[name] = amount
	}
	if err := lines.Err(); err != nil || len(used) == 0 {
		return false, err
	}
	err = lease.Settle(used)
	if invalid, ok := errors.AsType[*zael.ValidationError](err); ok {
		err = fmt.Errorf("$ZAEL_SETTLE: %q %s", invalid.Value, invalid.Reason)
	}
	return err == nil, err
}
