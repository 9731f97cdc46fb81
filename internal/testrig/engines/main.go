// Command engines runs a command beside one DynamoDB Local, which the tests that the command
// runs share instead of starting one for each package:
//
//	go run ./internal/testrig/engines go test ./...
//
// The tests find it by ZAEL_DYNAMODB_ENDPOINT. It has the same port each time if that is free,
// as go test takes results from its cache only if such variables are as they were. The
// emulator of CloudFormation is not shared: it starts within a second, and under load its
// one thread serves the tests of several packages later than they expect.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

// port is the one that is tried first.
const port = 18765

func main() {
	code, err := run(context.Background(), os.Args[1:], os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
	}
	os.Exit(code)
}

// run returns the exit code of a command that it ran beside the engine. An error says why
// there is none.
func run(ctx context.Context, command []string, progress io.Writer) (code int, err error) {
	if len(command) == 0 {
		return 2, errors.New("usage: engines COMMAND [ARGUMENT...]")
	}
	engine, err := start(ctx, progress)
	if err != nil {
		return 1, err
	}
	defer engine.Close()

	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), dynamotest.EndpointVariable+"="+engine.Endpoint())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A terminal interrupts the command too: its end is waited for.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM {
				_ = cmd.Process.Signal(s)
			}
		case <-engine.Done():
			_, _ = fmt.Fprintf(progress, "engines: DynamoDB Local has ended; it said:\n%s\n", engine.Log())
			return 1, errors.Join(errors.New("the tests were left without an engine"), cmd.Process.Kill())
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
				return exit.ExitCode(), nil // the command has said why
			}
			if err != nil {
				return 1, err
			}
			return 0, nil
		}
	}
}

// start starts the engine, at the usual port if that is free.
func start(ctx context.Context, progress io.Writer) (*dynamolocal.Server, error) {
	engine, err := dynamolocal.Start(ctx, dynamolocal.Options{Port: port, Progress: progress})
	if err == nil || errors.Is(err, dynamolocal.ErrMissing) {
		return engine, err
	}
	return dynamolocal.Start(ctx, dynamolocal.Options{Progress: progress})
}
