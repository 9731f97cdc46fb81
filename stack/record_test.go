package stack_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/stack"
)

// counting is a stack with a function of a version that counts by the options' windows.
func counting(status types.StackStatus, version string, o *stack.Options) *found {
	f := complete(idOne, status, o)
	f.params["CodeBucket"], f.params["CodeKey"], f.params["CodeVersion"] = "b", codeOf("", version).Key(), version
	return f
}

// A program that connects before anybody has noted what is deployed looks for itself. The
// trap is that it noted "no aggregator" of a stack that was still being created: nobody
// updated the function then, and usage was not supported.
func TestProgramThatConnectsLooksAtTheStack(t *testing.T) {
	t.Parallel()
	denied := answered("AccessDenied", "no")
	for name, c := range map[string]struct {
		formation stack.Formation
		want      stack.Record
	}{
		"no stack":                   {standing{}, stack.Record{}},
		"one without a function":     {standing{f: complete(idOne, types.StackStatusCreateComplete, bare())}, stack.Record{}},
		"one that is created":        {standing{f: counting(types.StackStatusCreateInProgress, "v1.0.0", &stack.Options{})}, stack.Record{Unknown: true}},
		"one that is updated":        {standing{f: counting(types.StackStatusUpdateInProgress, "v1.0.0", &stack.Options{})}, stack.Record{Unknown: true}},
		"one that is complete":       {standing{f: counting(types.StackStatusCreateComplete, "v1.0.0", &stack.Options{})}, stack.Record{Lambda: "v1.0.0", Windows: "hourly,daily", Retention: 90}},
		"it may not look":            {standing{err: denied}, stack.Record{Unknown: true}},
		"CloudFormation is away":     {standing{err: fmt.Errorf("away: %w", zael.ErrUnavailable)}, stack.Record{Unknown: true}},
		"CloudFormation is silent":   {silentFormation{}, stack.Record{Unknown: true}},
		"one that failed is no word": {standing{f: counting(types.StackStatusCreateFailed, "v1.0.0", &stack.Options{})}, stack.Record{Unknown: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, before := range []*stack.Record{nil, {Schema: stack.SchemaVersion, ClientMin: "v0.5.0", Unknown: true}} {
					s := versioned(t, "v1.0.0", before)
					s = stack.NewFake(fakeName, c.formation, nil, nil, s.Table()).SetVersion("v1.0.0")
					begin := time.Now()
					if err := connect(t, s, stack.Config{}); err != nil {
						t.Fatalf("after the record %+v: got %v, want nil", before, err)
					}
					if took := time.Since(begin); took > 3*time.Second {
						t.Errorf("it took %v, want 3 s at most: the program needs none of it", took)
					}
					got := record(t, s)
					if got.Unknown != c.want.Unknown || got.Lambda != c.want.Lambda || got.Windows != c.want.Windows || got.Retention != c.want.Retention {
						t.Errorf("after the record %+v: got %+v, want the aggregator of %+v", before, got, c.want)
					}
					if before != nil && got.ClientMin != before.ClientMin {
						t.Errorf("least client: got %s, want %s as before", got.ClientMin, before.ClientMin)
					}
				}
			})
		})
	}
}

// A silentFormation never answers.
type silentFormation struct{ stack.Formation }

func (silentFormation) DescribeStacks(ctx context.Context, _ *cloudformation.DescribeStacksInput, _ ...opt) (*cloudformation.DescribeStacksOutput, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", zael.ErrUnavailable, ctx.Err())
}

// What it has learned counts: an older function is brought up to date, or is an error.
func TestLearnedFunctionIsJudged(t *testing.T) {
	t.Parallel()
	s := stack.NewFake(fakeName, standing{f: counting(types.StackStatusCreateComplete, "v1.0.0", &stack.Options{})}, nil, nil, dynamofake.New()).SetVersion("v1.1.0")
	var v *stack.VersionError
	if err := connect(t, s, stack.Config{}); !errors.As(err, &v) || v.Lambda != "v1.0.0" {
		t.Errorf("a newer program without code: got %v, want a *VersionError about v1.0.0", err)
	}
}

// A program that may not write the table opens it all the same.
func TestReaderOpensWithoutARecord(t *testing.T) {
	t.Parallel()
	for _, before := range []*stack.Record{nil, {Schema: stack.SchemaVersion, ClientMin: stack.LeastClient, Unknown: true}} {
		tab := versioned(t, "v1.0.0", before).Table()
		s := stack.NewFake(fakeName, standing{}, nil, nil, readOnly{tab}).SetVersion("v1.0.0")
		if err := connect(t, s, stack.Config{}); err != nil {
			t.Errorf("with the record %+v: got %v, want nil", before, err)
		}
	}
}

// A readOnly is a table whose caller may not write.
type readOnly struct{ stack.Records }

func (readOnly) UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return nil, answered("AccessDeniedException", "not authorized to perform: dynamodb:UpdateItem")
}

