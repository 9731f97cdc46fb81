package stack

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// iamClient is the part of *iam.Client that a Stack uses.
type iamClient interface {
	ListEntitiesForPolicy(context.Context, *iam.ListEntitiesForPolicyInput, ...func(*iam.Options)) (*iam.ListEntitiesForPolicyOutput, error)
}

const managedPolicyType = "AWS::IAM::ManagedPolicy"

// policyOutputs are the outputs with the policies that a stack has for others to use.
func policyOutputs() []string {
	return []string{
		"AcquirePolicyArn", "AdminPolicyArn", "ReadPolicyArn",
		"NamespaceAcquirePolicyArn", "NamespaceAdminPolicyArn", "NamespaceReadPolicyArn",
	}
}

// refuseAttached returns an error if a policy of the stack is attached to a role, user or
// group: IAM does not delete such a policy, and CloudFormation would find that out when the
// function and the alarms are gone. A caller that may not ask is let through.
func (s *Stack) refuseAttached(ctx context.Context, d *snapshot) error {
	var detach []string
	for _, name := range policyOutputs() {
		arn := d.outputs[name]
		if arn == "" {
			continue
		}
		out, err := s.iam.ListEntitiesForPolicy(ctx, &iam.ListEntitiesForPolicyInput{PolicyArn: &arn})
		switch {
		case isDenied(err), hasCode(err, "NoSuchEntity"):
			continue
		case err != nil:
			return fmt.Errorf("stack: asking who uses the policies of %s: %w", s.name, err)
		}
		add := func(kind string, who *string) {
			detach = append(detach, fmt.Sprintf("`aws iam detach-%s-policy --%s-name %s --policy-arn %s`", kind, kind, aws.ToString(who), arn))
		}
		for _, r := range out.PolicyRoles {
			add("role", r.RoleName)
		}
		for _, u := range out.PolicyUsers {
			add("user", u.UserName)
		}
		for _, g := range out.PolicyGroups {
			add("group", g.GroupName)
		}
	}
	if len(detach) == 0 {
		return nil
	}
	return &Error{
		Op: "delete", Stack: s.name,
		Reason: "IAM does not delete policies in use, and some of its policies are. Nothing was deleted. Detach them first: " + strings.Join(detach, ", "),
	}
}
