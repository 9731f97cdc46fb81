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

// Environment variables of the function.
const (
	TableVariable     = "ZAEL_TABLE"
	WindowsVariable   = "ZAEL_WINDOWS"        // such as "hourly,daily", the default
	RetentionVariable = "ZAEL_RETENTION_DAYS" // 1 to 3650; the default is 90
)

const (
	parallel    = 16
	maxAttempts = 5 // of one call of the table, before Lambda sends the batch again
	maxBackoff  = 500 * time.Millisecond
	// responseReserve is how much of its time the function keeps for its response.
	responseReserve = 2 * time.Second
)

// A Function counts batches of records.
type Function struct {
	counter *usage.Counter
	log     *slog.Logger
}

// New returns the function that its environment configures. It logs JSON to w.
func New(getenv func(string) string, w io.Writer) (*Function, error) {
	config := usage.Config{Parallel: parallel}
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
	return &Function{counter, slog.New(slog.NewJSONHandler(w, nil))}, nil
}

// newClient returns a client that is configured by the environment alone. Without files
// and other sources of credentials the program is small and starts fast.
func newClient(getenv func(string) string, region string) *dynamodb.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = parallel
	o := dynamodb.Options{
		Region: region, HTTPClient: &http.Client{Transport: transport},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = maxAttempts, maxBackoff }),
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

// Handle counts a batch. The response names the first record that was not counted: Lambda
// sends the batch again from there, and records that were counted do not count again.
// After an error Lambda sends the whole batch again.
func (f *Function) Handle(ctx context.Context, event Event) (Response, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(responseReserve, time.Until(deadline)/5)))
		defer cancel()
	}
	response := Response{BatchItemFailures: []BatchItemFailure{}}
	failures := map[string]error{}
	var order []string
	var records []usage.Record
	for _, data := range event.Records {
		r, sequence, err := decode(data)
		if sequence == "" {
			f.log.Error("a record has no sequence number", "error", cmp.Or(err, usage.ErrUncountable).Error())
			return response, fmt.Errorf("a record has no sequence number: %w", cmp.Or(err, usage.ErrUncountable))
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
	reasons := map[string][]string{} // sequence numbers by error
	for _, sequence := range order {
		err := failures[sequence]
		if err == nil {
			continue
		}
		if len(response.BatchItemFailures) == 0 {
			response.BatchItemFailures = append(response.BatchItemFailures, BatchItemFailure{sequence})
		}
		reasons[err.Error()] = append(reasons[err.Error()], sequence)
	}
	for reason, sequences := range reasons {
		f.log.Error("records were not counted", "records", len(sequences), "first", sequences[0], "error", reason)
	}
	return response, nil
}
