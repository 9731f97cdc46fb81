package stack_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/stack"
)

var missing = answered("ValidationError", "Stack with id ZAEL-demo does not exist")

// A stack that goes between any two calls of Apply is an error or is created again, and
// never a panic.
func TestStackVanishesUnderApply(t *testing.T) {
	t.Parallel()
	wanted := bare()
	wanted.PITRRecoveryDays = 7
	wanted.DeletionProtection = true
	is := describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare()))
	busy := describes(fakeName, &found{id: idOne, status: types.StackStatusUpdateInProgress})
	updating := steps(
		is, template(stack.Template()), step{call: "UpdateTerminationProtection"}, anySet, setIs(types.ChangeSetStatusCreateComplete, ""), is, events(idOne),
		step{call: "ExecuteChangeSet"}, describes(idOne, &found{id: idOne, status: types.StackStatusUpdateInProgress}),
		events(idOne, says(1, fakeName, "UPDATE_IN_PROGRESS", "")),
	)
	drop := step{call: "DeleteChangeSet", err: missing}
	refuse := func(call string) step { return step{call: call, err: missing} }
	for name, c := range map[string]struct {
		steps []step
		again bool // it is looked for again, and not there
	}{
		"before the template":    {[]step{is, refuse("GetTemplate")}, true},
		"before the protection":  {append(slices.Clone(updating[:2]), refuse("UpdateTerminationProtection")), true},
		"before the change set":  {append(slices.Clone(updating[:3]), refuse("CreateChangeSet")), true},
		"before it is ready":     {append(slices.Clone(updating[:4]), step{call: "DescribeChangeSet", err: answered("ChangeSetNotFound", "")}, drop), true},
		"before it is looked at": {append(slices.Clone(updating[:5]), describes(fakeName, nil), drop), true},
		"before its events":      {append(slices.Clone(updating[:6]), refuse("DescribeStackEvents"), drop), true},
		"before it is executed":  {append(slices.Clone(updating[:7]), refuse("ExecuteChangeSet"), drop), true},
		"while it is updated":    {append(slices.Clone(updating), describes(idOne, nil)), false},
		"after it was updated": {append(slices.Clone(updating),
			describes(idOne, &found{id: idOne, status: types.StackStatusDeleteComplete}), events(idOne, says(2, fakeName, "DELETE_COMPLETE", ""))), false},
		"while its events are read": {append(slices.Clone(updating[:9]), refuse("DescribeStackEvents")), false},
		"while another updates it":  {[]step{busy, events(idOne), describes(idOne, nil)}, true},
		"before the other's events": {[]step{busy, refuse("DescribeStackEvents")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !c.again {
				_, err := fake(t, c.steps...).Apply(t.Context(), stack.Change{Options: wanted})
				var e *stack.Error
				if !errors.As(err, &e) || !strings.Contains(e.Reason, "deleted meanwhile") {
					t.Errorf("Apply: got %v, want a *stack.Error that says so", err)
				}
				return
			}
			// Without options there is none to make, and with them it is made.
			apply(t, fake(t, steps(c.steps, describes(fakeName, nil), creation(idTwo))...), stack.Change{Options: wanted}, stack.Created)
		})
	}

	s := fake(t, is, refuse("GetTemplate"), describes(fakeName, nil))
	if _, err := s.Apply(t.Context(), stack.Change{}); !errors.Is(err, stack.ErrNoStack) {
		t.Errorf("Apply without options: got %v, want ErrNoStack", err)
	}
	s = fake(t, describes(fakeName, nil), created(idOne), describes(idOne, nil))
	if _, err := s.Apply(t.Context(), stack.Change{Options: bare()}); err == nil || !strings.Contains(err.Error(), "deleted meanwhile") {
		t.Errorf("Apply, deleted while it is created: got %v, want that", err)
	}
	s = fake(t, describes(fakeName, nil), created(idOne), describes(idOne, nil))
	if r, err := s.Apply(t.Context(), stack.Change{Options: bare(), NoWait: true}); err != nil || r.Outcome != stack.Begun {
		t.Errorf("Apply without waiting: got %+v and %v, want that it has begun", r, err)
	}
}

