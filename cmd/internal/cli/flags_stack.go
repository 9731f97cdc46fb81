package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/stack"
)

// A stackFlags is which stack a command is about, and how long it waits.
type stackFlags struct {
	name     string
	region   string
	endpoint string
	timeout  time.Duration

	given  *pflag.FlagSet
	loaded aws.Config // by load
}

// Timeouts of commands that wait for CloudFormation, and of those that ask.
const (
	stackTimeout = 30 * time.Minute
	askTimeout   = 30 * time.Second
)

// addAWS gives cmd the flags --region, --endpoint-url and --timeout.
func addAWS(cmd *cobra.Command, timeout time.Duration) *stackFlags {
	f := cmd.Flags()
	s := &stackFlags{given: f}
	f.StringVar(&s.region, "region", "", "AWS `REGION` (default: $AWS_REGION, or that of your AWS configuration)")
	f.StringVar(&s.endpoint, "endpoint-url", "", "`URL` of an AWS emulator (default: AWS)")
	f.DurationVar(&s.timeout, "timeout", timeout, "give up after this long")
	for _, flag := range []string{"region", "endpoint-url", "timeout"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return s
}

// addStack gives cmd those and --name.
func addStack(cmd *cobra.Command, timeout time.Duration, defaultName string) *stackFlags {
	s := addAWS(cmd, timeout)
	cmd.Flags().StringVarP(&s.name, "name", "n", defaultName, "the limiter's `NAME`; its stack and table are ZAEL-NAME")
	_ = cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
	if defaultName == "" {
		_ = cmd.MarkFlagRequired("name")
	}
	return s
}

// onlyFlags is cobra.NoArgs for these commands, with the flag that an argument may have
// been meant for.
func onlyFlags(cmd *cobra.Command, args []string) error {
	err := cobra.NoArgs(cmd, args)
	if err == nil {
		return nil
	}
	_, notBool := strconv.ParseBool(args[0])
	switch {
	case notBool == nil:
		return fmt.Errorf("%w: a flag that is true or false has its value behind =, as --deletion-protection=%s", err, args[0])
	case cmd.Flags().Lookup("name") != nil:
		return fmt.Errorf("%w: the name of a limiter is given as --name %s", err, args[0])
	}
	return err
}

// load reads the AWS configuration that the flags say.
func (s *stackFlags) load(ctx context.Context) error {
	var err error
	s.given.Visit(func(f *pflag.Flag) {
		// As where a variable of the shell is not set: not what was meant.
		if text := f.Value.String(); err == nil && (text == "" || text == "[]") {
			err = usagef("--%s is empty: give a value, or leave the flag out", f.Name)
		}
	})
	if err != nil {
		return err
	}
	if s.timeout <= 0 {
		return usagef("--timeout %v is not above 0", s.timeout)
	}
	s.loaded, err = awsconf.Load(ctx, s.region, s.endpoint)
	return ofStackFlags(err)
}

// withStack calls f with the stack of the flags, within their timeout.
func (s *stackFlags) withStack(ctx context.Context, f func(context.Context, *stack.Stack) error) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	st, err := stack.New(s.loaded, s.name)
	if err != nil {
		return ofStackFlags(err)
	}
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.ofStack(ctx, f(within, st))
}

// ofStack is an error of package stack as the command line tells it.
func (s *stackFlags) ofStack(ctx context.Context, err error) error {
	err = ofStackFlags(err)
	if _, done := errors.AsType[*exitError](err); done {
		return err
	}
	told := &exitError{code: exitCode(ctx, err), cause: err}
	if err == nil || told.code == exitUsage {
		return err
	}
	late := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
	switch {
	case told.code > exitSignal:
		told.cause = errors.New("interrupted")
	case late:
		told.cause = fmt.Errorf("not done within --timeout %v: %w", s.timeout, err)
	case errors.Is(err, stack.ErrNoStack):
		told.cause = fmt.Errorf("there is no stack %s in %s", s.fullName(), s.loaded.Region)
		told.detail = s.whereElse()
	}
	if failed, ok := errors.AsType[*stack.Error](err); ok {
		told.detail += failedEvents(failed.Events)
	}
	if _, ok := errors.AsType[*stack.WaitError](err); ok {
		told.detail += "CloudFormation goes on with what it has begun. To follow it: " + s.command("status") + "\n"
	}
	return told
}

