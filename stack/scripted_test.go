package stack_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/stack"
)

// bare is a stack without a function, which needs no code.
func bare() *stack.Options { return &stack.Options{NoAggregator: true} }

// paramsOf are those that options were deployed with.
func paramsOf(o *stack.Options) map[string]string {
	p := o.Parameters(fakeName)
	for _, name := range []string{"CodeBucket", "CodeKey", "CodeVersion"} {
		p[name] = ""
	}
	return p
}

func complete(id string, status types.StackStatus, o *stack.Options) *found {
	return &found{id: id, status: status, params: paramsOf(o)}
}

// fake is a stack whose CloudFormation is a script.
func fake(t *testing.T, steps ...step) *stack.Stack {
	t.Helper()
	f := scripted(t, steps...)
	return stack.NewFake(fakeName, f, nil, nil, f.table(dynamofake.New()))
}

func created(id string) step {
	return step{call: "CreateStack", out: &cloudformation.CreateStackOutput{StackId: aws.String(id)}}
}

// creation is that of a stack that succeeds.
func creation(id string) []step {
	return []step{
		created(id),
		describes(id, &found{id: id, status: types.StackStatusCreateInProgress}), events(id, says(1, fakeName, "CREATE_IN_PROGRESS", "")),
		describes(id, complete(id, types.StackStatusCreateComplete, bare())),
		events(id, says(2, fakeName, "CREATE_COMPLETE", ""), says(1, fakeName, "CREATE_IN_PROGRESS", "")),
	}
}

func steps(parts ...any) []step {
	var all []step
	for _, p := range parts {
		switch p := p.(type) {
		case step:
			all = append(all, p)
		case []step:
			all = append(all, p...)
		}
	}
	return all
}

// gone is a deletion by the id, and not by the name, which may be another's by now.
func gone(id string) []step {
	return []step{
		events(id, says(5, fakeName, "ROLLBACK_COMPLETE", "")),
		{call: "DeleteStack", check: func(t *testing.T, in any) {
			t.Helper()
			if got := aws.ToString(in.(*cloudformation.DeleteStackInput).StackName); got != id {
				t.Errorf("DeleteStack: got %s, want %s", got, id)
			}
		}},
		describes(id, &found{id: id, status: types.StackStatusDeleteInProgress}), events(id, says(6, fakeName, "DELETE_IN_PROGRESS", ""), says(5, fakeName, "ROLLBACK_COMPLETE", "")),
		describes(id, &found{id: id, status: types.StackStatusDeleteComplete}), events(id, says(7, fakeName, "DELETE_COMPLETE", ""), says(6, fakeName, "DELETE_IN_PROGRESS", "")),
	}
}

// AWS does not create over a stack in ROLLBACK_COMPLETE, as the emulator does.
func TestCreateOverRollbackComplete(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, &found{id: idOne, status: types.StackStatusRollbackComplete}),
		gone(idOne),
		describes(fakeName, nil),
		creation(idTwo),
	)...)
	apply(t, s, stack.Change{Options: bare()}, stack.Created)
}

// Two see the failed stack; the other one is quicker. Its new stack stays.
func TestTwoStartersOverRollbackComplete(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, &found{id: idOne, status: types.StackStatusRollbackComplete}),
		gone(idOne),
		describes(fakeName, &found{id: idTwo, status: types.StackStatusCreateInProgress}), // the other's
		events(idTwo, says(1, fakeName, "CREATE_IN_PROGRESS", "")),
		describes(idTwo, complete(idTwo, types.StackStatusCreateComplete, bare())), events(idTwo, says(2, fakeName, "CREATE_COMPLETE", "")),
		describes(fakeName, complete(idTwo, types.StackStatusCreateComplete, bare())), template(stack.Template()),
	)...)
	apply(t, s, stack.Change{Options: bare()}, stack.Unchanged)
}

func TestUpdateRollbackFailed(t *testing.T) {
	t.Parallel()
	for status, want := range map[types.StackStatus]string{
		types.StackStatusUpdateRollbackFailed: "continue-update-rollback --stack-name ZAEL-demo",
		types.StackStatusUpdateFailed:         "rollback-stack --stack-name ZAEL-demo",
		types.StackStatusDeleteFailed:         "zael delete",
		types.StackStatusRollbackFailed:       "zael delete",
		types.StackStatusCreateFailed:         "zael delete",
	} {
		s := fake(t, describes(fakeName, &found{id: idOne, status: status}))
		_, err := s.Apply(t.Context(), stack.Change{Options: bare()})
		var e *stack.Error
		if !errors.As(err, &e) || e.Op != "update" || e.Stack != fakeName {
			t.Fatalf("%s: got %v, want a *stack.Error of the update", status, err)
		}
		contains(t, string(status), e.Reason, want, string(status))
	}
}