func TestStackVanishesUnderStatus(t *testing.T) {
	t.Parallel()
	is := describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare()))
	for _, script := range [][]step{
		{describes(fakeName, nil)},
		{is, {call: "ListStackResources", err: missing}},
		{is, {call: "ListStackResources"}, {call: "GetTemplate", err: missing}},
	} {
		if st, err := fake(t, script...).Status(t.Context(), bare()); !errors.Is(err, stack.ErrNoStack) || st != nil {
			t.Errorf("Status after %d calls: got %+v and %v, want ErrNoStack", len(script), st, err)
		}
	}
}

func TestStackVanishesUnderDelete(t *testing.T) {
	t.Parallel()
	is := describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare()))
	for name, script := range map[string][]step{
		"before the template": {is, {call: "GetTemplate", err: missing}, describes(fakeName, nil)},
		"before its events":   {is, template(stack.Template()), {call: "DescribeStackEvents", err: missing}},
		"while it is deleted": {is, template(stack.Template()), events(idOne), {call: "DeleteStack"}, describes(idOne, nil)},
	} {
		if err := fake(t, script...).Delete(t.Context(), nil); err != nil {
			t.Errorf("Delete, gone %s: got %v, want nil", name, err)
		}
	}
}

// tableResource answers with the table of a stack.
var tableResource = step{call: "ListStackResources", out: &cloudformation.ListStackResourcesOutput{StackResourceSummaries: []types.StackResourceSummary{
	{LogicalResourceId: aws.String("Table"), ResourceStatus: types.ResourceStatusCreateComplete},
}}}

// What is known of a stack is told also where its table was deleted by hand, where it
// has no versions yet, and where another program made it.
func TestStatusTellsTheRest(t *testing.T) {
	t.Parallel()
	o := bare()
	is := describes(fakeName, complete(idOne, types.StackStatusCreateComplete, o))
	byID := describes(idOne, complete(idOne, types.StackStatusCreateComplete, o))
	st, err := fake(t, is, tableResource, template(stack.Template())).Status(t.Context(), nil)
	if err != nil || st.Versions != nil || len(st.Resources) != 1 {
		t.Errorf("no versions: got %+v and %v, want the rest", st, err)
	}
	st, err = fake(t, is, tableResource, template(theirTemplate)).Status(t.Context(), nil)
	if err != nil || !st.Foreign || len(st.Resources) != 1 {
		t.Errorf("another program's: got %+v and %v, want that it is", st, err)
	}
	s := stack.NewFake(fakeName, scripted(t, is, tableResource, template(stack.Template()), byID, is, template(stack.Template()), byID), nil, nil, lostTable{})
	st, err = s.Status(t.Context(), nil)
	if !errors.Is(err, dynamostore.ErrNoTable) || st == nil || len(st.Resources) != 1 || st.Template != 1 {
		t.Errorf("no table: got %+v and %v, want ErrNoTable and the rest", st, err)
	}
	contains(t, "error", fmt.Sprint(err), "zael delete", "zael deploy")
	_, err = s.Apply(t.Context(), stack.Change{Options: bare()})
	contains(t, "Apply without a table", fmt.Sprint(err), "zael delete", "zael deploy")
}

