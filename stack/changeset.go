package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/zeroae/zael"
)

var (
	// errStale says that the stack is no longer as it was read, so that Apply starts over.
	errStale = errors.New("stack: others have changed it")

	// errNoChanges says that CloudFormation finds nothing to change.
	errNoChanges = errors.New("stack: the change set is empty")
)

// A changeSet brings a stack to what is desired: CloudFormation computes what would
// change, and then does it.
type changeSet struct {
	s       *Stack
	by      string    // whom the version record names
	stack   *snapshot // that it was made for
	desired *desired
	purpose purpose

	name     string // known before CloudFormation has answered
	id       string
	executed bool
}

// A purpose is what a change set is for.
type purpose struct {
	kind    types.ChangeSetType
	op      string // in errors
	done    types.StackStatus
	outcome Outcome
}

// purpose returns what a change set of the stack is for: it creates a stack of which
// there is only a name, reserved by a change set that nobody has executed.
func (d *snapshot) purpose() purpose {
	if d.status == types.StackStatusReviewInProgress {
		return purpose{types.ChangeSetTypeCreate, "create", types.StackStatusCreateComplete, Created}
	}
	return purpose{types.ChangeSetTypeUpdate, "update", types.StackStatusUpdateComplete, Updated}
}

// applyChangeSet brings the stack d to w by a change set. ifEmpty is the outcome if there
// is nothing to change.
func (s *Stack) applyChangeSet(ctx context.Context, c *Change, d *snapshot, w *desired, ifEmpty Outcome) (*Result, error) {
	set, err := s.newChangeSet(ctx, c, d, w)
	if err != nil {
		return nil, err
	}
	defer set.drop(ctx)
	changes, err := set.review(ctx)
	if errors.Is(err, errNoChanges) {
		return s.result(ctx, c, d, ifEmpty, nil)
	}
	if err != nil {
		return nil, err
	}
	// The set is for the stack as it was a moment ago. If that is not the stack which
	// was compared with c, the set may be wrong. If others change the stack from here on,
	// CloudFormation does not execute the set.
	now, err := s.describe(ctx, s.name)
	if err != nil {
		return nil, err
	}
	if !d.sameAs(now) {
		return nil, errStale
	}
	events, err := s.watch(ctx, d.id, c.Progress)
	if err != nil {
		return nil, err
	}
	if err := set.execute(ctx); err != nil {
		return nil, err
	}
	if c.NoWait {
		return s.begun(ctx, d.id, changes)
	}
	after, err := events.wait(ctx)
	if err != nil {
		return nil, err
	}
	if after == nil || after.status != set.purpose.done {
		return nil, set.failed(ctx, c, events, after)
	}
	return s.result(ctx, c, after, set.purpose.outcome, changes)
}

// newChangeSet asks CloudFormation for a change set.
func (s *Stack) newChangeSet(ctx context.Context, c *Change, d *snapshot, w *desired) (*changeSet, error) {
	set := &changeSet{s: s, by: c.By, stack: d, desired: w, purpose: d.purpose(), name: requestToken()}
	in := &cloudformation.CreateChangeSetInput{
		StackName: &s.name, ChangeSetName: &set.name, ChangeSetType: set.purpose.kind,
		TemplateBody: &s.template, Parameters: w.parameters(), Tags: w.tagList(), Capabilities: capabilities(),
		ClientToken: aws.String(requestToken()),
	}
	if c.KeepTemplate && set.purpose.kind == types.ChangeSetTypeUpdate {
		in.TemplateBody, in.UsePreviousTemplate = nil, aws.Bool(true)
	}
	out, err := s.cfn.CreateChangeSet(ctx, in)
	switch {
	case err == nil:
		set.id = aws.ToString(out.Id)
		return set, nil
	case errorContains(err, "_IN_PROGRESS") || isGone(err) || hasCode(err, "AlreadyExistsException"):
		return nil, errStale
	case ctx.Err() != nil || errors.Is(err, zael.ErrUnavailable):
		set.drop(ctx) // the answer is missing: the set may exist
	}
	return nil, s.callFailed(ctx, set.purpose.op, "CloudFormation refused", err)
}