// Another program creates at the same time: CreateStack says so.
func TestTwoCreators(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, nil),
		step{call: "CreateStack", err: answered("AlreadyExistsException", "Stack [ZAEL-demo] already exists")},
		describes(fakeName, &found{id: idTwo, status: types.StackStatusCreateInProgress}),
		events(idTwo, says(1, fakeName, "CREATE_IN_PROGRESS", "")),
		describes(idTwo, complete(idTwo, types.StackStatusCreateComplete, bare())), events(idTwo, says(2, fakeName, "CREATE_COMPLETE", "")),
		describes(fakeName, complete(idTwo, types.StackStatusCreateComplete, bare())), template(stack.Template()),
	)...)
	apply(t, s, stack.Change{Options: bare()}, stack.Unchanged)
}

// A deletion under way is waited for.
func TestCreateAfterDeletion(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, &found{id: idOne, status: types.StackStatusDeleteInProgress}),
		events(idOne, says(6, fakeName, "DELETE_IN_PROGRESS", "")),
		describes(idOne, &found{id: idOne, status: types.StackStatusDeleteComplete}), events(idOne, says(7, fakeName, "DELETE_COMPLETE", "")),
		describes(fakeName, nil),
		creation(idTwo),
	)...)
	apply(t, s, stack.Change{Options: bare()}, stack.Created)
}

var anySet = step{call: "CreateChangeSet", out: &cloudformation.CreateChangeSetOutput{Id: aws.String("set")}}

func setIs(status types.ChangeSetStatus, reason string) step {
	return step{call: "DescribeChangeSet", out: &cloudformation.DescribeChangeSetOutput{Status: status, StatusReason: aws.String(reason), ExecutionStatus: types.ExecutionStatusAvailable}}
}

// A name that only a change set has reserved.
func TestReviewInProgress(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, &found{id: idOne, status: types.StackStatusReviewInProgress}),
		step{call: "CreateChangeSet", out: anySet.out, check: func(t *testing.T, in any) {
			t.Helper()
			if got := in.(*cloudformation.CreateChangeSetInput).ChangeSetType; got != types.ChangeSetTypeCreate {
				t.Errorf("change set: got %s, want CREATE", got)
			}
		}},
		setIs(types.ChangeSetStatusCreateInProgress, ""), setIs(types.ChangeSetStatusCreateComplete, ""),
		describes(fakeName, &found{id: idOne, status: types.StackStatusReviewInProgress}),
		events(idOne, says(1, fakeName, "REVIEW_IN_PROGRESS", "")),
		step{call: "ExecuteChangeSet"},
		// The old status stands for a moment: that is not yet the end.
		describes(idOne, &found{id: idOne, status: types.StackStatusReviewInProgress}), events(idOne, says(1, fakeName, "REVIEW_IN_PROGRESS", "")),
		describes(idOne, complete(idOne, types.StackStatusCreateComplete, bare())), events(idOne, says(2, fakeName, "CREATE_COMPLETE", ""), says(1, fakeName, "REVIEW_IN_PROGRESS", "")),
	)...)
	apply(t, s, stack.Change{Options: bare()}, stack.Created)
}

// Just after an update has begun the old status may still stand.
func TestOldStatusIsNotTheEnd(t *testing.T) {
	t.Parallel()
	wanted := bare()
	wanted.PITRRecoveryDays = 7
	old := events(idOne, says(2, fakeName, "UPDATE_COMPLETE", ""))
	s := fake(t, steps(
		describes(fakeName, complete(idOne, types.StackStatusUpdateComplete, bare())), template(stack.Template()),
		anySet, setIs(types.ChangeSetStatusCreateComplete, ""), describes(fakeName, complete(idOne, types.StackStatusUpdateComplete, bare())), old, step{call: "ExecuteChangeSet"},
		describes(idOne, complete(idOne, types.StackStatusUpdateComplete, bare())), old,
		describes(idOne, complete(idOne, types.StackStatusUpdateInProgress, wanted)), events(idOne, says(3, fakeName, "UPDATE_IN_PROGRESS", ""), says(2, fakeName, "UPDATE_COMPLETE", "")),
		describes(idOne, complete(idOne, types.StackStatusUpdateComplete, wanted)), events(idOne, says(4, fakeName, "UPDATE_COMPLETE", ""), says(3, fakeName, "UPDATE_IN_PROGRESS", "")),
	)...)
	apply(t, s, stack.Change{Options: wanted}, stack.Updated)
}

