package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/testrig/certificates"
	"github.com/zeroae/zael/internal/yamlfile"
)

const key = "0123456789abcdef0123456789abcdef"

// environment has a few variables.
func environment(name string) (string, bool) {
	value, ok := map[string]string{"ZAEL_STORE": "memory:", "ZAEL_LEASE_KEY": key, "SHORT": "x", "EMPTY": ""}[name]
	return value, ok
}

// writeFile writes a configuration and returns where it comes from.
func writeFile(t *testing.T, text string) *config.Source {
	t.Helper()
	name := filepath.Join(t.TempDir(), "zael.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &config.Source{File: name, LookupEnv: environment}
}

func TestWhole(t *testing.T) {
	t.Parallel()
	certificate := certificates.New(t).Issue("localhost")
	hash := access.HashOf("zael_x")
	got, err := writeFile(t, `
version: 1
listen: 0.0.0.0:8080
metrics_listen: 127.0.0.1:9090
store: ${ZAEL_STORE}
hosts: [Limits.example.com, 192.0.2.1]
trusted_proxies: [10.0.0.0/8, "2001:db8::1"]
tls: {cert: `+certificate.Cert+`, key: `+certificate.Key+`, client_ca: `+certificate.CA+`}
timeout: 500ms
failure_mode: open
log: {level: warn, format: json}
shutdown_timeout: 10s
shutdown_delay: 5s
max: {body: 2MiB, header: 16KiB, header_time: 3s, idle: 1m, connections: 100, waits: 0, call: 8MiB, streams: 50, wait: 30s}
leases: {keys: ["${ZAEL_LEASE_KEY}"], max_age: 1h}
tokens:
  - {name: web, role: acquire, prefix: "team-a/", may_set_limits: true, hash: "`+hash.String()+`"}
policies:
  gpt-4: {limits: ["rpm=100/min", "usd=50000000 each month"]}
`).Load()
	if err != nil {
		t.Fatal(err)
	}
	policy := got.Policies["gpt-4"]
	if policy == nil || len(got.Policies) != 1 {
		t.Fatalf("got the policies %v, want gpt-4", got.Policies)
	}
	want := &config.Config{
		Listen: "0.0.0.0:8080", MetricsListen: "127.0.0.1:9090", Store: "memory:", Hosts: []string{"limits.example.com", "192.0.2.1"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")},
		TLS:            &config.TLS{Cert: certificate.Cert, Key: certificate.Key, ClientCA: certificate.CA},
		Timeout:        500 * time.Millisecond, FailureMode: zael.FailOpen, Log: config.Log{Level: slog.LevelWarn, JSON: true},
		ShutdownTimeout: 10 * time.Second, ShutdownDelay: 5 * time.Second,
		Max:      config.Max{Body: 2 << 20, Header: 16 << 10, HeaderTime: 3 * time.Second, Idle: time.Minute, Connections: 100, Wait: 30 * time.Second, Call: 8 << 20, Streams: 50},
		Leases:   config.Leases{Keys: []string{key}, MaxAge: time.Hour},
		Tokens:   []access.Token{{Principal: access.Principal{Name: "web", Role: access.Acquire, Prefix: "team-a/", MaySetLimits: true}, Hash: hash}},
		Policies: got.Policies,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"version: 1", "{version: 1, max: {}, log: {}, leases: {}, policies: {}, metrics_listen: ''}\n"} {
		got, err := config.Parse([]byte(text), environment)
		if err != nil {
			t.Fatal(err)
		}
		if got.Policies != nil && len(got.Policies) == 0 {
			got.Policies = nil
		}
		if !reflect.DeepEqual(got, config.Default()) {
			t.Errorf("%s: got %+v, want the defaults", text, got)
		}
	}
	if got, err := (&config.Source{}).Load(); err != nil || !reflect.DeepEqual(got, config.Default()) {
		t.Errorf("without a file: got %+v (%v), want the defaults", got, err)
	}
}

// TestMistakes checks that each mistake is named, with its line: nothing of a wrong file holds.
func TestMistakes(t *testing.T) {
	t.Parallel()
	hash := access.HashOf("a").String()
	for _, c := range []struct{ text, want string }{
		{"", " the file is empty: version: 1 is enough"},
		{"listen: 127.0.0.1:1", "1: version: missing: write version: 1"},
		{"version: 2", "1: version: not 1"},
		{"version:", "1: version: not 1"},
		{"[]", "1: the file: not a mapping"},
		{"version: 1\nlisten: [", "did not find expected node content"},
		{"version: 1\n---\nversion: 1", "2: a second document begins here"},
		{"version: 1\nversion: 1", `2: the file: key "version" is already in line 1`},
		{"version: 1\nLISTEN: x", `2: the file: unknown key "LISTEN"`},
		{"version: 1\ngateways: []", `2: the file: unknown key "gateways"`},
		{"version: 1\na: &a 1\nstore: *a", "3: *a: aliases are not allowed here"},
		{"version: 1\nlog: {<<: {level: info}}", `2: log: unknown key "<<"`},
		{"version: 1\nlisten: limits.example.com:8080", `2: listen: "limits.example.com:8080" is not an address and port`},
		{"version: 1\nlisten: 127.0.0.1", "2: listen: "},
		{"version: 1\nlisten: 127.0.0.1:http", "2: listen: "},
		{"version: 1\nlisten: 127.0.0.1:65536", "2: listen: "},
		{"version: 1\nlisten: ''", "2: listen: "},
		{"version: 1\nlisten:", "2: listen: not text"},
		{"version: 1\nmetrics_listen: 9090", "2: metrics_listen: "},
		{"version: 1\nstore: ${NONE}", "2: store: the environment variable NONE is not set"},
		{"version: 1\nstore: ${EMPTY}", "2: store: the environment variable EMPTY is not set"},
		{"version: 1\nstore: sqlite:${HOME}/x", "2: store: an environment variable is the whole value"},
		{"version: 1\nstore: ${A}${B}", "2: store: an environment variable is the whole value"},
		{"version: 1\nstore: [a]", "2: store: not text"},
		{"version: 1\nhosts: a", "2: hosts: not a list"},
		{"version: 1\nhosts: ['*']", `2: hosts: "*" is not a name`},
		{"version: 1\nhosts: ['']", `2: hosts: "" is not a name`},
		{"version: 1\nhosts: ['a:8080']", `2: hosts: "a:8080" is not a name`},
		{"version: 1\nhosts: [http://a]", "2: hosts: "},
		{"version: 1\ntrusted_proxies: [10.0.0.0/33]", "2: trusted_proxies: "},
		{"version: 1\ntls: {cert: a}", "2: tls: needs both cert and key"},
		{"version: 1\ntls: true", "2: tls: not a mapping"},
		{"version: 1\ntimeout: 1", "2: timeout: "},
		{"version: 1\ntimeout: 0s", "2: timeout: "},
		{"version: 1\ntimeout: -1s", "2: timeout: "},
		{"version: 1\ntimeout: 2h", "2: timeout: "},
		{"version: 1\nfailure_mode: ajar", `2: failure_mode: "ajar" is not closed, open`},
		{"version: 1\nlog: {level: loud}", `2: log.level: "loud" is not debug`},
		{"version: 1\nlog: {format: xml}", `2: log.format: "xml" is not text, json`},
		{"version: 1\nmax: {stream: 1}", `2: max: unknown key "stream"`},
		{"version: 1\nmax: {streams: 0}", "2: streams: "},
		{"version: 1\nmax: {call: 1}", "2: call: "},
		{"version: 1\nmax: {body: 0}", "2: body: "},
		{"version: 1\nmax: {body: 9999999999999GiB}", "2: body: "},
		{"version: 1\nmax: {body: -1MiB}", "2: body: "},
		{"version: 1\nmax: {body: 1.5MiB}", "2: body: "},
		{"version: 1\nmax: {connections: 0}", "2: connections: "},
		{"version: 1\nmax: {waits: -1}", "2: waits: "},
		{"version: 1\nmax: {wait: 2h}", "2: wait: "},
		{"version: 1\nleases: {keys: [" + key + "]}", "2: leases.keys: a secret is not written into the file"},
		{"version: 1\nleases: {keys: ['${SHORT}']}", "2: leases.keys: ${SHORT} has 1 characters: a key has 32 or more"},
		{"version: 1\nleases: {max_age: 1s}", "2: max_age: "},
		{"version: 1\ntokens: []", "2: tokens: none: leave the key out"},
		{"version: 1\ntokens:", "2: tokens: not a list"},
		{"version: 1\ntokens: [{role: read, hash: '" + hash + "'}]", "2: tokens: one without a name: name is not"},
		{"version: 1\ntokens: [{name: a b, role: read, hash: '" + hash + "'}]", "2: tokens: a b: name is not"},
		{"version: 1\ntokens: [{name: local, role: read, hash: '" + hash + "'}]", "2: tokens: local: name is taken"},
		{"version: 1\ntokens: [{name: a, hash: '" + hash + "'}]", "2: tokens: a: role is missing"},
		{"version: 1\ntokens: [{name: a, role: root, hash: '" + hash + "'}]", `2: tokens: role "root": want acquire`},
		{"version: 1\ntokens: [{name: a, role: read}]", "2: tokens: a: hash is missing"},
		{"version: 1\ntokens: [{name: a, role: read, hash: zael_abc}]", "2: tokens: hash: want sha256:"},
		{"version: 1\ntokens: [{name: a, role: read, token: x}]", `2: tokens: unknown key "token"`},
		{"version: 1\ntokens: [{name: a, role: read, may_set_limits: true, hash: '" + hash + "'}]", "2: tokens: a: may_set_limits is for the role acquire"},
		{"version: 1\ntokens: [{name: a, role: acquire, may_set_limits: maybe, hash: '" + hash + "'}]", `2: may_set_limits: "maybe" is not true or false`},
		{"version: 1\ntokens:\n- {name: a, role: read, hash: '" + hash + "'}\n- {name: a, role: read, hash: '" + access.HashOf("b").String() + "'}", "4: tokens: a: name is there twice"},
		{"version: 1\ntokens:\n- {name: a, role: read, hash: '" + hash + "'}\n- {name: b, role: admin, hash: '" + hash + "'}", "4: tokens: b: hash is that of a"},
		{"version: 1\npolicies: {a: {}}", `2: policy a: has no limit`},
		{"version: 1\npolicies: {a: {limits: []}}", `2: policy a: has no limit`},
		{"version: 1\npolicies: {a: {limits: [n=1/s, n=2/s]}}", "2: policy a: "},
		{"version: 1\npolicies: {a: {limits: [many]}}", "2: policy a: "},
		{"version: 1\npolicies: {a: {limit: [n=1/s]}}", `2: policy a: unknown key "limit"`},
		{"version: 1\npolicies: {_default_: {limits: [n=1/s]}}", "2: policy _default_: "},
		{"version: 1\npolicies: {'': {limits: [n=1/s]}}", "2: policy : "},
	} {
		got, err := config.Parse([]byte(c.text), environment)
		if about := new(yamlfile.Error); got != nil || !errors.As(err, &about) || !strings.HasPrefix(err.Error(), c.want) && !strings.Contains(err.Error(), ": "+c.want) {
			t.Errorf("%q: got %v and the error %v, want %q", c.text, got, err, c.want)
		}
	}
}

// TestEveryMistake checks that one run names all of them, in order.
func TestEveryMistake(t *testing.T) {
	t.Parallel()
	s := writeFile(t, "version: 1\nbogus: 1\ntimeout: x\nmax:\n  body: x\n  waits: x\n")
	_, err := s.Load()
	if _, ok := errors.AsType[*config.Error](err); !ok {
		t.Fatalf("got %v, want a *config.Error", err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 4 {
		t.Fatalf("got %q, want 4 mistakes", lines)
	}
	for i, line := range []int{2, 3, 5, 6} {
		if !strings.HasPrefix(lines[i], fmt.Sprintf("%s:%d: ", s.File, line)) {
			t.Errorf("got %q, want line %d", lines[i], line)
		}
	}
}

// TestSource checks that flags override the file, and which callers are let in.
func TestSource(t *testing.T) {
	t.Parallel()
	tokens := "\ntokens: [{name: a, role: read, hash: '" + access.HashOf("a").String() + "'}]"
	for _, c := range []struct {
		text   string
		change func(*config.Source)
		want   string // error
	}{
		{"listen: 127.0.0.1:1", nil, ""},
		{"listen: localhost:1", nil, ""},
		{"listen: '[::1]:1'", nil, ""},
		{"listen: '[::ffff:127.0.0.1]:1'", nil, ""},
		{"listen: :1", nil, ":2: listen: :1 would let other machines in"},
		{"listen: 0.0.0.0:1", nil, ":2: listen: 0.0.0.0:1 would let other machines in"},
		{"listen: '[::]:1'", nil, "would let other machines in"},
		{"metrics_listen: :1", nil, ":2: metrics_listen: :1 would let other machines in"},
		{"listen: :1" + tokens, nil, ""},
		{"metrics_listen: :1" + tokens, nil, ""},
		{"listen: :1", func(s *config.Source) { s.Insecure = true }, ""},
		{"listen: :1", func(s *config.Source) { s.Listen = "127.0.0.1:2" }, ""},
		{"listen: 127.0.0.1:1", func(s *config.Source) { s.Listen = ":2" }, "--listen :2 would let other machines in"},
		{"listen: 127.0.0.1:1", func(s *config.Source) { s.Listen = "x" }, `--listen "x" is not an address`},
		{"tls: {cert: /none, key: /none}", nil, ":2: tls: open /none"},
		{"listen: 127.0.0.1:1", func(s *config.Source) { s.File += "x" }, "no such file"},
		{"# " + strings.Repeat("x", config.MaxBytes), nil, "is larger than 1 MiB"},
	} {
		s := writeFile(t, "version: 1\n"+c.text)
		if c.change != nil {
			c.change(s)
		}
		got, err := s.Load()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || got != nil) {
			t.Errorf("%.80s: got %v, want %q", c.text, err, c.want)
		}
	}
	s := writeFile(t, "version: 1\nlisten: 127.0.0.1:1\nstore: 'memory:'")
	s.Listen, s.Store = "127.0.0.1:2", "sqlite:x"
	if got, err := s.Load(); err != nil || got.Listen != s.Listen || got.Store != s.Store {
		t.Errorf("got %+v (%v), want the command line's", got, err)
	}
}

// TestRestart changes one field after the other: each either needs a restart or not.
func TestRestart(t *testing.T) {
	t.Parallel()
	text := "version: 1\nlisten: 127.0.0.1:1\ntokens: [{name: a, role: read, hash: '" + access.HashOf("a").String() + "'}]\n"
	before, err := config.Parse([]byte(text), environment)
	if err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]string{
		"":                                      "",
		"listen: 127.0.0.1:2":                   "listen",
		"metrics_listen: 127.0.0.1:2":           "metrics_listen",
		"store: 'memory:'":                      "store",
		"tls: {cert: a, key: b}":                "tls (from or to none)",
		"timeout: 2s":                           "timeout",
		"failure_mode: open":                    "failure_mode",
		"log: {format: json}":                   "log.format",
		"max: {header: 1KiB}":                   "max.header",
		"max: {header_time: 1s}":                "max.header_time",
		"max: {idle: 1s}":                       "max.idle",
		"leases: {max_age: 1h}":                 "leases.max_age",
		"tokens: none":                          "tokens (from or to none)",
		"hosts: [a]":                            "",
		"trusted_proxies: [10.0.0.1]":           "",
		"log: {level: debug}":                   "",
		"shutdown_timeout: 1s":                  "",
		"shutdown_delay: 1s":                    "",
		"max: {body: 1KiB}":                     "",
		"max: {connections: 1}":                 "",
		"max: {waits: 1, wait: 1s}":             "",
		"leases: {keys: ['${ZAEL_LEASE_KEY}']}": "",
		"policies: {a: {limits: [n=1/s]}}":      "",
	} {
		next := text
		switch name, _, _ := strings.Cut(change, ":"); name {
		case "listen":
			next = strings.Replace(text, "listen: 127.0.0.1:1", change, 1)
		case "tokens":
			next, _, _ = strings.Cut(text, "tokens")
		default:
			next += change
		}
		after, err := config.Parse([]byte(next), environment)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		if want != "" {
			keys = []string{want}
		}
		if got := config.NeedRestart(before, after); !slices.Equal(got, keys) {
			t.Errorf("%s: got %q, want %q", change, got, keys)
		}
	}
}

// FuzzParse: no text makes Parse panic; what it takes can be used, and every error has a line.
func FuzzParse(f *testing.F) {
	f.Add([]byte("version: 1\nlisten: :1\ntokens: [{name: a, role: read, hash: x}]\nmax: {body: 1KiB}\n"))
	f.Add([]byte("version: 1\nhosts: [a]\ntrusted_proxies: [::/0]\nleases: {keys: ['${ZAEL_LEASE_KEY}']}\npolicies: {a: {limits: [n=1/s, m=1 each day]}}\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse(text, environment)
		if err != nil {
			if about := new(yamlfile.Error); !errors.As(err, &about) || c != nil {
				t.Errorf("got %v and the error %v, want a *yamlfile.Error alone", c, err)
			}
			return
		}
		if c.Listen == "" || c.Timeout <= 0 || c.Max.Body <= 0 || c.Max.Connections <= 0 || c.Max.HeaderTime <= 0 || c.FailureMode == 0 {
			t.Errorf("got %+v, want nothing without a bound", c)
		}
		for _, token := range c.Tokens {
			if token.Role == 0 || token.Name == "" || token.Hash == (access.Hash{}) {
				t.Errorf("got the token %+v, want it whole", token)
			}
		}
		for name, p := range c.Policies {
			if p == nil {
				t.Errorf("got no policy %q", name)
			}
		}
	})
}
