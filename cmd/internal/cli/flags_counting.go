package cli

import (
	"context"
	"errors"
	"fmt"
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
	countParallel = 16               // concurrent calls of a Counter
	answerTimeout = 30 * time.Second // of one of them, before it is sent again
)

// rulesFlags are the flags that say how to count.
type rulesFlags struct {
	cmd       *cobra.Command
	windows   string
	retention int
}

// addRules gives cmd flags that say how to count. windows and retention describe the
// defaults.
func addRules(cmd *cobra.Command, windows, retention string) *rulesFlags {
	c := &rulesFlags{cmd: cmd}
	f := cmd.Flags()
	f.StringVar(&c.windows, "windows", "", "count by this `LIST` of hourly, daily and monthly; default: "+windows)
	f.IntVar(&c.retention, "retention", 0, "keep usage for this many `DAYS` after its window; default: "+retention)
	for _, flag := range []string{"windows", "retention"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}

// asked returns the rules that the flags give; fields without a flag are zero.
func (c *rulesFlags) asked() (asked usage.CountingRules, err error) {
	if c.cmd.Flags().Changed("windows") {
		windows, err := usage.ParseWindows(c.windows)
		if err != nil {
			return asked, usagef("--windows: %w", err)
		}
		asked.Windows = usage.FormatWindows(windows)
	}
	if c.cmd.Flags().Changed("retention") {
		if _, err := usage.ParseDays(strconv.Itoa(c.retention)); err != nil {
			return asked, usagef("--retention: %w", err)
		}
		asked.Days = c.retention
	}
	return asked, nil
}

// A countedTable is an open table whose usage is counted.
type countedTable struct {
	config   aws.Config
	table    string
	tables   *dynamodb.Client
	streams  *dynamodbstreams.Client
	asked    usage.CountingRules // by the flags
	recorded usage.CountingRules // of the table's function, by the version record
	deployed usage.CountingRules // of the table's function, by the stack; zero if that cannot be read
}

// openCounted opens a table to count its usage.
func (a *app) openCounted(ctx context.Context, s *storeFlags, c *rulesFlags) (*countedTable, error) {
	address, err := a.dynamoAddress(s)
	if err != nil {
		if url, _ := a.storeURL(s); !strings.HasPrefix(url, awsconf.Scheme) {
			return nil, usagef("%w. Other stores count usage as they take, and give nothing up: zael usage shows that of a SQLite file, and Limiter.Usage, in the program, that of a memory: store", err)
		}
		return nil, err
	}
	d := &countedTable{table: address.Table}
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
	if d.recorded, err = usage.FunctionRules(within, d.tables, d.table); err != nil {
		return nil, late(ctx, s, d.translate(err))
	}
	d.deployed = d.lookAtStack(within)
	return d, nil
}

// lookAtStack returns how the function of the table's stack counts. A table need not have
// a stack, and a program that counts need not be allowed to read it: then the version
// record is all there is.
func (d *countedTable) lookAtStack(ctx context.Context) usage.CountingRules {
	config := d.config.Copy()
	config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	st, err := stack.New(config, d.table)
	if err != nil {
		return usage.CountingRules{}
	}
	f, err := st.Function(ctx)
	if err != nil {
		return usage.CountingRules{}
	}
	windows, err := usage.ParseWindows(f.Windows)
	if err != nil {
		return usage.CountingRules{}
	}
	return usage.CountingRules{Windows: usage.FormatWindows(windows), Days: f.RetentionDays}
}

// contradiction describes how the version record differs from the stack, "" if it does not
// or one of them is not known.
func (d *countedTable) contradiction() string {
	if d.recorded == (usage.CountingRules{}) || d.deployed == (usage.CountingRules{}) || d.recorded == d.deployed {
		return ""
	}
	return fmt.Sprintf("by the version record of %s its function counts by %s, for %d days, by the stack by %s, for %d days",
		d.table, d.recorded.Windows, d.recorded.Days, d.deployed.Windows, d.deployed.Days)
}

// translate puts an error of the SDK into zael's words: no answer is the table's
// unavailability, and a missing table is named.
func (d *countedTable) translate(err error) error {
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

// newCounter returns a Counter of the table. Rules that are not known are its defaults.
func (d *countedTable) newCounter(rules usage.CountingRules) (*usage.Counter, error) {
	config, err := rules.Config()
	if err != nil {
		return nil, err
	}
	config.Parallel = countParallel
	return usage.New(d.tables, d.table, &config)
}
