package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/stack"
)

// A stackFlags is which stack a command is about, and how long it waits.
type stackFlags struct {
	name     string
	region   string
	endpoint string
	timeout  time.Duration
}

// Timeouts of commands that wait for CloudFormation, and of those that ask.
const (
	stackTimeout = 30 * time.Minute
	askTimeout   = 30 * time.Second
)

// addAWS gives cmd the flags --region, --endpoint-url and --timeout.
func addAWS(cmd *cobra.Command, timeout time.Duration) *stackFlags {
	s := new(stackFlags)
	f := cmd.Flags()
	f.StringVar(&s.region, "region", "", "AWS `REGION` (default: $AWS_REGION, else that of your AWS configuration)")
	f.StringVar(&s.endpoint, "endpoint-url", "", "`URL` of an emulator of AWS (default: AWS)")
	f.DurationVar(&s.timeout, "timeout", timeout, "give up after so long")
	for _, flag := range []string{"region", "endpoint-url", "timeout"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return s
}

// addStack gives cmd those and --name.
func addStack(cmd *cobra.Command, timeout time.Duration, defaultName string) *stackFlags {
	s := addAWS(cmd, timeout)
	cmd.Flags().StringVarP(&s.name, "name", "n", defaultName, "`NAME` of the limiter; stack and table are ZAEL-NAME")
	_ = cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
	if defaultName == "" {
		_ = cmd.MarkFlagRequired("name")
	}
	return s
}

// load is the AWS configuration that the flags say.
func (s *stackFlags) load(ctx context.Context) (aws.Config, error) {
	if s.timeout <= 0 {
		return aws.Config{}, usagef("--timeout %v is not above 0", s.timeout)
	}
	c, err := awsconf.Load(ctx, s.region, s.endpoint)
	return c, ofStackFlags(err)
}

// withStack calls f with the stack of the flags, within their timeout.
func (s *stackFlags) withStack(ctx context.Context, f func(context.Context, *stack.Stack) error) error {
	c, err := s.load(ctx)
	if err != nil {
		return err
	}
	st, err := stack.New(c, s.name)
	if err != nil {
		return ofStackFlags(err)
	}
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.ofStack(ctx, f(within, st))
}

// ofStack is an error of package stack as the command line tells it.
func (s *stackFlags) ofStack(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("not done within --timeout %v: %w", s.timeout, err)
	}
	if failed, ok := errors.AsType[*stack.Error](err); ok {
		return &exitError{code: exitFailed, cause: err, detail: failedEvents(failed.Events)}
	}
	_, dial := errors.AsType[*net.OpError](err)
	_, sending := errors.AsType[*smithyhttp.RequestSendError](err)
	if dial || sending {
		return &exitError{code: exitUnavailable, cause: err}
	}
	return ofStackFlags(err)
}

// failedEvents are the resources that failed, one on a line.
func failedEvents(events []stack.Event) string {
	var b strings.Builder
	for i := range events {
		if e := &events[i]; e.Failed() {
			b.WriteString("  " + eventLine(e) + "\n")
		}
	}
	return b.String()
}

func eventLine(e *stack.Event) string {
	line := fmt.Sprintf("%s  %-28s %-24s %s", e.Time.Local().Format(time.TimeOnly), e.Status, e.Resource, e.Type)
	if e.Reason != "" {
		line += ": " + printable(e.Reason)
	}
	return line
}

// progressTo tells of what CloudFormation does: as lines on standard error, unless
// the output is for programs and nobody looks.
func (a *app) progressTo(asJSON bool) func(stack.Event) {
	if asJSON && !isTerminal(a.err) {
		return nil
	}
	return func(e stack.Event) { _, _ = io.WriteString(a.err, eventLine(&e)+"\n") }
}

// ofStackFlags is a *zael.ValidationError in the words of these commands.
func ofStackFlags(err error) error {
	v, ok := errors.AsType[*zael.ValidationError](err)
	if !ok {
		return err
	}
	reason, _, _ := strings.Cut(v.Reason, ": use 0 for") // which is for programs
	reason = strings.NewReplacer("NoAggregator", "--no-aggregator", "set Options.Architecture", "say --architecture").Replace(reason)
	flag, ok := map[string]string{
		"name": "--name", "region": "--region", "endpoint": "--endpoint-url",
		"Options.Windows": "--snapshot-windows", "Options.RetentionDays": "--retention-days",
		"Options.LambdaTimeoutSeconds": "--lambda-timeout", "Options.LambdaMemoryMB": "--lambda-memory",
		"Options.LogRetentionDays": "--log-retention-days", "Options.PITRRecoveryDays": "--pitr-recovery-days",
		"Options.LambdaDurationThresholdPct": "--lambda-duration-threshold-pct", "Options.AlarmTopic": "--alarm-sns-topic",
		"Options.PermissionBoundary": "--permission-boundary", "Options.RoleNameFormat": "--role-name-format",
		"Options.Tags": "--tag", "Options.Architecture": "--architecture", "Code.Zip": "--code",
	}[v.Field]
	if !ok {
		return err
	}
	if text, ok := v.Value.(string); ok || v.Value == nil {
		if text == "" {
			return usagef("%s %s", flag, reason)
		}
		return usagef("%s %q %s", flag, text, reason)
	}
	return usagef("%s %v %s", flag, v.Value, reason)
}

// storeOf is the URL of the store that a stack has, as the flags reach it.
func (s *stackFlags) storeOf(c *aws.Config, name string, counted bool) string {
	url := awsconf.Scheme + strings.TrimPrefix(name, "ZAEL-") + "?region=" + c.Region
	if s.endpoint != "" {
		url += "&endpoint=" + s.endpoint
	}
	if counted {
		url += "&usage=true"
	}
	return url
}
