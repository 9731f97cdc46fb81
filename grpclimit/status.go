package grpclimit

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/zeroae/zael"
)

// pushback is the trailer that the retries of gRPC clients go by: milliseconds, or -1 not
// to retry.
const pushback = "grpc-retry-pushback-ms"

// statusOf returns the status of a call that was not admitted, and whether the reason has
// to be reported, as the other side is not told.
func statusOf(ctx context.Context, err error) (reported bool, st error) {
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		return false, resourceExhausted(exceeded)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return false, status.FromContextError(ctx.Err()).Err()
	}
	if invalid, ok := errors.AsType[*zael.ValidationError](err); ok && invalid.Field == "Request.Entity" {
		return false, invalidArgument(err) // the key is no name that an entity can have
	}
	if errors.Is(err, zael.ErrDisabled) {
		return false, status.Error(codes.PermissionDenied, "access is disabled")
	}
	if errors.Is(err, zael.ErrUnavailable) || errors.Is(err, zael.ErrContention) {
		return true, withDetails(codes.Unavailable, "the limits cannot be checked now", &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	}
	return true, status.Error(codes.Internal, "the limits cannot be checked")
}

func invalidArgument(err error) error {
	return status.Error(codes.InvalidArgument, "the call cannot be assigned to a limit: "+err.Error())
}

// resourceExhausted returns the status of a refusal. It names the limits and not the
// entity, which may be a secret of the server's.
func resourceExhausted(err *zael.ExceededError) error {
	quota := &errdetails.QuotaFailure{}
	for _, s := range err.Violations() {
		quota.Violations = append(quota.Violations, &errdetails.QuotaFailure_Violation{
			Subject:     "limit:" + s.Limit.Name,
			Description: s.Limit.String(),
			QuotaMetric: s.Limit.Name,
			QuotaValue:  s.Limit.Burst,
		})
	}
	wait := err.RetryAfter()
	if wait == zael.Never {
		return withDetails(codes.ResourceExhausted, "the call asks for more than a limit ever admits at once: make it smaller", quota)
	}
	return withDetails(codes.ResourceExhausted, "rate limit exceeded: retry in "+wait.Round(time.Millisecond).String(),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}, quota)
}

func withDetails(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	s, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		return status.Error(code, message) // the details are of known types: it does not happen
	}
	return s.Err()
}

// setPushback sets the trailer of a server's call that failed with err.
func setPushback(ctx context.Context, err error) {
	if value, ok := pushbackOf(err); ok {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(pushback, value)) // fails only outside of a server
	}
}

func pushbackOf(err error) (value string, ok bool) {
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted && st.Code() != codes.Unavailable {
		return "", false
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			wait := info.GetRetryDelay().AsDuration()
			return strconv.FormatInt(int64((wait+time.Millisecond-1)/time.Millisecond), 10), true
		}
	}
	return "-1", st.Code() == codes.ResourceExhausted
}
