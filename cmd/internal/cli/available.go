package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
)

// query returns the query about the bucket of a request.
func (r *requestFlags) query() zael.Query {
	return zael.Query{
		Entity: r.entity, Resource: r.resource, Limits: *r.limits, ParentLimits: r.parents(),
		Cascade: r.cascade, UseStoredLimits: r.stored,
	}
}

// An availableReport is the output of zael available as JSON.
type availableReport struct {
	Entity    string       `json:"entity_id"`
	Resource  string       `json:"resource"`
	Available zael.Amounts `json:"available"`
	// With --consume, the time until that much is available; null if never.
	RetryAfterSeconds *float64 `json:"retry_after_seconds"`
}

func (a *app) available() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "available --entity ID --resource NAME [flags]",
		Short: "Show how many tokens are available now",
		Long: `Available shows how many tokens each limit of an entity has now, and takes none.
A negative number is debt. If the parent is limited too, it shows the smaller of both
numbers.

With --consume, it also shows how long it takes until these amounts are available,
provided that nobody else takes any. In JSON, retry_after_seconds is 0 if they are
available now, and null if they exceed the burst or if it takes more than 292 years.`,
		Example: `  zael available --entity key-1 --resource gpt-4 --limit rpm=100/min --limit tpm=10000/min
  zael available --entity key-1 --resource gpt-4 --limit tpm=10000/min --consume tpm=500 --json`,
		Args: cobra.NoArgs,
	}
	r := addRequest(cmd, "show when this many tokens of a limit are available; may be repeated")
	store := addServed(cmd, time.Second)
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if err := r.check(); err != nil {
			return err
		}
		asked := len(r.consume) > 0
		if _, err := r.consume.amounts(*r.limits, *r.parentLimits, r.stored); err != nil {
			return err
		}
		return a.manage(cmd.Context(), store, func(ctx context.Context, l limiter) error {
			report := availableReport{Entity: r.entity, Resource: r.resource}
			var err error
			if report.Available, err = l.Available(ctx, r.query()); err != nil {
				return r.ofRequest(err)
			}
			var wait time.Duration
			if asked {
				wait, err = l.TimeUntilAvailable(ctx, r.query(), zael.Amounts(r.consume))
				if err != nil && !errors.Is(err, zael.ErrNever) {
					return r.ofRequest(err)
				}
			}
			if err == nil && wait < zael.Never {
				seconds := decimal.Seconds(wait)
				report.RetryAfterSeconds = &seconds
			}
			if *asJSON {
				return a.printJSON(&report)
			}
			t := newTable("limit", ">available")
			for _, name := range slices.Sorted(maps.Keys(report.Available)) {
				t.add(name, number(report.Available[name]))
			}
			t.write(a.out, "")
			switch {
			case !asked:
			case err != nil:
				fmt.Fprintf(a.out, "%s never: %s\n", zael.Amounts(r.consume), message(err))
			case wait == 0:
				fmt.Fprintf(a.out, "%s now\n", zael.Amounts(r.consume))
			case wait == zael.Never:
				fmt.Fprintf(a.out, "%s in more than 292 years\n", zael.Amounts(r.consume))
			default:
				fmt.Fprintf(a.out, "%s in %v\n", zael.Amounts(r.consume), roundUp(wait))
			}
			return nil
		})
	})
	return cmd
}

// roundUp rounds d up to a millisecond.
func roundUp(d time.Duration) time.Duration {
	if r := d.Round(time.Millisecond); r >= d {
		return r
	}
	return d.Round(time.Millisecond) + time.Millisecond
}
