package grpclimit_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/grpclimit"
	"github.com/zeroae/zael/memstore"
)

func Example() {
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := zael.MustPolicy("health", zael.PerMinute("calls", 2))
	limits := grpclimit.Must(grpclimit.New(limiter, policy, grpclimit.Peer(nil), nil))
	server := grpc.NewServer(grpc.UnaryInterceptor(limits.UnaryServer()), grpc.StreamInterceptor(limits.StreamServer()))
	healthpb.RegisterHealthServer(server, health.NewServer())

	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "localhost:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	for range 3 {
		_, err := healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{})
		fmt.Println(status.Code(err))
	}
	// Output:
	// OK
	// OK
	// ResourceExhausted
}