// What CloudFormation itself finds to be no change.
func TestEmptyChangeSet(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"The submitted information didn't contain changes. Submit different information to create a change set.", "No updates are to be performed."} {
		s := fake(t, steps(
			describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template("Metadata: {zael: {Template: 0}}"),
			anySet, setIs(types.ChangeSetStatusFailed, reason), step{call: "DeleteChangeSet"},
		)...)
		apply(t, s, stack.Change{Options: bare()}, stack.Unchanged)
	}
}

func TestChangeSetFails(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template("Metadata: {zael: {Template: 0}}"),
		anySet, setIs(types.ChangeSetStatusFailed, "Template error: no"), step{call: "DeleteChangeSet"},
	)...)
	_, err := s.Apply(t.Context(), stack.Change{Options: bare()})
	var e *stack.Error
	if !errors.As(err, &e) || e.Op != "update" || !strings.Contains(e.Reason, "Template error: no") {
		t.Errorf("Apply: got %v, want a *stack.Error with CloudFormation's reason", err)
	}
}

// Others execute their change set first: ours is looked at again.
func TestTwoUpdaters(t *testing.T) {
	t.Parallel()
	wanted := bare()
	wanted.PITRRecoveryDays = 7
	for name, lost := range map[string][]step{
		"busy": {{call: "CreateChangeSet", err: answered("ValidationError", "Stack:"+idOne+" is in UPDATE_IN_PROGRESS state and can not be updated.")}},
		// It was executed before ours was made: ours would undo it.
		"changed": {
			anySet, setIs(types.ChangeSetStatusCreateComplete, ""), describes(fakeName, complete(idOne, types.StackStatusUpdateComplete, wanted)), {call: "DeleteChangeSet"},
		},
		"gone": {anySet, {call: "DescribeChangeSet", err: answered("ChangeSetNotFound", "ChangeSet [set] does not exist")}, {call: "DeleteChangeSet"}},
		"obsolete": {
			anySet,
			{call: "DescribeChangeSet", out: &cloudformation.DescribeChangeSetOutput{Status: types.ChangeSetStatusCreateComplete, ExecutionStatus: types.ExecutionStatusObsolete}},
			{call: "DeleteChangeSet"},
		},
		"not executable": {
			anySet, setIs(types.ChangeSetStatusCreateComplete, ""), describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), events(idOne),
			{call: "ExecuteChangeSet", err: answered("InvalidChangeSetStatus", "ChangeSet [set] cannot be executed")},
			{call: "DeleteChangeSet"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fake(t, steps(
				describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(stack.Template()),
				lost,
				describes(fakeName, complete(idOne, types.StackStatusUpdateInProgress, wanted)), events(idOne, says(1, fakeName, "UPDATE_IN_PROGRESS", "")),
				describes(idOne, complete(idOne, types.StackStatusUpdateComplete, wanted)), events(idOne, says(2, fakeName, "UPDATE_COMPLETE", "")),
				describes(fakeName, complete(idOne, types.StackStatusUpdateComplete, wanted)), template(stack.Template()),
			)...)
			apply(t, s, stack.Change{Options: wanted}, stack.Unchanged)
		})
	}
}

