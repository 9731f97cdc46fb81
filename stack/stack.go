// Package stack makes what a limiter on DynamoDB needs in an account of AWS, the
// CloudFormation stack ZAEL-<name>: the table, the function that counts usage,
// alarms and policies. It keeps it up to date and sees that programs and table are
// of versions that go together.
//
// [Open] does all of that at the start of a program. [Stack] has the single steps,
// as the command line needs them. Acquiring needs none of it: package dynamostore
// works on any table that has the right keys.
package stack

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/zeroae/zael/dynamostore"
)

// cfnClient is the part of *cloudformation.Client that a Stack uses.
//
//nolint:interfacebloat // it names the calls of somebody else's type
type cfnClient interface {
	CreateStack(context.Context, *cloudformation.CreateStackInput, ...func(*cloudformation.Options)) (*cloudformation.CreateStackOutput, error)
	DeleteStack(context.Context, *cloudformation.DeleteStackInput, ...func(*cloudformation.Options)) (*cloudformation.DeleteStackOutput, error)
	DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
	DescribeStackEvents(context.Context, *cloudformation.DescribeStackEventsInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStackEventsOutput, error)
	GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error)
	CreateChangeSet(context.Context, *cloudformation.CreateChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.CreateChangeSetOutput, error)
	DescribeChangeSet(context.Context, *cloudformation.DescribeChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeChangeSetOutput, error)
	ExecuteChangeSet(context.Context, *cloudformation.ExecuteChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.ExecuteChangeSetOutput, error)
	DeleteChangeSet(context.Context, *cloudformation.DeleteChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.DeleteChangeSetOutput, error)
	UpdateTerminationProtection(context.Context, *cloudformation.UpdateTerminationProtectionInput, ...func(*cloudformation.Options)) (*cloudformation.UpdateTerminationProtectionOutput, error)
	ListStacks(context.Context, *cloudformation.ListStacksInput, ...func(*cloudformation.Options)) (*cloudformation.ListStacksOutput, error)
	ListStackResources(context.Context, *cloudformation.ListStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.ListStackResourcesOutput, error)
}

// A Stack is the stack ZAEL-<name> of an account and region, which may not exist yet. Its
// methods may be called concurrently, and by any number of programs.
type Stack struct {
	name     string // of stack and table
	region   string
	template string
	version  string // of this program

	cfn     cfnClient
	s3      s3Client
	sts     stsClient
	iam     iamClient
	records recordClient

	minPause, maxPause time.Duration // between two calls that ask how far CloudFormation is
	now                func() time.Time
}

// New returns a Stack and makes no call. The name is that of the limiter, with or without
// ZAEL-. A *zael.ValidationError says what is wrong with it, or with the region.
//
// A call that AWS throttles, answers with 5xx or does not answer within 30 s returns an
// error that matches zael.ErrUnavailable.
func New(c aws.Config, name string) (*Stack, error) {
	name, err := dynamostore.TableName(name)
	if err != nil {
		return nil, err
	}
	if c, err = withTimeouts(c); err != nil {
		return nil, err
	}
	return &Stack{
		name: name, region: c.Region, template: templateText, version: Version(),
		cfn: cloudformation.NewFromConfig(c),
		s3:  s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = o.BaseEndpoint != nil }),
		sts: sts.NewFromConfig(c),
		iam: iam.NewFromConfig(c),
		records: dynamodb.NewFromConfig(c, func(o *dynamodb.Options) {
			o.DisableValidateResponseChecksum = true // which local engines get wrong; TCP has its own
		}),
		minPause: 250 * time.Millisecond, maxPause: 5 * time.Second,
		now: time.Now,
	}, nil
}

// Name returns the name of the stack and of its table, ZAEL-<name>.
func (s *Stack) Name() string { return s.name }
