package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"github.com/zeroae/zael/internal/usage/deadletter"
	"github.com/zeroae/zael/internal/usage/stream"
)

// A redriven is what came of one letter, as JSON.
type redriven struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"` // when it was given up
	Stream  string    `json:"stream,omitempty"`
	Shard   string    `json:"shard,omitempty"`
	First   string    `json:"first,omitempty"`
	Last    string    `json:"last,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Records int       `json:"records"`
	Counted bool      `json:"counted"` // all of it: the letter is gone
	Gone    bool      `json:"gone"`    // some of it: the stream has it no more
	Error   string    `json:"error,omitempty"`
}

func (a *app) redrive() *cobra.Command {
	var queue string
	var most int
	var dry bool
	cmd := &cobra.Command{
		Use:   "redrive",
		Short: "Count what the aggregator of a DynamoDB table has given up",
		Long: `Redrive counts changes of buckets that could not be counted when they came: those
named by the messages in the Lambda function's queue of dead letters, with --queue
(zael status has its URL, as DeadLettersUrl), and those that zael aggregate has kept
in the table.

A message names changes and does not have them: they are read again from the stream,
which keeps them for 24 hours. What had been counted is not counted again, also if
several redrives run. Messages whose changes are all counted are deleted, the
others stay; those of which the stream has lost a part say so, and can only be
deleted by hand.

Changes are counted by the windows by which who gave them up counts: the worker's are in
the table, and the function's in the table's version record. --windows is for a table
that has no such record.

Exit code 1 says that some messages are left.`,
		Example: `  zael redrive --store 'dynamodb://my-app?region=eu-central-1' \
    --queue https://sqs.eu-central-1.amazonaws.com/123456789012/ZAEL-my-app-DeadLetters-1A2B3C4D5E6F
  zael redrive --dry-run`,
		Args: cobra.NoArgs,
	}
	store := addStore(cmd, storeTimeout)
	counting := addCounting(cmd, "as who gave the changes up", "as who gave them up, else 90")
	asJSON := addJSON(cmd)
	f := cmd.Flags()
	f.StringVar(&queue, "queue", "", "the `URL` of the queue of dead letters")
	f.IntVar(&most, "max", 0, "at most so many messages; 0: all")
	f.BoolVar(&dry, "dry-run", false, "read the changes, and neither count nor delete")
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
		d, err := a.openCounting(cmd.Context(), store, counting, slog.New(slog.NewTextHandler(a.err, nil)))
		if err != nil {
			return err
		}
		if err := d.checkQueue(queue); err != nil {
			return err
		}
		sources := []deadletter.Source{deadletter.NewTable(d.tables, d.table)}
		if queue != "" {
			own := d.config
			if own.BaseEndpoint != nil { // that of the table, which is not on AWS, so neither is the queue
				own.BaseEndpoint = aws.String(endpoint)
			}
			sources = append(sources, deadletter.NewQueue(sqs.NewFromConfig(own), queue))
		}
		redrive := deadletter.Redrive{
			Counter: d.counter, Recorded: d.deployed.Or(d.recorded), Asked: d.asked, Table: d.table, Dry: dry,
			Stream: func(arn string) *stream.Stream { return stream.Of(d.streams, arn) },
		}
		all := []redriven{}
		for _, source := range sources {
			left := 0
			if most > 0 {
				if left = most - len(all); left == 0 {
					break
				}
			}
			err := redrive.Run(cmd.Context(), source, left, func(o deadletter.Outcome) {
				r := redrivenOf(&o, dry)
				all = append(all, r)
				if !*asJSON {
					a.printRedriven(&r, dry)
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
// might be counted in others than the function's: they would be deleted, and missing in
// some.
func (d *dynamo) checkQueue(queue string) error {
	asked, function := d.asked.Windows, d.deployed.Or(d.recorded).Windows
	switch contradiction := d.contradiction(); {
	case queue == "":
	case contradiction != "":
		return fmt.Errorf("%s: bring the record up to date with zael upgrade", contradiction)
	case asked == "" && function == "":
		return usagef("the version record of %s does not name the function's windows: name them with --windows, or bring the record up to date with zael upgrade", d.table)
	case asked != "" && function != "" && asked != function:
		return usagef("--windows %s: the function of %s counts by %s: leave out --windows", asked, d.table, function)
	}
	return nil
}

// queueEndpoint is where the queue with this URL is asked; empty if there is none.
func queueEndpoint(queue string) (string, error) {
	if queue == "" {
		return "", nil
	}
	u, err := url.Parse(queue)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", usagef("--queue %q is not the URL of a queue: zael status has it, as DeadLettersUrl", queue)
	}
	return u.Scheme + "://" + u.Host, nil
}

func redrivenOf(o *deadletter.Outcome, dry bool) redriven {
	l := &o.Letter
	r := redriven{
		ID: l.ID, Time: l.Time, Stream: l.Stream, Shard: l.Shard, First: l.First, Last: l.Last, Reason: l.Reason,
		Records: o.Records, Counted: o.Err == nil && !dry, Gone: errors.Is(o.Err, stream.ErrTrimmed),
	}
	if o.Err != nil {
		r.Error = message(o.Err)
	}
	return r
}

func (a *app) printRedriven(r *redriven, dry bool) {
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

func (a *app) redriveEnd(all []redriven, dry, asJSON bool) error {
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
		return fmt.Errorf("changes of %s are gone from the stream and not counted: delete the messages when you have noted it",
			count(gone, "message", "messages"))
	case left > 0:
		return fmt.Errorf("%s could not be counted", count(left, "message", "messages"))
	}
	return nil
}
