package grpclimit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/grpclimit"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
)

// details returns the details of a status, by their type.
func details(err error) (retry *errdetails.RetryInfo, quota *errdetails.QuotaFailure) {
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.RetryInfo:
			retry = d
		case *errdetails.QuotaFailure:
			quota = d
		}
	}
	return retry, quota
}

// TestTimeline: 10 calls a minute. t0: ten are served, and the next is refused for 6 s;
// t0 + 6 s: one more.
func TestTimeline(t *testing.T) {
	t.Parallel()
	w := setup(t)
	client := limited(t, &service{}, limits(t, w, tokens, fixed, nil))
	for i := range 10 {
		if _, err := client.UnaryCall(t.Context(), request(0)); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	var trailer metadata.MD
	_, err := client.UnaryCall(t.Context(), request(0), grpc.Trailer(&trailer))
	retry, quota := details(err)
	if status.Code(err) != codes.ResourceExhausted || retry.GetRetryDelay().AsDuration() != 6*time.Second {
		t.Errorf("refused: got %v, retry %v, want RESOURCE_EXHAUSTED for 6 s", err, retry)
	}
	if v := quota.GetViolations(); len(v) != 1 || v[0].GetQuotaMetric() != "calls" || v[0].GetQuotaValue() != 10 || v[0].GetDescription() != "calls=10/min" {
		t.Errorf("violations: got %v, want calls", v)
	}
	if got := trailer.Get("grpc-retry-pushback-ms"); fmt.Sprint(got) != "[6000]" {
		t.Errorf("pushback: got %v, want 6000", got)
	}
	w.Forward(6 * time.Second)
	for _, want := range []codes.Code{codes.OK, codes.ResourceExhausted} {
		if _, err := client.UnaryCall(t.Context(), request(0)); status.Code(err) != want {
			t.Errorf("after 6 s: got %v, want %v", err, want)
		}
	}
}

// byBytes takes and settles tokens by the bytes of requests and replies.
func cost(_ context.Context, call grpclimit.Call) (zael.Amounts, error) {
	if r, ok := call.Message.(*testpb.SimpleRequest); ok {
		return zael.Amounts{"tokens": int64(len(r.GetPayload().GetBody()))}, nil
	}
	return zael.Amounts{"tokens": 100}, nil
}

func settle(_ context.Context, _ grpclimit.Call, r grpclimit.Result) zael.Amounts {
	switch reply, ok := r.Reply.(*testpb.SimpleResponse); {
	case errors.Is(r.Err, grpclimit.ErrPanicked):
		return zael.Amounts{"calls": 0, "tokens": 7}
	case ok:
		return zael.Amounts{"tokens": int64(len(reply.GetPayload().GetBody()))}
	case r.Err != nil:
		return zael.Amounts{"calls": 0, "tokens": 0}
	default:
		return zael.Amounts{"tokens": int64(10*r.Received + r.Sent)}
	}
}

func TestNever(t *testing.T) {
	t.Parallel()
	w := setup(t)
	client := limited(t, &service{}, limits(t, w, tokens, fixed, &grpclimit.Config{Cost: cost}))
	var trailer metadata.MD
	_, err := client.UnaryCall(t.Context(), request(1001), grpc.Trailer(&trailer))
	retry, quota := details(err)
	if status.Code(err) != codes.ResourceExhausted || retry != nil || len(quota.GetViolations()) != 1 {
		t.Errorf("got %v, retry %v, quota %v, want a refusal without a time", err, retry, quota)
	}
	if got := trailer.Get("grpc-retry-pushback-ms"); fmt.Sprint(got) != "[-1]" {
		t.Errorf("pushback: got %v, want -1", got)
	}
}

// The retries of a client go by the trailer: a refusal that no wait helps is not retried,
// and others are after the time that it says.
func TestClientRetries(t *testing.T) {
	t.Parallel()
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	policy := zael.MustPolicy("api", zael.Limit{Name: "calls", Burst: 1, RefillAmount: 20, RefillPeriod: time.Second})
	tries := 0
	key := func(context.Context, grpclimit.Call) (string, error) { tries++; return "all", nil }
	w := &world{&limiters.Still{Limiter: limiter}}
	client := limited(t, &service{}, limits(t, w, policy, key, nil), grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 2, "initialBackoff": "3600s", "maxBackoff": "3600s", "backoffMultiplier": 1, "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]}}]}`))
	for range 2 {
		if _, err := client.UnaryCall(t.Context(), request(0)); err != nil {
			t.Errorf("got %v, want it served after the time of the trailer", err)
		}
	}
	if tries < 2 || tries > 3 { // the first was served, and the second perhaps at its second try
		t.Errorf("tries: got %d, want 2 or 3", tries)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	own := func(ctx context.Context, amounts zael.Amounts) {
		lease, ok := grpclimit.LeaseFrom(ctx)
		if !ok {
			panic("no lease")
		}
		if err := lease.Settle(amounts); err != nil {
			panic(err)
		}
	}
	for name, c := range map[string]struct {
		unary         func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
		calls, tokens int64
	}{
		"by the reply": {func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, 42)}}, nil
		}, 1, 42},
		"an error": {func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return nil, status.Error(codes.NotFound, "no")
		}, 0, 0},
		"by the handler": {func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			own(ctx, zael.Amounts{"tokens": 5})
			return nil, status.Error(codes.NotFound, "no")
		}, 1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			client := limited(t, &service{unary: c.unary}, limits(t, w, tokens, fixed, &grpclimit.Config{Cost: cost, Settle: settle}))
			_, _ = client.UnaryCall(t.Context(), request(100))
			if calls, used := w.used(t, "calls"), w.used(t, "tokens"); calls != c.calls || used != c.tokens {
				t.Errorf("used: got %d calls and %d tokens, want %d and %d", calls, used, c.calls, c.tokens)
			}
		})
	}
}

