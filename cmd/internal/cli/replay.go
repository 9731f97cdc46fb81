package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/replay"
)

// A replayCommand is the flags of zael replay.
type replayCommand struct {
	limits          *limitsValue
	consume, settle []string
	maxWait         time.Duration
	timeColumn      string
	entityColumn    string
	resource        string
	store           *string
	sort            bool
	json            *bool
	html            string
}

func (a *app) replay() *cobra.Command {
	var c replayCommand
	cmd := &cobra.Command{
		Use:   "replay FILE.csv",
		Short: "Try limits on a trace of real traffic",
		Long: `Replay runs each row of a CSV file through the limits, at the time that the row
says, and reports what they would have done: what was admitted and refused, by
which limit, how full the buckets were, how long requests would have waited, and
the least burst and the least rate that would have refused nothing.

The first line of the file names the columns. Times are RFC 3339, or
2006-01-02 15:04:05.999999999 (UTC where no zone is named), or Unix seconds, ms,
µs or ns; numbers below 100,000,000 are seconds from the beginning of the trace,
shown as if that were 2025-01-01. Rows must be in order of time, or sorted with
--sort. FILE may be - for standard input.

A request takes from all limits or from none. What it takes of a limit is the
EXPR of --consume: a sum of columns and whole numbers. A limit that no --consume
names takes 1 a request. With --settle a request that was admitted is settled to
the second EXPR at the same instant, as a program does that takes an estimate
and then learns the truth; amounts are then reported as settled.

Each limit's least burst is the one at its rate, and the least rate the one at
its burst, that would have refused nothing if it were the only limit; from there
up nothing is refused.`,
		Example: `  zael replay examples/azure_llm_code_2023.csv \
    --limit rpm=200/min --limit tpm=400000/min \
    --consume tpm=ContextTokens+GeneratedTokens

  # Take the prompt, settle to the truth; callers wait up to 30 s.
  zael replay examples/azure_llm_code_2023.csv --limit 'tpm=400000/min burst 600000' \
    --consume tpm=ContextTokens --settle tpm=ContextTokens+GeneratedTokens \
    --max-wait 30s --html report.html`,
		Args: oneFile,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"csv"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	c.limits = addLimits(cmd)
	c.store = cmd.Flags().String("store", "memory:", "where the buckets are, as a `URL`; ZAEL_STORE has no effect here")
	completeStore(cmd)
	c.json = addJSON(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&c.consume, "consume", "c", nil, "what a request takes of a limit, `NAME=EXPR`; may be repeated (default 1)")
	f.StringArrayVar(&c.settle, "settle", nil, "what it settles to, `NAME=EXPR`; may be repeated")
	f.DurationVar(&c.maxWait, "max-wait", 0, "let requests wait in line so long, such as 30s")
	f.StringVar(&c.timeColumn, "time-column", "", "`COLUMN` with the time (default: the first)")
	f.StringVar(&c.entityColumn, "entity-column", "", "`COLUMN` with who is limited; each has buckets of its own (default: all rows share one)")
	f.StringVar(&c.resource, "resource", replay.DefaultResource, "`NAME` of what is accessed")
	f.BoolVar(&c.sort, "sort", false, "sort the rows by time first; keeps them in memory")
	f.StringVar(&c.html, "html", "", "write a page with charts to `FILE`")
	for _, flag := range []string{"consume", "settle", "max-wait", "time-column", "entity-column", "resource"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.runReplay(cmd.Context(), args[0], &c)
	})
	return cmd
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one CSV file; there are %d arguments", len(args))
	}
	return nil
}

// options checks the flags.
func (c *replayCommand) options() (*replay.Options, error) {
	if len(*c.limits) == 0 {
		return nil, usagef(`name at least one limit, such as --limit rpm=100/min`)
	}
	if c.maxWait < 0 {
		return nil, usagef("--max-wait %v is negative", c.maxWait)
	}
	o := &replay.Options{
		Limits: *c.limits, MaxWait: c.maxWait,
		TimeColumn: c.timeColumn, EntityColumn: c.entityColumn, Resource: c.resource, Sort: c.sort,
	}
	var err error
	if o.Consume, err = c.amounts("--consume", c.consume); err != nil {
		return nil, err
	}
	if o.Settle, err = c.amounts("--settle", c.settle); err != nil {
		return nil, err
	}
	return o, nil
}

// amounts reads NAME=EXPR flags.
func (c *replayCommand) amounts(flag string, texts []string) (map[string]replay.Expr, error) {
	amounts := map[string]replay.Expr{}
	for _, text := range texts {
		name, expr, ok := strings.Cut(text, "=")
		name = strings.TrimSpace(name)
		if !ok {
			return nil, usagef("%s %q is not NAME=EXPR", flag, text)
		}
		if !c.limits.has(name) {
			return nil, usagef("%s %q: there is no limit %q; there are %s", flag, text, name, c.limits.names())
		}
		if _, twice := amounts[name]; twice {
			return nil, usagef("%s names %s twice", flag, name)
		}
		e, err := replay.ParseExpr(expr)
		if err != nil {
			return nil, usagef("%s %s: %w", flag, name, err)
		}
		amounts[name] = e
	}
	return amounts, nil
}

func (a *app) runReplay(ctx context.Context, file string, c *replayCommand) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	in, size, err := a.openTrace(ctx, file)
	if err != nil {
		return err
	}
	defer in.Close()
	store, err := openStore(ctx, *c.store, "virtual_time")
	if err != nil {
		return err
	}
	defer func() { _ = store.Close(ctx) }()
	var page *newFile
	if c.html != "" {
		if page, err = create(c.html); err != nil {
			return err
		}
		defer page.discard()
	}
	p := newProgress(a.err, size)
	o.Progress = p.rows
	report, err := replay.Run(ctx, store, p.reader(in), o)
	p.done()
	if err != nil {
		return traceError(file, err)
	}
	if page != nil {
		if err := report.WriteHTML(page, filepath.Base(name(file))); err != nil {
			return writing(c.html, err)
		}
		if err := page.keep(); err != nil {
			return err
		}
	}
	if *c.json {
		return a.printJSON(report)
	}
	fmt.Fprintf(a.out, "%s: ", name(file))
	return report.WriteText(a.out)
}

// openTrace opens a file, and tells its size; 0 if that is not known.
func (a *app) openTrace(ctx context.Context, file string) (io.ReadCloser, int64, error) {
	if file == "-" {
		return newInput(ctx, a.in), 0, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%s is a directory", file)
	case info.Mode().IsRegular():
		return f, info.Size(), nil
	default:
		return f, 0, nil
	}
	f.Close()
	return nil, 0, err
}

// name is what a file is called in messages.
func name(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// traceError says what is wrong with a trace, and whether with it or with the
// flags.
func traceError(file string, err error) error {
	var column *replay.ColumnError
	var row *replay.RowError
	var invalid *zael.ValidationError
	switch {
	case errors.As(err, &column):
		return usagef("%s: %w", name(file), err)
	case errors.As(err, &row):
	case errors.As(err, &invalid) && invalid.Field == "Request.Resource":
		return usagef("--resource %q %s", invalid.Value, invalid.Reason)
	}
	return fmt.Errorf("%s: %w", name(file), err)
}
