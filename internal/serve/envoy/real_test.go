package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/envoytest"
)

// rulesOfEnvoy are for what bootstrap asks.
const rulesOfEnvoy = `
domain: d
descriptors:
  - key: user
    rate_limit: {unit: day, requests_per_unit: 2}
  - key: tenant
    descriptors:
      - key: model
        rate_limit: {unit: day, requests_per_unit: 3}
      - key: model
        value: small
        rate_limit: {unlimited: true}
  - key: tokens
    rate_limit: {unit: day, requests_per_unit: 100}
  - key: input
    quota_mode: true
    rate_limit: {unit: day, requests_per_unit: 1}
  - key: output
    quota_mode: true
    rate_limit: {unit: day, requests_per_unit: 2}
`

// bootstrap returns an Envoy's configuration: two listeners, of which the second refuses when
// the service cannot be asked, in front of an upstream.
func bootstrap(ports [2]int, upstream, service string) string {
	var b strings.Builder
	b.WriteString("static_resources:\n  listeners:\n")
	for i, port := range ports {
		fmt.Fprintf(&b, listener, i, port, i, i == 1, routes)
	}
	b.WriteString("  clusters:\n")
	for name, address := range map[string]string{"upstream": upstream, "service": service} {
		host, port, _ := strings.Cut(address, ":")
		http2 := ""
		if name == "service" {
			http2 = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        explicit_http_config: {http2_protocol_options: {}}\n"
		}
		fmt.Fprintf(&b, "  - name: %s\n    type: STATIC\n    connect_timeout: 5s\n%s    load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}\n", name, http2, name, host, port)
	}
	return b.String()
}

const listener = `
  - name: l%d
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: l%d
          http_filters:
          - name: envoy.filters.http.ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
              domain: d
              failure_mode_deny: %t
              timeout: 60s
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              rate_limit_service: {transport_api_version: V3, grpc_service: {envoy_grpc: {cluster_name: service}}}
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
%s`

// routes has a path for each kind of request. The tokens of an answer are known when its
// stream is done: then Envoy asks again, with the same descriptor.
const routes = `
              - match: {prefix: /user}
                route:
                  cluster: upstream
                  rate_limits: [{actions: [{request_headers: {header_name: x-user, descriptor_key: user}}]}]
              - match: {prefix: /nested}
                route:
                  cluster: upstream
                  rate_limits:
                  - actions:
                    - request_headers: {header_name: x-user, descriptor_key: tenant}
                    - request_headers: {header_name: x-model, descriptor_key: model}
              - match: {prefix: /tokens}
                route: {cluster: upstream}
                typed_per_filter_config:
                  envoy.filters.http.ratelimit:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute
                    rate_limits:
                    - actions: [{request_headers: {header_name: x-user, descriptor_key: tokens}}]
                      hits_addend: {number: 0}
                    - actions: [{request_headers: {header_name: x-user, descriptor_key: tokens}}]
                      hits_addend: {format: "%RESP(x-tokens)%"}
                      apply_on_stream_done: true
              - match: {prefix: /quotas}
                route:
                  cluster: upstream
                  rate_limits:
                  - actions: [{request_headers: {header_name: x-user, descriptor_key: input}}]
                  - actions: [{request_headers: {header_name: x-user, descriptor_key: output}}]
`

// The real Envoy is held to limits by the service, and knows what it answers.
func TestRealEnvoy(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs Envoy: left out with -short")
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-tokens", r.Header.Get("x-cost"))
		_, _ = io.WriteString(w, "answer")
	}))
	defer upstream.Close()
	r := start(t, "")
	before := r.log.Len()
	r.mount("envoy", rulesOfEnvoy)
	r.log.Await(before, "rules reloaded")
	var ports [2]int
	for i := range ports {
		port, err := child.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = port
	}
	envoytest.Start(t, bootstrap(ports, strings.TrimPrefix(upstream.URL, "http://"), r.RLSAddr().String()))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	get := func(port int, path string, headers ...string) (status int, header http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, "=")
			req.Header.Set(name, value)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header
	}
	statusOf := func(port int, path string, headers ...string) int {
		t.Helper()
		status, _ := get(port, path, headers...)
		return status
	}

	for i, c := range []struct {
		path, headers string
		status        int
		remaining     string // what x-ratelimit-remaining says
	}{
		{"/user", "x-user=a", 200, "1"},
		{"/user", "x-user=a", 200, "0"},
		{"/user", "x-user=a", 429, "0"},
		{"/user", "x-user=b", 200, "1"},
		{"/nested", "x-user=a x-model=large", 200, "2"},
		{"/nested", "x-user=a x-model=large", 200, "1"},
		{"/nested", "x-user=a x-model=large", 200, "0"},
		{"/nested", "x-user=a x-model=large", 429, "0"},
		{"/nested", "x-user=a x-model=small", 200, ""},
		{"/nested", "x-user=b x-model=large", 200, "2"},
		{"/quotas", "x-user=a", 200, "0"},
		{"/quotas", "x-user=a", 200, "0"}, // of output there was one left
		{"/quotas", "x-user=a", 429, "0"},
	} {
		status, header := get(ports[0], c.path, strings.Fields(c.headers)...)
		if got := header.Get("x-ratelimit-remaining"); status != c.status || got != c.remaining {
			t.Errorf("%d: %s %s: got %d with %q left, want %d with %q; %v", i, c.path, c.headers, status, got, c.status, c.remaining, header)
		}
	}
	_, header := get(ports[0], "/user", "x-user=c")
	if limit := header.Get("x-ratelimit-limit"); !strings.HasPrefix(limit, "2, 2;w=86400") {
		t.Errorf("x-ratelimit-limit: got %q", limit)
	}

	// Tokens are told when a stream is done, and bite from then on.
	for i, cost := range []string{"60", "60"} {
		if got := statusOf(ports[0], "/tokens", "x-user=a", "x-cost="+cost); got != 200 {
			t.Errorf("tokens %d: got %d", i, got)
		}
		await(t, "the tokens are charged", func() bool {
			left, err := r.env.Limiter.Available(t.Context(), zael.Query{Entity: "tokens=a", Resource: "d", Limits: []zael.Limit{zael.EachDay("requests", 100)}})
			return err == nil && left["requests"] == 100-60*int64(i+1)
		})
	}
	if got := statusOf(ports[0], "/tokens", "x-user=a", "x-cost=1"); got != 429 {
		t.Errorf("tokens: got %d after 120 of 100, want 429", got)
	}

	// Without the service, the failure mode decides; when it is back, its limits hold.
	address := r.RLSAddr().String()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if a, b := statusOf(ports[0], "/user", "x-user=d"), statusOf(ports[1], "/user", "x-user=d"); a != 200 || b != 500 {
		t.Errorf("without the service: got %d and %d, want 200 and 500", a, b)
	}
	startAt(t, "", address)
	await(t, "Envoy finds the service again", func() bool {
		return statusOf(ports[1], "/nowhere", "x-user=d") == 404 && statusOf(ports[1], "/user", "x-user=e") != 500
	})
	statuses := []int{}
	for range 3 {
		statuses = append(statuses, statusOf(ports[1], "/user", "x-user=f"))
	}
	if !slices.Equal(statuses, []int{200, 200, 429}) {
		t.Errorf("with the service again: got %v, want 200, 200 and 429", statuses)
	}
}

// await waits until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New(what+": it did not come in 2 minutes"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		case <-tick.C:
		}
	}
}
