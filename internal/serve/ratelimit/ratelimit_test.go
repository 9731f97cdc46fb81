package ratelimit_test

import (
	"context"
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
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zeroae/zael/internal/serve/ratelimit"
	"github.com/zeroae/zael/internal/testrig/journal"
	"github.com/zeroae/zael/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every setting of Istio's and Envoy Gateway's deployments is understood.
func TestRead(t *testing.T) {
	t.Parallel()
	s, err := ratelimit.Read([]string{
		"PATH=/bin", "RUNTIME_ROOT=/data", "RUNTIME_SUBDIRECTORY=ratelimit", "RUNTIME_WATCH_ROOT=false", "RUNTIME_IGNOREDOTFILES=true", "HOST=::", "GRPC_HOST=::",
		"USE_STATSD=false", "LOG_LEVEL=debug", "LOG_FORMAT=json", "REDIS_SOCKET_TYPE=tcp", "REDIS_URL=redis.istio:6379", "REDIS_AUTH=p@ss/word",
		"STATSD_HOST=x", "REDIS_PERSECOND=true", "MEMCACHE_HOST_PORT=a", "REDIS_POOL_SISE=1", "USE_PROMETHEUS=true", "LIMIT_RESPONSE_HEADERS_ENABLED=true", "LIMIT_RESET_HEADER=X",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Config.RLS
	if r.Folder != "/data/ratelimit/config" || r.Listen != "[::]:8081" || s.HTTP != "[::]:8080" || s.Debug != "127.0.0.1:6070" || s.Prometheus != ":9090" {
		t.Errorf("got %+v and %+v", s, r)
	}
	if s.Store != "redis://:p@ss%2Fword@redis.istio:6379" && s.Store != "redis://:p%40ss%2Fword@redis.istio:6379" {
		t.Errorf("store: got %s", s.Store)
	}
	if r.Headers.Limit != "RateLimit-Limit" || r.Headers.Reset != "X" || r.NeverRefuse || !s.Config.Log.JSON {
		t.Errorf("got %+v", r)
	}
	if got := strings.Join(s.Ignored, " "); got != "MEMCACHE_HOST_PORT REDIS_PERSECOND REDIS_POOL_SISE STATSD_HOST" {
		t.Errorf("without effect: got %s", got)
	}
	s, err = ratelimit.Read([]string{
		"CONFIG_TYPE=GRPC_XDS_SOTW", "CONFIG_GRPC_XDS_SERVER_URL=envoy-gateway:18001", "CONFIG_GRPC_XDS_NODE_ID=envoy-ratelimit", "CONFIG_GRPC_XDS_SERVER_USE_TLS=true",
		"CONFIG_GRPC_XDS_CLIENT_TLS_CERT=/certs/tls.crt", "CONFIG_GRPC_XDS_CLIENT_TLS_KEY=/certs/tls.key", "CONFIG_GRPC_XDS_SERVER_TLS_CACERT=/certs/ca.crt",
		"FORCE_START_WITHOUT_INITIAL_CONFIG=true", "CONFIG_GRPC_XDS_NODE_METADATA=a=b,c=d", "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS=h:v",
		"GRPC_SERVER_USE_TLS=true", "GRPC_SERVER_TLS_CERT=/certs/tls.crt", "GRPC_SERVER_TLS_KEY=/certs/tls.key", "GRPC_CLIENT_TLS_CACERT=/certs/ca.crt", "GRPC_CLIENT_TLS_SAN=envoy",
		"REDIS_TYPE=sentinel", "REDIS_URL=mymaster,a:26379,b:26379", "REDIS_TLS=true", "REDIS_TLS_CACERT=/certs/redis.crt", "CACHE_KEY_PREFIX=team:",
	})
	if err != nil {
		t.Fatal(err)
	}
	x := s.Config.RLS.XDS
	if x.Server != "envoy-gateway:18001" || x.NodeID != "envoy-ratelimit" || x.TLS.Cert != "/certs/tls.crt" || !x.ForceStart || x.Metadata["c"] != "d" || x.Headers["h"] != "v" || s.Config.RLS.Folder != "" {
		t.Errorf("got %+v", x)
	}
	if s.Config.TLS.ClientCA != "/certs/ca.crt" || s.Config.RLS.ClientName != "envoy" || len(s.Ignored) > 0 {
		t.Errorf("got %+v, without effect %q", s.Config.TLS, s.Ignored)
	}
	if s.Store != "rediss+sentinel://a:26379,b:26379/mymaster?ca=%2Fcerts%2Fredis.crt&namespace=team" {
		t.Errorf("store: got %s", s.Store)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	const redis = "REDIS_SOCKET_TYPE=tcp REDIS_URL=a:6379 "
	for variables, want := range map[string]string{
		"":                                               "otherwise each replica would count alone",
		"REDIS_URL=/run/redis.sock":                      "REDIS_SOCKET_TYPE is unix",
		"BACKEND_TYPE=memcache":                          `BACKEND_TYPE: "memcache" is not redis`,
		redis + "PORT=http":                              `PORT: "http" is not a whole number`,
		redis + "SHADOW_MODE=maybe":                      `SHADOW_MODE: "maybe" is not true or false`,
		redis + "REDIS_TYPE=TWO":                         `REDIS_TYPE: "TWO" is not SINGLE`,
		redis + "CONFIG_TYPE=HTTP":                       `CONFIG_TYPE: "HTTP" is not FILE`,
		redis + "LOG_LEVEL=loud":                         `LOG_LEVEL: "loud" is not debug`,
		redis + "NEAR_LIMIT_RATIO=80":                    `NEAR_LIMIT_RATIO: "80" is not a number`,
		redis + "GRPC_MAX_CONNECTION_AGE=1":              `GRPC_MAX_CONNECTION_AGE: "1" is not a time`,
		redis + "GRPC_SERVER_USE_TLS=true":               "GRPC_SERVER_USE_TLS needs GRPC_SERVER_TLS_CERT",
		redis + "GRPC_CLIENT_TLS_SAN=a":                  "GRPC_CLIENT_TLS_SAN needs",
		redis + "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION=1": "certificates are always verified",
		redis + "CONFIG_GRPC_XDS_NODE_METADATA=a":        "CONFIG_GRPC_XDS_NODE_METADATA",
		"REDIS_TYPE=SENTINEL REDIS_URL=mymaster":         "the name of the primary and their addresses",
		"ZAEL_STORE=memory: HOST=a PORT=1 DEBUG_PORT=x":  "DEBUG_PORT",
		"ZAEL_STORE=memory: RUNTIME_WATCH_ROOT=perhaps":  "RUNTIME_WATCH_ROOT",
		"ZAEL_STORE=memory: XDS_CLIENT_BACKOFF_INITIAL_INTERVAL=x CONFIG_TYPE=x": "CONFIG_TYPE",
	} {
		if _, err := ratelimit.Read(strings.Fields(variables)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", variables, err, want)
		}
	}
}

// The program serves what the original does, where it does.
func TestServes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	folder := filepath.Join(root, "ratelimit", "config")
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "a.yaml"), []byte("domain: d\ndescriptors: [{key: user, rate_limit: {unit: day, requests_per_unit: 2}}]"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s, err := ratelimit.Read([]string{
		"ZAEL_STORE=memory:", "RUNTIME_ROOT=" + root, "RUNTIME_SUBDIRECTORY=ratelimit", "HOST=127.0.0.1", "PORT=0", "GRPC_HOST=0.0.0.0", "GRPC_PORT=0", "DEBUG_PORT=0",
		"USE_PROMETHEUS=true", "PROMETHEUS_ADDR=127.0.0.1:0", "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED=true", "REDIS_PIPELINE_LIMIT=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	log := journal.New()
	open := func(_ context.Context, url string) (ratelimit.Store, error) {
		if url != "memory:" {
			return nil, fmt.Errorf("opening %s: want memory:", url)
		}
		return memstore.New(nil), nil
	}
	p, err := ratelimit.New(t.Context(), &ratelimit.Options{Settings: s, Log: log, Open: open})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	addresses := p.Addresses()
	web, debug, metrics := "http://"+addresses[1].String(), "http://"+addresses[2].String(), "http://"+addresses[3].String()
	_, port, _ := strings.Cut(addresses[0].String(), "]:")
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i, want := range []pb.RateLimitResponse_Code{1, 1, 2} {
		a, err := pb.NewRateLimitServiceClient(conn).ShouldRateLimit(t.Context(), &pb.RateLimitRequest{
			Domain: "d", Descriptors: []*common.RateLimitDescriptor{{Entries: []*common.RateLimitDescriptor_Entry{{Key: "user", Value: "a"}}}},
		})
		if err != nil || a.GetOverallCode() != want {
			t.Errorf("request %d: got %v (%v), want %v", i, a, err, want)
		}
	}
	transport := &http.Transport{}
	client := &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	for _, c := range []struct {
		method, url, body string
		status            int
		says              string
	}{
		{http.MethodGet, web + "/healthcheck", "", 200, "OK"},
		{http.MethodPost, web + "/json", `{"domain":"d","descriptors":[{"entries":[{"key":"user","value":"a"}]}]}`, 429, "OVER_LIMIT"},
		{http.MethodGet, web + "/v1/entities", "", 404, ""}, // nothing else is served
		{http.MethodGet, web + "/rlconfig", "", 404, ""},
		{http.MethodGet, debug + "/rlconfig", "", 200, "d.user: unit=DAY requests_per_unit=2"},
		{http.MethodGet, metrics + "/metrics", "", 200, "zael_insecure_listeners 1\n"},
		{http.MethodGet, metrics + "/metrics", "", 200, `ratelimit_service_rate_limit_over_limit{domain="d",key1="user",key2=""} 2`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(text), c.says) {
			t.Errorf("%s: got %d and %s (%v), want %d and %s", c.url, resp.StatusCode, text, err, c.status, c.says)
		}
	}
	transport.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, want := range []string{"name=REDIS_PIPELINE_LIMIT", "whoever reaches these addresses is served"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log has %s, want %s once", log, want)
		}
	}
}
