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
	"github.com/zeroae/zael/internal/enginecall"
)

// ErrNoTable matches the error of calls where the store's table is missing; the error
// names table and region. CreateTable or a stack makes it.
var ErrNoTable = errors.New("there is no such table")

var errClosed = fmt.Errorf("dynamostore: %w", zael.ErrClosed)

// fateOf returns the fate of a call by its error, which is not that of a failed condition.
func fateOf(err error) enginecall.Fate {
	switch {
	case throttled(err):
		return enginecall.NotApplied
	case awsquirks.CredentialsMissing(err):
		return enginecall.Rejected // although what the SDK says last is that a service is away
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil {
		if status := e.HTTPStatusCode(); status >= 400 && status < 500 {
			if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
				return enginecall.NotApplied // cut off before it said why
			}
			return enginecall.Rejected
		}
		return enginecall.Unknown // 5xx, or an answer that cannot be read
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return enginecall.NotApplied
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return enginecall.NotApplied
	}
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return enginecall.Unknown
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return enginecall.Unknown
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorFault() == smithy.FaultClient {
		return enginecall.Rejected
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return enginecall.Unknown
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return enginecall.Unknown
	}
	return enginecall.Rejected // made before anything was sent: a wrong argument, no credentials
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
	}
	e := &enginecall.Error{Doing: "dynamostore: " + what, Cause: err, Text: textOf(err)}
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		e.Kind, e.Text = ErrNoTable, ErrNoTable.Error()+": "+where
	} else if fateOf(err) != enginecall.Rejected {
		e.Kind = zael.ErrUnavailable
	}
	return e
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

// textOf returns what the error of a call says, without what the SDK says around it.
func textOf(err error) string {
	switch {
	case awsquirks.CredentialsMissing(err):
		return awsquirks.NoCredentials
	case awsquirks.CredentialsLate(err):
		return awsquirks.LateCredentials
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}
