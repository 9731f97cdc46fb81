package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/stack"
)

// A deployCommand is the flags of zael deploy.
type deployCommand struct {
	*stackFlags
	options                  stack.Options
	windows                  []string
	tags                     pairsValue
	aggregator, noAggregator bool
	alarms, noAlarms         bool
	wait, noWait             bool
	bucket                   string
	code                     codeFlag
	json                     *bool
}

func (a *app) deploy() *cobra.Command {
	c := deployCommand{tags: pairsValue{}}
	cmd := &cobra.Command{
		Use:   "deploy",
		Short: "Create or update a limiter's stack: table, aggregator, alarms, policies",
		Long: `Deploy creates the CloudFormation stack ZAEL-NAME, or updates it to match the flags.
A flag that is left out means its default, even if the stack has another value. If
the stack could not be created before, deploy deletes what is left of it and starts
over. If several programs deploy at once, one does the work and the others wait.

The code of the aggregator, the Lambda function that counts usage, is part of this
program if it is a release or was built by make build; zael version tells. It is
uploaded to --code-bucket, or to the account's bucket zael-artifacts-ACCOUNT-REGION,
which is created if it is missing and stays when the stack is deleted.

An existing table is not taken over, such as one that zael table create made.`,
		Example: `  zael deploy --name demo --region eu-central-1
  zael deploy --name demo --alarm-sns-topic arn:aws:sns:eu-central-1:123456789012:alarms --pitr-recovery-days 7
  zael deploy --name demo --no-aggregator --no-alarms`,
		Args: onlyFlags,
	}
	c.stackFlags = addStack(cmd, stackTimeout, "limiter")
	c.json = addJSON(cmd)
	c.addOptions(cmd.Flags())
	c.code.add(cmd)
	for _, pair := range [][2]string{{"enable-aggregator", "no-aggregator"}, {"enable-alarms", "no-alarms"}, {"wait", "no-wait"}} {
		cmd.MarkFlagsMutuallyExclusive(pair[0], pair[1])
	}
	_ = cmd.RegisterFlagCompletionFunc("architecture", cobra.FixedCompletions([]string{stack.ARM64, stack.X8664}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		for _, name := range []string{"retention-days", "lambda-timeout", "lambda-memory", "log-retention-days", "lambda-duration-threshold-pct"} {
			if f := cmd.Flags().Lookup(name); f.Value.String() == "0" {
				return usagef("--%s 0 is below 1: leave the flag out for %s", name, f.DefValue)
			}
		}
		if err := c.checkIdle(cmd.Flags()); err != nil {
			return err
		}
		return c.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) error {
			return a.runDeploy(ctx, &c, st)
		})
	})
	return cmd
}

