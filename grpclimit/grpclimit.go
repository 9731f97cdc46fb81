// Package grpclimit holds the calls of gRPC servers and clients to limits.
//
//	package main
//
//	import (
//		"log"
//		"net"
//
//		"google.golang.org/grpc"
//		"google.golang.org/grpc/health"
//		"google.golang.org/grpc/health/grpc_health_v1"
//
//		"github.com/zeroae/zael"
//		"github.com/zeroae/zael/grpclimit"
//		"github.com/zeroae/zael/memstore"
//	)
//
//	func main() {
//		limiter, err := zael.New(memstore.New(nil), nil)
//		if err != nil {
//			log.Fatal(err)
//		}
//		policy := zael.MustPolicy("api", zael.PerSecond("calls", 100))
//		limits := grpclimit.Must(grpclimit.New(limiter, policy, grpclimit.Peer(nil), nil))
//		server := grpc.NewServer(
//			grpc.UnaryInterceptor(limits.UnaryServer()),
//			grpc.StreamInterceptor(limits.StreamServer()),
//		)
//		grpc_health_v1.RegisterHealthServer(server, health.NewServer())
//
//		listener, err := net.Listen("tcp", ":8081")
//		if err != nil {
//			log.Fatal(err)
//		}
//		log.Fatal(server.Serve(listener))
//	}
//
// A call that a limit refuses fails with the code RESOURCE_EXHAUSTED and the details
// google.rpc.RetryInfo and google.rpc.QuotaFailure. A server also sets the trailer
// grpc-retry-pushback-ms, which the retries of gRPC clients go by: after a refusal that no
// wait helps they stop.
//
// A stream counts as one call, or with Config.PerMessage each message that is received
// (by a server) or sent (by a client) counts as one.
//
// # What a call really used
//
// A handler that learns only later what a call costs records it in the lease:
//
//	lease, _ := grpclimit.LeaseFrom(ctx)
//	err := lease.Settle(zael.Amounts{"tokens": used})
//
// Or Config.Settle works it out from the reply and the status. The lease is committed when
// the call has ended, also if the handler panics or the other side has left.
package grpclimit

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edge"
)

// A Call is what is held to limits: a call, or a message of a stream with
// Config.PerMessage.
type Call struct {
	Method  string // in full, such as "/package.Service/Method"
	Message any    // the request, or the message of the stream; nil for a stream as a whole
}

// A KeyFunc returns the entity whose limits a call is held to. An error fails the call
// with the code INVALID_ARGUMENT: it must be fit for clients to see. An empty key without
// an error is an error as well. It is called concurrently.
type KeyFunc func(ctx context.Context, call Call) (string, error)

// A Config tunes Limits. A nil *Config is the same as the zero Config. Its
// functions are called concurrently.
type Config struct {
	// Request returns what to acquire for a call, where the policy depends on the call.
	// The policy and the key that are passed to New are then nil, and Cost must be. An
	// error fails the call with the code INVALID_ARGUMENT.
	Request func(ctx context.Context, call Call) (zael.Request, error)

	// Cost returns how many tokens a call takes, by limit name. A limit that it does not
	// name takes 1. Nil takes 1 of each. An error fails the call with the code
	// INVALID_ARGUMENT.
	Cost func(ctx context.Context, call Call) (zael.Amounts, error)

	// Settle returns what a call has really used, by limit name, after it has ended;
	// limits that it does not name keep what was taken. It is not called if the handler
	// has recorded something in the lease, nor for messages. Nil keeps what was taken.
	Settle func(ctx context.Context, call Call, result Result) zael.Amounts

	// PerMessage counts the messages of streams instead of streams: in a server those
	// that are received, in a client those that are sent. A message that is refused is
	// an error of RecvMsg or SendMsg.
	PerMessage bool

	// Cascade takes from the entity's parent too; see zael.Request.
	Cascade bool

	// MaxWait lets a call wait in line; see zael.Request. 0 does not wait.
	MaxWait time.Duration

	// FailureMode decides what happens while the store cannot answer. Zero is that of
	// the Limiter. With zael.FailOpen calls pass, uncharged.
	FailureMode zael.FailureMode

	// Report is called with what the other side is not told: why a call could not be
	// decided, or why a lease was not committed. Nil ignores it.
	Report func(ctx context.Context, method string, err error)
}