// Nothing of a change set is left where it was not executed, also where that is not
// known, and however Apply ends.
func TestChangeSetIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	wanted := bare()
	wanted.PITRRecoveryDays = 7
	is := describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare()))
	denied := answered("AccessDenied", "no")
	for name, at := range map[string][]step{
		"its answer is lost":          {{call: "CreateChangeSet", err: fmt.Errorf("lost: %w", zael.ErrUnavailable)}},
		"it cannot be read":           {anySet, {call: "DescribeChangeSet", err: denied}},
		"the stack cannot":            {anySet, setIs(types.ChangeSetStatusCreateComplete, ""), {call: "DescribeStacks", err: denied}},
		"the events cannot":           {anySet, setIs(types.ChangeSetStatusCreateComplete, ""), is, {call: "DescribeStackEvents", err: denied}},
		"it may not be executed":      {anySet, setIs(types.ChangeSetStatusCreateComplete, ""), is, events(idOne), {call: "ExecuteChangeSet", err: denied}},
		"its execution has no answer": {anySet, setIs(types.ChangeSetStatusCreateComplete, ""), is, events(idOne), {call: "ExecuteChangeSet", err: fmt.Errorf("lost: %w", zael.ErrUnavailable)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var made string
			at := slices.Clone(at)
			at[0].check = func(_ *testing.T, in any) {
				made = aws.ToString(in.(*cloudformation.CreateChangeSetInput).ChangeSetName)
			}
			drop := step{call: "DeleteChangeSet", check: func(t *testing.T, in any) {
				t.Helper()
				if d := in.(*cloudformation.DeleteChangeSetInput); aws.ToString(d.ChangeSetName) != made || aws.ToString(d.StackName) != idOne {
					t.Errorf("DeleteChangeSet: got %s of %s, want %s", aws.ToString(d.ChangeSetName), aws.ToString(d.StackName), made)
				}
			}}
			_, err := fake(t, steps(is, template(stack.Template()), at, drop)...).Apply(t.Context(), stack.Change{Options: wanted})
			if err == nil {
				t.Error("Apply: got nil, want an error")
			}
		})
	}
}

// A context that ends while CloudFormation works says how it stood, and that a call
// without an answer may have begun.
func TestWaitError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at     step
		status string
	}{
		"waiting":  {events(idOne, says(1, fakeName, "CREATE_IN_PROGRESS", "")), "CREATE_IN_PROGRESS"},
		"creating": {step{call: "CreateStack", err: context.Canceled}, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		c.at.check = func(*testing.T, any) { cancel() }
		script := steps(describes(fakeName, nil), created(idOne), describes(idOne, &found{id: idOne, status: types.StackStatusCreateInProgress}), c.at)
		if c.status == "" {
			script = steps(describes(fakeName, nil), c.at)
		}
		_, err := fake(t, script...).Apply(ctx, stack.Change{Options: bare()})
		var w *stack.WaitError
		if !errors.As(err, &w) || w.Stack != fakeName || w.Status != c.status || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want a *WaitError with %q", name, err, c.status)
		}
	}
}

// A function that was deployed without the version of its code is one all the same.
func TestFunctionOfNoVersion(t *testing.T) {
	t.Parallel()
	f := complete(idOne, types.StackStatusCreateComplete, &stack.Options{})
	f.params["CodeBucket"], f.params["CodeKey"] = "b", "k"
	r := apply(t, fake(t, describes(fakeName, f), template(stack.Template())), stack.Change{}, stack.Unchanged)
	if r.Versions.Lambda != "(devel)" {
		t.Errorf("versions: got %+v, want a function of no version", r.Versions)
	}
}

// A lostTable is one that is not there.
type lostTable struct{ stack.Records }

func (lostTable) GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return nil, &dynamodbtypes.ResourceNotFoundException{}
}

// Many who look at once are throttled: that is not the end of it, but a silent AWS is.
func TestWaitingOutlastsThrottling(t *testing.T) {
	t.Parallel()
	throttled := fmt.Errorf("throttled: %w", zael.ErrUnavailable)
	no := step{call: "DescribeStacks", err: throttled}
	busy := []step{describes(idOne, &found{id: idOne, status: types.StackStatusCreateInProgress}), {call: "DescribeStackEvents", err: throttled}}
	some := []step{no, no, no}
	done := []step{describes(idOne, complete(idOne, types.StackStatusCreateComplete, bare())), events(idOne, says(1, fakeName, "CREATE_COMPLETE", ""))}
	seen := []step{busy[0], events(idOne, says(0, fakeName, "CREATE_IN_PROGRESS", ""))}
	apply(t, fake(t, steps(describes(fakeName, nil), created(idOne), some, busy, seen, some, busy, done)...), stack.Change{Options: bare()}, stack.Created)

	_, err := fake(t, steps(describes(fakeName, nil), created(idOne), seen, some, no, no)...).Apply(t.Context(), stack.Change{Options: bare()})
	var w *stack.WaitError
	if !errors.As(err, &w) || !errors.Is(err, zael.ErrUnavailable) || w.Status != "CREATE_IN_PROGRESS" {
		t.Errorf("Apply, unavailable for ever: got %v, want a *WaitError that is unavailable", err)
	}
}

