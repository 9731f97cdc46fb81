// Command grpc is a service of gRPC that holds each client address to 5 calls a second.
// A call that is refused fails with RESOURCE_EXHAUSTED, and says when to call again.
//
//	go run ./examples/grpc
//	grpcurl -plaintext -d '{}' localhost:8081 grpc.health.v1.Health/Check
package main

import (
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/grpclimit"
	"github.com/zeroae/zael/memstore"
)

func main() {
	server, err := limited(zael.MustPolicy("health", zael.PerSecond("calls", 5)))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "localhost:8081") //nolint:noctx // until the program ends
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}

// limited returns a server that serves what policy admits, by the client's address.
func limited(policy *zael.Policy) (*grpc.Server, error) {
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		return nil, err
	}
	limits, err := grpclimit.New(limiter, policy, grpclimit.Peer(nil), nil)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(limits.UnaryServer()),
		grpc.StreamInterceptor(limits.StreamServer()),
	)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	return server, nil
}
