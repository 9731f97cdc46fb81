package stack_test

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/ministack"
	"github.com/zeroae/zael/stack"
)

// The trap is a function that stayed a placeholder: what cannot count is never
// deployed.
func TestNeverAPlaceholder(t *testing.T) {
	t.Parallel()
	for want, code := range map[string]stack.Code{
		"is empty":                {},
		"is not a zip":            {Zip: []byte("no zip")},
		"has no bootstrap":        {Zip: zipOf("index.py", 0o755, []byte("print()"))},
		"not executable":          {Zip: zipOf("bootstrap", 0o644, program(elf.EM_AARCH64, ""))},
		"no program for Linux":    {Zip: zipOf("bootstrap", 0o755, []byte("#!/bin/sh\n"))},
		"is built for EM_X86_64 ": {Zip: zipOf("bootstrap", 0o755, program(elf.EM_X86_64, ""))},
	} {
		s := fake(t, describes(fakeName, nil))
		_, err := s.Apply(t.Context(), stack.Change{Options: &stack.Options{}, Code: code})
		var v *zael.ValidationError
		if !errors.As(err, &v) || v.Field != "Code.Zip" || !strings.Contains(v.Reason, want) {
			t.Errorf("%s: got %v, want a *ValidationError of Code.Zip, and no stack", want, err)
		}
	}
}

// A bucketKeeper is S3 as far as an upload needs it.
type bucketKeeper struct {
	mu      sync.Mutex
	calls   []string
	owner   string
	buckets map[string]bool
	objects map[string][]byte
	fail    map[string]error // by call
	first   map[string]error // the same, only once
}

func (b *bucketKeeper) call(name string, bucket, owner *string) error {
	b.calls = append(b.calls, name)
	if err := cmp.Or(b.first[name], b.fail[name]); err != nil {
		delete(b.first, name)
		return err
	}
	if owner != nil && b.owner != *owner {
		return httpError(http.StatusForbidden, "AccessDenied")
	}
	if name != "CreateBucket" && !b.buckets[aws.ToString(bucket)] {
		return httpError(http.StatusNotFound, "NoSuchBucket")
	}
	return nil
}

func httpError(status int, code string) error {
	return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: answered(code, code),
	}}
}

type s3opt = func(*s3.Options)

func (b *bucketKeeper) HeadObject(_ context.Context, in *s3.HeadObjectInput, _ ...s3opt) (*s3.HeadObjectOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.call("HeadObject", in.Bucket, in.ExpectedBucketOwner); err != nil {
		return nil, err
	}
	if b.objects[*in.Bucket+"/"+*in.Key] == nil {
		return nil, httpError(http.StatusNotFound, "NotFound")
	}
	return &s3.HeadObjectOutput{}, nil
}

func (b *bucketKeeper) PutObject(_ context.Context, in *s3.PutObjectInput, _ ...s3opt) (*s3.PutObjectOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.call("PutObject", in.Bucket, in.ExpectedBucketOwner); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(in.Body)
	b.objects[*in.Bucket+"/"+*in.Key] = text
	return &s3.PutObjectOutput{}, err
}

func (b *bucketKeeper) HeadBucket(_ context.Context, in *s3.HeadBucketInput, _ ...s3opt) (*s3.HeadBucketOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &s3.HeadBucketOutput{}, b.call("HeadBucket", in.Bucket, in.ExpectedBucketOwner)
}

func (b *bucketKeeper) CreateBucket(_ context.Context, in *s3.CreateBucketInput, _ ...s3opt) (*s3.CreateBucketOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.call("CreateBucket", in.Bucket, nil); err != nil {
		return nil, err
	}
	if in.CreateBucketConfiguration == nil || in.CreateBucketConfiguration.LocationConstraint != "eu-central-1" {
		return nil, httpError(http.StatusBadRequest, "IllegalLocationConstraintException")
	}
	b.buckets[*in.Bucket] = true
	return &s3.CreateBucketOutput{}, nil
}

func (b *bucketKeeper) PutPublicAccessBlock(_ context.Context, in *s3.PutPublicAccessBlockInput, _ ...s3opt) (*s3.PutPublicAccessBlockOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := in.PublicAccessBlockConfiguration
	if !aws.ToBool(c.BlockPublicAcls) || !aws.ToBool(c.BlockPublicPolicy) || !aws.ToBool(c.IgnorePublicAcls) || !aws.ToBool(c.RestrictPublicBuckets) {
		return nil, errors.New("the bucket is not private")
	}
	return &s3.PutPublicAccessBlockOutput{}, b.call("PutPublicAccessBlock", in.Bucket, in.ExpectedBucketOwner)
}

