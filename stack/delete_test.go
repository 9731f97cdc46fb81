package stack_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/zeroae/zael/stack"
)

const theirTemplate = "Description: x\nResources: {Table: !Ref T}"

// deletion is that of a stack that succeeds.
func deletion(id string) []step {
	return []step{
		events(id),
		{call: "DeleteStack"},
		describes(id, &found{id: id, status: types.StackStatusDeleteComplete}), events(id, says(1, fakeName, "DELETE_COMPLETE", "")),
	}
}

func unreadable(err error) step { return step{call: "GetTemplate", err: err} }

// zae-limiter calls its stacks as zael does: no slip of the hand deletes one.
func TestStackOfAnotherProgramIsNotDeleted(t *testing.T) {
	t.Parallel()
	theirs := func(status types.StackStatus) *found {
		return &found{id: idOne, status: status, params: map[string]string{"RetentionDays": "90", "PITRRecoveryDays": "0", "EnableAuditArchival": "true"}}
	}
	protected := theirs(types.StackStatusCreateComplete)
	protected.protected = true
	noParams := &found{id: idOne, status: types.StackStatusDeleteFailed}
	gone := answered("ValidationError", "Template not available")
	for name, steps := range map[string][]step{
		"its template":           {describes(fakeName, theirs(types.StackStatusCreateComplete)), template(theirTemplate)},
		"and protected":          {describes(fakeName, protected), template(theirTemplate)},
		"failed":                 {describes(fakeName, theirs(types.StackStatusDeleteFailed)), template(theirTemplate)},
		"without a template":     {describes(fakeName, theirs(types.StackStatusDeleteFailed)), unreadable(gone)},
		"with an empty one":      {describes(fakeName, theirs(types.StackStatusDeleteFailed)), template("")},
		"with one that is wrong": {describes(fakeName, theirs(types.StackStatusDeleteFailed)), template("\t{")},
		"nothing tells":          {describes(fakeName, noParams), unreadable(gone)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := fake(t, steps...).Delete(t.Context(), nil)
			var e *stack.Error
			if !errors.As(err, &e) || e.Op != "delete" {
				t.Fatalf("Delete: got %v, want a *stack.Error of the deletion", err)
			}
			contains(t, "reason", e.Reason, "another program", "aws cloudformation delete-stack --region eu-central-1 --stack-name ZAEL-demo")
		})
	}
}

// A caller that may not read the template is told so, and nothing is deleted.
func TestDeleteNeedsTheTemplate(t *testing.T) {
	t.Parallel()
	err := fake(t, describes(fakeName, complete(idOne, types.StackStatusCreateComplete, bare())),
		unreadable(answered("AccessDenied", "not authorized to perform: cloudformation:GetTemplate"))).Delete(t.Context(), nil)
	if err == nil {
		t.Fatal("Delete: got nil, want AWS's error")
	}
	contains(t, "error", err.Error(), "cloudformation:GetTemplate")
}

