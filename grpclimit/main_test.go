package grpclimit_test

import (
	"context"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/grpclimit"
	"github.com/zeroae/zael/internal/testrig/limiters"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is a limiter in memory whose clock stands until it is set.
type world struct{ *limiters.Still }

func setup(tb testing.TB) *world {
	tb.Helper()
	return &world{limiters.New(tb)}
}

// used returns how many tokens of a limit of tokens are used by the entity "all".
func (w *world) used(tb testing.TB, limit string) int64 {
	tb.Helper()
	a, err := w.Available(context.Background(), zael.Query{Entity: "all", Policy: tokens})
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]int64{"calls": 10, "tokens": 1000}[limit] - a[limit]
}

var (
	tokens = zael.MustPolicy("api", zael.PerMinute("calls", 10), zael.PerMinute("tokens", 1000))
	fixed  = grpclimit.Fixed("all")
)

// limits is New, which must not fail.
func limits(tb testing.TB, w *world, policy *zael.Policy, key grpclimit.KeyFunc, config *grpclimit.Config) *grpclimit.Limits {
	tb.Helper()
	l, err := grpclimit.New(w.Limiter, policy, key, config)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// A service answers with what was sent, or by its functions.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary  func(ctx context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	stream func(testpb.TestService_FullDuplexCallServer) error
}

func (s *service) UnaryCall(ctx context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.unary != nil {
		return s.unary(ctx, req)
	}
	return &testpb.SimpleResponse{Payload: req.GetPayload()}, nil
}

func (s *service) StreamingInputCall(stream testpb.TestService_StreamingInputCallServer) error {
	for {
		if _, err := stream.Recv(); err == io.EOF { //nolint:errorlint // of gRPC as it is
			return stream.SendAndClose(&testpb.StreamingInputCallResponse{})
		} else if err != nil {
			return err
		}
	}
}

func (s *service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	if s.stream != nil {
		return s.stream(stream)
	}
	return echo(stream)
}

// echo sends back what it receives.
func echo(stream testpb.TestService_FullDuplexCallServer) error {
	for {
		req, err := stream.Recv()
		if err == io.EOF { //nolint:errorlint // of gRPC as it is
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: req.GetPayload()}); err != nil {
			return err
		}
	}
}

// serve runs a server in memory and returns a client of it.
func serve(tb testing.TB, s *service, server []grpc.ServerOption, client ...grpc.DialOption) testpb.TestServiceClient {
	tb.Helper()
	listener := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(server...)
	testpb.RegisterTestServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///", append(client,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
		srv.Stop()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return testpb.NewTestServiceClient(conn)
}

// limited serves with the limits of a server.
func limited(tb testing.TB, s *service, l *grpclimit.Limits, client ...grpc.DialOption) testpb.TestServiceClient {
	tb.Helper()
	return serve(tb, s, []grpc.ServerOption{grpc.UnaryInterceptor(l.UnaryServer()), grpc.StreamInterceptor(l.StreamServer())}, client...)
}

// request is a request of n bytes.
func request(n int) *testpb.SimpleRequest {
	return &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, n)}}
}
