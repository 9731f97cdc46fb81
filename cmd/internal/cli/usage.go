package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/saturate"
)

// A timeValue is a flag for a time.
type timeValue struct{ time.Time }

// addTime gives cmd a flag for a time.
func addTime(cmd *cobra.Command, name, usage string) *timeValue {
	t := new(timeValue)
	cmd.Flags().Var(t, name, usage)
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	return t
}

// Set implements pflag.Value.
func (t *timeValue) Set(text string) error {
	var err error
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t.Time, err = time.Parse(layout, text); err == nil {
			return nil
		}
	}
	return errors.New("is not a time: write 2026-01-13, which means 00:00 UTC, or 2026-01-13T14:00:00Z")
}

// String implements pflag.Value. The help shows it as the default.
func (t *timeValue) String() string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// Type implements pflag.Value. The help shows it after the flag.
func (t *timeValue) Type() string { return "TIME" }

// A windowValue is the flag --window.
type windowValue zael.Window

// Set implements pflag.Value.
func (w *windowValue) Set(text string) error {
	switch zael.Window(text) {
	case zael.Hourly, zael.Daily, zael.Monthly:
		*w = windowValue(text)
		return nil
	}
	return errors.New("is not hourly, daily or monthly")
}

// String implements pflag.Value. The help shows it as the default.
func (w *windowValue) String() string { return string(*w) }

// Type implements pflag.Value. The help shows it after the flag.
func (w *windowValue) Type() string { return "WINDOW" }

func (a *app) usage() *cobra.Command {
	var q zael.UsageQuery
	window := windowValue(zael.Hourly)
	cmd := &cobra.Command{
		Use:   "usage {--entity ID | --resource NAME}",
		Short: "Show what was taken by hour, day or month, with totals",
		Long: `Usage shows what was taken from each limit, minus what was given back, and the number
of acquires, by hour, day or month in UTC, newest first; of a soft limit also how many
acquires left it overdrawn.

Without --from, it shows all usage of an entity; of a resource, it shows that of the
last 24 hours, 31 days or 12 months.

An acquire with a cascade takes from an entity and from its parent, so it counts twice
in the total of a resource. The totals of parents and of other entities then follow.`,
		Example: `  zael usage --entity key-1
  zael usage --resource gpt-4 --window daily --chart
  zael usage --resource gpt-4 --window daily --from 2026-01-01 --to 2026-02-01 --csv`,
		Args: cobra.NoArgs,
	}
	store := addServed(cmd, storeTimeout)
	asJSON := addJSON(cmd)
	f := cmd.Flags()
	asCSV := f.Bool("csv", false, "print CSV, a column for each limit")
	chart := f.Bool("chart", false, "draw bars")
	cmd.MarkFlagsMutuallyExclusive("json", "csv", "chart")
	f.StringVarP(&q.Entity, "entity", "e", "", "usage of the entity with this `ID`")
	f.StringVarP(&q.Resource, "resource", "r", "", "usage of the resource with this `NAME`")
	f.Var(&window, "window", "hourly, daily or monthly")
	from := addTime(cmd, "from", "only windows that begin at this time or later")
	to := addTime(cmd, "to", "only windows that begin before this time")
	_ = cmd.RegisterFlagCompletionFunc("window", cobra.FixedCompletions(
		[]string{string(zael.Hourly), string(zael.Daily), string(zael.Monthly)}, cobra.ShellCompDirectiveNoFileComp))
	for _, flag := range []string{"entity", "resource"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if q.Entity == "" && q.Resource == "" {
			return usagef("name an --entity, a --resource or both")
		}
		q.Window, q.From, q.To = zael.Window(window), from.Time, to.Time
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			u, err := l.Usage(ctx, q)
			switch {
			case errors.Is(err, errors.ErrUnsupported):
				hint := "Add usage=true to the store's URL, such as 'dynamodb://NAME?usage=true'.\n"
				if a.inMemory(store) {
					hint = memoryHint
				}
				return &exitError{code: exitFailed, cause: err, detail: hint}
			case err != nil:
				return err
			case *asJSON:
				return a.printJSON(u)
			case *asCSV:
				return writeUsageCSV(a.out, &u)
			case len(u.Records) == 0:
				fmt.Fprintf(a.out, "no usage%s\n", sinceText(&u, from.Time))
				fmt.Fprint(a.err, a.noUsageHint(store))
				return nil
			case *chart:
				a.printUsageChart(&u, q.Window)
			default:
				a.printUsage(&u)
			}
			if since := sinceText(&u, from.Time); since != "" {
				fmt.Fprintf(a.out, "usage%s\n", since)
			}
			return nil
		})
	})
	return cmd
}

