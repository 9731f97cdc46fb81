package stack_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/zeroae/zael/stack"
)

// A step is one call that a script expects, and its answer.
type step struct {
	call  string
	check func(t *testing.T, in any) // nil: any input
	out   any
	err   error
}

// A script is CloudFormation as far as a test needs it: calls in this order and
// no others.
type script struct {
	t     *testing.T
	mu    sync.Mutex
	steps []step

	noTable bool // as far as it has told, there is no stack, or nothing in it
}

// scripted expects that all steps are taken.
func scripted(t *testing.T, steps ...step) *script {
	t.Helper()
	s := &script{t: t, steps: steps}
	t.Cleanup(func() {
		for _, left := range s.steps {
			t.Errorf("%s: got no call, want one", left.call)
		}
	})
	return s
}

// play answers a call.
func play[Out any](s *script, in any) (*Out, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", in), "*cloudformation."), "Input")
	if len(s.steps) == 0 {
		s.t.Errorf("got a call of %s, want no more", call)
		return nil, fmt.Errorf("the script is at its end")
	}
	next := s.steps[0]
	s.steps = s.steps[1:]
	if next.call != call {
		s.t.Errorf("got a call of %s, want %s", call, next.call)
		return nil, fmt.Errorf("not in the script: %s", call)
	}
	if next.check != nil {
		next.check(s.t, in)
	}
	s.noteTable(in, &next)
	if next.err != nil {
		return nil, next.err
	}
	out, ok := next.out.(*Out)
	if !ok {
		out = new(Out)
	}
	return out, nil
}

// noteTable keeps noTable.
func (s *script) noteTable(in any, next *step) {
	switch in := in.(type) {
	case *cloudformation.DescribeStacksInput:
		out, ok := next.out.(*cloudformation.DescribeStacksOutput)
		switch {
		case aws.ToString(in.StackName) != fakeName:
		case !ok:
			s.noTable = true
		default:
			status := out.Stacks[0].StackStatus
			s.noTable = status == types.StackStatusReviewInProgress || status == types.StackStatusRollbackComplete
		}
	case *cloudformation.CreateStackInput, *cloudformation.ExecuteChangeSetInput:
		s.noTable = s.noTable && next.err != nil
	}
}

// table is one that exists while the script's stack has it.
func (s *script) table(t stack.Records) stack.Records { return stackTable{t, s} }

type stackTable struct {
	stack.Records
	script *script
}

func (s stackTable) GetItem(ctx context.Context, in *dynamodb.GetItemInput, o ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	s.script.mu.Lock()
	missing := s.script.noTable
	s.script.mu.Unlock()
	if missing {
		return nil, &dynamodbtypes.ResourceNotFoundException{}
	}
	return s.Records.GetItem(ctx, in, o...)
}

type opt = func(*cloudformation.Options)

func (s *script) CreateStack(_ context.Context, in *cloudformation.CreateStackInput, _ ...opt) (*cloudformation.CreateStackOutput, error) {
	return play[cloudformation.CreateStackOutput](s, in)
}

func (s *script) DeleteStack(_ context.Context, in *cloudformation.DeleteStackInput, _ ...opt) (*cloudformation.DeleteStackOutput, error) {
	return play[cloudformation.DeleteStackOutput](s, in)
}

func (s *script) DescribeStacks(_ context.Context, in *cloudformation.DescribeStacksInput, _ ...opt) (*cloudformation.DescribeStacksOutput, error) {
	return play[cloudformation.DescribeStacksOutput](s, in)
}

func (s *script) DescribeStackEvents(_ context.Context, in *cloudformation.DescribeStackEventsInput, _ ...opt) (*cloudformation.DescribeStackEventsOutput, error) {
	return play[cloudformation.DescribeStackEventsOutput](s, in)
}

func (s *script) GetTemplate(_ context.Context, in *cloudformation.GetTemplateInput, _ ...opt) (*cloudformation.GetTemplateOutput, error) {
	return play[cloudformation.GetTemplateOutput](s, in)
}

func (s *script) CreateChangeSet(_ context.Context, in *cloudformation.CreateChangeSetInput, _ ...opt) (*cloudformation.CreateChangeSetOutput, error) {
	return play[cloudformation.CreateChangeSetOutput](s, in)
}

func (s *script) DescribeChangeSet(_ context.Context, in *cloudformation.DescribeChangeSetInput, _ ...opt) (*cloudformation.DescribeChangeSetOutput, error) {
	return play[cloudformation.DescribeChangeSetOutput](s, in)
}

func (s *script) ExecuteChangeSet(_ context.Context, in *cloudformation.ExecuteChangeSetInput, _ ...opt) (*cloudformation.ExecuteChangeSetOutput, error) {
	return play[cloudformation.ExecuteChangeSetOutput](s, in)
}