// An update whose rollback fails names the cause and what to do.
func TestUpdateAndItsRollbackFail(t *testing.T) {
	t.Parallel()
	wanted := bare()
	wanted.PITRRecoveryDays = 7
	s := fake(t, steps(
		describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(stack.Template()),
		anySet, setIs(types.ChangeSetStatusCreateComplete, ""), describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), events(idOne), step{call: "ExecuteChangeSet"},
		describes(idOne, complete(idOne, types.StackStatusUpdateRollbackFailed, wanted)),
		events(idOne,
			says(5, fakeName, "UPDATE_ROLLBACK_FAILED", "the following failed"), says(4, "Table", "UPDATE_FAILED", "not allowed"),
			says(3, "ReadPolicy", "UPDATE_FAILED", "Resource update cancelled"), says(2, "Table", "UPDATE_IN_PROGRESS", ""), says(1, fakeName, "UPDATE_IN_PROGRESS", "")),
	)...)
	_, err := s.Apply(t.Context(), stack.Change{Options: wanted})
	var e *stack.Error
	if !errors.As(err, &e) {
		t.Fatalf("Apply: got %v, want a *stack.Error", err)
	}
	contains(t, "reason", e.Reason, "Table", "not allowed", "continue-update-rollback")
	var order []string
	for _, ev := range e.Events {
		order = append(order, ev.Resource+" "+ev.Status)
	}
	want := "Table UPDATE_FAILED,ReadPolicy UPDATE_FAILED,ZAEL-demo UPDATE_ROLLBACK_FAILED,ZAEL-demo UPDATE_IN_PROGRESS,Table UPDATE_IN_PROGRESS"
	if got := strings.Join(order, ","); got != want {
		t.Errorf("events: got %s, want %s", got, want)
	}
}

func TestDeleteFails(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(stack.Template()), events(idOne), step{call: "DeleteStack"},
		describes(idOne, complete(idOne, types.StackStatusDeleteFailed, bare())),
		events(idOne, says(2, fakeName, "DELETE_FAILED", ""), says(1, "Table", "DELETE_FAILED", "in use")),
	)...)
	err := s.Delete(t.Context(), nil)
	var e *stack.Error
	if !errors.As(err, &e) || e.Op != "delete" || len(e.Events) != 2 || e.Events[0].Resource != "Table" {
		t.Fatalf("Delete: got %v, want a *stack.Error of the deletion about the table", err)
	}
	contains(t, "reason", e.Reason, "in use")
}

// Protected by the option or by hand: nothing is begun.
func TestDeleteRespectsProtection(t *testing.T) {
	t.Parallel()
	byOption := complete(idOne, types.StackStatusCreateComplete, &stack.Options{NoAggregator: true, DeletionProtection: true})
	byHand := complete(idOne, types.StackStatusCreateComplete, bare())
	byHand.protected = true
	for _, f := range []*found{byOption, byHand} {
		err := fake(t, describes(fakeName, f), template(stack.Template())).Delete(t.Context(), nil)
		var e *stack.Error
		if !errors.As(err, &e) || !strings.Contains(e.Reason, "DeletionProtection") {
			t.Errorf("Delete: got %v, want a *stack.Error that says how to lift it", err)
		}
	}
}

// Another one's deletion is waited for, and fine.
func TestTwoDeleters(t *testing.T) {
	t.Parallel()
	s := fake(t, steps(
		describes(fakeName, &found{id: idOne, status: types.StackStatusDeleteInProgress}), events(idOne),
		describes(idOne, &found{id: idOne, status: types.StackStatusDeleteComplete}), events(idOne),
		describes(fakeName, nil),
	)...)
	if err := s.Delete(t.Context(), nil); err != nil {
		t.Errorf("Delete: got %v, want nil", err)
	}
}

// Others never stop: it gives up.
func TestApplyGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all []step
		for range 30 {
			all = append(all, describes(fakeName, nil), step{call: "CreateStack", err: answered("AlreadyExistsException", "")})
		}
		_, err := fake(t, all...).Apply(t.Context(), stack.Change{Options: bare()})
		var e *stack.Error
		if !errors.As(err, &e) || !strings.Contains(e.Reason, "try again later") {
			t.Errorf("Apply: got %v, want a *stack.Error that says so", err)
		}
	})
}

// zae-limiter has a stack of the name already, with a table of its own.
func TestStackOfAnotherProgramStays(t *testing.T) {
	t.Parallel()
	for _, c := range []stack.Change{{Options: bare()}, {Options: bare(), OnlyUpgrade: true}, {KeepTemplate: true}} {
		s := fake(t, describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template("Description: x\nResources: {Table: !Ref T}"))
		_, err := s.Apply(t.Context(), c)
		var e *stack.Error
		if !errors.As(err, &e) || !strings.Contains(e.Reason, "use another name") {
			t.Errorf("Apply of %+v: got %v, want a *stack.Error that tells to use another name", c, err)
		}
	}
}

