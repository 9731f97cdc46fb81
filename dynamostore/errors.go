package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/zeroae/zael"
)

// ErrNoTable is what calls return where the store's table is missing: it is made
// by CreateTable or a stack.
var ErrNoTable = errors.New("there is no such table")

var errClosed = fmt.Errorf("dynamostore: %w", zael.ErrClosed)

// fate is what an error says of the call.
type fate uint8

const (
	answeredNo fate = iota // the engine understood and refused: again would be no use
	notApplied             // surely not applied, and may work again
	unknown                // may have been applied
)

// fateOf sorts errors of calls. A condition that failed is not among them.
func fateOf(err error) fate {
	if throttled(err) {
		return notApplied
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil {
		if status := e.HTTPStatusCode(); status >= 400 && status < 500 {
			if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
				return notApplied // cut off before it said why
			}
			return answeredNo
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
		return answeredNo
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return unknown
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return unknown
	}
	return answeredNo // made before anything was sent: a wrong argument, no credentials
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

// translate is an error of the engine's library in zael's words: of ctx, if it
// is done; unavailable for timeouts, the network, 5xx and throttling; itself
// otherwise (access denied, a missing table, a bug).
func translate(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("dynamostore: %s: %w", what, ctx.Err())
	case fateOf(err) != answeredNo:
		return &callError{what: what, kind: zael.ErrUnavailable, cause: err}
	}
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return &callError{what: what, kind: ErrNoTable, cause: err}
	}
	return &callError{what: what, cause: err}
}

// A callError is what came of a call, without what the library says around it.
type callError struct {
	what  string
	kind  error // nil: none of ours
	cause error
}

func (e *callError) Error() string {
	return "dynamostore: " + e.what + ": " + e.text()
}

func (e *callError) text() string {
	if errors.Is(e.kind, ErrNoTable) {
		return ErrNoTable.Error()
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