// A Result is how a call ended.
type Result struct {
	Reply            any   // of a unary call that succeeded
	Err              error // of the call; nil if it succeeded. After a panic of the handler it is ErrPanicked
	Sent, Received   int   // messages of a stream
	ReceivedByServer bool  // the call was served here
}

// ErrPanicked is the Result.Err of a call whose handler panicked.
var ErrPanicked = errors.New("grpclimit: the handler panicked")

// Limits make interceptors. Their methods may be called concurrently.
type Limits struct {
	limiter *zael.Limiter
	source  edge.Source[asked]
	config  Config
}

// An asked is a call with its context.
type asked struct {
	ctx  context.Context //nolint:containedctx // lives as long as the call of a function
	call Call
}

// with returns a function of a call and its context as one of both; nil if it is nil.
func with[T any](f func(context.Context, Call) (T, error)) func(asked) (T, error) {
	if f == nil {
		return nil
	}
	return func(a asked) (T, error) { return f(a.ctx, a.call) }
}

// New returns Limits that take from the limits of a policy, for the entity that key
// returns. With Config.Request both are nil. The error is a [*zael.ValidationError].
func New(limiter *zael.Limiter, policy *zael.Policy, key KeyFunc, config *Config) (*Limits, error) {
	l := &Limits{limiter: limiter}
	if config != nil {
		l.config = *config
	}
	c := &l.config
	l.source = edge.Source[asked]{
		Call: "call", Keys: "grpclimit.Peer(nil), or grpclimit.Fixed", Policy: policy, Key: with(key),
		Request: with(c.Request), Cost: with(c.Cost), Cascade: c.Cascade, MaxWait: c.MaxWait, FailureMode: c.FailureMode,
	}
	if err := l.source.Validate(limiter); err != nil {
		return nil, err
	}
	return l, nil
}

// Must returns l and panics if err is not nil. It is for the start of a program.
func Must(l *Limits, err error) *Limits {
	if err != nil {
		panic(err)
	}
	return l
}

// Limit takes what the call costs whose handler's context ctx is, and returns the error
// of the call, or nil. It makes Limits a Limiter of package ratelimit of
// go-grpc-middleware, which has no lease, no message and no trailer.
func (l *Limits) Limit(ctx context.Context) error {
	method, _ := grpc.Method(ctx)
	return l.take(ctx, Call{Method: method})
}

// take takes what a call costs for good.
func (l *Limits) take(ctx context.Context, call Call) error {
	lease, err := l.acquire(ctx, call)
	if err != nil {
		return err
	}
	edge.Settle(ctx, lease, nil, l.reporter(ctx, call))
	return nil
}

// reporter returns what tells the program of an error that the other side is not told.
func (l *Limits) reporter(ctx context.Context, call Call) func(error) {
	return func(err error) {
		if l.config.Report != nil {
			l.config.Report(ctx, call.Method, err)
		}
	}
}

// acquire takes what a call costs. The error is the status of the call.
func (l *Limits) acquire(ctx context.Context, call Call) (*zael.Lease, error) {
	req, err := l.source.Of(asked{ctx, call})
	if err != nil {
		return nil, invalidArgument(err)
	}
	lease, err := l.limiter.Acquire(ctx, req)
	if err == nil {
		return lease, nil
	}
	reported, status := statusOf(ctx, err)
	if reported {
		l.reporter(ctx, call)(err)
	}
	return nil, status
}

// end settles the lease of a call, unless its handler has, and commits it, also where ctx
// has ended.
func (l *Limits) end(ctx context.Context, call Call, lease *zael.Lease, result Result) {
	var settle func() zael.Amounts
	if l.config.Settle != nil {
		settle = func() zael.Amounts { return l.config.Settle(ctx, call, result) }
	}
	edge.Settle(ctx, lease, settle, l.reporter(ctx, call))
}

type leaseKey struct{}

// LeaseFrom returns the lease of the call whose handler's context, or a context made from
// it, is ctx. It reports false outside of such calls, and in streams with
// Config.PerMessage.
func LeaseFrom(ctx context.Context) (*zael.Lease, bool) {
	lease, ok := ctx.Value(leaseKey{}).(*zael.Lease)
	return lease, ok
}

func withLease(ctx context.Context, lease *zael.Lease) context.Context {
	return context.WithValue(ctx, leaseKey{}, lease)
}
