package stack

import (
	"context"

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
// failed: also that the stack is protected.
func (s *Stack) Delete(ctx context.Context, how *Deletion) error {
	if how == nil {
		how = new(Deletion)
	}
	for range rounds {
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
		case d.protected || d.params[paramDeletionProtection] == "true":
			return &Error{Op: "delete", Stack: s.name, Reason: "it is protected from deletion: " +
				"`zael deploy` with --deletion-protection=false (Options.DeletionProtection) lifts that"}
		}
		return s.deleteID(ctx, d, how)
	}
	return &Error{Op: "delete", Stack: s.name, Reason: "others keep changing it: try again later"}
}

// deleteID deletes this very stack: another one of its name stays.
func (s *Stack) deleteID(ctx context.Context, d *deployed, how *Deletion) error {
	w, err := s.watch(ctx, d.id, how.Progress)
	if err != nil {
		return err
	}
	if _, err := s.formation.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: &d.id, ClientRequestToken: aws.String(token())}); err != nil {
		return &Error{Op: "delete", Stack: s.name, Reason: "CloudFormation refused", Cause: err}
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
	return w.failure("delete", after, "remove the cause and delete again")
}