// review returns what the set would change, when CloudFormation has computed it.
func (set *changeSet) review(ctx context.Context) ([]ResourceChange, error) {
	s := set.s
	for n := 0; ; n++ {
		out, err := set.describe(ctx, nil)
		if err != nil {
			return nil, err
		}
		switch out.Status {
		case types.ChangeSetStatusCreateComplete:
			if out.ExecutionStatus == types.ExecutionStatusObsolete {
				return nil, errStale // another set was executed
			}
			changes := changesOf(out.Changes)
			for out.NextToken != nil {
				if out, err = set.describe(ctx, out.NextToken); err != nil {
					return nil, err
				}
				changes = append(changes, changesOf(out.Changes)...)
			}
			return changes, nil
		case types.ChangeSetStatusFailed:
			reason := aws.ToString(out.StatusReason)
			if strings.Contains(reason, "didn't contain changes") || strings.Contains(reason, "No updates are to be performed") {
				return nil, errNoChanges
			}
			return nil, &Error{Op: set.purpose.op, Stack: s.name, Reason: "the change set failed: " + reason}
		case types.ChangeSetStatusDeletePending, types.ChangeSetStatusDeleteInProgress, types.ChangeSetStatusDeleteComplete:
			return nil, errStale
		}
		if err := s.pause(ctx, n); err != nil {
			return nil, fmt.Errorf("stack: waiting for a change set of %s: %w", s.name, err)
		}
	}
}

// describe reads the set, or the page of it that a token names.
func (set *changeSet) describe(ctx context.Context, page *string) (*cloudformation.DescribeChangeSetOutput, error) {
	out, err := set.s.cfn.DescribeChangeSet(ctx, &cloudformation.DescribeChangeSetInput{ChangeSetName: &set.id, NextToken: page})
	switch {
	case hasCode(err, "ChangeSetNotFound", "ChangeSetNotFoundException"):
		return nil, errStale
	case err != nil:
		return nil, fmt.Errorf("stack: reading a change set of %s: %w", set.s.name, err)
	}
	return out, nil
}

// execute begins the change. The version record does not know the function from before
// it begins until somebody has seen how it ended. It is invalidated twice, as a program
// that reads the stack in between may have noted what was deployed before.
func (set *changeSet) execute(ctx context.Context) error {
	s := set.s
	if set.purpose.kind == types.ChangeSetTypeCreate { // an update has done it before
		if set.desired.protect != set.stack.protected {
			if err := s.setProtection(ctx, set.stack, set.purpose.op, set.desired.protect); err != nil {
				return err
			}
		}
	}
	function := functionOf(set.desired.params)
	if err := s.invalidateRecord(ctx, function, set.by); err != nil {
		return err
	}
	_, err := s.cfn.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{ChangeSetName: &set.id, ClientRequestToken: aws.String(requestToken())})
	switch {
	case hasCode(err, "ChangeSetNotFound", "ChangeSetNotFoundException", "InvalidChangeSetStatus", "InvalidChangeSetStatusException") || errorContains(err, "_IN_PROGRESS"):
		return errStale
	case err != nil:
		return s.callFailed(ctx, set.purpose.op, "CloudFormation would not execute the change set", err)
	}
	set.executed = true
	within, cancel := afterwards(ctx)
	defer cancel()
	_ = s.invalidateRecord(within, function, set.by)
	return nil
}

// failed returns the error of an update that failed, and notes what is deployed since.
func (set *changeSet) failed(ctx context.Context, c *Change, events *watch, after *snapshot) error {
	advice := ""
	switch {
	case after == nil:
	case after.status == types.StackStatusUpdateRollbackFailed:
		advice = "taking it back failed too, remove the cause, then `aws cloudformation continue-update-rollback --stack-name " + set.s.name + "`"
	case after.updatable() && !c.skipVersions:
		_, _ = set.s.noteVersions(ctx, after, c.By) // else the next program that connects does
	}
	return events.failure(set.purpose.op, after, advice)
}

// drop deletes the set, unless it was executed. It may run after ctx is done. If it fails,
// the set stays.
func (set *changeSet) drop(ctx context.Context) {
	if set.executed {
		return
	}
	ctx, cancel := afterwards(ctx)
	defer cancel()
	_, _ = set.s.cfn.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{ChangeSetName: &set.name, StackName: &set.stack.id})
}

// cleanupTimeout bounds what is done although ctx may be done: somebody may wait for it.
const cleanupTimeout = 5 * time.Second

// afterwards returns a context for what has to be done even if ctx is done.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}
