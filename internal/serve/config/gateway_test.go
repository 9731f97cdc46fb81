package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/yamlfile"
	"github.com/zeroae/zael/llm"
)

// TestGateway: what a route says is what it is.
func TestGateway(t *testing.T) {
	t.Parallel()
	got, err := config.Parse([]byte(`
version: 1
gateway:
- prefix: /openai
  upstream: https://api.openai.com/
  provider: openai
  upstream_key: ${ZAEL_LEASE_KEY}
  auth: {tokens: true}
  parent: project-1
  limits: {policy: small}
  models: {"gpt-4*": gpt-4, gpt-4o: gpt-4o, "gpt-4o-*": mini}
  default_resource: rest
  max_wait: 10s
  media_tokens: 500
  client_limits: ["requests=100/min"]
  also: [POST /v1/rerank]
- {prefix: /local, upstream: "http://127.0.0.1:8000/base", limits: stored, default_resource: any, parent: all}
policies:
  small: {limits: ["rpm=100/min", "usd=50000000 each month"]}
prices:
  "gpt-*": {input: 2.5, output: 10}
  gpt-4o-mini: {input: 0.15, cached: 0.075, cache_write: 0.2, output: 0.6}
  rest: {input: 100, output: 0}
`), environment)
	if err != nil {
		t.Fatal(err)
	}
	r := got.Gateway[0]
	if r.Prefix != "/openai" || r.Upstream.String() != "https://api.openai.com" || r.Provider != config.OpenAI || r.UpstreamKey != key || r.Auth != config.AuthTokens ||
		r.Entity != config.EntityToken || r.Parent != "project-1" || r.Default != "rest" || r.Shared != "rest" || r.MaxWait != 10*time.Second || r.MediaTokens != 500 ||
		r.Clients == nil || len(r.Also) != 1 || r.Also[0] != (config.Also{Method: "POST", Prefix: "/v1/rerank"}) {
		t.Errorf("got %+v", r)
	}
	for model, want := range map[string]string{"gpt-4": "gpt-4", "gpt-4-turbo": "gpt-4", "gpt-4o": "gpt-4o", "gpt-4o-x": "mini", "gpt-3": "", "": ""} {
		if resource, _ := r.Models.Get(model); resource != want {
			t.Errorf("the model %q is the resource %q, want %q", model, resource, want)
		}
	}
	for _, resource := range []string{"gpt-4", "gpt-4o", "mini", "rest"} {
		if p := r.Policies[resource]; p.Resource() != resource || strings.Join(p.Names(), " ") != "rpm usd" {
			t.Errorf("%s has the limits %v", resource, p.Names())
		}
	}
	if p, ok := got.Price("gpt-4o-mini", "mini"); !ok || p != (llm.Price{Input: 150_000, CachedInput: 75_000, CacheWrite: 200_000, Output: 600_000}) {
		t.Errorf("the price of gpt-4o-mini is %+v", p)
	}
	if p, ok := got.Price("o1", "rest"); !ok || p.Input != 100*llm.Dollar {
		t.Errorf("the price of a model of rest is %+v", p)
	}
	if p, ok := got.Price("o1", "other"); ok {
		t.Errorf("a model without a price has %+v", p)
	}
	l := got.Gateway[1]
	if l.Upstream.Path != "/base" || l.Auth != config.AuthNone || l.Entity != config.EntityKeyHash || l.Policies != nil || l.Provider != config.Auto {
		t.Errorf("got %+v", l)
	}
}

