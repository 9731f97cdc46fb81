// Package cli is the command line of zael: one file for each subcommand, and
// what they share.
package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// IO is what a command reads and writes, and its environment.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string // os.Getenv if nil
}

// Main runs the command that args name and returns its exit code. Errors are
// written to Err, once.
func Main(ctx context.Context, args []string, streams IO) int {
	a := &app{in: streams.In, stdout: streams.Out, out: bufio.NewWriterSize(streams.Out, 1<<16), err: streams.Err, getenv: streams.Getenv}
	if a.getenv == nil {
		a.getenv = os.Getenv
	}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started { // cobra did not get as far as the command
		err = &usageError{err}
	}
	if flushErr := a.out.Flush(); flushErr != nil {
		err = fmt.Errorf("writing to standard output: %w", flushErr)
	}
	if err == nil {
		return exitDone
	}
	return a.fail(ctx, cmd, err)
}

// An app is one run of the program.
type app struct {
	in      io.Reader
	stdout  io.Writer     // for the commands that zael runs
	out     *bufio.Writer // to stdout, flushed at the end
	err     io.Writer
	getenv  func(string) string
	started bool // a command began its work: errors are no longer about the command line
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "zael",
		Short: "Rate limits that any number of processes share",
		Long: `zael holds callers to limits that any number of processes share: rates, quotas and
slots.

Buckets, limits and entities are in a store. It is a SQLite file in your data
directory unless --store or the environment variable ZAEL_STORE says otherwise. Commands
for limits, administration and reports also work through a server (zael serve): --store is
its address then, such as https://limits.example.com, and the environment variable
ZAEL_TOKEN has the token.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by a limit or
a switch, 4 the store or AWS is unavailable, 128+N ended by signal N (130: Ctrl-C).`,
		Version:       thisVersion().Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.SetVersionTemplate("zael {{.Version}}\n")
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"server", "Server:", []*cobra.Command{a.serve(), a.token(), a.rls()}},
		{"limits", "Limits:", []*cobra.Command{a.acquire(), a.available(), a.entity(), a.limits()}},
		{"administration", "Administration:", []*cobra.Command{
			a.disable(), a.enable(), a.bypass(), a.reset(), a.topUp(), a.failureMode(), a.settings(), a.namespace(), a.ping(),
		}},
		{"reports", "Reports:", []*cobra.Command{a.audit(), a.capacity(), a.usage(), a.resources()}},
		{"dynamodb", "DynamoDB and its stack:", []*cobra.Command{
			a.table(), a.deploy(), a.status(), a.check(), a.upgrade(), a.delete(), a.list(),
			a.aggregate(), a.redrive(), a.cfnTemplate(), a.lambdaExport(),
		}},
		{"tools", "Tools:", []*cobra.Command{a.replay(), a.bench(), a.local(), a.version()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, cmd := range g.commands {
			cmd.GroupID = g.id
		}
		root.AddCommand(g.commands...)
	}
	root.AddCommand(a.benchWorker()) // hidden
	root.SetHelpCommandGroupID("tools")
	root.SetCompletionCommandGroupID("tools")
	return root
}

// run marks the begin of a command's work; every command's RunE goes through it.
func (a *app) run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		return f(cmd, args)
	}
}