func (c *deployCommand) addOptions(f *pflag.FlagSet) {
	o := &c.options
	d := stack.Options{}.WithDefaults()
	f.StringSliceVar(&c.windows, "snapshot-windows", windowTexts(d.Windows), "count usage in each of these `WINDOWS`: hourly, daily, monthly")
	f.IntVar(&o.RetentionDays, "retention-days", d.RetentionDays, "keep usage for `N` days, 1 to 3650")
	f.BoolVar(&c.aggregator, "enable-aggregator", true, "count usage with a Lambda function")
	f.BoolVar(&c.noAggregator, "no-aggregator", false, "create no function that counts usage; zael aggregate can count instead")
	f.StringVar(&o.Architecture, "architecture", "", "the function's `ARCH`: arm64 or x86_64 (default: arm64, which is cheaper; on an emulator on this machine, this machine's)")
	f.IntVar(&o.LambdaTimeoutSeconds, "lambda-timeout", d.LambdaTimeoutSeconds, "the function's timeout in `SECONDS`, 1 to 900")
	f.IntVar(&o.LambdaMemoryMB, "lambda-memory", d.LambdaMemoryMB, "the function's memory in `MB`, 128 to 3008")
	f.IntVar(&o.LogRetentionDays, "log-retention-days", d.LogRetentionDays, "keep the function's log for `N` days, a number that CloudWatch offers")
	f.IntVar(&o.PITRRecoveryDays, "pitr-recovery-days", 0, "make the table restorable to any time in the last `N` days, 1 to 35 (default: off)")
	f.BoolVar(&o.DeletionProtection, "deletion-protection", false, "protect stack and table from deletion")
	f.BoolVar(&c.alarms, "enable-alarms", true, "create alarms")
	f.BoolVar(&c.noAlarms, "no-alarms", false, "create no alarms")
	f.StringVar(&o.AlarmTopic, "alarm-sns-topic", "", "send alarms to the SNS topic with this `ARN`")
	f.IntVar(&o.LambdaDurationThresholdPct, "lambda-duration-threshold-pct", d.LambdaDurationThresholdPct, "raise an alarm if a call of the function takes `N` % of its timeout, 1 to 100")
	f.StringVar(&o.PermissionBoundary, "permission-boundary", "", "the permission boundary of the function's role: the name or ARN of a `POLICY`")
	f.StringVar(&o.RoleNameFormat, "role-name-format", "", "the function's role's name, like `app-{}`, where {} stands for ZAEL-NAME-aggregator")
	f.Var(c.tags, "tag", "a tag `KEY=VALUE` for everything in the stack; may be repeated")
	f.StringVar(&c.bucket, "code-bucket", "", "upload the function's code to this S3 `BUCKET` in the stack's region (default: the account's own)")
	f.BoolVar(&c.wait, "wait", true, "wait until CloudFormation has finished")
	f.BoolVar(&c.noWait, "no-wait", false, "return when CloudFormation has begun")
}

func windowTexts(windows []zael.Window) []string {
	texts := make([]string, len(windows))
	for i, w := range windows {
		texts[i] = string(w)
	}
	return texts
}

// checkIdle returns an error if a flag was given that is about something which another
// flag leaves out.
func (c *deployCommand) checkIdle(f *pflag.FlagSet) error {
	for _, part := range []struct {
		without bool
		flag    string
		idle    []string
	}{
		{c.noAggregator || !c.aggregator, "no-aggregator", []string{
			"snapshot-windows", "retention-days", "architecture", "lambda-timeout", "lambda-memory", "log-retention-days",
			"lambda-duration-threshold-pct", "permission-boundary", "role-name-format", "code", "code-bucket",
		}},
		{c.noAlarms || !c.alarms, "no-alarms", []string{"alarm-sns-topic", "lambda-duration-threshold-pct"}},
	} {
		for _, name := range part.idle {
			if part.without && f.Changed(name) {
				return usagef("--%s says nothing beside --%s: leave out one of the two", name, part.flag)
			}
		}
	}
	return nil
}

// prepare makes the options of the flags.
func (c *deployCommand) prepare() {
	for _, w := range c.windows {
		c.options.Windows = append(c.options.Windows, zael.Window(strings.TrimSpace(w)))
	}
	c.options.NoAggregator = c.noAggregator || !c.aggregator
	c.options.NoAlarms = c.noAlarms || !c.alarms
	if len(c.tags) > 0 {
		c.options.Tags = c.tags
	}
}

func (a *app) runDeploy(ctx context.Context, c *deployCommand, st *stack.Stack) error {
	c.prepare()
	if own := c.emulated(); own != "" && !c.options.NoAggregator {
		if c.options.Architecture = cmp.Or(c.options.Architecture, own); c.options.Architecture != own {
			fmt.Fprintf(a.err, "zael: warning: an emulator on this machine runs functions for %s alone: one for %s will count no usage\n", own, c.options.Architecture)
		}
	}
	if err := c.options.Validate(st.Name()); err != nil {
		return err
	}
	change := stack.Change{
		Options: &c.options, CodeBucket: c.bucket, By: a.who(&storeFlags{}), Progress: a.progressTo(*c.json), NoWait: c.noWait || !c.wait,
	}
	if !c.options.NoAggregator {
		var err error
		if change.Code, err = c.code.read(c.options.WithDefaults().Architecture); err != nil {
			return err
		}
	}
	result, err := st.Apply(ctx, change)
	if err != nil {
		return err
	}
	return a.printApplied(c.stackFlags, result, !c.options.NoAggregator, *c.json)
}

