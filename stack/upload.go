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

// objects is what is used of *s3.Client.
//
//nolint:interfacebloat // it names the calls of somebody else's type
type objects interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	HeadBucket(context.Context, *s3.HeadBucketInput, ...func(*s3.Options)) (*s3.HeadBucketOutput, error)
	CreateBucket(context.Context, *s3.CreateBucketInput, ...func(*s3.Options)) (*s3.CreateBucketOutput, error)
	PutPublicAccessBlock(context.Context, *s3.PutPublicAccessBlockInput, ...func(*s3.Options)) (*s3.PutPublicAccessBlockOutput, error)
	PutBucketEncryption(context.Context, *s3.PutBucketEncryptionInput, ...func(*s3.Options)) (*s3.PutBucketEncryptionOutput, error)
	PutBucketTagging(context.Context, *s3.PutBucketTaggingInput, ...func(*s3.Options)) (*s3.PutBucketTaggingOutput, error)
}

// identity is what is used of *sts.Client.
type identity interface {
	GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
}

// firstRegion is the one that CreateBucket must not be told.
const firstRegion = "us-east-1"

// artifacts is the bucket of an account and region that codes are in unless
// another one is named. It stays when stacks are deleted.
func artifacts(account, region string) string {
	return "zael-artifacts-" + account + "-" + region
}

// upload brings the code into a bucket, the account's own if bucket is empty, and
// returns the bucket. Code that is there already is not sent again.
func (s *Stack) upload(ctx context.Context, code Code, bucket string) (string, error) {
	var owner *string // of the account's own bucket: somebody else may have made one of that name
	if bucket == "" {
		who, err := s.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return "", fmt.Errorf("stack: asking for the account's number: %w", err)
		}
		owner = who.Account
		bucket = artifacts(aws.ToString(owner), s.region)
	}
	_, err := s.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String(code.key()), ExpectedBucketOwner: owner})
	switch status := statusOf(err); {
	case err == nil:
		return bucket, nil
	case status != http.StatusNotFound && status != http.StatusForbidden: // forbidden is also what is missing, for who may not list
		return "", fmt.Errorf("stack: looking for the function's code in the bucket %s: %w", bucket, err)
	}
	if owner != nil {
		if err := s.ownBucket(ctx, bucket, owner); err != nil {
			return "", err
		}
	}
	sum := code.sum()
	_, err = s.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &bucket, Key: aws.String(code.key()), Body: bytes.NewReader(code.Zip), ContentType: aws.String("application/zip"),
		ExpectedBucketOwner: owner, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	})
	if isCode(err, "NoSuchBucket") {
		return "", fmt.Errorf("stack: there is no bucket %s for the function's code: make it, in the stack's region, or name none for the account's own: %w", bucket, err)
	}
	if err != nil {
		return "", fmt.Errorf("stack: uploading the function's code into the bucket %s: %w", bucket, err)
	}
	return bucket, nil
}

// ownBucket makes the account's bucket, as often as other programs that make it at the
// same time are in the way.
func (s *Stack) ownBucket(ctx context.Context, bucket string, owner *string) error {
	for n := 0; ; n++ {
		err := s.makeBucket(ctx, bucket, owner)
		if !isCode(err, "OperationAborted", "NoSuchBucket") || n == rounds {
			return err
		}
		if err := s.pause(ctx, n); err != nil {
			return fmt.Errorf("stack: waiting for others to make the bucket %s: %w", bucket, err)
		}
	}
}

// makeBucket makes the account's bucket if it is missing. It sets what is to hold
// for it in any case: who made it may have been cut short.
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
		if isCode(err, "BucketAlreadyOwnedByYou") { // another program was first
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

// statusOf is the HTTP status of an answer; 0 if there was none or no error.
func statusOf(err error) int {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}
