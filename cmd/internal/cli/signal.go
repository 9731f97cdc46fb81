package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// UntilSignal returns a context that the first signal to end the program cancels. The
// second ends the program at once. A command can take SIGHUP for itself by hangups.
func UntilSignal(ctx context.Context) context.Context {
	taken := new(hangupTaker)
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, hangupKey{}, taken))
	came := make(chan os.Signal, 1)
	signal.Notify(came, endSignals()...)
	go func() {
		s := <-came
		for taken.take(s) {
			s = <-came
		}
		signal.Stop(came)
		cancel(&signalError{s})
	}()
	return ctx
}

type hangupKey struct{}

// A hangupTaker keeps SIGHUP from ending the program when a command wants it.
type hangupTaker struct {
	to atomic.Pointer[chan struct{}]
}

// take reports whether a signal was one for the command.
func (t *hangupTaker) take(s os.Signal) bool {
	to := t.to.Load()
	if s != syscall.SIGHUP || to == nil {
		return false
	}
	select {
	case *to <- struct{}{}:
	default: // the command has yet to answer the one before
	}
	return true
}

// hangups returns a channel of the SIGHUPs to the program, which from then on do not end it.
// Of a context that is not of UntilSignal, there are none.
func hangups(ctx context.Context) <-chan struct{} {
	to := make(chan struct{}, 1)
	if taken, ok := ctx.Value(hangupKey{}).(*hangupTaker); ok {
		taken.to.Store(&to)
	}
	return to
}

// A signalError is the cause of a context that a signal ended.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string { return e.signal.String() }

// signalCode returns the exit code, as shells have it, of a program whose context was
// cancelled.
func signalCode(ctx context.Context) int {
	if e, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		if n, ok := e.signal.(syscall.Signal); ok {
			return exitSignal + int(n)
		}
	}
	return exitSignal + int(syscall.SIGINT)
}