// sinceText says how far back usage was read, if the flags did not say it.
func sinceText(u *zael.Usage, from time.Time) string {
	if u.From.IsZero() || !from.IsZero() {
		return ""
	}
	return fmt.Sprintf(" since %s; --from reads further back", u.From.Format("2006-01-02 15:04 UTC"))
}

const memoryHint = "A memory: store belongs to one process, and this one has taken nothing: read usage in the program that takes, with\n" +
	"Limiter.Usage, or let both use a store like sqlite:zael.db.\n"

const dynamoHint = "Usage of a DynamoDB table is counted by the function of its stack, or by zael aggregate, up to 5 s after the acquire.\n" +
	"If there should be some, look whether one of them runs: zael status, and the log of the function.\n"

func (a *app) inMemory(s *storeFlags) bool {
	url, err := a.storeURL(s)
	return err == nil && strings.HasPrefix(url, "memory:")
}

// noUsageHint says why there may be no usage; empty where a store counts it itself.
func (a *app) noUsageHint(s *storeFlags) string {
	url, err := a.storeURL(s)
	switch {
	case err == nil && strings.HasPrefix(url, "memory:"):
		return memoryHint
	case err == nil && strings.HasPrefix(url, awsconf.Scheme):
		return dynamoHint
	}
	return ""
}

func (a *app) printUsage(u *zael.Usage) {
	columns := usageColumns(u)
	heads := []string{"window", "entity", "resource", ">acquires"}
	for _, c := range columns {
		heads = append(heads, ">"+c.head)
	}
	t := newTable(heads...)
	row := func(first, entity, resource string, total zael.UsageTotal) {
		cells := []string{first, entity, resource, number(total.Events)}
		for _, c := range columns {
			cell := ""
			if n, ok := c.of(&total)[c.limit]; ok {
				cell = number(n)
			}
			cells = append(cells, cell)
		}
		t.add(cells...)
	}
	for _, r := range u.Records {
		row(r.Start.Format(time.RFC3339), r.Entity, r.Resource, zael.UsageTotal{Amounts: r.Amounts, Events: r.Events, Overdrawn: r.Overdrawn})
	}
	row("total", "", "", zael.UsageTotal{Amounts: u.Amounts, Events: u.Events, Overdrawn: u.Overdrawn})
	if p := u.Parents; p != nil {
		row("of parents", "", "", *p)
		row("of others", "", "", zael.UsageTotal{
			Amounts: less(u.Amounts, p.Amounts), Events: saturate.Sub(u.Events, p.Events), Overdrawn: less(u.Overdrawn, p.Overdrawn),
		})
	}
	t.write(a.out, "")
}

// less returns the numbers without those of a part of them.
func less(all, part map[string]int64) map[string]int64 {
	rest := map[string]int64{}
	for name, n := range all {
		rest[name] = saturate.Sub(n, part[name])
	}
	return rest
}

// A usageColumn is what is counted of one limit.
type usageColumn struct {
	head, limit string
	overdrawn   bool // acquires that left it overdrawn; else tokens
}

func (c *usageColumn) of(t *zael.UsageTotal) map[string]int64 {
	if c.overdrawn {
		return t.Overdrawn
	}
	return t.Amounts
}

// usageColumns returns those of all limits in order, and behind the tokens of one that was ever
// overdrawn how often it was. No limit has a space in its name.
func usageColumns(u *zael.Usage) (columns []usageColumn) {
	names := map[string]bool{}
	for name := range u.Amounts {
		names[name] = true
	}
	for name := range u.Overdrawn {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		columns = append(columns, usageColumn{head: name, limit: name})
		if _, ok := u.Overdrawn[name]; ok {
			columns = append(columns, usageColumn{head: name + " overdrawn", limit: name, overdrawn: true})
		}
	}
	return columns
}