// ofTable is an error of reading the table's versions.
func (s *stackFlags) ofTable(ctx context.Context, err error) error {
	if errors.Is(err, dynamostore.ErrNoTable) {
		return &exitError{
			code: exitFailed, cause: fmt.Errorf("there is no table %s in %s", s.fullName(), s.loaded.Region), detail: s.whereElse(),
		}
	}
	return s.ofStack(ctx, err)
}

func (s *stackFlags) fullName() string { return "ZAEL-" + strings.TrimPrefix(s.name, "ZAEL-") }

// whereElse is what to do about a limiter that is missing.
func (s *stackFlags) whereElse() string {
	return fmt.Sprintf("If it has another name, %s shows it; if it is in another region, add --region.\nTo create it: %s\n", s.listing(), s.command("deploy"))
}

// listing is the command that lists the stacks there are.
func (s *stackFlags) listing() string {
	all := *s
	all.name = ""
	return all.command("list")
}

// command is another command for the same stack.
func (s *stackFlags) command(name string) string {
	words := []string{"zael", name}
	for _, f := range [][2]string{{"name", strings.TrimPrefix(s.name, "ZAEL-")}, {"region", s.region}, {"endpoint-url", s.endpoint}} {
		if f[1] != "" {
			words = append(words, "--"+f[0], shellWord(f[1]))
		}
	}
	return strings.Join(words, " ")
}

// shellWord is a text as a shell takes it for one word.
func shellWord(text string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`).MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
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
	reason = strings.NewReplacer("NoAggregator", "--no-aggregator", "set Options.Architecture", "deploy with --architecture", "leave it empty", "leave it out").Replace(reason)
	flag, ok := map[string]string{
		"name": "--name", "region": "--region", "endpoint": "--endpoint-url",
		"Options.Windows": "--snapshot-windows", "Options.RetentionDays": "--retention-days",
		"Options.LambdaTimeoutSeconds": "--lambda-timeout", "Options.LambdaMemoryMB": "--lambda-memory",
		"Options.LogRetentionDays": "--log-retention-days", "Options.PITRRecoveryDays": "--pitr-recovery-days",
		"Options.LambdaDurationThresholdPct": "--lambda-duration-threshold-pct", "Options.AlarmTopic": "--alarm-sns-topic",
		"Options.PermissionBoundary": "--permission-boundary", "Options.RoleNameFormat": "--role-name-format",
		"Options.Tags": "--tag", "Options.Architecture": "--architecture", "Code.Zip": "--code", "CodeBucket": "--code-bucket",
	}[v.Field]
	if !ok {
		return err
	}
	if text, ok := v.Value.(string); ok || v.Value == nil {
		if v.Value == nil || text == "" && (strings.HasPrefix(reason, "is empty") || strings.HasPrefix(reason, "is not set")) {
			return usagef("%s %s", flag, reason)
		}
		return usagef("%s %q %s", flag, text, reason)
	}
	return usagef("%s %v %s", flag, v.Value, reason)
}

// storeOf is the URL of the store that a stack has, as the flags reach it.
func (s *stackFlags) storeOf(name string, counted bool) string {
	address := awsconf.Scheme + strings.TrimPrefix(name, "ZAEL-") + "?region=" + s.loaded.Region
	if s.endpoint != "" {
		endpoint := s.endpoint
		if read, err := url.ParseQuery("e=" + endpoint); err != nil || read.Get("e") != endpoint {
			endpoint = url.QueryEscape(endpoint)
		}
		address += "&endpoint=" + endpoint
	}
	if counted {
		address += "&usage=true"
	}
	return address
}
