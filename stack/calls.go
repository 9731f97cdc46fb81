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
	"github.com/zeroae/zael/internal/plainbody"
)

// How long AWS may take for one call with its repetitions.
const (
	callTimeout   = 30 * time.Second
	uploadTimeout = 10 * time.Minute
)

// calling is a configuration whose clients give up on an AWS that is silent, and
// whose errors match zael.ErrUnavailable where another time may help.
func calling(c aws.Config) (aws.Config, error) {
	if err := awsconf.CheckRegion(c); err != nil {
		return c, err
	}
	c.HTTPClient = plainbody.Client(c.HTTPClient)
	c.APIOptions = append(slices.Clip(c.APIOptions), func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("zael", oneCall), middleware.Before)
	})
	return c, nil
}

// oneCall is what happens around each call.
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

// translate is an error of the library in our words; ctx is the caller's.
func translate(ctx context.Context, err error) error {
	inner, ok := errors.AsType[*smithy.OperationError](err)
	switch {
	case err == nil || errors.Is(ctx.Err(), context.Canceled):
		return err
	case ok && inner.ServiceID == "ec2imds": // asked last of all for credentials
		return fmt.Errorf("there are no credentials of AWS: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", err)
	case unavailable(err):
		return &unavailableError{err}
	}
	return err
}

// unavailable tells whether AWS throttled, failed (5xx) or did not answer.
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

// An unavailableError is an error of the library that another time may help,
// without what the library says around it.
type unavailableError struct{ cause error }

// Error says what AWS or the network did.
func (e *unavailableError) Error() string {
	if api, ok := errors.AsType[smithy.APIError](e.cause); ok {
		if r, ok := errors.AsType[*awshttp.ResponseError](e.cause); ok {
			return fmt.Sprintf("AWS is unavailable: %s: %s (HTTP %d)", api.ErrorCode(), api.ErrorMessage(), r.HTTPStatusCode())
		}
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

// Unwrap gives the cause, and has it match zael.ErrUnavailable.
func (e *unavailableError) Unwrap() []error { return []error{zael.ErrUnavailable, e.cause} }