// TestWrongRoutes: each mistake of a route has its line and its reason.
func TestWrongRoutes(t *testing.T) {
	t.Parallel()
	notKeys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(notKeys, []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const rest = ", upstream: 'https://h', auth: {tokens: true}, limits: stored, default_resource: any}]"
	for _, c := range []struct{ text, want string }{
		{"gateway: {}", "2: gateway: not a list"},
		{"gateway: []", "2: gateway: has no route"},
		{"gateway: [{}]", "2: prefix: "},
		{"gateway: [{prefix: /a, key: x" + rest, `2: gateway: unknown key "key"`},
		{"gateway: [{prefix: a" + rest, "2: prefix: "},
		{"gateway: [{prefix: /" + rest, "2: prefix: "},
		{"gateway: [{prefix: /a/" + rest, "2: prefix: "},
		{"gateway: [{prefix: /a/../b" + rest, "2: prefix: "},
		{"gateway: [{prefix: /a//b" + rest, "2: prefix: "},
		{"gateway: [{prefix: '/a%2fb'" + rest, "2: prefix: "},
		{"gateway: [{prefix: /v1/openai" + rest, "2: prefix: "},
		{"gateway: [{prefix: /metrics" + rest, "2: prefix: "},
		{"gateway: [{prefix: /main.js" + rest, "2: prefix: "},
		{"gateway: [{prefix: /json" + rest, "2: prefix: "},
		{"gateway: [{prefix: /a, upstream: h, auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: "},
		{"gateway: [{prefix: /a, upstream: 'file:///etc/passwd', auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: "},
		{"gateway: [{prefix: /a, upstream: 'https://u:p@h', auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: "},
		{"gateway: [{prefix: /a, upstream: 'https://h?key=1', auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: "},
		{"gateway: [{prefix: /a, upstream: 'https://h/../x', auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: "},
		{"gateway: [{prefix: /a, upstream: 'http://169.254.169.254', auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: 169.254.169.254 is link-local"},
		{"gateway: [{prefix: /a, upstream: 'http://[fe80::1]', auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: fe80::1 is link-local"},
		{"gateway: [{prefix: /a, auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: missing"},
		{"gateway: [{prefix: /a, provider: acme" + rest, `2: provider: "acme" is not auto`},
		{"gateway: [{prefix: /a, upstream_key: sk-secret" + rest, "2: upstream_key: a secret is not written into the file"},
		{"gateway: [{prefix: /a, upstream_key: '${NONE}'" + rest, "2: upstream_key: the environment variable NONE is not set"},
		{"gateway: [{prefix: /a, upstream: 'https://h', upstream_key: '${ZAEL_LEASE_KEY}', parent: p, limits: stored, default_resource: any}]", "2: upstream_key: a route with a key of yours needs auth"},
		{"gateway: [{prefix: /a, upstream: 'http://h.example', upstream_key: '${ZAEL_LEASE_KEY}', auth: {tokens: true}, limits: stored, default_resource: any}]", "2: upstream: the key would be sent unencrypted"},
		{"gateway: [{prefix: /a, upstream: 'https://h', limits: stored, default_resource: any}]", "2: entity: key_hash without auth needs a parent or client_limits"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {}, limits: stored, default_resource: any}]", "2: auth: is not one of"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true, entities: true}, limits: stored, default_resource: any}]", "2: auth: is not one of"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: false}, limits: stored, default_resource: any}]", "2: auth.tokens: is false"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {jwt: {jwks: /none}}, limits: stored, default_resource: any}]", "2: auth.jwt: needs jwks"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {jwt: {jwks: /none, issuer: i, audience: a}}, limits: stored, default_resource: any}]", "2: auth.jwt: jwks: open /none"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {jwt: {jwks: " + notKeys + ", issuer: i, audience: a}}, limits: stored, default_resource: any}]", "2: auth.jwt: jwks: " + notKeys + `: key "" is not a valid public key`},
		{"gateway: [{prefix: /a, entity: claim" + rest, "2: entity: claim needs auth: {jwt"},
		{"gateway: [{prefix: /a, entity: key_hash" + rest, "2: entity: key_hash is for"},
		{"gateway: [{prefix: /a, entity: header:X-Team" + rest, "2: entity: a header needs trusted_proxies"},
		{"gateway: [{prefix: /a, entity: header:Authorization" + rest, "2: entity: Authorization holds a key"},
		{"gateway: [{prefix: /a, entity: 'header:X Team'" + rest, `2: entity: "X Team" is not the name`},
		{"gateway: [{prefix: /a, entity: me" + rest, `2: entity: "me" is not token`},
		{"gateway: [{prefix: /a, parent: ' '" + rest, `2: parent: " " is not an entity`},
		{"gateway: [{prefix: /a, client_limits: [n=1 at once]" + rest, "2: client_limits: n are slots"},
		{"gateway: [{prefix: /a, client_limits: [n]" + rest, "2: client_limits: "},
		{"gateway: [{prefix: /a, max_wait: 2h" + rest, "2: max_wait: "},
		{"gateway: [{prefix: /a, media_tokens: 0" + rest, "2: media_tokens: "},
		{"gateway: [{prefix: /a, also: [/v1/x]" + rest, `2: also: "/v1/x" is not a method and a path`},
		{"gateway: [{prefix: /a, also: [CONNECT /v1/x]" + rest, "2: also: "},
		{"gateway: [{prefix: /a, also: [POST /v1/../x]" + rest, "2: also: "},
		{"gateway: [{prefix: /a, models: {'*': any}" + rest, `2: models: "*" would be all models`},
		{"gateway: [{prefix: /a, models: {'a*b': any}" + rest, `2: models: "a*b" has a *`},
		{"gateway: [{prefix: /a, models: {a: ''}" + rest, "2: models: "},
		{"gateway: [{prefix: /a, models: {a: _default_}" + rest, "2: models: "},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: stored}]", "2: models: names no model"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, default_resource: any}]", "2: limits: missing"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: none, default_resource: any}]", `2: limits: "none" is not stored`},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: {policy: p}, default_resource: any}]", "2: limits: there is no policy p"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: policies, models: {m: any}}]", "2: limits: there is no policy any"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: policies, models: {m: any}}]\npolicies: {any: {limits: [things=1/s]}}", "2: limits: policy any: the name things does not tell"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: policies, models: {m: any}}]\npolicies: {any: {limits: [usd=1/s]}}", "2: limits: policy any: usd counts money, and prices has none for the model m"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: policies, models: {'m*': any}}]\npolicies: {any: {limits: [usd=1/s]}}\nprices: {m-1: {input: 1, output: 1}}", "2: limits: policy any: usd counts money, and prices has none for the model m*"},
		{"gateway: [{prefix: /a, upstream: 'https://h', auth: {tokens: true}, limits: policies, default_resource: any}]\npolicies: {any: {limits: [usd=1/s]}}", "2: limits: policy any: usd counts money, and prices has none for the default_resource any"},
		{"gateway:\n- {prefix: /a" + rest[:len(rest)-1] + "\n- {prefix: /a" + rest[:len(rest)-1], "4: prefix: /a is the prefix of two routes"},
		{"prices: {m: {input: 1}}", "2: prices: m needs input and output"},
		{"prices: {m: {input: -1, output: 1}}", "2: prices: input: "},
		{"prices: {m: {input: 1, output: 0.0000001}}", "2: prices: output: "},
		{"prices: {m: {input: 1, output: 1e3}}", "2: prices: output: "},
		{"prices: {m: {input: 1, output: 1, cached: 0}}", "2: prices: cached: "},
		{"prices: {'*': {input: 1, output: 1}}", `2: prices: "*" would be all`},
	} {
		got, err := config.Parse([]byte("version: 1\n"+c.text), environment)
		if about := new(yamlfile.Error); got != nil || !errors.As(err, &about) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: got %v and the error %v, want %q", c.text, got != nil, err, c.want)
		}
	}
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"169.254.169.254": true, "169.254.0.1": true, "fe80::1": true, "fe80::1%eth0": true, "::ffff:169.254.169.254": true, "64:ff9b::a9fe:a9fe": true,
		"fd00:ec2::254": true, "100.100.100.200": true, "168.63.129.16": true, "0.0.0.0": true, "::": true, "224.0.0.1": true, "ff02::1": true, "255.255.255.255": true,
		"127.0.0.1": false, "::1": false, "10.0.0.1": false, "192.0.2.1": false, "2001:db8::1": false, "fd00::1": false,
	} {
		if got := config.ForbiddenUpstream(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %v, want %v", address, got, want)
		}
	}
}