// From before an update of the function begins until somebody has seen its end the record
// does not know the function. The trap is that it kept the old windows of an update that
// nobody waited for, so that changes were counted by these and deleted.
func TestRecordIsInvalidatedBeforeAnUpdate(t *testing.T) {
	t.Parallel()
	before := counting(types.StackStatusCreateComplete, "v1.0.0", &stack.Options{})
	wanted := &stack.Options{Windows: []zael.Window{zael.Monthly}}
	after := counting(types.StackStatusUpdateComplete, "v1.0.0", wanted)
	noted := stack.Record{Schema: stack.SchemaVersion, ClientMin: "v0.5.0", Lambda: "v1.0.0", Windows: "hourly,daily", Retention: 90, UpdatedBy: "before"}
	is, rolledBack := describes(fakeName, before), counting(types.StackStatusUpdateRollbackComplete, "v1.0.0", &stack.Options{})
	ready := steps(is, template(stack.Template()), anySet, setIs(types.ChangeSetStatusCreateComplete, ""), is, events(idOne))
	ended := func(f *found) []step {
		return []step{describes(idOne, f), events(idOne, says(2, fakeName, string(f.status), ""), says(1, fakeName, "UPDATE_IN_PROGRESS", ""))}
	}
	for name, c := range map[string]struct {
		change  stack.Change
		execute step // its check is run beside this test's
		then    []step
		want    string // the windows in the record; "unknown"
		fails   bool
	}{
		"nobody waits":       {stack.Change{NoWait: true}, step{}, []step{describes(idOne, counting(types.StackStatusUpdateInProgress, "v1.0.0", wanted))}, "unknown", false},
		"it is interrupted":  {stack.Change{}, step{}, []step{describes(idOne, counting(types.StackStatusUpdateInProgress, "v1.0.0", wanted)), {call: "DescribeStackEvents", err: context.Canceled}}, "unknown", true},
		"its answer is lost": {stack.Change{}, step{err: fmt.Errorf("lost: %w", zael.ErrUnavailable)}, []step{{call: "DeleteChangeSet"}}, "unknown", true},
		"it is done":         {stack.Change{}, step{}, append(ended(after), describes(idOne, after)), "monthly", false},
		"it is rolled back":  {stack.Change{}, step{}, append(ended(rolledBack), describes(idOne, rolledBack)), "hourly,daily", true},
		"another was first": {
			stack.Change{},
			step{err: answered("InvalidChangeSetStatus", "")},
			[]step{{call: "DeleteChangeSet"}, describes(fakeName, after), template(stack.Template()), describes(idOne, after)},
			"monthly", false,
		},
		"a program notes the old ones in between": {
			stack.Change{NoWait: true},
			step{check: noteMeanwhile(before)},
			[]step{describes(idOne, counting(types.StackStatusUpdateInProgress, "v1.0.0", wanted))},
			"unknown", false,
		},
		"versions are not checked": {stack.SkipVersions(stack.Change{NoWait: true}), step{}, []step{describes(idOne, counting(types.StackStatusUpdateInProgress, "v1.0.0", wanted))}, "unknown", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := versioned(t, "v1.0.0", &noted)
			execute := step{call: "ExecuteChangeSet", err: c.execute.err, check: func(t *testing.T, _ any) {
				t.Helper()
				if got := record(t, s); !got.Unknown || got.Windows != "" || got.Retention != 0 || got.ClientMin != "v0.5.0" {
					t.Errorf("when it is executed: got %+v, want a record that does not know the function", got)
				}
				if c.execute.check != nil {
					c.execute.check(t, s)
				}
			}}
			c.change.Options, c.change.By = wanted, "me"
			updater := stack.NewFake(fakeName, scripted(t, steps(ready, execute, c.then)...), nil, nil, s.Table()).SetVersion("v1.0.0")
			if _, err := updater.Apply(t.Context(), c.change); (err != nil) != c.fails {
				t.Errorf("Apply: got %v, want an error %t", err, c.fails)
			}
			got := record(t, s)
			if got.Unknown != (c.want == "unknown") || !got.Unknown && got.Windows != c.want || got.UpdatedBy != "me" {
				t.Errorf("at the end: got %+v, want windows %s, by me", got, c.want)
			}
			if known, err := usage.FunctionRules(t.Context(), s.Table(), fakeName); err != nil || known.Windows != got.Windows {
				t.Errorf("who counts with it: got %+v (%v), want windows %q", known, err, got.Windows)
			}
		})
	}
}

// noteMeanwhile is a program that connects, and has read the stack as it was.
func noteMeanwhile(f *found) func(t *testing.T, s any) {
	return func(t *testing.T, s any) {
		t.Helper()
		other := stack.NewFake(fakeName, standing{f: f}, nil, nil, s.(*stack.Stack).Table()).SetVersion("v1.0.0")
		if err := connect(t, other, stack.Config{}); err != nil {
			t.Error(err)
		}
		if got := record(t, other); got.Unknown {
			t.Errorf("a program that connects: got %+v, want what it has seen", got)
		}
	}
}

