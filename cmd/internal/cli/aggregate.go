package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/stream"
	"github.com/zeroae/zael/internal/usage/streamworker"
)

// aggregateParallel is how many calls counting makes at a time.
const aggregateParallel = 16

// A countFlags is what is counted, and how long it is kept.
type countFlags struct {
	windows   string
	retention int
}

func addCounting(cmd *cobra.Command) *countFlags {
	c := new(countFlags)
	f := cmd.Flags()
	f.StringVar(&c.windows, "windows", "hourly,daily", "what to count by: a list of hourly, daily and monthly")
	f.IntVar(&c.retention, "retention", 90, "keep usage for so many `DAYS` after its window")
	for _, flag := range []string{"windows", "retention"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}

func (c *countFlags) config(log *slog.Logger) (*usage.Config, error) {
	windows, err := usage.ParseWindows(c.windows)
	if err != nil {
		return nil, usagef("--windows: %w", err)
	}
	retention, err := usage.ParseDays(fmt.Sprint(c.retention))
	if err != nil {
		return nil, usagef("--retention: %w", err)
	}
	return &usage.Config{Windows: windows, Retention: retention, Parallel: aggregateParallel, Log: log}, nil
}

// A dynamo is a table and its stream, opened.
type dynamo struct {
	config  aws.Config
	table   string
	tables  *dynamodb.Client
	streams *dynamodbstreams.Client
	counter *usage.Counter
}

func (a *app) openCounting(ctx context.Context, s *storeFlags, c *countFlags, log *slog.Logger) (*dynamo, error) {
	address, err := a.dynamoAddress(s)
	if err != nil {
		return nil, err
	}
	config, err := c.config(log)
	if err != nil {
		return nil, err
	}
	d := &dynamo{table: address.Table}
	if d.config, err = address.Config(ctx); err != nil {
		return nil, ofURL(err)
	}
	if d.config.HTTPClient == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 2 * aggregateParallel
		d.config.HTTPClient = &http.Client{Transport: transport}
	}
	d.config.Logger = logging.Nop{} // what matters comes as an error
	d.tables, d.streams = dynamodb.NewFromConfig(d.config), dynamodbstreams.NewFromConfig(d.config)
	d.counter, err = usage.New(d.tables, d.table, config)
	return d, err
}

// ofTable says of an error that no answer explains that the table is unavailable,
// and of a missing table that it is.
func ofTable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return dynamostore.ErrNoTable
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorFault() != smithy.FaultServer {
		return err
	}
	if _, ok := errors.AsType[*smithy.OperationError](err); ok {
		return fmt.Errorf("%w: %w", zael.ErrUnavailable, err)
	}
	return err
}

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

Readers of the table say usage=true in its URL. --once counts what there is and
exits, for tests and cron; it exits with 1 if something could not be counted.`,
		Example: `  zael aggregate --store 'dynamodb://my-app?region=eu-central-1'
  zael aggregate --once --windows hourly,daily,monthly --retention 365`,
		Args: cobra.NoArgs,
	}
	store := addStore(cmd, storeTimeout)
	counting := addCounting(cmd)
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
			return late(cmd.Context(), store, ofTable(err))
		}
		w, err := streamworker.New(s, d.tables, d.table, d.counter, &streamworker.Config{Lease: length, Once: once, Log: log})
		if err != nil {
			return err
		}
		err = w.Run(cmd.Context())
		if cmd.Context().Err() != nil && !once {
			err = nil // it was to run until then
		}
		if err != nil {
			return ofTable(err)
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
