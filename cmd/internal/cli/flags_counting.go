package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/awsquirks"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/stack"
)

const (
	countParallel = 16               // calls that counting makes at a time
	answerTimeout = 30 * time.Second // of one of them, before it is made again
)

// A countFlags is what is counted, and how long it is kept.
type countFlags struct {
	cmd       *cobra.Command
	windows   string
	retention int
}

// addCounting gives cmd flags that say how to count, with what holds without them.
func addCounting(cmd *cobra.Command, windows, retention string) *countFlags {
	c := &countFlags{cmd: cmd}
	f := cmd.Flags()
	f.StringVar(&c.windows, "windows", "", "what to count by: a `LIST` of hourly, daily and monthly; default: "+windows)
	f.IntVar(&c.retention, "retention", 0, "keep usage for so many `DAYS` after its window; default: "+retention)
	for _, flag := range []string{"windows", "retention"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}

// asked is what the flags say; zero what they do not.
func (c *countFlags) asked() (asked usage.Counting, err error) {
	if c.cmd.Flags().Changed("windows") {
		windows, err := usage.ParseWindows(c.windows)
		if err != nil {
			return asked, usagef("--windows: %w", err)
		}
		asked.Windows = usage.WindowsText(windows)
	}
	if c.cmd.Flags().Changed("retention") {
		if _, err := usage.ParseDays(strconv.Itoa(c.retention)); err != nil {
			return asked, usagef("--retention: %w", err)
		}
		asked.Days = c.retention
	}
	return asked, nil
}

// A dynamo is a table and its stream, opened.
type dynamo struct {
	config   aws.Config
	table    string
	tables   *dynamodb.Client
	streams  *dynamodbstreams.Client
	log      *slog.Logger
	asked    usage.Counting // by the flags
	recorded usage.Counting // of the table's function, as the version record says
	deployed usage.Counting // of the table's function, as the stack says; zero if that cannot be read
}

// openCounting opens a table whose usage is to be counted.
func (a *app) openCounting(ctx context.Context, s *storeFlags, c *countFlags, log *slog.Logger) (*dynamo, error) {
	address, err := a.dynamoAddress(s)
	if err != nil {
		if url, _ := a.storeURL(s); !strings.HasPrefix(url, awsconf.Scheme) {
			return nil, usagef("%w. Other stores count usage as they take, and give up nothing: zael usage shows that of a SQLite file, and Limiter.Usage, in the program, that of a memory: store", err)
		}
		return nil, err
	}
	d := &dynamo{table: address.Table, log: log}
	if d.asked, err = c.asked(); err != nil {
		return nil, err
	}
	if d.config, err = address.Config(ctx); err != nil {
		return nil, ofURL(err)
	}
	if c, ok := d.config.HTTPClient.(*awshttp.BuildableClient); ok { // as the library loads it
		d.config.HTTPClient = c.WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 2 * countParallel
			t.ResponseHeaderTimeout = answerTimeout
		})
	}
	d.tables, d.streams = dynamodb.NewFromConfig(d.config), dynamodbstreams.NewFromConfig(d.config)
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if d.recorded, err = usage.Recorded(within, d.tables, d.table); err != nil {
		return nil, late(ctx, s, d.translate(err))
	}
	d.deployed = d.lookAtStack(within)
	return d, nil
}

// lookAtStack returns how the function of the table's stack counts. A table need not have
// a stack, and a program that counts need not be allowed to read it: then the version
// record is all there is.
func (d *dynamo) lookAtStack(ctx context.Context) usage.Counting {
	config := d.config.Copy()
	config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	st, err := stack.New(config, d.table)
	if err != nil {
		return usage.Counting{}
	}
	f, err := st.Function(ctx)
	if err != nil {
		return usage.Counting{}
	}
	windows, err := usage.ParseWindows(f.Windows)
	if err != nil {
		return usage.Counting{}
	}
	return usage.Counting{Windows: usage.WindowsText(windows), Days: f.RetentionDays}
}

// contradiction says what the version record says otherwise than the stack; empty if
// nothing, or one of them does not say.
func (d *dynamo) contradiction() string {
	if d.recorded == (usage.Counting{}) || d.deployed == (usage.Counting{}) || d.recorded == d.deployed {
		return ""
	}
	return fmt.Sprintf("the version record of %s says that its function counts by %s, for %d days, and the stack by %s, for %d days",
		d.table, d.recorded.Windows, d.recorded.Days, d.deployed.Windows, d.deployed.Days)
}

// translate puts an error of the SDK into zael's words: no answer is the table's
// unavailability, and a missing table is named.
func (d *dynamo) translate(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		where := d.table + " in " + d.config.Region
		if d.config.BaseEndpoint != nil {
			where += " at " + *d.config.BaseEndpoint
		}
		return fmt.Errorf("%w: %s", dynamostore.ErrNoTable, where)
	}
	switch api, ok := errors.AsType[smithy.APIError](err); {
	case awsquirks.CredentialsMissing(err):
		return errors.New(awsquirks.NoCredentials)
	case awsquirks.CredentialsLate(err):
		return fmt.Errorf("%w: %s", zael.ErrUnavailable, awsquirks.LateCredentials)
	case ok && api.ErrorFault() != smithy.FaultServer:
		return err
	}
	if _, ok := errors.AsType[*smithy.OperationError](err); ok {
		return fmt.Errorf("%w: %w", zael.ErrUnavailable, err)
	}
	return err
}

// counter counts the table's usage in a way; by hour and day, and for 90 days, where
// that does not say.
func (d *dynamo) counter(how usage.Counting) (*usage.Counter, error) {
	config, err := how.Config()
	if err != nil {
		return nil, err
	}
	config.Parallel, config.Log = countParallel, d.log
	return usage.New(d.tables, d.table, &config)
}
