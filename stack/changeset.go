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

// changeSet makes a change set and executes it. Of kind CREATE it makes the stack
// whose name another one has reserved. Neither result nor error says that another
// program was first. ifEmpty is the outcome where there is nothing to change.
func (s *Stack) changeSet(ctx context.Context, c *Change, d *snapshot, kind types.ChangeSetType, ifEmpty Outcome) (*Result, error) {
	op, done, outcome, before := "update", types.StackStatusUpdateComplete, Updated, d
	if kind == types.ChangeSetTypeCreate {
		op, done, outcome, before = "create", types.StackStatusCreateComplete, Created, nil
	}
	w, err := s.desired(ctx, c, before)
	if err != nil {
		return nil, err
	}
	name := requestToken()
	in := &cloudformation.CreateChangeSetInput{
		StackName: &s.name, ChangeSetName: &name, ChangeSetType: kind,
		TemplateBody: &s.template, Parameters: w.parameters(), Tags: w.tagList(), Capabilities: capabilities(),
		ClientToken: aws.String(requestToken()),
	}
	if c.KeepTemplate && before != nil {
		in.TemplateBody, in.UsePreviousTemplate = nil, aws.Bool(true)
	}
	out, err := s.cfn.CreateChangeSet(ctx, in)
	switch {
	case errorContains(err, "_IN_PROGRESS") || isGone(err) || hasCode(err, "AlreadyExistsException"):
		return nil, nil
	case err != nil:
		if ctx.Err() != nil || errors.Is(err, zael.ErrUnavailable) { // the answer is missing: it may be there
			s.dropChangeSet(ctx, d, name)
		}
		return nil, s.callFailed(ctx, op, "CloudFormation refused", err)
	}
	executed := false
	defer func() {
		if !executed {
			s.dropChangeSet(ctx, d, name)
		}
	}()
	set := out.Id
	changes, fate, err := s.awaitChangeSet(ctx, aws.ToString(set))
	switch {
	case err != nil:
		return nil, err
	case fate == setEmpty:
		return s.result(ctx, c, d, ifEmpty, nil)
	case fate == setGone:
		return nil, nil
	}
	// The set is made for the stack as it is by now. If that is not how it was
	// when c was compared with it, it may be wrong; if others change the stack
	// from here on, CloudFormation does not execute the set.
	again, err := s.describe(ctx, s.name)
	if err != nil || !d.sameAs(again) {
		return nil, err
	}
	watching, err := s.watch(ctx, d.id, c.Progress)
	if err != nil {
		return nil, err
	}
	if before == nil && w.protect != d.protected { // an update has seen to it before
		if err := s.setProtection(ctx, d, op, w.protect); err != nil {
			return nil, err
		}
	}
	_, err = s.cfn.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{ChangeSetName: set, ClientRequestToken: aws.String(requestToken())})
	if hasCode(err, "ChangeSetNotFound", "ChangeSetNotFoundException", "InvalidChangeSetStatus", "InvalidChangeSetStatusException") || errorContains(err, "_IN_PROGRESS") {
		return nil, nil
	}
	if err != nil {
		return nil, s.callFailed(ctx, op, "CloudFormation would not execute the change set", err)
	}
	executed = true
	if c.NoWait {
		return s.begun(ctx, d.id, changes)
	}
	after, err := watching.wait(ctx)
	if err != nil {
		return nil, err
	}
	if after == nil || after.status != done {
		advice := ""
		if after != nil && after.status == types.StackStatusUpdateRollbackFailed {
			advice = "taking it back failed too, remove the cause, then `aws cloudformation continue-update-rollback --stack-name " + s.name + "`"
		}
		return nil, watching.failure(op, after, advice)
	}
	return s.result(ctx, c, after, outcome, changes)
}

// A setFate is what became of a change set.
type setFate uint8

const (
	setReady  setFate = iota // to be executed
	setEmpty                 // there is nothing to change
	setGone                  // another one was executed
	setFailed                // with an error
)

// awaitChangeSet returns when it is known what a change set would do.
func (s *Stack) awaitChangeSet(ctx context.Context, id string) ([]ResourceChange, setFate, error) {
	for n := 0; ; n++ {
		in := &cloudformation.DescribeChangeSetInput{ChangeSetName: &id}
		out, err := s.cfn.DescribeChangeSet(ctx, in)
		switch {
		case hasCode(err, "ChangeSetNotFound", "ChangeSetNotFoundException"):
			return nil, setGone, nil
		case err != nil:
			return nil, setFailed, fmt.Errorf("stack: reading a change set of %s: %w", s.name, err)
		}
		switch out.Status {
		case types.ChangeSetStatusCreateComplete:
			if out.ExecutionStatus == types.ExecutionStatusObsolete {
				return nil, setGone, nil
			}
			changes := changesOf(out.Changes)
			for out.NextToken != nil {
				in.NextToken = out.NextToken
				if out, err = s.cfn.DescribeChangeSet(ctx, in); err != nil {
					return nil, setFailed, fmt.Errorf("stack: reading a change set of %s: %w", s.name, err)
				}
				changes = append(changes, changesOf(out.Changes)...)
			}
			return changes, setReady, nil
		case types.ChangeSetStatusFailed:
			reason := aws.ToString(out.StatusReason)
			if strings.Contains(reason, "didn't contain changes") || strings.Contains(reason, "No updates are to be performed") {
				return nil, setEmpty, nil
			}
			return nil, setFailed, &Error{Op: "update", Stack: s.name, Reason: "the change set failed: " + reason}
		case types.ChangeSetStatusDeletePending, types.ChangeSetStatusDeleteInProgress, types.ChangeSetStatusDeleteComplete:
			return nil, setGone, nil
		}
		if err := s.pause(ctx, n); err != nil {
			return nil, setFailed, fmt.Errorf("stack: waiting for a change set of %s: %w", s.name, err)
		}
	}
}

// dropTimeout is how long a change set may take to go: somebody may wait for the end.
const dropTimeout = 5 * time.Second

// dropChangeSet removes a change set that was not executed, as well as it can, also
// when ctx is done.
func (s *Stack) dropChangeSet(ctx context.Context, d *snapshot, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	_, _ = s.cfn.DeleteChangeSet(ctx, &cloudformation.DeleteChangeSetInput{ChangeSetName: &name, StackName: &d.id})
}
