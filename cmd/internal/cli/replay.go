package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/replay"
)

// A replayCommand has the flags of zael replay.
type replayCommand struct {
	limits          *limitsValue
	consume, settle []string
	maxWait         time.Duration
	format          string
	delimiter       string
	columns         string
	timeColumn      string
	timeUnit        string
	entityColumn    string
	durationColumn  string
	resource        string
	store           *string
	sort            bool
	skipBadRows     bool
	json            *bool
	html            string
	decisions       string
}

func (a *app) replay() *cobra.Command {
	var c replayCommand
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Try limits on a trace of real traffic",
		Long: `Replay sends each request of a trace through the limits, at the time recorded in
the trace, and reports what the limits would have done: how many requests they
would have admitted and refused, how full the buckets were, how long requests
would have waited, and the least burst and rate that would have refused nothing.
It does not wait: a million requests take a second or two.

The trace is CSV with a header, or JSON lines: one object a line, whose keys are
the columns, with usage.tokens for a key of a nested object. Gzip is unpacked. "-"
reads standard input. Requests must be in order of time; --sort sorts them.

Times are dates or numbers. Dates are RFC 3339, 2006-01-02 15:04:05.999 or
02/Jan/2006:15:04:05 -0700, in UTC unless they name a zone. Numbers are seconds,
or what --time-unit says: Unix time, or, if the first is below 100,000,000 s, time
since the beginning, which is then shown as 2025-01-01.

Each request takes from all limits or from none: 1 from each limit, or the EXPR of
--consume, a sum of columns and whole numbers. Fractions are rounded up, and empty
cells count as 0. With --settle, an admitted request is settled to a second EXPR
at once, as in a program that takes an estimate and then learns the real amount;
the report then shows settled amounts.

The least burst is the one at the limit's rate, and the least rate the one at its
burst, if it were the only limit; of quotas, sessions and slots it is the least
amount or number. From there up, nothing is refused.

Limits are of any kind: n=100 each day Europe/Berlin, n=10 per 5h from first use,
n=20 at once, n=0/min, n=unlimited, and soft at the end. Slots are held for the time
in --duration-column: numbers in --time-unit, or 250ms, 1.5s or 2min. Requests do
not wait for them, nor for the next period of a quota.`,
		Example: `  zael replay examples/azure_llm_code_2023.csv \
    --limit rpm=200/min --limit tpm=400000/min \
    --consume tpm=ContextTokens+GeneratedTokens

  # Take the prompt, then settle to the total; let requests wait up to 30 s.
  zael replay examples/azure_llm_code_2023.csv --limit 'tpm=400000/min burst 600000' \
    --consume tpm=ContextTokens --settle tpm=ContextTokens+GeneratedTokens \
    --max-wait 30s --html report.html

  # 20 in flight, and a budget of 5 million tokens a day.
  printf 't,seconds,tokens\n2026-03-29 00:30:00,4.2,3000\n2026-03-29 00:30:01,900ms,800\n' |
    zael replay - --limit 'parallel=20 at once' --duration-column seconds \
    --limit 'budget=5000000 each day Europe/Berlin' --consume budget=tokens

  # JSON lines from standard input, with times in milliseconds.
  printf '%s\n' '{"ts":0,"usage":{"tokens":300}}' '{"ts":250,"usage":{"tokens":500}}' |
    zael replay - --time-unit ms --limit tpm=600/min --consume tpm=usage.tokens`,
		Args: oneFile,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"csv", "tsv", "jsonl", "ndjson", "gz"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	c.limits = addLimits(cmd)
	c.store = cmd.Flags().String("store", "memory:", "keep the buckets in the store at `URL`; ZAEL_STORE is ignored")
	completeStore(cmd)
	c.json = addJSON(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&c.consume, "consume", "c", nil, "what a request takes from a limit, as `NAME=EXPR`; may be repeated (default 1)")
	f.StringArrayVar(&c.settle, "settle", nil, "what an admitted request settles to, as `NAME=EXPR`; may be repeated")
	f.DurationVar(&c.maxWait, "max-wait", 0, "let requests wait in line up to this long, such as 30s")
	f.StringVar(&c.format, "format", "", "`FORMAT` of the file: csv or jsonl (default: jsonl if it begins with a brace)")
	f.StringVar(&c.delimiter, "delimiter", "", "`CHAR` that separates columns, or tab (default: the first of , tab ; | found in the first line)")
	f.StringVar(&c.columns, "columns", "", "`NAMES` of the columns, such as time,user,tokens, for CSV without a header")
	f.StringVar(&c.timeColumn, "time-column", "", "`COLUMN` of the time (default: the first)")
	f.StringVar(&c.timeUnit, "time-unit", "s", "`UNIT` of times that are numbers: s, ms, us or ns")
	f.StringVar(&c.entityColumn, "entity-column", "", "`COLUMN` of the entity; each entity has buckets of its own (default: one for the whole trace)")
	f.StringVar(&c.durationColumn, "duration-column", "", "`COLUMN` of how long a request takes, and holds its slots")
	f.StringVar(&c.resource, "resource", replay.DefaultResource, "`NAME` of the resource")
	f.BoolVar(&c.sort, "sort", false, "sort requests by time first, in memory")
	f.BoolVar(&c.skipBadRows, "skip-bad-rows", false, "leave out rows that cannot be read, and report how many")
	f.StringVar(&c.html, "html", "", "write a page with charts to `FILE`")
	f.StringVar(&c.decisions, "decisions", "", "write what came of each request to `FILE`, as JSON lines")
	for _, flag := range []string{"consume", "settle", "max-wait", "delimiter", "columns", "time-column", "entity-column", "duration-column", "resource"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{replay.FormatCSV, replay.FormatJSONLines}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("time-unit", cobra.FixedCompletions([]string{"s", "ms", "us", "ns"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.run(func(cmd *cobra.Command, args []string) error {
		return a.runReplay(cmd.Context(), args[0], &c)
	})
	return cmd
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one file, not %d", len(args))
	}
	return nil
}

// options validates the flags.
func (c *replayCommand) options() (*replay.Options, error) {
	if len(*c.limits) == 0 {
		return nil, usagef(`name at least one limit, such as --limit rpm=100/min`)
	}
	if c.maxWait < 0 {
		return nil, usagef("--max-wait %v is negative", c.maxWait)
	}
	o := &replay.Options{
		Limits: *c.limits, MaxWait: c.maxWait,
		Format: c.format, TimeColumn: c.timeColumn, EntityColumn: c.entityColumn, DurationColumn: c.durationColumn, Resource: c.resource,
		Sort: c.sort, SkipBadRows: c.skipBadRows,
	}
	err := c.fileOptions(o)
	if err != nil {
		return nil, err
	}
	if o.Consume, err = c.amounts("--consume", c.consume); err != nil {
		return nil, err
	}
	if o.Settle, err = c.amounts("--settle", c.settle); err != nil {
		return nil, err
	}
	return o, c.checkSlots(o)
}

// checkSlots validates what goes with slots.
func (c *replayCommand) checkSlots(o *replay.Options) error {
	slots := false
	for _, l := range o.Limits {
		if l.Kind() != zael.KindSlots {
			continue
		}
		slots = true
		if _, settled := o.Settle[l.Name]; settled {
			return usagef("--settle %s: slots are not settled, but held until the request ends", l.Name)
		}
		switch {
		case c.durationColumn == "":
			return usagef("--limit %s: slots are held as long as a request takes: name the column of that with --duration-column", l)
		case !strings.HasPrefix(*c.store, "memory:"):
			return usagef("--store %s: slots are replayed in memory, as other stores free them by the clock: leave it out", *c.store)
		}
	}
	if c.durationColumn != "" && !slots {
		return usagef("--duration-column has no effect without slots, such as --limit 'parallel=20 at once'")
	}
	return nil
}

// fileOptions validates the flags that say how the file is read.
func (c *replayCommand) fileOptions(o *replay.Options) error {
	switch c.format {
	case "", replay.FormatCSV:
	case replay.FormatJSONLines:
		if c.delimiter != "" || c.columns != "" {
			return usagef("--delimiter and --columns are for CSV, not for --format jsonl")
		}
	default:
		return usagef("--format %q is neither csv nor jsonl", c.format)
	}
	switch c.timeUnit {
	case "s":
		o.TimeUnit = time.Second
	case "ms":
		o.TimeUnit = time.Millisecond
	case "us", "µs":
		o.TimeUnit = time.Microsecond
	case "ns":
		o.TimeUnit = time.Nanosecond
	default:
		return usagef("--time-unit %q is not s, ms, us or ns", c.timeUnit)
	}
	switch c.delimiter {
	case "":
	case "tab", `\t`:
		o.Delimiter = '\t'
	default:
		r, n := utf8.DecodeRuneInString(c.delimiter)
		if n < len(c.delimiter) || r == utf8.RuneError || strings.ContainsRune("\"\r\n", r) {
			return usagef("--delimiter %q is not one character, nor tab", c.delimiter)
		}
		o.Delimiter = r
	}
	if c.columns != "" {
		for name := range strings.SplitSeq(c.columns, ",") {
			o.Columns = append(o.Columns, strings.TrimSpace(name))
		}
	}
	return nil
}

// amounts parses flags NAME=EXPR.
func (c *replayCommand) amounts(flag string, texts []string) (map[string]replay.Expr, error) {
	amounts := map[string]replay.Expr{}
	for _, text := range texts {
		name, expr, ok := strings.Cut(text, "=")
		name = strings.TrimSpace(name)
		if !ok {
			return nil, usagef("%s %q is not NAME=EXPR", flag, text)
		}
		if !c.limits.has(name) {
			return nil, usagef("%s %q: no limit %q; the limits are %s", flag, text, name, c.limits.names())
		}
		if _, repeated := amounts[name]; repeated {
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
	var decisions *newFile
	if c.decisions != "" {
		if decisions, err = create(c.decisions); err != nil {
			return err
		}
		defer decisions.discard()
		lines := json.NewEncoder(decisions)
		o.Decided = func(d *replay.Decided) error {
			if err := lines.Encode(d); err != nil {
				return writing(c.decisions, err)
			}
			return nil
		}
	}
	p := newProgress(a.err, size)
	o.Progress = p.rows
	report, err := replay.Run(ctx, store, p.reader(in), o)
	p.done()
	if err != nil {
		return traceError(file, err)
	}
	for _, text := range report.Warnings {
		fmt.Fprintf(a.err, "zael: warning: %s: %s\n", name(file), text)
	}
	if page != nil {
		if err := report.WriteHTML(page, filepath.Base(name(file))); err != nil {
			return writing(c.html, err)
		}
		if err := page.keep(); err != nil {
			return err
		}
	}
	if decisions != nil {
		if err := decisions.keep(); err != nil {
			return err
		}
	}
	if *c.json {
		return a.printJSON(report)
	}
	fmt.Fprintf(a.out, "%s: ", name(file))
	return report.WriteText(a.out)
}

// openTrace opens a file and returns its size, or 0 if that is not known.
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

// name returns what a file is called in messages.
func name(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// traceError adds the name of the file to an error, and makes it a usage error if it is
// about the flags.
func traceError(file string, err error) error {
	var column *replay.ColumnError
	var row *replay.RowError
	var invalid *zael.ValidationError
	switch {
	case errors.As(err, &column):
		return usagef("%s: %w", name(file), err)
	case errors.As(err, &row):
	case errors.As(err, &invalid) && invalid.Field == "Policy.Resource":
		return usagef("--resource %q %s", invalid.Value, invalid.Reason)
	}
	return fmt.Errorf("%s: %w", name(file), err)
}
