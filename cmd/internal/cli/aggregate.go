package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/usage/stream"
	"github.com/zeroae/zael/internal/usage/streamworker"
)

func (a *app) aggregate() *cobra.Command {
	var once bool
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "aggregate",
		Short: "Count the usage of a DynamoDB table from its stream",
		Long: `Aggregate counts what is taken from the buckets of a DynamoDB table, by hour and
day, as the Lambda function of a deployed stack does: for local use, and for accounts
without Lambda. It counts all namespaces of the table, from the oldest change that
the stream has, which keeps them for 24 hours, and runs until it is ended.

Any number of them may run: they share the work, and one that dies is replaced. It
goes on where it was; nothing is counted twice. What it cannot count it keeps in
the table for zael redrive.

Without --windows it counts by those of the stack's function, if there is one, or of
the workers that run; all of these count by the same.

Readers of the table say usage=true in its URL. --once counts what there is and
exits, for tests and cron; it exits with 1 if something could not be counted.`,
		Example: `  zael aggregate --store 'dynamodb://my-app?region=eu-central-1'
  zael aggregate --once --windows hourly,daily,monthly --retention 365`,
		Args: cobra.NoArgs,
	}
	store := addStore(cmd, storeTimeout)
	counting := addCounting(cmd, "as the stack's function or other workers do, else hourly,daily", "as the stack's function does, else 90")
	asJSON := addJSON(cmd)
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "exit when all is counted that is there")
	f.DurationVar(&length, "lease", 15*time.Second, "take over from a worker that has shown no sign of life for so long")
	_ = cmd.RegisterFlagCompletionFunc("lease", cobra.NoFileCompletions)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if length < 100*time.Millisecond {
			return usagef("--lease %v is below 100ms", length)
		}
		log := slog.New(slog.NewTextHandler(a.err, nil))
		d, err := a.openCounting(cmd.Context(), store, counting, log)
		if err != nil {
			return err
		}
		within, cancel := context.WithTimeout(cmd.Context(), store.timeout)
		defer cancel()
		s, err := stream.Open(within, d.tables, d.streams, d.table)
		if err != nil {
			return late(cmd.Context(), store, d.translate(err))
		}
		if text := d.contradiction(); text != "" {
			log.Warn(text + ": zael upgrade brings the record up to date")
		}
		how := d.asked.Or(d.deployed, d.recorded)
		if how.Windows == "" {
			if how.Windows, err = streamworker.Windows(within, d.tables, d.table, s.Label, length); err != nil {
				return late(cmd.Context(), store, d.translate(err))
			}
		}
		counter, err := d.counter(how)
		if err != nil {
			return err
		}
		how = counter.Counting()
		log.Info("counting usage", "windows", how.Windows, "retention_days", how.Days)
		if of := d.deployed.Or(d.recorded).Windows; of != "" && of != how.Windows {
			log.Warn("the stack's function counts by other windows", "windows", of)
		}
		w, err := streamworker.New(s, d.tables, d.table, counter, &streamworker.Config{Lease: length, Once: once, Log: log})
		if err != nil {
			return err
		}
		err = w.Run(cmd.Context())
		if cmd.Context().Err() != nil && !once {
			err = nil // it was to run until then
		}
		if err != nil {
			return d.translate(err)
		}
		stats := w.Stats()
		if err := a.printCounted(stats, *asJSON); err != nil {
			return err
		}
		if once && stats.Trimmed+stats.DeadLetters > 0 {
			return errors.New("not all could be counted, see above")
		}
		return nil
	})
	return cmd
}

func (a *app) printCounted(s streamworker.Stats, asJSON bool) error {
	if asJSON {
		return a.printJSON(map[string]int64{
			"records": s.Records, "updates": s.Updates, "retries": s.Retries, "dead_letters": s.DeadLetters, "trimmed": s.Trimmed,
		})
	}
	fmt.Fprintf(a.out, "counted %s of buckets in %s of usage\n", count(int(s.Records), "change", "changes"), count(int(s.Updates), "update", "updates"))
	if s.DeadLetters > 0 {
		fmt.Fprintf(a.out, "%s could not be counted: zael redrive, within 24 hours\n", count(int(s.DeadLetters), "change", "changes"))
	}
	if s.Trimmed > 0 {
		fmt.Fprintf(a.out, "the stream had lost changes %s: they are not counted\n", count(int(s.Trimmed), "time", "times"))
	}
	return nil
}
