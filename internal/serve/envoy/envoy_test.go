package envoy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/envoy"
	"github.com/zeroae/zael/internal/testrig/certificates"
	"github.com/zeroae/zael/internal/testrig/journal"
	"github.com/zeroae/zael/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a daemon with a rate limit service.
type rig struct {
	*serve.Daemon

	t       *testing.T
	env     *serve.Env
	rules   string // the folder
	log     *journal.Journal
	stop    context.CancelFunc
	stopped chan error
}

// start runs a daemon, whose rules are a file that a link leads to, as a ConfigMap is mounted.
// more is added to its configuration.
func start(t *testing.T, more string) *rig {
	t.Helper()
	return startAt(t, more, "127.0.0.1:0")
}

// startAt is start with an address for the service.
func startAt(t *testing.T, more, address string) *rig {
	t.Helper()
	r := &rig{t: t, rules: t.TempDir(), log: journal.New(), stopped: make(chan error, 1)}
	r.mount("1", rule("user", 2))
	if err := os.Symlink(filepath.Join("..data", "a.yaml"), filepath.Join(r.rules, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "zael.yaml")
	text := fmt.Sprintf("version: 1\nlisten: 127.0.0.1:0\n%s\nrls:\n  listen: %s\n  config: %s\n  compat_metrics: true\n", more, address, r.rules)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	var err error
	r.Daemon, err = serve.New(ctx, &serve.Options{
		Source: config.Source{File: file, LookupEnv: os.LookupEnv}, Log: r.log, LookEvery: 20 * time.Millisecond,
		Open: func(context.Context, string) (serve.Store, error) { return memstore.New(nil), nil },
		Handlers: serve.Handlers{RateLimits: func(env *serve.Env) (serve.RateLimits, error) {
			r.env = env
			return envoy.New(env)
		}},
	})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	go func() { r.stopped <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		r.stopped <- <-r.stopped
		if t.Failed() {
			t.Log(r.log)
		}
	})
	return r
}

// end stops the daemon and returns what Run returned.
func (r *rig) end() error {
	r.stop()
	err := <-r.stopped
	r.stopped <- err // for the cleanup
	return err
}

func rule(key string, n int) string {
	return fmt.Sprintf("domain: d\ndescriptors: [{key: %s, rate_limit: {unit: day, requests_per_unit: %d}}]", key, n)
}

// mount puts rules into a folder of their own and has the link lead to it, in one step.
func (r *rig) mount(version, text string) {
	r.t.Helper()
	folder := filepath.Join(r.rules, ".."+version)
	err := errors.Join(
		os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "a.yaml"), []byte(text), 0o600),
		os.Symlink(".."+version, filepath.Join(r.rules, ".next")), os.Rename(filepath.Join(r.rules, ".next"), filepath.Join(r.rules, "..data")),
	)
	if err != nil {
		r.t.Fatal(err)
	}
}

// dial connects to the service.
func (r *rig) dial(c credentials.TransportCredentials) *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient(r.RLSAddr().String(), grpc.WithTransportCredentials(c))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func request(key string) *pb.RateLimitRequest {
	return &pb.RateLimitRequest{Domain: "d", Descriptors: []*common.RateLimitDescriptor{{Entries: []*common.RateLimitDescriptor_Entry{{Key: key, Value: "a"}}}}}
}

// ask asks for a key, and returns the code of the answer.
func ask(t *testing.T, conn *grpc.ClientConn, key string) pb.RateLimitResponse_Code {
	t.Helper()
	a, err := pb.NewRateLimitServiceClient(conn).ShouldRateLimit(t.Context(), request(key))
	if err != nil {
		t.Fatal(err)
	}
	return a.GetOverallCode()
}

const (
	ok   = pb.RateLimitResponse_OK
	over = pb.RateLimitResponse_OVER_LIMIT
)

func TestServes(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	conn := r.dial(insecure.NewCredentials())
	for i, want := range []pb.RateLimitResponse_Code{ok, ok, over} {
		if got := ask(t, conn, "user"); got != want {
			t.Errorf("request %d: got %v, want %v", i, got, want)
		}
	}
	if _, err := pb.NewRateLimitServiceClient(conn).ShouldRateLimit(t.Context(), &pb.RateLimitRequest{Domain: "d"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no descriptors: got %v, want InvalidArgument", err)
	}
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: got %v (%v)", health, err)
	}
}

