package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3   // by a limit
	exitUnavailable = 4   // the store
	exitInterrupted = 130 // as shells say it: 128 and SIGINT
)

// A usageError is about the command line.
type usageError struct {
	cause error
}

func (e *usageError) Error() string { return e.cause.Error() }

func (e *usageError) Unwrap() error { return e.cause }

// usagef is a usageError.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// exitCode tells what an error comes to. A command says by usageError that a
// ValidationError is about its flags; others are not, such as one about a line
// of a file.
func exitCode(ctx context.Context, err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, zael.ErrExceeded):
		return exitRefused
	case errors.Is(err, zael.ErrUnavailable):
		return exitUnavailable
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return exitInterrupted
	}
	return exitFailed
}

// fail writes an error and returns its exit code.
func (a *app) fail(ctx context.Context, cmd *cobra.Command, err error) int {
	code := exitCode(ctx, err)
	text := message(err)
	if code == exitInterrupted {
		text = "interrupted"
	}
	fmt.Fprintf(a.err, "zael: %s\n", text)
	if code == exitUsage {
		fmt.Fprintf(a.err, "Run '%s --help' for usage.\n", cmd.CommandPath())
	}
	return code
}

// message is an error without the name of the package, wherever it stands: the
// program says it at the beginning.
func message(err error) string {
	text := strings.TrimPrefix(err.Error(), "zael: ")
	return strings.TrimRight(strings.ReplaceAll(text, ": zael: ", ": "), "\n")
}