// A handler that panics settles, and the panic goes on.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := setup(t)
	config := &grpclimit.Config{Settle: settle}
	unary := limits(t, w, tokens, fixed, config).UnaryServer()
	func() {
		defer func() {
			if p := recover(); p != "oh" {
				t.Errorf("panic: got %v, want the handler's", p)
			}
		}()
		_, _ = unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/a/b"}, func(context.Context, any) (any, error) { panic("oh") })
	}()
	if calls, used := w.used(t, "calls"), w.used(t, "tokens"); calls != 0 || used != 7 {
		t.Errorf("used: got %d calls and %d tokens, want 0 and 7", calls, used)
	}
}

// A stream counts as one call, and settles by its messages.
func TestStream(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := &service{}
	client := limited(t, s, limits(t, w, tokens, fixed, &grpclimit.Config{Cost: cost, Settle: settle}))
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.used(t, "tokens"); got != 100 {
		t.Errorf("while the stream is open: got %d tokens used, want the estimate", got)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("got another message, want the end")
	}
	if calls, used := w.used(t, "calls"), w.used(t, "tokens"); calls != 1 || used != 33 {
		t.Errorf("used: got %d calls and %d tokens, want 1 and 33", calls, used)
	}
}

// A client that leaves a stream does not keep the lease from its end.
func TestStreamWhoseClientLeaves(t *testing.T) {
	t.Parallel()
	w := setup(t)
	settled := make(chan struct{})
	config := &grpclimit.Config{Settle: func(context.Context, grpclimit.Call, grpclimit.Result) zael.Amounts {
		defer close(settled)
		return zael.Amounts{"tokens": 1}
	}}
	l := limits(t, w, tokens, fixed, config)
	s := &service{}
	done := make(chan struct{})
	wrapped := func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		defer close(done)
		return l.StreamServer()(srv, stream, info, handler)
	}
	client := serve(t, s, []grpc.ServerOption{grpc.StreamInterceptor(wrapped)})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-settled
	<-done
	if used := w.used(t, "tokens"); used != 1 {
		t.Errorf("used: got %d tokens, want 1", used)
	}
}

// With PerMessage each message that a server receives counts, and the stream does not.
func TestPerMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	client := limited(t, &service{}, limits(t, w, tokens, fixed, &grpclimit.Config{PerMessage: true}))
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 11 {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		_, err := stream.Recv()
		if i < 10 && err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if retry, _ := details(err); i == 10 && (status.Code(err) != codes.ResourceExhausted || retry.GetRetryDelay().AsDuration() != 6*time.Second) {
			t.Errorf("message %d: got %v, want a refusal for 6 s", i, err)
		}
	}
	if got := stream.Trailer().Get("grpc-retry-pushback-ms"); fmt.Sprint(got) != "[6000]" {
		t.Errorf("pushback: got %v, want 6000", got)
	}
}

func TestStreamRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	refuse := func(context.Context, grpclimit.Call) (zael.Amounts, error) { return zael.Amounts{"tokens": 1001}, nil }
	s := &service{stream: func(testpb.TestService_FullDuplexCallServer) error { t.Error("served"); return nil }}
	client := limited(t, s, limits(t, w, tokens, fixed, &grpclimit.Config{Cost: refuse}))
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want RESOURCE_EXHAUSTED", err)
	}
}