// Rules that change are taken over; those with mistakes are named in the log, and change nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	conn := r.dial(insecure.NewCredentials())
	if got := ask(t, conn, "host"); got != ok {
		t.Fatalf("a key without a rule: got %v", got)
	}
	before := r.log.Len()
	r.mount("2", rule("host", 0))
	r.log.Await(before, "rules reloaded")
	if got := ask(t, conn, "host"); got != over {
		t.Errorf("after a reload: got %v, want that the new rules hold", got)
	}
	for i, c := range []struct{ text, says string }{
		{"domain: d\ndescriptors: [{kye: user}]", "a.yaml:2: a descriptor: unknown key"},
		{"domain: d\ndescriptors: []", "holds no rules"},
	} {
		before = r.log.Len()
		r.mount(fmt.Sprintf("bad%d", i), c.text)
		r.log.Await(before, "the rules stay as they were")
		if text := r.log.String()[before:]; !strings.Contains(text, c.says) {
			t.Errorf("%s: the log has %s, want %s", c.text, text, c.says)
		}
		if got := ask(t, conn, "host"); got != over {
			t.Errorf("after %s: got %v, want that the old rules hold", c.text, got)
		}
	}
}

// A watch of health ends with the daemon, and does not keep it.
func TestEnd(t *testing.T) {
	t.Parallel()
	r := start(t, "shutdown_timeout: 10m")
	watch, err := healthpb.NewHealthClient(r.dial(insecure.NewCredentials())).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Recv(); err != nil || first.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("health: got %v (%v)", first, err)
	}
	r.stop()
	if next, err := watch.Recv(); err == nil && next.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health at the end: got %v", next)
	}
	if err := r.end(); err != nil {
		t.Errorf("Run: got %v", err)
	}
}

// Clients without a certificate do not get in where one is asked for.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	authority := certificates.New(t)
	server, client := authority.Issue("server"), authority.Issue("client")
	r := start(t, fmt.Sprintf("tls: {cert: %s, key: %s, client_ca: %s}", server.Cert, server.Key, server.CA))
	own, err := tls.LoadX509KeyPair(client.Cert, client.Key)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, r.dial(credentials.NewTLS(&tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{own}})), "user"); got != ok {
		t.Errorf("with a certificate: got %v", got)
	}
	for name, c := range map[string]credentials.TransportCredentials{
		"without a certificate": credentials.NewTLS(&tls.Config{RootCAs: authority.Pool()}), "not encrypted": insecure.NewCredentials(),
	} {
		if _, err := pb.NewRateLimitServiceClient(r.dial(c)).ShouldRateLimit(t.Context(), request("user")); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v, want Unavailable", name, err)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	token, bound := access.NewToken(), access.NewToken()
	r := start(t, fmt.Sprintf("tokens:\n- {name: envoy, role: acquire, hash: %q}\n- {name: bound, role: acquire, prefix: team-a/, hash: %q}", access.HashOf(token), access.HashOf(bound)))
	const body = `{"domain":"d","descriptors":[{"entries":[{"key":"user","value":"a"}]}],"hitsAddend":2}`
	for i, c := range []struct {
		method, token, body string
		status              int
		says                string
	}{
		{http.MethodPost, token, body, 200, `"overallCode":"OK"`},
		{http.MethodPost, token, body, 429, `"overallCode":"OVER_LIMIT"`},
		{http.MethodPost, token, `{"domain":"d"}`, 400, "descriptor list must not be empty"},
		{http.MethodPost, token, `{"domian":"d"}`, 400, "domian"},
		{http.MethodGet, token, "", 405, "POST"},
		{http.MethodPost, bound, body, 403, "no prefix"},
		{http.MethodPost, "", body, 401, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+r.Addr().String()+"/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := strings.ReplaceAll(string(text), " ", ""); err != nil || resp.StatusCode != c.status || !strings.Contains(got, strings.ReplaceAll(c.says, " ", "")) {
			t.Errorf("%d: got %d and %s (%v), want %d and %s", i, resp.StatusCode, text, err, c.status, c.says)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// Boards that were made for envoyproxy/ratelimit find its names.
func TestCompatMetrics(t *testing.T) {
	t.Parallel()
	r := start(t, "")
	conn := r.dial(insecure.NewCredentials())
	for range 3 {
		ask(t, conn, "user")
	}
	before := r.log.Len()
	r.mount("2", "domain: d\ndescriptors: [{key: user, value_to_metric: true, rate_limit: {unit: day, requests_per_unit: 2}}]")
	r.log.Await(before, "rules reloaded")
	ask(t, conn, "user")
	before = r.log.Len()
	r.mount("3", "domain: d\ndescriptors: {}")
	r.log.Await(before, "stay as they were")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addr().String()+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`ratelimit_service_rate_limit_total_hits{domain="d",key1="user",key2=""} 3`,
		`ratelimit_service_rate_limit_within_limit{domain="d",key1="user",key2=""} 2`,
		`ratelimit_service_rate_limit_near_limit{domain="d",key1="user",key2=""} 1`,
		`ratelimit_service_rate_limit_over_limit{domain="d",key1="user",key2=""} 1`,
		`ratelimit_service_rate_limit_over_limit{domain="d",key1="user_a",key2=""} 1`,
		`ratelimit_service_config_load_success 2`,
		`ratelimit_service_config_load_error 1`,
		`ratelimit_service_response_time_seconds_count 4`,
		`zael_rls_request_seconds_count{code="OK"} 4`,
	} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