// emulated returns the architecture of this machine's functions, if the stack is on an
// emulator that runs them here; otherwise "".
func (c *deployCommand) emulated() string {
	if local, err := awsconf.IsLocal(aws.ToString(c.loaded.BaseEndpoint)); err != nil || !local {
		return ""
	}
	return map[string]string{"amd64": stack.X8664, "arm64": stack.ARM64}[runtime.GOARCH]
}

// An applied is what came of deploy and upgrade, as JSON.
type applied struct {
	*stack.Result
	Store string `json:"store"` // the URL for programs and for --store
}

// printApplied prints what Apply did; the stack is to have a function if counted.
func (a *app) printApplied(s *stackFlags, r *stack.Result, counted, asJSON bool) error {
	if v := r.Versions; v != nil && !v.Unknown {
		counted = v.Lambda != ""
	}
	url := s.storeOf(r.Stack, counted)
	if asJSON {
		return a.printJSON(applied{r, url})
	}
	switch r.Outcome {
	case stack.Unchanged:
		state := "up to date"
		if len(r.Kept) > 0 {
			state = "not changed"
		}
		fmt.Fprintf(a.out, "%s: %s\n", r.Stack, state)
	case stack.KeptNewer:
		fmt.Fprintf(a.out, "%s: not changed, as a newer zael deployed it\n", r.Stack)
	case stack.Begun:
		fmt.Fprintf(a.out, "%s: begun, status %s. To follow it: %s\n", r.Stack, r.Status, s.command("status"))
	default:
		fmt.Fprintf(a.out, "%s: %s\n", r.Stack, r.Outcome)
	}
	for _, k := range r.Kept {
		fmt.Fprintf(a.out, "  %s\n", keptLine(k))
	}
	if len(r.Changes) > 0 {
		t := newTable("change", "resource", "type", "")
		for _, ch := range r.Changes {
			replaced := ""
			if ch.Replacement == "True" {
				replaced = "replaced"
			}
			t.add(strings.ToLower(ch.Action), ch.Resource, ch.Type, replaced)
		}
		t.write(a.out, "  ")
	}
	if v := r.Versions; v != nil {
		fmt.Fprintf(a.out, "schema %s, aggregator %s\n", v.Schema, aggregatorOf(v))
	}
	fmt.Fprintf(a.out, "store '%s'\n", url)
	return nil
}

// keptLine says why a part of a stack stays, and what replaces it.
func keptLine(k stack.Kept) string {
	what, remedy := "the "+k.Part, "zael upgrade --force replaces it"
	if k.Part == "aggregator" {
		what += "'s code"
	}
	why := map[stack.KeptReason]string{
		stack.Newer:        fmt.Sprintf("it is %s, newer than this program's %s", k.Deployed, k.Own),
		stack.SameVersion:  fmt.Sprintf("it is %s, as this program's, and not the same", k.Deployed),
		stack.Incomparable: fmt.Sprintf("it is %s and this program's %s, so neither is known to be newer", k.Deployed, k.Own),
		stack.NoCode:       fmt.Sprintf("it is %s, older than this program, %s, which was built without it", k.Deployed, k.Own),
	}[k.Reason]
	if k.Reason == stack.NoCode {
		remedy = "build zael with make build, or give the code with --code"
	}
	return fmt.Sprintf("%s stays: %s; %s", what, why, remedy)
}

// aggregatorOf is the version of a record's aggregator.
func aggregatorOf(v *stack.Record) string {
	if v.Unknown {
		return "not known"
	}
	return cmp.Or(v.Lambda, "none")
}

// printOutputs prints a stack's outputs.
func (a *app) printOutputs(outputs map[string]string) {
	t := newTable("output", "value")
	for _, name := range slices.Sorted(maps.Keys(outputs)) {
		t.add(name, outputs[name])
	}
	t.write(a.out, "")
}
