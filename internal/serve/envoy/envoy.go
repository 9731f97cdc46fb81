// Package envoy serves Envoy's rate limit service in the daemon: over gRPC, and as JSON. Its
// rules are files, which are read again when they change.
package envoy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/zeroae/zael/internal/rls"
	"github.com/zeroae/zael/internal/rls/rules"
	"github.com/zeroae/zael/internal/rls/xds"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/filewatch"
)

// maxMessage bounds a request: 16 descriptors of 32 entries are far smaller.
const maxMessage = 1 << 20

// A Server is the service with its rules.
type Server struct {
	config  config.RLS
	service *rls.Service
	rules   atomic.Pointer[rules.Rules]
	seen    filewatch.Fingerprint // of the files that were read at first
	every   time.Duration         // how often they are looked at, or 0
	log     *slog.Logger
	metrics *metrics

	grpc   *grpc.Server
	health *health.Server
	ending chan struct{}      // closed when the end is near
	stop   context.CancelFunc // ends the watch of the files
	owned  sync.WaitGroup     // goroutines
}

// New is NewServer for [serve.Handlers].
func New(env *serve.Env) (serve.RateLimits, error) {
	s, err := NewServer(env)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// NewServer reads the rules, and makes the service of a daemon whose configuration has one.
// Rules with mistakes are an error, and so is a folder without any: nothing would be limited.
func NewServer(env *serve.Env) (*Server, error) {
	c := *env.Config().RLS
	s := &Server{config: c, every: env.LookEvery, log: env.Log, metrics: newMetrics(env.Metrics), ending: make(chan struct{})}
	follow, err := s.source()
	if err != nil {
		return nil, config.NewError(err)
	}
	decide := &rls.Options{
		NeverRefuse: c.NeverRefuse, ChargeOnRefusal: c.ChargeOnRefusal,
		Headers: rls.Headers{Limit: c.Headers.Limit, Remaining: c.Headers.Remaining, Reset: c.Headers.Reset},
		Shadow:  c.Shadow, Quota: c.Quota, NearLimit: c.NearLimit,
	}
	if c.CompatMetrics {
		decide.Count = newCompat(env.Metrics, env.Log).count
		s.metrics.compatible(env.Metrics)
	}
	s.service = rls.New(env.Limiter, s.rules.Load, decide)
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessage), grpc.UnaryInterceptor(s.intercept), grpc.StreamInterceptor(s.interceptStream), grpc.ConnectionTimeout(env.Config().Max.HeaderTime)}
	if c.MaxAge > 0 {
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: c.MaxAge, MaxConnectionAgeGrace: c.MaxAgeGrace}))
	}
	if env.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(requireClientName(env.TLS, c.ClientName))))
	}
	s.grpc, s.health = grpc.NewServer(options...), health.NewServer()
	pb.RegisterRateLimitServiceServer(s.grpc, s.service)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	k, err := newKuadrant(s.service, env)
	if err != nil {
		return nil, err
	}
	k.register(s.grpc)
	s.setServing(s.rules.Load() != nil)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.owned.Go(func() { follow(ctx) })
	return s, nil
}

// requireClientName returns a configuration that lets in only clients whose certificate is for a name,
// unless that is empty.
func requireClientName(c *tls.Config, name string) *tls.Config {
	if name == "" {
		return c
	}
	verify := func(c *tls.Config) *tls.Config {
		c = c.Clone()
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("the client shows no certificate")
			}
			return s.PeerCertificates[0].VerifyHostname(name)
		}
		return c
	}
	all := verify(c)
	if inner := c.GetConfigForClient; inner != nil {
		all.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := inner(h)
			if err != nil {
				return nil, err
			}
			return verify(c), nil
		}
	}
	return all
}

// Ready reports whether there are rules.
func (s *Server) Ready() bool {
	now := s.rules.Load()
	return now != nil && now.Len() > 0
}

// Rules returns the rules that hold, one a line.
func (s *Server) Rules() []string {
	if now := s.rules.Load(); now != nil {
		return now.Dump()
	}
	return nil
}

