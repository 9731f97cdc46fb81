package xds_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	conf "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/zeroae/zael/internal/rls/rules"
	"github.com/zeroae/zael/internal/rls/xds"
	"github.com/zeroae/zael/internal/testrig/certificates"
	"github.com/zeroae/zael/internal/testrig/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A plane is a control plane. It sends what comes from answers, and passes on what it is asked.
type plane struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer

	asked   chan *discovery.DiscoveryRequest
	answers chan *discovery.DiscoveryResponse // nil: the stream breaks
}

// StreamAggregatedResources implements the RPC.
func (p *plane) StreamAggregatedResources(stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case p.asked <- request:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		select {
		case answer := <-p.answers:
			if answer == nil {
				return errors.New("the stream breaks")
			}
			if err := stream.Send(answer); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// serve starts a control plane.
func serve(t *testing.T, options ...grpc.ServerOption) (p *plane, address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p = &plane{asked: make(chan *discovery.DiscoveryRequest), answers: make(chan *discovery.DiscoveryResponse)}
	s := grpc.NewServer(options...)
	discovery.RegisterAggregatedDiscoveryServiceServer(s, p)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p, l.Addr().String()
}

// follow follows a control plane. It has ended when the test ends.
func follow(t *testing.T, o *xds.Options) (accepted chan *rules.Rules, log *journal.Journal) {
	t.Helper()
	accepted, log = make(chan *rules.Rules), journal.New()
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- xds.Follow(ctx, o, func(r *rules.Rules) {
			select {
			case accepted <- r:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
	return accepted, log
}

// answer is one with rules of a domain.
func answer(t *testing.T, version string, c *conf.RateLimitConfig) *discovery.DiscoveryResponse {
	t.Helper()
	resource, err := anypb.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &discovery.DiscoveryResponse{VersionInfo: version, Nonce: "nonce-" + version, Resources: []*anypb.Any{resource}, TypeUrl: resource.GetTypeUrl()}
}

func good() *conf.RateLimitConfig {
	return &conf.RateLimitConfig{Name: "d", Domain: "d", Descriptors: []*conf.RateLimitDescriptor{{
		Key: "tenant", Value: "true", QuotaMode: true, Descriptors: []*conf.RateLimitDescriptor{
			{Key: "model", ShadowMode: true, RateLimit: &conf.RateLimitPolicy{Unit: conf.RateLimitUnit_YEAR, RequestsPerUnit: 7, Name: "n", Replaces: []*conf.RateLimitReplace{{Name: "o"}}}},
			{Key: "free", RateLimit: &conf.RateLimitPolicy{Unlimited: true}},
			{Key: "none", RateLimit: &conf.RateLimitPolicy{Unit: conf.RateLimitUnit_SECOND}},
		},
	}}}
}

func match(t *testing.T, r *rules.Rules, key string) rules.Match {
	t.Helper()
	m, ok := r.Match("d", []rules.Entry{{Key: "tenant", Value: "true"}, {Key: key, Value: "x"}})
	if !ok {
		t.Fatalf("nothing limits %s", key)
	}
	return m
}

func TestFollow(t *testing.T) {
	t.Parallel()
	p, address := serve(t)
	accepted, log := follow(t, &xds.Options{Server: address, NodeID: "envoy-ratelimit", Metadata: map[string]string{"k": "v"}, FirstRetry: time.Millisecond})

	first := <-p.asked
	if first.GetNode().GetId() != "envoy-ratelimit" || first.GetNode().GetMetadata().GetFields()["k"].GetStringValue() != "v" || first.GetVersionInfo() != "" ||
		first.GetTypeUrl() != "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig" {
		t.Errorf("the first request: got %v", first)
	}
	p.answers <- answer(t, "1", good())
	r := <-accepted
	if m := match(t, r, "model"); m.Requests != 7 || m.Unit != rules.Year || !m.Shadow || m.Name != "n" || len(m.Replaces) != 1 {
		t.Errorf("got %+v", m.Rule)
	}
	if m := match(t, r, "free"); !m.Unlimited {
		t.Errorf("got %+v", m.Rule)
	}
	if m := match(t, r, "none"); m.Requests != 0 || m.Policy != nil {
		t.Errorf("got %+v", m.Rule)
	}
	if ack := <-p.asked; ack.GetVersionInfo() != "1" || ack.GetResponseNonce() != "nonce-1" || ack.GetErrorDetail() != nil {
		t.Errorf("the second request: got %v, want that version 1 is accepted", ack)
	}

	// Rules with a mistake are refused, with what is wrong; those before hold.
	bad := good()
	bad.Descriptors[0].Descriptors[0].RateLimit.Unit = conf.RateLimitUnit_UNKNOWN
	p.answers <- answer(t, "2", bad)
	if nack := <-p.asked; nack.GetVersionInfo() != "1" || nack.GetResponseNonce() != "nonce-2" || !strings.Contains(nack.GetErrorDetail().GetMessage(), "invalid rate limit unit") {
		t.Errorf("the third request: got %v, want that version 2 is refused", nack)
	}
	p.answers <- answer(t, "3", &conf.RateLimitConfig{Name: "e", Domain: "e"})
	if r := <-accepted; r.Has("d") || !r.Has("e") {
		t.Error("an answer is the state of the world: what it lacks is gone")
	}
	<-p.asked

	// A stream that breaks is made again.
	before := log.Len()
	p.answers <- nil
	log.Await(before, "the control plane is gone")
	<-p.asked
	p.answers <- answer(t, "4", good())
	<-accepted
	<-p.asked
}

// Both ends show a certificate.
func TestFollowEncrypted(t *testing.T) {
	t.Parallel()
	authority := certificates.New(t)
	server, client := authority.Issue("server"), authority.Issue("client")
	load := func(f certificates.Files) []tls.Certificate {
		c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	p, address := serve(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: load(server), ClientCAs: authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert})))
	accepted, _ := follow(t, &xds.Options{Server: address, TLS: &tls.Config{RootCAs: authority.Pool(), Certificates: load(client), ServerName: "server"}, FirstRetry: time.Millisecond})
	<-p.asked
	p.answers <- answer(t, "1", good())
	<-accepted
	<-p.asked
	_, log := follow(t, &xds.Options{Server: address, TLS: &tls.Config{RootCAs: authority.Pool()}, FirstRetry: time.Hour})
	log.Await(0, "the control plane is gone")
}
