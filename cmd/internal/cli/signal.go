package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// UntilSignal is ctx until a signal comes that ends the program in good order. A
// second one ends it at once.
func UntilSignal(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	came := make(chan os.Signal, 1)
	signal.Notify(came, endSignals()...)
	go func() {
		s := <-came
		signal.Stop(came)
		cancel(&signalError{s})
	}()
	return ctx
}

// A signalError is the cause of a context that a signal ended.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string { return e.signal.String() }

// signalCode is the exit code of a program whose context was cancelled, as shells
// say it.
func signalCode(ctx context.Context) int {
	if e, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		if n, ok := e.signal.(syscall.Signal); ok {
			return exitSignal + int(n)
		}
	}
	return exitSignal + int(syscall.SIGINT)
}
