package stack

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// A deployed is a stack as it was found.
type deployed struct {
	id        string
	status    types.StackStatus
	reason    string
	params    map[string]string
	tags      map[string]string
	outputs   map[string]string
	protected bool // against its termination
	created   time.Time
	updated   time.Time
}

// describe finds a stack by its name, which finds those that are not deleted, or
// id. It is nil if there is none.
func (s *Stack) describe(ctx context.Context, nameOrID string) (*deployed, error) {
	out, err := s.formation.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &nameOrID})
	switch {
	case says(err, "does not exist"):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("stack: looking for %s: %w", s.name, err)
	case len(out.Stacks) == 0:
		return nil, nil
	}
	found := &out.Stacks[0]
	d := &deployed{
		id: aws.ToString(found.StackId), status: found.StackStatus, reason: aws.ToString(found.StackStatusReason),
		params: map[string]string{}, tags: map[string]string{}, outputs: map[string]string{},
		protected: aws.ToBool(found.EnableTerminationProtection),
		created:   aws.ToTime(found.CreationTime), updated: aws.ToTime(found.LastUpdatedTime),
	}
	for _, p := range found.Parameters {
		d.params[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	for _, name := range []string{paramAggregator, paramAlarms, paramDeletionProtection} { // as AWS's tools may spell them
		if yes, err := strconv.ParseBool(d.params[name]); err == nil {
			d.params[name] = strconv.FormatBool(yes)
		}
	}
	for _, t := range found.Tags {
		d.tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	for _, o := range found.Outputs {
		d.outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	if d.status == types.StackStatusDeleteComplete && nameOrID == s.name {
		return nil, nil
	}
	return d, nil
}

// busy tells whether CloudFormation works on it. One in review waits for a person
// or program.
func (d *deployed) busy() bool {
	return strings.HasSuffix(string(d.status), "_IN_PROGRESS") && d.status != types.StackStatusReviewInProgress
}

// stands tells whether it can be updated.
func (d *deployed) stands() bool {
	switch d.status {
	case types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete,
		types.StackStatusImportComplete, types.StackStatusImportRollbackComplete:
		return true
	}
	return false
}

// same tells whether nobody has changed the stack.
func (d *deployed) same(now *deployed) bool {
	return now != nil && d.id == now.id && d.status == now.status && d.updated.Equal(now.updated) &&
		maps.Equal(d.params, now.params) && maps.Equal(d.tags, now.tags)
}

// lambda is the version of the function's code, "(devel)" if nobody told it; empty
// without a function.
func (d *deployed) lambda() string {
	if d.params[paramAggregator] != "true" {
		return ""
	}
	return cmp.Or(d.params[paramCodeVersion], devel)
}

// templateOf is the template that a stack was deployed with, as it was sent.
func (s *Stack) templateOf(ctx context.Context, id string) (string, error) {
	out, err := s.formation.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &id, TemplateStage: types.TemplateStageOriginal})
	if err != nil {
		return "", fmt.Errorf("stack: reading the template of %s: %w", s.name, err)
	}
	return aws.ToString(out.TemplateBody), nil
}
