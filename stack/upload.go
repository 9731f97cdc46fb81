package stack

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// s3Client is the part of *s3.Client that a Stack uses.
//
//nolint:interfacebloat // it names the calls of somebody else's type
type s3Client interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	HeadBucket(context.Context, *s3.HeadBucketInput, ...func(*s3.Options)) (*s3.HeadBucketOutput, error)
	CreateBucket(context.Context, *s3.CreateBucketInput, ...func(*s3.Options)) (*s3.CreateBucketOutput, error)
	PutPublicAccessBlock(context.Context, *s3.PutPublicAccessBlockInput, ...func(*s3.Options)) (*s3.PutPublicAccessBlockOutput, error)
	PutBucketEncryption(context.Context, *s3.PutBucketEncryptionInput, ...func(*s3.Options)) (*s3.PutBucketEncryptionOutput, error)
	PutBucketTagging(context.Context, *s3.PutBucketTaggingInput, ...func(*s3.Options)) (*s3.PutBucketTaggingOutput, error)
}

// stsClient is the part of *sts.Client that a Stack uses.
type stsClient interface {
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

// firstRegion is the region that CreateBucket must not be told.
const firstRegion = "us-east-1"

// artifactBucket returns the name of an account's bucket for code in a region, used unless
// another one is named. It stays when stacks are deleted.
func artifactBucket(account, region string) string {
	return "zael-artifacts-" + account + "-" + region
}

// upload puts the code into a bucket, the account's own if bucket is empty, and returns
// the bucket. Code that is there already is not sent again.
func (s *Stack) upload(ctx context.Context, code Code, bucket string) (string, error) {
	var owner *string // of the account's own bucket, as somebody else may have made one of its name
	if bucket == "" {
		who, err := s.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return "", fmt.Errorf("stack: asking for the account's number: %w", err)
		}
		owner = who.Account
		bucket = artifactBucket(aws.ToString(owner), s.region)
	}
	_, err := s.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String(code.key()), ExpectedBucketOwner: owner})
	switch status := statusOf(err); {
	case err == nil:
		return bucket, nil
	case status != http.StatusNotFound && status != http.StatusForbidden: // forbidden is also the answer for a missing object without s3:ListBucket
		return "", fmt.Errorf("stack: looking for the function's code in the bucket %s: %w", bucket, err)
	}
	if owner != nil {
		if err := s.ensureBucket(ctx, bucket, owner); err != nil {
			return "", err
		}
	}
	sum := code.sum()
	_, err = s.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &bucket, Key: aws.String(code.key()), Body: bytes.NewReader(code.Zip), ContentType: aws.String("application/zip"),
		ExpectedBucketOwner: owner, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	})
	if hasCode(err, "NoSuchBucket") {
		return "", fmt.Errorf("stack: there is no bucket %s for the function's code: make it, in the stack's region, or name none for the account's own: %w", bucket, err)
	}
	if err != nil {
		return "", fmt.Errorf("stack: uploading the function's code into the bucket %s: %w", bucket, err)
	}
	return bucket, nil
}

// ensureBucket makes the account's bucket if it is missing. It tries again where programs
// that make it at the same time are in the way.
func (s *Stack) ensureBucket(ctx context.Context, bucket string, owner *string) error {
	for n := 0; ; n++ {
		err := s.makeBucket(ctx, bucket, owner)
		if !hasCode(err, "OperationAborted", "NoSuchBucket") || n == maxRounds {
			return err
		}
		if err := s.pause(ctx, n); err != nil {
			return fmt.Errorf("stack: waiting for others to make the bucket %s: %w", bucket, err)
		}
	}
}

// makeBucket makes the account's bucket if it is missing. It sets the bucket's properties
// in any case, as the program that made it may have been cut short.
func (s *Stack) makeBucket(ctx context.Context, bucket string, owner *string) error {
	fail := func(err error) error {
		return fmt.Errorf("stack: making the bucket %s for the function's code, instead of which you can name another one (CodeBucket): %w", bucket, err)
	}
	_, err := s.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket, ExpectedBucketOwner: owner})
	if statusOf(err) == http.StatusNotFound {
		in := &s3.CreateBucketInput{Bucket: &bucket}
		if s.region != firstRegion {
			in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(s.region)}
		}
		_, err = s.s3.CreateBucket(ctx, in)
		if hasCode(err, "BucketAlreadyOwnedByYou") { // another program was first
			err = nil
		}
	}
	if err != nil {
		return fail(err)
	}
	_, err = s.s3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{
		Bucket: &bucket, ExpectedBucketOwner: owner,
		PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{
			BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true), IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: aws.Bool(true),
		},
	})
	if err != nil {
		return fail(err)
	}
	_, err = s.s3.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{
		Bucket: &bucket, ExpectedBucketOwner: owner,
		ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{Rules: []types.ServerSideEncryptionRule{{
			ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAes256},
		}}},
	})
	if err != nil {
		return fail(err)
	}
	_, err = s.s3.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{
		Bucket: &bucket, ExpectedBucketOwner: owner,
		Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("zael"), Value: aws.String("artifacts")}}},
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// statusOf returns the HTTP status of an error's answer; 0 if there was no answer.
func statusOf(err error) int {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}