// Nobody is served whose key or cost cannot be told, or while the store is dead, unless
// the failure mode is open.
func TestFailures(t *testing.T) {
	t.Parallel()
	dead, err := zael.New(limiters.Dead(), nil)
	if err != nil {
		t.Fatal(err)
	}
	alive := setup(t)
	denied, err := zael.New(limiters.Denied(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.SetSwitch(t.Context(), zael.Scope{Entity: "off"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	none := func(context.Context, grpclimit.Call) (string, error) { return "", nil }
	noCost := func(context.Context, grpclimit.Call) (zael.Amounts, error) { return nil, errors.New("no length") }
	for name, c := range map[string]struct {
		limiter  *zael.Limiter
		key      grpclimit.KeyFunc
		config   grpclimit.Config
		want     codes.Code
		reported int
	}{
		"no metadata":      {alive.Limiter, grpclimit.Metadata("x-tenant"), grpclimit.Config{}, codes.InvalidArgument, 0},
		"an empty key":     {alive.Limiter, none, grpclimit.Config{}, codes.InvalidArgument, 0},
		"a key of control": {alive.Limiter, grpclimit.Fixed("a\x00"), grpclimit.Config{}, codes.InvalidArgument, 0},
		"no address":       {alive.Limiter, grpclimit.Peer(nil), grpclimit.Config{}, codes.InvalidArgument, 0}, // of a connection in memory
		"no cost":          {alive.Limiter, fixed, grpclimit.Config{Cost: noCost}, codes.InvalidArgument, 0},
		"disabled":         {alive.Limiter, grpclimit.Fixed("off"), grpclimit.Config{}, codes.PermissionDenied, 0},
		"dead":             {dead, fixed, grpclimit.Config{}, codes.Unavailable, 1},
		"dead, open":       {dead, fixed, grpclimit.Config{FailureMode: zael.FailOpen}, codes.OK, 0},
		"denied, open":     {denied, fixed, grpclimit.Config{FailureMode: zael.FailOpen}, codes.Internal, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reported := make(chan error, 10)
			c.config.Report = func(_ context.Context, _ string, err error) { reported <- err }
			client := limited(t, &service{}, limits(t, &world{&limiters.Still{Limiter: c.limiter}}, tokens, c.key, &c.config))
			_, err := client.UnaryCall(t.Context(), request(0))
			if status.Code(err) != c.want || len(reported) != c.reported {
				t.Errorf("got %v, %d reported, want %v and %d", err, len(reported), c.want, c.reported)
			}
		})
	}
}

// Limits are a Limiter of go-grpc-middleware.
func TestGoGRPCMiddleware(t *testing.T) {
	t.Parallel()
	w := setup(t)
	methods := make(chan string, 20)
	key := func(_ context.Context, call grpclimit.Call) (string, error) {
		methods <- call.Method
		return "all", nil
	}
	var l ratelimit.Limiter = limits(t, w, tokens, key, nil)
	client := serve(t, &service{}, []grpc.ServerOption{grpc.UnaryInterceptor(ratelimit.UnaryServerInterceptor(l))})
	for i := range 11 {
		want := codes.OK
		if i == 10 {
			want = codes.ResourceExhausted
		}
		if _, err := client.UnaryCall(t.Context(), request(0)); status.Code(err) != want {
			t.Errorf("call %d: got %v, want %v", i, err, want)
		}
	}
	if got := <-methods; got != testpb.TestService_UnaryCall_FullMethodName {
		t.Errorf("method: got %q", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	own := func(context.Context, grpclimit.Call) (zael.Request, error) { return tokens.For("all"), nil }
	for _, c := range []struct {
		field   string
		limiter *zael.Limiter
		policy  *zael.Policy
		key     grpclimit.KeyFunc
		config  *grpclimit.Config
	}{
		{"limiter", nil, tokens, fixed, nil},
		{"policy", w.Limiter, nil, fixed, nil},
		{"key", w.Limiter, tokens, nil, nil},
		{"policy", w.Limiter, tokens, nil, &grpclimit.Config{Request: own}},
		{"key", w.Limiter, nil, fixed, &grpclimit.Config{Request: own}},
		{"Config.Cost", w.Limiter, nil, nil, &grpclimit.Config{Request: own, Cost: cost}},
		{"Config.MaxWait", w.Limiter, tokens, fixed, &grpclimit.Config{MaxWait: -1}},
	} {
		l, err := grpclimit.New(c.limiter, c.policy, c.key, c.config)
		invalid, ok := errors.AsType[*zael.ValidationError](err)
		if l != nil || !ok || invalid.Field != c.field {
			t.Errorf("%s: got %v, %v, want an error about it", c.field, l, err)
		}
	}
	if _, err := limits(t, w, nil, nil, &grpclimit.Config{Request: own}).UnaryServer()(t.Context(), nil, &grpc.UnaryServerInfo{},
		func(context.Context, any) (any, error) { return nil, nil }); err != nil {
		t.Errorf("with Config.Request: got %v", err)
	}
}
