package cli

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/usage/deadletter"
	"github.com/zeroae/zael/internal/usage/stream"
)

// A redriveResult is the outcome of one dead letter, as JSON.
type redriveResult struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time,omitzero"` // when the changes were given up; missing if unknown
	Stream  string    `json:"stream,omitempty"`
	Shard   string    `json:"shard,omitempty"`
	First   string    `json:"first,omitempty"`
	Last    string    `json:"last,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Records int       `json:"records"`
	Counted bool      `json:"counted"` // all of them, and the letter is deleted
	Gone    bool      `json:"gone"`    // the stream has lost some of them
	Error   string    `json:"error,omitempty"`
}

func (a *app) redrive() *cobra.Command {
	var queue string
	var most int
	var dry bool
	cmd := &cobra.Command{
		Use:   "redrive",
		Short: "Count changes that the aggregator of a DynamoDB table has given up",
		Long: `Redrive counts changes of buckets that could not be counted before: those named by
the messages in the dead letter queue of the Lambda function, with --queue (its URL
is DeadLettersUrl in zael status), and those that zael aggregate has kept in the
table.

A message names changes but does not contain them: they are read from the stream
again, which keeps them for 24 hours. Changes that were counted before do not count
again, even if several redrives run. Messages whose changes are all counted are
deleted; the others stay. A message stays, too, if the stream has lost some of its
changes: delete it by hand.

Each change is counted in the windows of the program that gave it up: a worker's
windows are stored with its dead letters, the Lambda function's in its stack and in
the table's version record. Use --windows if neither can be read.

Exit code 1 means that some messages are left.`,
		Example: `  zael redrive --store 'dynamodb://my-app?region=eu-central-1' \
    --queue https://sqs.eu-central-1.amazonaws.com/123456789012/ZAEL-my-app-DeadLetters-1A2B3C4D5E6F
  zael redrive --dry-run`,
		Args: cobra.NoArgs,
	}
	store := addStore(cmd, storeTimeout)
	flags := addRules(cmd, "as the program that gave the changes up", "as that program, else 90")
	asJSON := addJSON(cmd)
	f := cmd.Flags()
	f.StringVar(&queue, "queue", "", "`URL` of the dead letter queue")
	f.IntVar(&most, "max", 0, "process at most `N` messages; 0 means all")
	f.BoolVar(&dry, "dry-run", false, "read the changes, but do not count them or delete messages")
	for _, flag := range []string{"queue", "max"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if most < 0 {
			return usagef("--max %d is negative", most)
		}
		endpoint, err := queueEndpoint(queue)
		if err != nil {
			return err
		}
		d, err := a.openCounted(cmd.Context(), store, flags)
		if err != nil {
			return err
		}
		if err := d.checkQueue(queue); err != nil {
			return err
		}
		sources := []deadletter.Source{deadletter.NewTable(d.tables, d.table)}
		if queue != "" {
			own := d.config
			if own.BaseEndpoint != nil { // the table is not on AWS, so the queue is not either
				own.BaseEndpoint = aws.String(endpoint)
			}
			sources = append(sources, deadletter.NewQueue(sqs.NewFromConfig(own), queue))
		}
		redrive := deadletter.Redrive{
			NewCounter: d.newCounter, FunctionRules: d.deployed.Or(d.recorded), Asked: d.asked, Table: d.table, DryRun: dry,
			Stream: func(arn string) *stream.Stream { return stream.Of(d.streams, arn) },
		}
		all := []redriveResult{}
		for _, source := range sources {
			left := 0
			if most > 0 {
				if left = most - len(all); left == 0 {
					break
				}
			}
			err := redrive.Run(cmd.Context(), source, left, func(o deadletter.Outcome) {
				r := redriveResultOf(&o, dry)
				all = append(all, r)
				if !*asJSON {
					a.printRedriveResult(&r, dry)
				}
			})
			if err != nil {
				return d.translate(err)
			}
		}
		if *asJSON {
			if err := a.printJSON(all); err != nil {
				return err
			}
		}
		return a.redriveEnd(all, dry, *asJSON)
	})
	return cmd
}

// checkQueue returns an error if the messages of the queue, which do not name windows,
// might be counted in others than the function's: they would be deleted, and missing
// from some.
func (d *countedTable) checkQueue(queue string) error {
	asked, function := d.asked.Windows, d.deployed.Or(d.recorded).Windows
	switch contradiction := d.contradiction(); {
	case queue == "":
	case contradiction != "":
		return fmt.Errorf("%s: bring the record up to date with zael upgrade", contradiction)
	case asked == "" && function == "":
		return usagef("the version record of %s does not name the function's windows: name them with --windows, or bring the record up to date with zael upgrade", d.table)
	case asked != "" && function != "" && asked != function:
		return usagef("--windows %s: the function of %s counts by %s: omit --windows", asked, d.table, function)
	}
	return nil
}

// queueEndpoint returns the endpoint of the queue with a URL; "" if there is none.
func queueEndpoint(queue string) (string, error) {
	if queue == "" {
		return "", nil
	}
	u, err := url.Parse(queue)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", usagef("--queue %q is not the URL of a queue: it is DeadLettersUrl in zael status", queue)
	}
	return u.Scheme + "://" + u.Host, nil
}

func redriveResultOf(o *deadletter.Outcome, dry bool) redriveResult {
	l := &o.Letter
	r := redriveResult{
		ID: l.ID, Time: l.Time, Stream: l.Stream, Shard: l.Shard, First: l.First, Last: l.Last, Reason: l.Reason,
		Records: o.Records, Counted: o.Err == nil && !dry, Gone: errors.Is(o.Err, stream.ErrTrimmed),
	}
	if o.Err != nil {
		r.Error = message(o.Err)
	}
	return r
}

func (a *app) printRedriveResult(r *redriveResult, dry bool) {
	what := "counted"
	switch {
	case r.Gone:
		what = "lost"
	case r.Error != "":
		what = "kept"
	case dry:
		what = "would count"
	}
	fmt.Fprintf(a.out, "%s  %s  %s", what, r.ID, count(r.Records, "change", "changes"))
	if !r.Time.IsZero() {
		fmt.Fprintf(a.out, "  given up %s", r.Time.UTC().Format(time.RFC3339))
	}
	if r.Error != "" {
		fmt.Fprintf(a.out, "\n    %s", printable(r.Error))
	}
	fmt.Fprintln(a.out)
}

func (a *app) redriveEnd(all []redriveResult, dry, asJSON bool) error {
	left, gone := 0, 0
	for i := range all {
		if all[i].Error != "" {
			left++
		}
		if all[i].Gone {
			gone++
		}
	}
	if !asJSON {
		if len(all) == 0 {
			fmt.Fprintln(a.out, "no dead letters")
		} else if !dry {
			fmt.Fprintf(a.out, "%s counted, %s left\n", count(len(all)-left, "message", "messages"), number(int64(left)))
		}
	}
	switch {
	case gone > 0:
		return fmt.Errorf("the stream has lost changes of %s: some may be missing from the usage; delete the messages when you have noted it",
			count(gone, "message", "messages"))
	case left > 0:
		return fmt.Errorf("%s could not be counted", count(left, "message", "messages"))
	}
	return nil
}
