package grpclimit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/grpclimit"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
)

// calls returns the options of a client with limits.
func calls(l *grpclimit.Limits) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithUnaryInterceptor(l.UnaryClient()), grpc.WithStreamInterceptor(l.StreamClient())}
}

// Clients that wait in line send no more than a server admits: 20 callers at 200 a second
// and a burst of 1 are all served, none before its time.
func TestClientsWaitInLine(t *testing.T) {
	t.Parallel()
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	const rate = 200
	policy := zael.MustPolicy("api", zael.Limit{Name: "calls", Burst: 1, RefillAmount: rate, RefillPeriod: time.Second})
	client := serve(t, &service{}, nil, calls(limits(t, &world{&limiters.Still{Limiter: limiter}}, policy, fixed, &grpclimit.Config{MaxWait: time.Hour}))...)
	begin := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := client.UnaryCall(t.Context(), request(0)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(begin); took < 19*time.Second/rate-time.Millisecond {
		t.Errorf("20 calls at %d a second took %v", rate, took)
	}
}

// A call that is refused is not sent, and its error is what a server would have said.
func TestClientRefuses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	sent := 0
	s := &service{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		sent++
		return &testpb.SimpleResponse{}, nil
	}}
	client := serve(t, s, nil, calls(limits(t, w, tokens, fixed, nil))...)
	for range 10 {
		if _, err := client.UnaryCall(t.Context(), request(0)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := client.UnaryCall(t.Context(), request(0))
	if retry, _ := details(err); status.Code(err) != codes.ResourceExhausted || retry.GetRetryDelay().AsDuration() != 6*time.Second || sent != 10 {
		t.Errorf("got %v, retry %v, %d sent, want a refusal for 6 s and 10", err, retry, sent)
	}
	if _, err := client.FullDuplexCall(t.Context()); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a stream: got %v, want RESOURCE_EXHAUSTED", err)
	}
}

func TestClientSettles(t *testing.T) {
	t.Parallel()
	w := setup(t)
	fails := false
	s := &service{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		if fails {
			return nil, status.Error(codes.Unavailable, "no")
		}
		return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, 42)}}, nil
	}}
	client := serve(t, s, nil, calls(limits(t, w, tokens, fixed, &grpclimit.Config{Cost: cost, Settle: settle}))...)
	if _, err := client.UnaryCall(t.Context(), request(100)); err != nil {
		t.Fatal(err)
	}
	if calls, used := w.used(t, "calls"), w.used(t, "tokens"); calls != 1 || used != 42 {
		t.Errorf("used: got %d calls and %d tokens, want 1 and 42", calls, used)
	}
	fails = true
	if _, err := client.UnaryCall(t.Context(), request(100)); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want the server's error", err)
	}
	if calls, used := w.used(t, "calls"), w.used(t, "tokens"); calls != 1 || used != 42 {
		t.Errorf("after a failure: got %d calls and %d tokens used, want 1 and 42", calls, used)
	}
}

// A stream settles when it ends: by the server's end, the one reply of a stream without
// others, or the caller's context.
func TestClientStreams(t *testing.T) {
	t.Parallel()
	w := setup(t)
	settled := make(chan grpclimit.Result, 1)
	config := &grpclimit.Config{Settle: func(_ context.Context, _ grpclimit.Call, r grpclimit.Result) zael.Amounts {
		defer func() { settled <- r }()
		return zael.Amounts{"tokens": int64(10*r.Received + r.Sent)}
	}}
	client := serve(t, &service{}, nil, calls(limits(t, w, tokens, fixed, config))...)

	duplex, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := duplex.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := duplex.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if err := duplex.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, _ = duplex.Recv()
	if r := <-settled; r.Err != nil || r.Sent != 2 || r.Received != 2 {
		t.Errorf("ended by the server: got %+v", r)
	}

	input, err := client.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := input.Send(&testpb.StreamingInputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := input.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if r := <-settled; r.Err != nil || r.Sent != 1 || r.Received != 1 {
		t.Errorf("ended by its reply: got %+v", r)
	}

	ctx, cancel := context.WithCancel(t.Context())
	if _, err = client.FullDuplexCall(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if r := <-settled; !errors.Is(r.Err, context.Canceled) {
		t.Errorf("left: got %+v, want context.Canceled", r)
	}
	failing := &service{stream: func(testpb.TestService_FullDuplexCallServer) error { return status.Error(codes.DataLoss, "oh") }}
	broken, err := serve(t, failing, nil, calls(limits(t, w, tokens, fixed, config))...).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = broken.Recv()
	if r := <-settled; status.Code(r.Err) != codes.DataLoss {
		t.Errorf("ended by an error: got %+v", r)
	}
}

func TestClientPerMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	client := serve(t, &service{}, nil, calls(limits(t, w, tokens, fixed, &grpclimit.Config{PerMessage: true}))...)
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Send(&testpb.StreamingOutputCallRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("message 11: got %v, want RESOURCE_EXHAUSTED", err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}
