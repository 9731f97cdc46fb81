package stack

import (
	"cmp"
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// A Deletion is how Delete goes about it. A nil one is the zero Deletion.
type Deletion struct {
	NoWait   bool        // return when CloudFormation has begun
	Progress func(Event) // as that of a Change
}

// Delete deletes the stack with its table and all that is in it, and returns when
// that is done, or ctx is. A stack that is missing is fine. An *Error says why it
// failed: also that the stack is protected, or another program's.
func (s *Stack) Delete(ctx context.Context, how *Deletion) error {
	if how == nil {
		how = new(Deletion)
	}
	for n := range rounds {
		if n > 0 {
			if err := s.pause(ctx, n-1); err != nil {
				return s.cut(ctx, "", err)
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
		switch err := cmp.Or(s.checkOurs(ctx, d), s.checkProtection(d)); {
		case vanished(err):
			continue
		case err != nil:
			return err
		}
		return s.deleteID(ctx, d, how)
	}
	return &Error{Op: "delete", Stack: s.name, Reason: "others keep changing it: try again later"}
}

// checkOurs refuses a stack that another program made. What cannot be deleted twice is
// worth a doubt: where the template cannot be told, the parameters must be ours.
func (s *Stack) checkOurs(ctx context.Context, d *deployed) error {
	if d.status == types.StackStatusReviewInProgress {
		return nil // there is no template, and nothing in it
	}
	template, err := s.templateOf(ctx, d.id)
	if err != nil && !isCode(err, "ValidationError") || vanished(err) {
		return err
	}
	theirs, unreadable := foreign(template)
	if err != nil || unreadable != nil || template == "" {
		own := s.wantedBy(Options{}, nil).params
		theirs = len(d.params) == 0
		for name := range d.params {
			if _, ok := own[name]; !ok && name != paramCodeBucket && name != paramCodeKey && name != paramCodeVersion {
				theirs = true
			}
		}
	}
	if theirs {
		return &Error{Op: "delete", Stack: s.name, Reason: "zael did not make it, but another program such as zae-limiter, and it stays. " +
			"If it is to go, delete it by that program, in the console of CloudFormation, or by `aws cloudformation delete-stack --region " + s.region + " --stack-name " + s.name + "`"}
	}
	return nil
}

// checkProtection refuses a stack that is protected, while an Apply can lift that.
func (s *Stack) checkProtection(d *deployed) error {
	reason := "it is protected from deletion: "
	switch {
	case d.stands() && (d.protected || d.params[paramDeletionProtection] == "true"):
		reason += "`zael deploy` with --deletion-protection=false (Options.DeletionProtection) lifts that"
	case d.protected && d.status != types.StackStatusRollbackComplete:
		reason += fmt.Sprintf("it is %s, so no deploy can lift that, but `aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name %s` can", d.status, s.name)
	default:
		return nil
	}
	return &Error{Op: "delete", Stack: s.name, Reason: reason}
}

// deleteID deletes this very stack: another one of its name stays.
func (s *Stack) deleteID(ctx context.Context, d *deployed, how *Deletion) error {
	if d.protected && d.status == types.StackStatusRollbackComplete { // there is nothing left in it to protect
		if err := s.protect(ctx, d, "delete", false); err != nil {
			return err
		}
	}
	w, err := s.watch(ctx, d.id, how.Progress)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.formation.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: &d.id, ClientRequestToken: aws.String(token())}); err != nil {
		return s.refused(ctx, "delete", "CloudFormation refused", err)
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
	if after.params[paramDeletionProtection] == "true" {
		advice += ". The table may be protected: `aws dynamodb update-table --no-deletion-protection-enabled --table-name " + s.name + "`"
	}
	return w.failure("delete", after, advice)
}