// source reads the rules of files, and returns what follows their changes.
func (s *Server) source() (follow func(context.Context), err error) {
	if s.config.XDS == nil {
		s.seen = filewatch.OfFolder(s.config.Folder)
		read, err := s.read()
		s.rules.Store(read)
		return s.followFiles, err
	}
	x := s.config.XDS
	o := &xds.Options{
		Server: x.Server, NodeID: x.NodeID, Metadata: x.Metadata, Headers: x.Headers, MaxMessage: x.MaxMessage,
		FirstRetry: x.FirstRetry, MaxRetry: x.MaxRetry, Merge: s.config.Merge, Log: s.log,
	}
	if x.TLS != nil {
		if o.TLS, err = x.TLS.LoadClient(x.ServerName); err != nil {
			return nil, err
		}
	} else if !config.Loopback(x.Server) {
		s.log.Warn("rules come from the control plane without encryption: whoever is on the way can change them", "server", x.Server)
	}
	if x.ForceStart {
		s.rules.Store(new(rules.Rules))
	}
	return func(ctx context.Context) {
		if err := xds.Follow(ctx, o, s.accept); err != nil {
			s.log.Error("the control plane cannot be called", "server", x.Server, "error", err)
		}
	}, nil
}

// accept has rules hold.
func (s *Server) accept(r *rules.Rules) {
	s.rules.Store(r)
	s.metrics.load(nil)
	s.setServing(true)
}

// setServing says to health checks whether requests can be decided.
func (s *Server) setServing(yes bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if yes {
		status = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(pb.RateLimitService_ServiceDesc.ServiceName, status)
}

// Check reads the rules that a configuration names. The error names every mistake, the
// warnings what has no effect.
func Check(c *config.RLS) (read *rules.Rules, warnings []string, err error) {
	files, err := rules.Files(c.Folder)
	if err != nil {
		return nil, nil, fmt.Errorf("rls.config: %w", err)
	}
	read, warnings, err = rules.Read(files, rules.Options{Merge: c.Merge})
	if err == nil && read.Len() == 0 {
		err = fmt.Errorf("rls.config: %s: holds no rules, so that nothing would be limited", c.Folder)
	}
	return read, warnings, err
}

// read reads the rules, and logs warnings.
func (s *Server) read() (*rules.Rules, error) {
	read, warnings, err := Check(&s.config)
	for _, w := range warnings {
		s.log.Warn("rules", "warning", w)
	}
	return read, err
}

// Serve answers RPCs until the server is shut down, which is no error.
func (s *Server) Serve(l net.Listener) error {
	s.log.Info("serving Envoy's rate limit service", "address", l.Addr().String())
	if err := s.grpc.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Announce says to health checks that the server is about to end.
func (s *Server) Announce() { s.health.Shutdown() }

// interceptStream ends streams of health checks with the server: they last for ever otherwise.
func (s *Server) interceptStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	s.owned.Go(func() {
		select {
		case <-s.ending:
			cancel()
		case <-done:
		}
	})
	return handler(server, &endingStream{stream, ctx})
}

// An endingStream is a stream with a context of its own.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // that of a ServerStream is asked for
}

// Context implements grpc.ServerStream.
func (s *endingStream) Context() context.Context { return s.ctx }

// Shutdown finishes the calls that are under way. Those that are left when ctx is done are cut
// off.
func (s *Server) Shutdown(ctx context.Context) {
	s.stop()
	s.health.Shutdown()
	close(s.ending)
	s.owned.Wait()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

// intercept counts calls, and survives a panic.
func (s *Server) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	begun := time.Now()
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "a handler panicked", "method", info.FullMethod, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "the request could not be served; the log of the server says why")
		}
		s.metrics.served(status.Code(err), time.Since(begun))
	}()
	return handler(ctx, request)
}

// ServeHTTP answers a request as JSON, with the status 200 if it is admitted and 429 if not.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST a RateLimitRequest as JSON", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxMessage))
	request := new(pb.RateLimitRequest)
	if err == nil {
		err = protojson.Unmarshal(body, request)
	}
	if err != nil {
		http.Error(w, "the body is not a RateLimitRequest as JSON: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := s.service.ShouldRateLimit(r.Context(), request)
	switch status.Code(err) {
	case codes.OK:
	case codes.InvalidArgument:
		http.Error(w, status.Convert(err).Message(), http.StatusBadRequest)
		return
	default:
		http.Error(w, status.Convert(err).Message(), http.StatusInternalServerError)
		return
	}
	text, err := protojson.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if answer.GetOverallCode() == pb.RateLimitResponse_OVER_LIMIT {
		w.WriteHeader(http.StatusTooManyRequests)
	}
	_, _ = w.Write(text) // the client may have left
}

// logLines logs each line of an error.
func (s *Server) logLines(message string, err error) {
	for line := range strings.Lines(err.Error()) {
		s.log.Error(message, "error", strings.TrimRight(line, "\n"))
	}
}