// Options that were set by other tools stay in an upgrade, also where zael's own
// cannot say them.
func TestUpgradeKeepsParameters(t *testing.T) {
	t.Parallel()
	f := complete(idOne, types.StackStatusCreateComplete, &stack.Options{})
	f.params["CodeBucket"], f.params["CodeKey"] = "b", "k"
	f.params["DurationAlarmMilliseconds"], f.params["Windows"] = "50001", "daily,hourly"
	apply(t, fake(t, describes(fakeName, f), template(stack.Template())), stack.Change{}, stack.Unchanged)
}

// The table goes before the stack does: nobody deleted it by hand.
func TestStatusOfAStackThatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	is := complete(idOne, types.StackStatusDeleteInProgress, bare())
	s := stack.NewFake(fakeName, scripted(t, describes(fakeName, is), tableResource, template(stack.Template())), nil, nil, lostTable{})
	if st, err := s.Status(t.Context(), nil); err != nil || st.Versions != nil {
		t.Errorf("Status: got %+v and %v, want no error", st, err)
	}
}

// A change set that asks for what is not there is refused, and not tried again.
func TestRefusedChangeSetIsNotRepeated(t *testing.T) {
	t.Parallel()
	wanted := bare()
	wanted.PITRRecoveryDays = 7
	s := fake(t, describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(stack.Template()),
		step{call: "CreateChangeSet", err: answered("ValidationError", "Role arn:aws:iam::123456789012:role/r does not exist")})
	if _, err := s.Apply(t.Context(), stack.Change{Options: wanted}); err == nil || !strings.Contains(err.Error(), "CloudFormation refused") {
		t.Errorf("Apply: got %v, want AWS's refusal", err)
	}
}

// A table that goes with its stack while somebody applies is not lost: the stack is
// created again.
func TestTableVanishesUnderApply(t *testing.T) {
	t.Parallel()
	is := complete(idOne, types.StackStatusCreateComplete, bare())
	leaving := &found{id: idOne, status: types.StackStatusDeleteInProgress}
	left := []step{
		describes(idOne, leaving), describes(fakeName, leaving), events(idOne),
		describes(idOne, &found{id: idOne, status: types.StackStatusDeleteComplete}), events(idOne), describes(fakeName, nil),
	}
	for name, c := range map[string]struct {
		before []step
		reads  int64 // before the one that finds no table
	}{
		"before it is compared":       {[]step{describes(fakeName, is), template(stack.Template())}, 0},
		"before the record is read":   {[]step{describes(fakeName, is), template(stack.Template())}, 1},
		"after the stack was created": {append([]step{describes(fakeName, nil)}, creation(idOne)...), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := scripted(t, steps(c.before, left, creation(idTwo))...)
			r := &leavingTable{Records: f.table(dynamofake.New())}
			r.left.Store(c.reads)
			s := stack.NewFake(fakeName, f, nil, nil, r)
			apply(t, s, stack.Change{Options: bare()}, stack.Created)
		})
	}
}

// A leavingTable is there for so many reads, not for the next one, and then again.
type leavingTable struct {
	stack.Records
	left atomic.Int64
}

func (l *leavingTable) GetItem(ctx context.Context, in *dynamodb.GetItemInput, o ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if l.left.Add(-1) == -1 {
		return nil, &dynamodbtypes.ResourceNotFoundException{}
	}
	return l.Records.GetItem(ctx, in, o...)
}
