package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/awsquirks"
)

// ErrNoTable matches the error of calls where the store's table is missing; the error
// names table and region. CreateTable or a stack makes it.
var ErrNoTable = errors.New("there is no such table")

var errClosed = fmt.Errorf("dynamostore: %w", zael.ErrClosed)

// A fate is what an error tells of the fate of its call.
type fate uint8

const (
	rejected   fate = iota // the engine understood and refused: again would be no use
	notApplied             // surely not applied, and may work again
	unknown                // may have been applied
)

// fateOf returns the fate of a call by its error, which is not that of a failed condition.
func fateOf(err error) fate {
	switch {
	case throttled(err):
		return notApplied
	case awsquirks.CredentialsMissing(err):
		return rejected // although what the SDK says last is that a service is away
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil {
		if status := e.HTTPStatusCode(); status >= 400 && status < 500 {
			if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
				return notApplied // cut off before it said why
			}
			return rejected
		}
		return unknown // 5xx, or an answer that cannot be read
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return notApplied
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return notApplied
	}
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return unknown
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return unknown
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorFault() == smithy.FaultClient {
		return rejected
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return unknown
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return unknown
	}
	return rejected // made before anything was sent: a wrong argument, no credentials
}

func throttled(err error) bool {
	if _, ok := errors.AsType[*types.TransactionConflictException](err); ok {
		return true
	}
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	_, ok = retry.DefaultThrottleErrorCodes[e.ErrorCode()]
	return ok
}

// translate puts an error of the SDK into zael's words: that of ctx, if it is done;
// unavailable for timeouts, the network, 5xx and throttling; that of a missing table; and
// any other (access denied, no credentials, a bug) as it is.
func (s *Store) translate(ctx context.Context, what string, err error) error {
	return translate(ctx, s.where, what, err)
}

// translate is Store.translate; where names the table.
func translate(ctx context.Context, where, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("dynamostore: %s: %w", what, ctx.Err())
	case fateOf(err) != rejected:
		return &callError{what: what, kind: zael.ErrUnavailable, cause: err}
	}
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return &callError{what: what, kind: ErrNoTable, where: where, cause: err}
	}
	return &callError{what: what, cause: err}
}

// located names a table with the region and, unless it is AWS's, the endpoint of a
// client, as a missing one is mostly looked for in the wrong place.
func located(client any, table string) string {
	c, ok := client.(interface{ Options() dynamodb.Options })
	if !ok {
		return table
	}
	o := c.Options()
	where := table + " in " + o.Region
	if o.BaseEndpoint != nil {
		where += " at " + *o.BaseEndpoint
	}
	return where
}

// A callError is the error of a call, without what the SDK says around it.
type callError struct {
	what  string // was tried
	kind  error  // nil: none of ours
	where string // the table is that is missing
	cause error
}

func (e *callError) Error() string {
	return "dynamostore: " + e.what + ": " + e.text()
}

func (e *callError) text() string {
	switch {
	case errors.Is(e.kind, ErrNoTable):
		return ErrNoTable.Error() + ": " + e.where
	case awsquirks.CredentialsMissing(e.cause):
		return awsquirks.NoCredentials
	case awsquirks.CredentialsLate(e.cause):
		return awsquirks.LateCredentials
	}
	if api, ok := errors.AsType[smithy.APIError](e.cause); ok {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	if op, ok := errors.AsType[*net.OpError](e.cause); ok {
		return op.Error()
	}
	if errors.Is(e.cause, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return e.cause.Error()
}

func (e *callError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.cause}
	}
	return []error{e.kind, e.cause}
}
