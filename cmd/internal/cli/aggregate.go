package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/usage/stream"
	usageworker "github.com/zeroae/zael/internal/usage/worker"
)

func (a *app) aggregate() *cobra.Command {
	var once bool
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "aggregate",
		Short: "Count the usage of a DynamoDB table from its stream",
		Long: `Aggregate counts what is taken from the buckets of a DynamoDB table, by hour and
day, as the Lambda function of a deployed stack does: for local use, and for accounts
without Lambda. It counts all namespaces of the table and runs until it is stopped.
It begins with the oldest change in the table's stream, which keeps changes for 24
hours.

Any number of workers may run: they share the work, and others take over from one
that dies. Nothing is counted twice. Changes that cannot be counted are kept in the
table for zael redrive.

The default of --windows is the windows of the stack's function or of the workers
that run. All of them must count by the same windows.

To read usage, add usage=true to the table's URL. --once counts what there is and
exits, for tests and cron, with exit code 1 if something could not be counted.`,
		Example: `  zael aggregate --store 'dynamodb://my-app?region=eu-central-1'
  zael aggregate --once --windows hourly,daily,monthly --retention 365`,
		Args: cobra.NoArgs,
	}
	store := addStore(cmd, storeTimeout)
	flags := addRules(cmd, "as the stack's function or other workers do, else hourly,daily", "as the stack's function does, else 90")
	asJSON := addJSON(cmd)
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "exit when everything is counted")
	f.DurationVar(&length, "lease", 15*time.Second, "take over from workers that have been silent for this long")
	_ = cmd.RegisterFlagCompletionFunc("lease", cobra.NoFileCompletions)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if length < 100*time.Millisecond {
			return usagef("--lease %v is below 100ms", length)
		}
		log := slog.New(slog.NewTextHandler(a.err, nil))
		d, err := a.openCounted(cmd.Context(), store, flags)
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
		rules := d.asked.Or(d.deployed, d.recorded)
		if rules.Windows == "" {
			if rules.Windows, err = usageworker.Windows(within, d.tables, d.table, s.Label, length); err != nil {
				return late(cmd.Context(), store, d.translate(err))
			}
		}
		counter, err := d.newCounter(rules)
		if err != nil {
			return err
		}
		rules = counter.Rules()
		log.Info("counting usage", "windows", rules.Windows, "retention_days", rules.Days)
		if f := d.deployed.Or(d.recorded).Windows; f != "" && f != rules.Windows {
			log.Warn("the stack's function counts by other windows", "windows", f)
		}
		w, err := usageworker.New(s, d.tables, d.table, counter, &usageworker.Config{Lease: length, Once: once, Log: log})
		if err != nil {
			return err
		}
		err = w.Run(cmd.Context())
		if cmd.Context().Err() != nil && !once {
			err = nil // it runs until it is stopped
		}
		if err != nil {
			return d.translate(err)
		}
		stats := w.Stats()
		if err := a.printCounted(stats, *asJSON); err != nil {
			return err
		}
		if once && stats.Trimmed+stats.DeadLetters > 0 {
			return errors.New("some changes could not be counted, see above")
		}
		return nil
	})
	return cmd
}

func (a *app) printCounted(s usageworker.Stats, asJSON bool) error {
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
		fmt.Fprintf(a.out, "the stream had lost changes %s: some may be missing from the usage\n", count(int(s.Trimmed), "time", "times"))
	}
	return nil
}