func (s *script) DeleteChangeSet(_ context.Context, in *cloudformation.DeleteChangeSetInput, _ ...opt) (*cloudformation.DeleteChangeSetOutput, error) {
	return play[cloudformation.DeleteChangeSetOutput](s, in)
}

func (s *script) UpdateTerminationProtection(_ context.Context, in *cloudformation.UpdateTerminationProtectionInput, _ ...opt) (*cloudformation.UpdateTerminationProtectionOutput, error) {
	return play[cloudformation.UpdateTerminationProtectionOutput](s, in)
}

func (s *script) ListStacks(_ context.Context, in *cloudformation.ListStacksInput, _ ...opt) (*cloudformation.ListStacksOutput, error) {
	return play[cloudformation.ListStacksOutput](s, in)
}

func (s *script) ListStackResources(_ context.Context, in *cloudformation.ListStackResourcesInput, _ ...opt) (*cloudformation.ListStackResourcesOutput, error) {
	return play[cloudformation.ListStackResourcesOutput](s, in)
}

// answered is an error that AWS answers.
func answered(code, message string) error {
	return &smithy.GenericAPIError{Code: code, Message: message, Fault: smithy.FaultClient}
}

const (
	fakeName = "ZAEL-demo"
	idOne    = "arn:aws:cloudformation:eu-central-1:123456789012:stack/ZAEL-demo/1"
	idTwo    = "arn:aws:cloudformation:eu-central-1:123456789012:stack/ZAEL-demo/2"
)

// A found is a stack as DescribeStacks answers it.
type found struct {
	id        string
	status    types.StackStatus
	params    map[string]string
	outputs   map[string]string
	protected bool
}

// describes answers with a stack; none for "does not exist". It is asked for by
// its name or its id.
func describes(by string, f *found) step {
	st := step{call: "DescribeStacks", check: func(t *testing.T, in any) {
		t.Helper()
		if got := aws.ToString(in.(*cloudformation.DescribeStacksInput).StackName); got != by {
			t.Errorf("DescribeStacks: got %s, want %s", got, by)
		}
	}}
	if f == nil {
		st.err = answered("ValidationError", "Stack with id "+by+" does not exist")
		return st
	}
	described := types.Stack{StackId: &f.id, StackName: aws.String(fakeName), StackStatus: f.status, EnableTerminationProtection: &f.protected}
	for k, v := range f.params {
		described.Parameters = append(described.Parameters, types.Parameter{ParameterKey: aws.String(k), ParameterValue: aws.String(v)})
	}
	for k, v := range f.outputs {
		described.Outputs = append(described.Outputs, types.Output{OutputKey: aws.String(k), OutputValue: aws.String(v)})
	}
	st.out = &cloudformation.DescribeStacksOutput{Stacks: []types.Stack{described}}
	return st
}

// A standing is CloudFormation with one stack, nil for none, that only tells of it, any
// number of times.
type standing struct {
	stack.Formation
	f   *found
	err error // instead
}

func (s standing) DescribeStacks(_ context.Context, in *cloudformation.DescribeStacksInput, _ ...opt) (*cloudformation.DescribeStacksOutput, error) {
	if s.err != nil {
		return nil, s.err
	}
	answer := describes(aws.ToString(in.StackName), s.f)
	if answer.err != nil {
		return nil, answer.err
	}
	return answer.out.(*cloudformation.DescribeStacksOutput), nil
}

// says is an event of a resource, or of the stack itself.
func says(n int, resource, status, reason string) types.StackEvent {
	e := types.StackEvent{
		EventId: aws.String(fmt.Sprint(n)), StackName: aws.String(fakeName), LogicalResourceId: aws.String(resource), ResourceType: aws.String("AWS::DynamoDB::Table"),
		ResourceStatus: types.ResourceStatus(status), ResourceStatusReason: aws.String(reason),
	}
	if resource == fakeName {
		e.ResourceType = aws.String("AWS::CloudFormation::Stack")
	}
	return e
}

// events answers with the events of a stack, the newest first.
func events(id string, all ...types.StackEvent) step {
	for i := range all {
		all[i].StackId = aws.String(id)
		if aws.ToString(all[i].LogicalResourceId) == fakeName {
			all[i].PhysicalResourceId = aws.String(id)
		}
	}
	return step{call: "DescribeStackEvents", out: &cloudformation.DescribeStackEventsOutput{StackEvents: all}}
}

// template answers with a template.
func template(text string) step {
	return step{call: "GetTemplate", out: &cloudformation.GetTemplateOutput{TemplateBody: aws.String(text)}}
}