func (b *bucketKeeper) PutBucketEncryption(_ context.Context, in *s3.PutBucketEncryptionInput, _ ...s3opt) (*s3.PutBucketEncryptionOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &s3.PutBucketEncryptionOutput{}, b.call("PutBucketEncryption", in.Bucket, in.ExpectedBucketOwner)
}

func (b *bucketKeeper) PutBucketTagging(_ context.Context, in *s3.PutBucketTaggingInput, _ ...s3opt) (*s3.PutBucketTaggingOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &s3.PutBucketTaggingOutput{}, b.call("PutBucketTagging", in.Bucket, in.ExpectedBucketOwner)
}

// GetCallerIdentity makes it STS too.
func (b *bucketKeeper) GetCallerIdentity(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error) {
	return &sts.GetCallerIdentityOutput{Account: aws.String(ministack.Account)}, nil
}

const ownBucket = "zael-artifacts-" + ministack.Account + "-eu-central-1"

// deploy makes a new stack with code, whose template's parameters say where it is.
func deploy(t *testing.T, b *bucketKeeper, c stack.Change) error {
	t.Helper()
	all := steps(describes(fakeName, nil), creation(idOne))
	f := scripted(t, all...)
	s := stack.NewFake(fakeName, f, b, b, f.table(dynamofake.New()))
	c.Options = &stack.Options{}
	_, err := s.Apply(t.Context(), c)
	if err != nil {
		f.steps = nil
	}
	return err
}

func keeper() *bucketKeeper {
	return &bucketKeeper{owner: ministack.Account, buckets: map[string]bool{}, objects: map[string][]byte{}, fail: map[string]error{}}
}

func TestUploadMakesTheBucket(t *testing.T) {
	t.Parallel()
	b, code := keeper(), codeOf("v1.0.0", "one")
	if err := deploy(t, b, stack.Change{Code: code}); err != nil {
		t.Fatal(err)
	}
	want := "HeadObject HeadBucket CreateBucket PutPublicAccessBlock PutBucketEncryption PutBucketTagging PutObject"
	if got := strings.Join(b.calls, " "); got != want {
		t.Errorf("calls: got %s, want %s", got, want)
	}
	if got := b.objects[ownBucket+"/"+code.Key()]; string(got) != string(code.Zip) {
		t.Errorf("the object: got %d bytes, want the %d of the code", len(got), len(code.Zip))
	}
	b.calls = nil
	if err := deploy(t, b, stack.Change{Code: code}); err != nil || strings.Join(b.calls, " ") != "HeadObject" {
		t.Errorf("the same code again: got calls %q and %v, want HeadObject alone", b.calls, err)
	}
	b.calls = nil
	if err := deploy(t, b, stack.Change{Code: codeOf("v1.0.0", "two")}); err != nil || strings.Contains(strings.Join(b.calls, " "), "CreateBucket") || len(b.objects) != 2 {
		t.Errorf("other code: got calls %q and %v, want it beside the first, in the same bucket", b.calls, err)
	}
}

// Another program makes the bucket at the same time.
func TestUploadTwoMakeTheBucket(t *testing.T) {
	t.Parallel()
	conflict := func(code string) error { return httpError(http.StatusConflict, code) }
	for name, first := range map[string]map[string]error{
		"they made it":         {"CreateBucket": conflict("BucketAlreadyOwnedByYou")},
		"they are making it":   {"CreateBucket": conflict("OperationAborted")},
		"it is not everywhere": {"PutPublicAccessBlock": httpError(http.StatusNotFound, "NoSuchBucket")},
		"they block it":        {"PutPublicAccessBlock": conflict("OperationAborted")},
		"they encrypt it":      {"PutBucketEncryption": conflict("OperationAborted")},
		"they tag it":          {"PutBucketTagging": conflict("OperationAborted"), "PutBucketEncryption": conflict("OperationAborted")},
	} {
		b := keeper()
		b.buckets[ownBucket] = true
		b.first = first
		b.first["HeadBucket"] = httpError(http.StatusNotFound, "NotFound")
		if err := deploy(t, b, stack.Change{Code: codeOf("v1.0.0", "one")}); err != nil || len(b.objects) != 1 {
			t.Errorf("%s: got %v and %d objects, want nil and 1", name, err, len(b.objects))
		}
	}
	// A program that never ends is no reason to wait for ever.
	b := keeper()
	b.fail["CreateBucket"] = conflict("OperationAborted")
	if err := deploy(t, b, stack.Change{Code: codeOf("v1.0.0", "one")}); err == nil {
		t.Error("always aborted: got nil, want an error")
	}
}