// A program of an older version leaves the stack of a newer one alone when it
// starts; else two versions would undo each other's update for ever.
func TestOnlyUpgradeKeepsNewerTemplate(t *testing.T) {
	t.Parallel()
	newer := strings.Replace(stack.Template(), "Template: 1\n", "Template: 2\n", 1)
	wanted := bare()
	wanted.PITRRecoveryDays = 7
	s := fake(t, describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())), template(newer))
	r := apply(t, s, stack.Change{Options: wanted, OnlyUpgrade: true}, stack.KeptNewer)
	if got, want := fmt.Sprint(r.Kept), "[{template 2 1 newer}]"; got != want {
		t.Errorf("kept: got %s, want %s", got, want)
	}
}

// Code is changed by a program that starts if its own is newer, and by a person
// always.
func TestOnlyUpgradeOfCode(t *testing.T) {
	t.Parallel()
	deployed := maps.Clone((&stack.Options{}).Parameters(fakeName))
	deployed["CodeBucket"], deployed["CodeKey"], deployed["CodeVersion"] = "b", codeOf("", "old").Key(), "v1.1.0"
	is := &found{id: idOne, status: types.StackStatusCreateComplete, params: deployed}
	upgrade := func(c stack.Change) string {
		t.Helper()
		c.Options, c.OnlyUpgrade = &stack.Options{}, true
		s := fake(t, describes(fakeName, is), template(stack.Template())).SetVersion("v1.2.0")
		return fmt.Sprint(apply(t, s, c, stack.Unchanged).Kept)
	}
	for version, why := range map[string]stack.KeptReason{
		"v1.0.0": stack.Newer, "v1.1.0": stack.SameVersion, "(devel)": stack.Incomparable, "v0.0.0-20260101000000-abcdefabcdef": stack.Incomparable,
	} {
		want := fmt.Sprintf("[{aggregator v1.1.0 %s %s}]", version, why)
		if got := upgrade(stack.Change{Code: codeOf(version, "own")}); got != want {
			t.Errorf("a program of %s: got kept %s, want %s", version, got, want)
		}
	}
	if got, want := upgrade(stack.Change{Code: codeOf("v1.2.0", "own"), KeepCode: true}), "[{aggregator v1.1.0 v1.2.0 asked}]"; got != want {
		t.Errorf("asked to keep it: got %s, want %s", got, want)
	}
	if got, want := upgrade(stack.Change{}), "[{aggregator v1.1.0 v1.2.0 no code}]"; got != want {
		t.Errorf("without code: got %s, want %s", got, want)
	}
	// What is the same is not kept, and without code of its own neither is what is not older.
	if got := upgrade(stack.Change{Code: codeOf("v1.1.0", "old")}); got != "[]" {
		t.Errorf("the same code: got kept %s, want nothing", got)
	}
	s := fake(t, describes(fakeName, is), template(stack.Template())).SetVersion("v1.1.0")
	if r := apply(t, s, stack.Change{OnlyUpgrade: true}, stack.Unchanged); len(r.Kept) != 0 {
		t.Errorf("as new, without code: got kept %v, want nothing", r.Kept)
	}
}

func TestListSkipsOthers(t *testing.T) {
	t.Parallel()
	summary := func(name string) types.StackSummary {
		return types.StackSummary{StackName: aws.String(name), StackStatus: types.StackStatusCreateComplete}
	}
	f := scripted(t,
		step{call: "ListStacks", out: &cloudformation.ListStacksOutput{StackSummaries: []types.StackSummary{summary("ZAEL-b"), summary("other")}, NextToken: aws.String("2")}, check: func(t *testing.T, in any) {
			t.Helper()
			for _, st := range in.(*cloudformation.ListStacksInput).StackStatusFilter {
				if st == types.StackStatusDeleteComplete {
					t.Error("the filter: got DELETE_COMPLETE, want it left out")
				}
			}
		}},
		step{call: "ListStacks", out: &cloudformation.ListStacksOutput{StackSummaries: []types.StackSummary{summary("ZAEL-a")}}},
	)
	all, err := stack.ListStacks(t.Context(), f)
	if err != nil || len(all) != 2 || all[0].Stack != "ZAEL-a" || all[1].Stack != "ZAEL-b" {
		t.Errorf("List: got %+v and %v, want ZAEL-a and ZAEL-b", all, err)
	}
}
