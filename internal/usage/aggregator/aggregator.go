// Package aggregator is the Lambda function that counts usage from the table's
// stream.
package aggregator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael/internal/usage"
)

// Variables of the function's environment.
const (
	TableVariable     = "ZAEL_TABLE"
	WindowsVariable   = "ZAEL_WINDOWS"        // like "hourly,daily"; these if empty
	RetentionVariable = "ZAEL_RETENTION_DAYS" // 1 to 3650; 90 if empty
)

const (
	parallel    = 16
	attempts    = 5 // of one call of the table; the batch comes again after that
	mostBackoff = 500 * time.Millisecond
	// lastWords is how much of its time the function keeps for its answer.
	lastWords = 2 * time.Second
)

// A Function counts batches of records.
type Function struct {
	counter *usage.Counter
	log     *slog.Logger
}

// New makes the function from its environment. It logs to w, as JSON.
func New(getenv func(string) string, w io.Writer) (*Function, error) {
	config := usage.Config{Parallel: parallel, Log: slog.New(slog.NewJSONHandler(w, nil))}
	table, region := getenv(TableVariable), cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))
	var err error
	if text := getenv(WindowsVariable); text != "" {
		if config.Windows, err = usage.ParseWindows(text); err != nil {
			return nil, fmt.Errorf("%s: %w", WindowsVariable, err)
		}
	}
	if text := getenv(RetentionVariable); text != "" {
		if config.Retention, err = usage.ParseDays(text); err != nil {
			return nil, fmt.Errorf("%s: %w", RetentionVariable, err)
		}
	}
	for name, value := range map[string]string{TableVariable: table, "AWS_REGION": region} {
		if value == "" {
			return nil, fmt.Errorf("%s is not set", name)
		}
	}
	counter, err := usage.New(newClient(getenv, region), table, &config)
	if err != nil {
		return nil, err
	}
	return &Function{counter, config.Log}, nil
}

// newClient is a client with what a function's environment has: no files, no
// other ways to credentials, which keeps the function small and its start short.
func newClient(getenv func(string) string, region string) *dynamodb.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = parallel
	o := dynamodb.Options{
		Region: region, HTTPClient: &http.Client{Transport: transport},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, mostBackoff }),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			c := aws.Credentials{
				AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"),
				SessionToken: getenv("AWS_SESSION_TOKEN"), Source: "environment",
			}
			if !c.HasKeys() {
				return c, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
			}
			return c, nil
		}),
	}
	if endpoint := cmp.Or(getenv("AWS_ENDPOINT_URL_DYNAMODB"), getenv("AWS_ENDPOINT_URL")); endpoint != "" {
		o.BaseEndpoint = aws.String(endpoint)
	}
	return dynamodb.New(o)
}

// Handle counts one batch. The answer names the first record that was not
// counted: the batch comes again from there, and what is counted already does
// not count again. An error has the whole batch come again.
func (f *Function) Handle(ctx context.Context, event Event) (Response, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(lastWords, time.Until(deadline)/5)))
		defer cancel()
	}
	answer := Response{BatchItemFailures: []BatchItemFailure{}}
	failures := map[string]error{}
	var order []string
	var records []usage.Record
	for _, data := range event.Records {
		r, sequence, err := recordOf(data)
		if sequence == "" {
			f.log.Error("a record has no sequence number", "error", cmp.Or(err, usage.ErrUncountable).Error())
			return answer, fmt.Errorf("a record has no sequence number: %w", cmp.Or(err, usage.ErrUncountable))
		}
		order = append(order, sequence)
		if err != nil {
			failures[sequence] = err
			continue
		}
		records = append(records, r)
	}
	result := f.counter.Count(ctx, records)
	for _, failure := range result.Failures {
		failures[failure.Sequence] = failure.Err
	}
	reasons := map[string][]string{} // the numbers of the records, by what is wrong
	for _, sequence := range order {
		err := failures[sequence]
		if err == nil {
			continue
		}
		if len(answer.BatchItemFailures) == 0 {
			answer.BatchItemFailures = append(answer.BatchItemFailures, BatchItemFailure{sequence})
		}
		reasons[err.Error()] = append(reasons[err.Error()], sequence)
	}
	for reason, sequences := range reasons {
		f.log.Error("records were not counted", "records", len(sequences), "first", sequences[0], "error", reason)
	}
	return answer, nil
}
