package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/awsquirks"
)

// How long AWS may take for one call with its repetitions.
const (
	callTimeout   = 30 * time.Second
	uploadTimeout = 10 * time.Minute
)

// withTimeouts returns a configuration whose clients give up on an AWS that is silent, and
// whose errors match zael.ErrUnavailable where a later call may succeed.
func withTimeouts(c aws.Config) (aws.Config, error) {
	if err := awsconf.CheckRegion(c); err != nil {
		return c, err
	}
	c.Logger = awsquirks.Logger(&c)
	c.HTTPClient = awsquirks.PlainBodies(c.HTTPClient)
	c.APIOptions = append(slices.Clip(c.APIOptions), func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("zael", oneCall), middleware.Before)
	})
	return c, nil
}

// oneCall bounds a call and translates its error.
func oneCall(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	timeout := callTimeout
	if _, ok := in.Parameters.(*s3.PutObjectInput); ok {
		timeout = uploadTimeout
	}
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, metadata, err := next.HandleInitialize(within, in)
	return out, metadata, translate(ctx, err)
}

// translate puts an error of the SDK into our words; ctx is the caller's.
func translate(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(ctx.Err(), context.Canceled):
		return err
	case awsquirks.CredentialsMissing(err):
		return &credentialsError{err}
	case unavailable(err):
		return &unavailableError{err}
	}
	return err
}

// A credentialsError says that no credentials were found, without the SDK's account of
// where it looked.
type credentialsError struct{ cause error }

func (e *credentialsError) Error() string { return awsquirks.NoCredentials }

func (e *credentialsError) Unwrap() error { return e.cause }

// unavailable reports whether AWS throttled, failed (5xx) or did not answer.
func unavailable(err error) bool {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		if _, ok := retry.DefaultThrottleErrorCodes[e.ErrorCode()]; ok {
			return true
		}
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil && e.HTTPStatusCode() >= http.StatusBadRequest {
		return e.HTTPStatusCode() >= http.StatusInternalServerError || e.HTTPStatusCode() == http.StatusTooManyRequests
	}
	_, sending := errors.AsType[*smithyhttp.RequestSendError](err)
	_, network := errors.AsType[net.Error](err)
	_, reading := errors.AsType[*smithy.DeserializationError](err)
	return sending || network || reading || errors.Is(err, context.DeadlineExceeded)
}

// An unavailableError is an error of the SDK after which a later call may succeed,
// without what the SDK says around it.
type unavailableError struct{ cause error }

// Error says what AWS or the network did.
func (e *unavailableError) Error() string {
	if api, ok := errors.AsType[smithy.APIError](e.cause); ok {
		if r, ok := errors.AsType[*awshttp.ResponseError](e.cause); ok {
			return fmt.Sprintf("AWS is unavailable: %s: %s (HTTP %d)", api.ErrorCode(), api.ErrorMessage(), r.HTTPStatusCode())
		}
	}
	if awsquirks.CredentialsLate(e.cause) {
		return awsquirks.LateCredentials
	}
	if errors.Is(e.cause, context.DeadlineExceeded) {
		return "AWS is unavailable: no answer in time"
	}
	if e, ok := errors.AsType[*net.DNSError](e.cause); ok && e.IsNotFound {
		return "AWS is unavailable: there is no host " + e.Name + ": are region and endpoint right?"
	}
	if network, ok := errors.AsType[*net.OpError](e.cause); ok {
		return "AWS is unavailable: " + network.Error()
	}
	return "AWS is unavailable: " + e.cause.Error()
}

// Unwrap returns zael.ErrUnavailable and the cause.
func (e *unavailableError) Unwrap() []error { return []error{zael.ErrUnavailable, e.cause} }
