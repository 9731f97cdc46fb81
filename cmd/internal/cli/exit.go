package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3   // by a limit or a switch
	exitUnavailable = 4   // the store
	exitCannotRun   = 126 // a command was found and cannot be run, as in shells and env
	exitNotFound    = 127 // a command was not found, as in shells and env
	exitSignal      = 128 // plus the number of the signal that ended a command, or this program
)

// A usageError is about the command line.
type usageError struct {
	cause error
}

func (e *usageError) Error() string { return e.cause.Error() }

func (e *usageError) Unwrap() error { return e.cause }

// usagef returns a usageError.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// An exitError has an exit code of its own.
type exitError struct {
	code   int
	cause  error  // nil: nothing is printed
	detail string // lines to print below the error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

// exitCode returns the exit code of an error. A ValidationError about flags is wrapped in a
// usageError; others are about something else, such as a line of a file.
func exitCode(ctx context.Context, err error) int {
	var usage *usageError
	var own *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, zael.ErrNamespaceDeleted): // a change: of an acquire it is a refusal
		return exitFailed
	case errors.Is(err, zael.ErrExceeded), errors.Is(err, zael.ErrDisabled):
		return exitRefused
	case errors.Is(err, zael.ErrUnavailable):
		return exitUnavailable
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return signalCode(ctx)
	}
	return exitFailed
}

// fail writes an error and returns its exit code.
func (a *app) fail(ctx context.Context, cmd *cobra.Command, err error) int {
	code := exitCode(ctx, err)
	text := message(err)
	var own *exitError
	switch {
	case errors.As(err, &own) && own.cause == nil:
		return code
	case own == nil && code > exitSignal:
		text = "interrupted"
	}
	fmt.Fprintf(a.err, "zael: %s\n", text)
	if own != nil {
		fmt.Fprint(a.err, own.detail)
	}
	if errors.Is(err, dynamostore.ErrNoTable) && own == nil {
		fmt.Fprintln(a.err, "Make it with 'zael table create', or deploy it.")
	}
	if code == exitUsage {
		fmt.Fprintf(a.err, "Run '%s --help' for usage.\n", cmd.CommandPath())
	}
	return code
}

// message is an error without the names of the packages, wherever they stand: the
// program says its own at the beginning.
func message(err error) string {
	text := ": " + err.Error()
	for _, name := range []string{"zael", "stack", "dynamostore"} {
		text = strings.ReplaceAll(text, ": "+name+": ", ": ")
	}
	return strings.TrimRight(strings.TrimPrefix(text, ": "), "\n")
}
