package stack

import (
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

// A snapshot is a stack as CloudFormation described it.
type snapshot struct {
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

// describe reads a stack by its name, which finds no deleted ones, or by its id. It
// returns nil if there is none.
func (s *Stack) describe(ctx context.Context, nameOrID string) (*snapshot, error) {
	out, err := s.cfn.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &nameOrID})
	switch {
	case errorContains(err, "does not exist"):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("stack: looking for %s: %w", s.name, err)
	case len(out.Stacks) == 0:
		return nil, nil
	}
	found := &out.Stacks[0]
	d := &snapshot{
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

// busy reports whether CloudFormation is at work on the stack. One in review waits for
// somebody to execute its change set.
func (d *snapshot) busy() bool {
	return strings.HasSuffix(string(d.status), "_IN_PROGRESS") && d.status != types.StackStatusReviewInProgress
}

// updatable reports whether CloudFormation takes an update of the stack.
func (d *snapshot) updatable() bool {
	switch d.status {
	case types.StackStatusCreateComplete, types.StackStatusUpdateComplete, types.StackStatusUpdateRollbackComplete,
		types.StackStatusImportComplete, types.StackStatusImportRollbackComplete:
		return true
	}
	return false
}

// sameAs reports whether nobody has changed the stack since.
func (d *snapshot) sameAs(now *snapshot) bool {
	return now != nil && d.id == now.id && d.status == now.status && d.updated.Equal(now.updated) &&
		maps.Equal(d.params, now.params) && maps.Equal(d.tags, now.tags)
}

// templateOf reads the template that a stack was deployed with, as it was sent.
func (s *Stack) templateOf(ctx context.Context, id string) (string, error) {
	out, err := s.cfn.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &id, TemplateStage: types.TemplateStageOriginal})
	if err != nil {
		return "", fmt.Errorf("stack: reading the template of %s: %w", s.name, err)
	}
	return aws.ToString(out.TemplateBody), nil
}
