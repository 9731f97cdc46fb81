package stack

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// A Deletion tunes Delete. A nil one is the zero Deletion.
type Deletion struct {
	NoWait   bool        // return when CloudFormation has begun
	Progress func(Event) // as in Change
}

// Delete deletes the stack with its table and all that is in it, and returns when
// that is done, or ctx is. A stack that is missing is no error. An *Error says why it
// failed, and before anything is deleted that the stack is protected, is another
// program's, or has policies that somebody else uses.
func (s *Stack) Delete(ctx context.Context, how *Deletion) error {
	if how == nil {
		how = new(Deletion)
	}
	for n := range maxRounds {
		if n > 0 {
			if err := s.pause(ctx, n-1); err != nil {
				return s.waitError(ctx, "", err)
			}
		}
		d, err := s.describe(ctx, s.name)
		switch {
		case err != nil:
			return err
		case d == nil:
			return nil
		case d.busy():
			if err := s.waitForOther(ctx, d.id, how.Progress); err != nil {
				return err
			}
			continue
		}
		for _, refuse := range []func(context.Context, *snapshot) error{s.refuseForeign, s.refuseProtected, s.refuseAttached} {
			if err = refuse(ctx, d); err != nil {
				break
			}
		}
		switch {
		case isGone(err):
			continue
		case err != nil:
			return err
		}
		return s.deleteID(ctx, d, how)
	}
	return &Error{Op: "delete", Stack: s.name, Reason: "others keep changing it: try again later"}
}

// refuseForeign returns an error for a stack that another program made. As a deletion
// cannot be taken back, a stack whose template cannot be read must have our parameters.
func (s *Stack) refuseForeign(ctx context.Context, d *snapshot) error {
	if d.status == types.StackStatusReviewInProgress {
		return nil // there is no template, and nothing in it
	}
	template, err := s.templateOf(ctx, d.id)
	if err != nil && !hasCode(err, "ValidationError") || isGone(err) {
		return err
	}
	theirs, unreadable := isForeign(template)
	if err != nil || unreadable != nil || template == "" {
		own := s.desiredBy(Options{}, nil).params
		theirs = len(d.params) == 0
		for name := range d.params {
			if _, ok := own[name]; !ok && name != paramCodeBucket && name != paramCodeKey && name != paramCodeVersion {
				theirs = true
			}
		}
	}
	if theirs {
		return &Error{Op: "delete", Stack: s.name, Reason: "another program made it, such as zae-limiter. " +
			"Delete it with that program, in the CloudFormation console, or with `aws cloudformation delete-stack --region " + s.region + " --stack-name " + s.name + "`"}
	}
	return nil
}

// refuseProtected returns an error for a stack that is protected from deletion.
func (s *Stack) refuseProtected(_ context.Context, d *snapshot) error {
	reason := "it is protected from deletion: "
	switch {
	case d.updatable() && (d.protected || d.params[paramDeletionProtection] == "true"):
		reason += "`zael deploy` with --deletion-protection=false (Options.DeletionProtection) lifts that"
	case d.protected && d.status != types.StackStatusRollbackComplete:
		reason += fmt.Sprintf("it is %s, so no deploy can lift that, but `aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name %s` can", d.status, s.name)
	default:
		return nil
	}
	return &Error{Op: "delete", Stack: s.name, Reason: reason}
}

// deleteID deletes the stack with d's id: a newer one of the same name stays.
func (s *Stack) deleteID(ctx context.Context, d *snapshot, how *Deletion) error {
	if d.protected && d.status == types.StackStatusRollbackComplete { // there is nothing left in it to protect
		if err := s.setProtection(ctx, d, "delete", false); err != nil {
			return err
		}
	}
	w, err := s.watch(ctx, d.id, how.Progress)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.cfn.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: &d.id, ClientRequestToken: aws.String(requestToken())}); err != nil {
		return s.callFailed(ctx, "delete", "CloudFormation refused", err)
	}
	if how.NoWait {
		return nil
	}
	after, err := w.wait(ctx)
	if err != nil {
		return err
	}
	if after == nil || after.status == types.StackStatusDeleteComplete {
		return nil
	}
	advice := "remove the cause and delete again"
	if slices.ContainsFunc(w.events, func(e Event) bool { return e.Failed() && e.Type == managedPolicyType }) {
		advice = "detach the policy from the roles, users and groups that have it, and delete again"
	}
	if after.params[paramDeletionProtection] == "true" {
		advice += ". The table may be protected: `aws dynamodb update-table --no-deletion-protection-enabled --table-name " + s.name + "`"
	}
	return w.failure("delete", after, advice)
}