// Stacks that are ours go, in whatever state.
func TestDeleteInOddStates(t *testing.T) {
	t.Parallel()
	ours := template(stack.Template())
	notThere := unreadable(answered("ValidationError", "Template not available"))
	inReview := &found{id: idOne, status: types.StackStatusReviewInProgress}
	older := complete(idOne, types.StackStatusDeleteFailed, bare())
	older.params = maps.Clone(older.params)
	delete(older.params, "RoleName") // as of an older template
	protectedTable := complete(idOne, types.StackStatusDeleteFailed, &stack.Options{NoAggregator: true, DeletionProtection: true})
	neverMade := complete(idOne, types.StackStatusRollbackComplete, bare())
	neverMade.protected = true
	for name, before := range map[string][]step{
		"in review":                    {describes(fakeName, inReview)},
		"failed":                       {describes(fakeName, complete(idOne, types.StackStatusDeleteFailed, bare())), ours},
		"failed, no template":          {describes(fakeName, complete(idOne, types.StackStatusDeleteFailed, bare())), notThere},
		"failed, no template, older":   {describes(fakeName, older), notThere},
		"rollback failed":              {describes(fakeName, complete(idOne, types.StackStatusRollbackFailed, bare())), ours},
		"failed, the option protected": {describes(fakeName, protectedTable), ours}, // no deploy could lift that
		"never made, and protected": {describes(fakeName, neverMade), ours, {call: "UpdateTerminationProtection", check: func(t *testing.T, in any) {
			t.Helper()
			if aws.ToBool(in.(*cloudformation.UpdateTerminationProtectionInput).EnableTerminationProtection) {
				t.Error("protection: got true, want false")
			}
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := fake(t, steps(before, deletion(idOne))...).Delete(t.Context(), nil); err != nil {
				t.Errorf("Delete: got %v, want nil", err)
			}
		})
	}
}

// What is protected and cannot be updated needs other advice than to deploy.
func TestDeleteOfAFailedStackThatIsProtected(t *testing.T) {
	t.Parallel()
	f := complete(idOne, types.StackStatusDeleteFailed, bare())
	f.protected = true
	err := fake(t, describes(fakeName, f), template(stack.Template())).Delete(t.Context(), nil)
	var e *stack.Error
	if !errors.As(err, &e) {
		t.Fatalf("Delete: got %v, want a *stack.Error", err)
	}
	contains(t, "reason", e.Reason, "DELETE_FAILED", "update-termination-protection --no-enable-termination-protection --stack-name ZAEL-demo")
}

// A failed creation that was to be protected is replaced all the same.
func TestCreateOverProtectedRollbackComplete(t *testing.T) {
	t.Parallel()
	failed := &found{id: idOne, status: types.StackStatusRollbackComplete, protected: true}
	s := fake(t, steps(describes(fakeName, failed), step{call: "UpdateTerminationProtection"}, gone(idOne), describes(fakeName, nil), creation(idTwo))...)
	apply(t, s, stack.Change{Options: bare()}, stack.Created)
}

// An upgrade leaves a protection that somebody set by hand.
func TestUpgradeKeepsProtection(t *testing.T) {
	t.Parallel()
	f := complete(idOne, types.StackStatusCreateComplete, bare())
	f.protected = true
	apply(t, fake(t, describes(fakeName, f), template(stack.Template())), stack.Change{}, stack.Unchanged)
}

// A stack that a change set makes is protected before it is made.
func TestReviewInProgressIsProtected(t *testing.T) {
	t.Parallel()
	o := bare()
	o.DeletionProtection = true
	inReview := &found{id: idOne, status: types.StackStatusReviewInProgress}
	done := complete(idOne, types.StackStatusCreateComplete, o)
	done.protected = true
	s := fake(t, steps(
		describes(fakeName, inReview), anySet, setIs(types.ChangeSetStatusCreateComplete, ""), describes(fakeName, inReview), events(idOne),
		step{call: "UpdateTerminationProtection", check: func(t *testing.T, in any) {
			t.Helper()
			if !aws.ToBool(in.(*cloudformation.UpdateTerminationProtectionInput).EnableTerminationProtection) {
				t.Error("protection: got false, want true")
			}
		}},
		step{call: "ExecuteChangeSet"}, describes(idOne, done), events(idOne, says(1, fakeName, "CREATE_COMPLETE", "")),
	)...)
	apply(t, s, stack.Change{Options: o}, stack.Created)
}

// Flags of the stack are true or false, however they are spelled.
func TestSpellingsOfTrueAndFalse(t *testing.T) {
	t.Parallel()
	f := complete(idOne, types.StackStatusCreateComplete, &stack.Options{NoAggregator: true, DeletionProtection: true})
	f.params = maps.Clone(f.params)
	f.params["DeletionProtection"], f.params["EnableAggregator"], f.params["EnableAlarms"] = "True", "0", "TRUE"
	f.protected = true
	want := &stack.Options{NoAggregator: true, DeletionProtection: true}
	st, err := fake(t, describes(fakeName, f), step{call: "ListStackResources"}, template(stack.Template())).Status(t.Context(), want)
	if err != nil || len(st.Drift) != 0 || !st.Options.DeletionProtection || !st.Options.NoAggregator || st.Options.NoAlarms {
		t.Errorf("Status: got %+v and %v, want the options and no drift", st, err)
	}
	apply(t, fake(t, describes(fakeName, f), template(stack.Template())), stack.Change{Options: want}, stack.Unchanged)
	err = fake(t, describes(fakeName, f), template(stack.Template())).Delete(context.WithoutCancel(t.Context()), nil)
	if err == nil {
		t.Error("Delete: got nil, want that it is protected")
	}
}

// A users is IAM as far as it knows who uses a policy.
type users struct {
	of  map[string]*iam.ListEntitiesForPolicyOutput // by ARN
	err error
}

func (u users) ListEntitiesForPolicy(_ context.Context, in *iam.ListEntitiesForPolicyInput, _ ...func(*iam.Options)) (*iam.ListEntitiesForPolicyOutput, error) {
	out := u.of[aws.ToString(in.PolicyArn)]
	if out == nil {
		out = new(iam.ListEntitiesForPolicyOutput)
	}
	return out, u.err
}

// IAM does not delete a policy that somebody uses, and CloudFormation would find that out
// when the function is gone. So nothing is begun.
func TestDeleteRefusesPoliciesInUse(t *testing.T) {
	t.Parallel()
	const acquire, read = "arn:aws:iam::123456789012:policy/acquire", "arn:aws:iam::123456789012:policy/read"
	ours := complete(idOne, types.StackStatusCreateComplete, bare())
	ours.outputs = map[string]string{"AcquirePolicyArn": acquire, "ReadPolicyArn": read}
	begin := []step{describes(fakeName, ours), template(stack.Template())}
	used := map[string]*iam.ListEntitiesForPolicyOutput{
		acquire: {PolicyRoles: []iamtypes.PolicyRole{{RoleName: aws.String("app")}}, PolicyUsers: []iamtypes.PolicyUser{{UserName: aws.String("bob")}}},
		read:    {PolicyGroups: []iamtypes.PolicyGroup{{GroupName: aws.String("ops")}}},
	}
	err := fake(t, begin...).SetIAM(users{of: used}).Delete(t.Context(), nil)
	var e *stack.Error
	if !errors.As(err, &e) || e.Op != "delete" {
		t.Fatalf("Delete: got %v, want a *stack.Error of the deletion", err)
	}
	contains(t, "reason", e.Reason, "Nothing was deleted",
		"`aws iam detach-role-policy --role-name app --policy-arn "+acquire+"`", "`aws iam detach-user-policy --user-name bob --policy-arn "+acquire+"`",
		"`aws iam detach-group-policy --group-name ops --policy-arn "+read+"`")

	// Nobody uses them, or the caller may not ask: CloudFormation is asked.
	for name, u := range map[string]users{
		"unused": {}, "denied": {err: answered("AccessDenied", "no")}, "gone": {err: answered("NoSuchEntity", "no")},
	} {
		if err := fake(t, steps(begin, deletion(idOne))...).SetIAM(u).Delete(t.Context(), nil); err != nil {
			t.Errorf("Delete, %s: got %v, want nil", name, err)
		}
	}
	if err := fake(t, begin...).SetIAM(users{err: errors.New("away")}).Delete(t.Context(), nil); err == nil {
		t.Error("Delete while IAM is away: got nil, want its error")
	}
	// One that was attached meanwhile is told when CloudFormation has failed.
	failed := says(2, "AcquirePolicy", "DELETE_FAILED", "Cannot delete a policy attached to entities.")
	failed.ResourceType = aws.String("AWS::IAM::ManagedPolicy")
	err = fake(t, steps(begin, events(idOne), step{call: "DeleteStack"}, describes(idOne, complete(idOne, types.StackStatusDeleteFailed, bare())),
		events(idOne, says(3, fakeName, "DELETE_FAILED", ""), failed))...).SetIAM(users{}).Delete(t.Context(), nil)
	if !errors.As(err, &e) {
		t.Fatalf("Delete: got %v, want a *stack.Error of the deletion", err)
	}
	contains(t, "reason", e.Reason, "Cannot delete a policy", "detach the policy")
}

// The emulator knows who uses a policy too.
func TestDeleteRefusesPoliciesInUseOnTheEmulator(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	r := apply(t, s, stack.Change{Options: bare()}, stack.Created)
	c := iam.NewFromConfig(configOf(t, emulator.Endpoint(t)))
	user, policy := aws.String(newName()), aws.String(r.Outputs["ReadPolicyArn"])
	if _, err := c.CreateUser(t.Context(), &iam.CreateUserInput{UserName: user}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AttachUserPolicy(t.Context(), &iam.AttachUserPolicyInput{UserName: user, PolicyArn: policy}); err != nil {
		t.Fatal(err)
	}
	err := s.Delete(t.Context(), nil)
	if err == nil {
		t.Fatal("Delete: got nil, want that the policy is in use")
	}
	contains(t, "error", err.Error(), "detach-user-policy --user-name "+*user)
	if st := status(t, s, nil); st.Status != "CREATE_COMPLETE" {
		t.Errorf("status: got %s, want CREATE_COMPLETE as before", st.Status)
	}
	if _, err := c.DetachUserPolicy(t.Context(), &iam.DetachUserPolicyInput{UserName: user, PolicyArn: policy}); err != nil {
		t.Fatal(err)
	}
	remove(t, s)
}