// An update that does not concern the function leaves the record as it is.
func TestRecordStaysWhereTheFunctionDoes(t *testing.T) {
	t.Parallel()
	wanted := &stack.Options{PITRRecoveryDays: 7}
	is := describes(fakeName, counting(types.StackStatusCreateComplete, "v1.0.0", &stack.Options{}))
	noted := stack.Record{Schema: stack.SchemaVersion, ClientMin: "v0.5.0", Lambda: "v1.0.0", Windows: "hourly,daily", Retention: 90, UpdatedBy: "before"}
	s := versioned(t, "v1.0.0", &noted, steps(is, template(stack.Template()), anySet, setIs(types.ChangeSetStatusCreateComplete, ""), is, events(idOne),
		step{call: "ExecuteChangeSet"}, describes(idOne, counting(types.StackStatusUpdateInProgress, "v1.0.0", wanted)))...)
	apply(t, s, stack.Change{Options: wanted, NoWait: true, By: "me"}, stack.Begun)
	if got := record(t, s); got.UpdatedBy != "before" {
		t.Errorf("record: got %+v, want it as before", got)
	}
}

// A stack that the tools of AWS have changed is not what the record says.
func TestRecordDifferences(t *testing.T) {
	t.Parallel()
	noted := &stack.Record{Schema: stack.SchemaVersion, ClientMin: stack.LeastClient, Lambda: "v1.0.0", Windows: "hourly,daily", Retention: 90}
	unknown := &stack.Record{Schema: stack.SchemaVersion, ClientMin: stack.LeastClient, Unknown: true}
	for name, c := range map[string]struct {
		record    *stack.Record
		formation standing
		want      string
	}{
		"the same":               {noted, standing{f: counting(types.StackStatusUpdateComplete, "v1.0.0", &stack.Options{})}, "UPDATE_COMPLETE []"},
		"another":                {noted, standing{f: counting(types.StackStatusUpdateComplete, "v1.1.0", &stack.Options{RetentionDays: 7, Windows: []zael.Window{zael.Monthly}})}, "UPDATE_COMPLETE [{aggregator v1.0.0 v1.1.0} {windows hourly,daily monthly} {retention_days 90 7}]"},
		"none":                   {noted, standing{f: complete(idOne, types.StackStatusCreateComplete, bare())}, "CREATE_COMPLETE [{aggregator v1.0.0 none} {windows hourly,daily none} {retention_days 90 none}]"},
		"unknown":                {unknown, standing{f: counting(types.StackStatusUpdateComplete, "v1.0.0", &stack.Options{})}, "UPDATE_COMPLETE [{aggregator unknown v1.0.0}]"},
		"while it is updated":    {unknown, standing{f: counting(types.StackStatusUpdateInProgress, "v1.0.0", &stack.Options{})}, "UPDATE_IN_PROGRESS []"},
		"of no stack":            {noted, standing{}, " []"},
		"of one it may not read": {noted, standing{err: answered("AccessDenied", "no")}, " []"},
	} {
		s := stack.NewFake(fakeName, c.formation, nil, nil, versioned(t, "v1.0.0", c.record).Table()).SetVersion("v1.0.0")
		got, err := s.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(got.StackStatus, " ", got.RecordDifferences); text != c.want {
			t.Errorf("Check, %s: got %s, want %s", name, text, c.want)
		}
	}
	// Status says so too.
	is := counting(types.StackStatusUpdateComplete, "v1.1.0", &stack.Options{})
	s := versioned(t, "v1.0.0", noted, describes(fakeName, is), tableResource, template(stack.Template()))
	if st, err := s.Status(t.Context(), nil); err != nil || fmt.Sprint(st.RecordDifferences) != "[{aggregator v1.0.0 v1.1.0}]" {
		t.Errorf("Status: got %+v and %v, want the aggregator told apart", st, err)
	}
}

// Function is what the stack has, whatever the record says.
func TestStackFunction(t *testing.T) {
	t.Parallel()
	of := func(f standing) (stack.Function, error) {
		return stack.NewFake(fakeName, f, nil, nil, nil).Function(t.Context())
	}
	got, err := of(standing{f: counting(types.StackStatusUpdateRollbackComplete, "v1.1.0", &stack.Options{RetentionDays: 7})})
	if want := (stack.Function{Version: "v1.1.0", Windows: "hourly,daily", RetentionDays: 7}); got != want || err != nil {
		t.Errorf("got %+v and %v, want %+v", got, err, want)
	}
	if got, err := of(standing{f: complete(idOne, types.StackStatusCreateComplete, bare())}); got != (stack.Function{}) || err != nil {
		t.Errorf("without one: got %+v and %v, want none", got, err)
	}
	if _, err := of(standing{}); !errors.Is(err, stack.ErrNoStack) {
		t.Errorf("without a stack: got %v, want ErrNoStack", err)
	}
	_, err = of(standing{f: counting(types.StackStatusUpdateInProgress, "v1.1.0", &stack.Options{})})
	if e := new(stack.Error); !errors.As(err, &e) || !strings.Contains(e.Reason, "UPDATE_IN_PROGRESS") {
		t.Errorf("while it is updated: got %v, want a *stack.Error that says so", err)
	}
}
