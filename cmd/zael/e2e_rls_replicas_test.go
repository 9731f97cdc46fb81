//go:build unix

package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	lib "github.com/zeroae/zael" // zael runs the program
	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/stores"
)

// Servers of Envoy's rate limit service on one store admit exactly as many requests as there
// are tokens. If one is killed with -9, those that it admitted and could not tell are charged,
// and no others.
func TestReplicasOfTheRateLimitService(t *testing.T) {
	t.Parallel()
	manyProcesses(t)
	tokens := schedules.Count(t, 100)
	for _, c := range []struct {
		replicas int
		killed   bool
	}{{2, false}, {2, true}, {5, true}} {
		t.Run(fmt.Sprintf("%d replicas killed=%t", c.replicas, c.killed), func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			folder := t.TempDir()
			text := fmt.Sprintf("domain: d\ndescriptors: [{key: user, rate_limit: {unit: year, requests_per_unit: %d}}]", tokens)
			if err := os.WriteFile(filepath.Join(folder, "a.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var servers []*server
			var clients []pb.RateLimitServiceClient
			for range c.replicas {
				port, err := child.FreePort()
				if err != nil {
					t.Fatal(err)
				}
				servers = append(servers, s.serve(fmt.Sprintf("timeout: 1m\nrls: {listen: 127.0.0.1:%d, config: %q}\n", port, folder)))
				conn, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				clients = append(clients, pb.NewRateLimitServiceClient(conn))
			}
			request := &pb.RateLimitRequest{Domain: "d", Descriptors: []*common.RateLimitDescriptor{{Entries: []*common.RateLimitDescriptor_Entry{{Key: "user", Value: "alice"}}}}}
			var told, lost atomic.Int64
			var kill sync.Once
			var group sync.WaitGroup
			for caller := range fleetCallers {
				group.Go(func() {
					for n := caller; n < 5*tokens; n += fleetCallers {
						a, err := clients[n%c.replicas].ShouldRateLimit(t.Context(), request)
						switch {
						case err != nil && n%c.replicas == 0 && c.killed:
							lost.Add(1)
						case err != nil:
							t.Error(err)
							return
						case a.GetOverallCode() == pb.RateLimitResponse_OK && told.Add(1) == int64(tokens/2) && c.killed:
							kill.Do(func() { servers[0].signal(os.Kill) })
						}
					}
				})
			}
			group.Wait()
			for i, d := range servers {
				if c.killed && i == 0 {
					for range d.lines { // until it has gone
					}
					_ = d.cmd.Wait()
					continue
				}
				d.signal(syscall.SIGTERM)
				d.ended()
			}
			charged := s.charged(t, tokens)
			if got, most := told.Load(), told.Load()+lost.Load(); got > int64(tokens) || most < int64(tokens) || charged != int64(tokens) || !c.killed && got != int64(tokens) {
				t.Errorf("%d were told and up to %d more admitted, and %d charged, of %d", got, lost.Load(), charged, tokens)
			}
			t.Logf("%d told, %d calls without an answer", told.Load(), lost.Load())
		})
	}
}

// charged returns how many tokens of alice's are used.
func (s shop) charged(t *testing.T, tokens int) int64 {
	t.Helper()
	store, err := stores.Open(t.Context(), s.store)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(context.WithoutCancel(t.Context()))
	l, err := lib.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.WithoutCancel(t.Context()))
	left, err := l.Available(t.Context(), lib.Query{Entity: "user=alice", Resource: "d", Limits: []lib.Limit{lib.EachYear("requests", int64(tokens))}})
	if err != nil {
		t.Fatal(err)
	}
	return int64(tokens) - left["requests"]
}