// Somebody else has a bucket of our name: the code must not go there.
func TestUploadNotIntoAnothersBucket(t *testing.T) {
	t.Parallel()
	b := keeper()
	b.owner = "999999999999"
	b.buckets[ownBucket] = true
	err := deploy(t, b, stack.Change{Code: codeOf("v1.0.0", "one")})
	if err == nil || len(b.objects) != 0 {
		t.Fatalf("Apply: got %v and %d objects, want an error and none", err, len(b.objects))
	}
	contains(t, "error", err.Error(), ownBucket, "CodeBucket")
}

func TestUploadToANamedBucket(t *testing.T) {
	t.Parallel()
	b, code := keeper(), codeOf("v1.0.0", "one")
	b.owner = "999999999999" // shared by another account
	if err := deploy(t, b, stack.Change{Code: code, CodeBucket: "ours"}); err == nil || !strings.Contains(err.Error(), "ours") {
		t.Errorf("a bucket that is missing: got %v, want an error that names it", err)
	}
	b.buckets["ours"], b.calls = true, nil
	if err := deploy(t, b, stack.Change{Code: code, CodeBucket: "ours"}); err != nil || b.objects["ours/"+code.Key()] == nil {
		t.Errorf("a bucket that is there: got %v, want the object in it", err)
	}
	if got := strings.Join(b.calls, " "); got != "HeadObject PutObject" {
		t.Errorf("calls: got %s, want HeadObject PutObject", got)
	}
	// A caller that may not list is told that a missing object is forbidden.
	b.fail["HeadObject"] = httpError(http.StatusForbidden, "Forbidden")
	if err := deploy(t, b, stack.Change{Code: code, CodeBucket: "ours"}); err != nil {
		t.Errorf("with a forbidden HeadObject: got %v, want nil", err)
	}
	b.fail["HeadObject"] = httpError(http.StatusServiceUnavailable, "SlowDown")
	if err := deploy(t, b, stack.Change{Code: code, CodeBucket: "ours"}); err == nil {
		t.Error("with a bucket that is not available: got nil, want an error")
	}
}

// On the emulator: the bucket that Apply made, and what is in it.
func TestUploadOnTheEmulator(t *testing.T) {
	t.Parallel()
	s, code := emulated(t, newName()), codeOf("v1.0.0", newName())
	apply(t, s, stack.Change{Options: &stack.Options{}, Code: code}, stack.Created)
	c := s3.NewFromConfig(configOf(t, emulator.Endpoint(t)), func(o *s3.Options) { o.UsePathStyle = true })
	bucket := "zael-artifacts-" + ministack.Account + "-" + ministack.Region
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String(code.Key())})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if got, err := io.ReadAll(out.Body); err != nil || string(got) != string(code.Zip) {
		t.Errorf("the object: got %d bytes and %v, want the %d of the code", len(got), err, len(code.Zip))
	}
	block, err := c.GetPublicAccessBlock(t.Context(), &s3.GetPublicAccessBlockInput{Bucket: &bucket})
	if err != nil || !aws.ToBool(block.PublicAccessBlockConfiguration.RestrictPublicBuckets) {
		t.Errorf("public access: got %v, want it blocked", err)
	}
	if e, err := c.GetBucketEncryption(t.Context(), &s3.GetBucketEncryptionInput{Bucket: &bucket}); err != nil || len(e.ServerSideEncryptionConfiguration.Rules) != 1 {
		t.Errorf("encryption: got %v, want one rule", err)
	}
	remove(t, s)
	if _, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String(code.Key())}); err != nil {
		t.Errorf("after the deletion of the stack: got %v, want the code where it was: other stacks run it", err)
	}
}
