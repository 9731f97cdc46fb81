package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/gateway"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A journal is a log that can be waited for.
type journal struct {
	mu    sync.Mutex
	grown sync.Cond
	text  bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.grown.Broadcast()
	return j.text.Write(p)
}

// await waits until the log has a text after its first bytes.
func (j *journal) await(after int, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for !strings.Contains(j.text.String()[after:], text) {
		j.grown.Wait()
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// A rig is a daemon with a gateway, in front of an upstream.
type rig struct {
	*serve.Daemon

	t        testing.TB
	env      *serve.Env
	gateway  *gateway.Gateway
	log      *journal
	hangup   chan struct{}
	file     string
	base     string // of URLs
	upstream *httptest.Server
	client   *http.Client
	stop     context.CancelFunc
	stopped  chan error
}

const key = "sk-of-the-operator"

// start runs a daemon with a configuration, in which UPSTREAM is the upstream's URL and KEY
// the environment's variable of its key. It has stopped when the test ends.
func start(tb testing.TB, yaml string, upstream http.Handler) *rig {
	tb.Helper()
	return startWith(tb, yaml, upstream, gateway.Bounds{})
}

func startWith(tb testing.TB, yaml string, upstream http.Handler, bounds gateway.Bounds) *rig {
	tb.Helper()
	r := &rig{t: tb, log: new(journal), hangup: make(chan struct{}), file: filepath.Join(tb.TempDir(), "zael.yaml"), stopped: make(chan error, 1)}
	r.log.grown.L = &r.log.mu
	r.upstream = httptest.NewServer(upstream)
	r.write(yaml)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	var err error
	r.Daemon, err = serve.New(ctx, &serve.Options{
		Source: config.Source{File: r.file, LookupEnv: lookup}, Log: r.log, Hangup: r.hangup,
		Open: func(context.Context, string) (serve.Store, error) { return memstore.New(nil), nil },
		Handlers: serve.Handlers{Gateway: func(env *serve.Env) (serve.Gateway, error) {
			r.env = env
			var err error
			r.gateway, err = gateway.NewWith(env, bounds)
			return r.gateway, err
		}},
	})
	if err != nil {
		stop()
		r.upstream.Close()
		tb.Fatal(err)
	}
	transport := &http.Transport{}
	r.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r.base = "http://" + r.Addr().String()
	go func() { r.stopped <- r.Run(ctx) }()
	tb.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = r.end()
		r.upstream.Close()
		if strings.Contains(r.log.String(), "panic serving") {
			tb.Error("the server panicked")
		}
		if tb.Failed() {
			tb.Log(r.log)
		}
	})
	return r
}

// end stops the daemon, and returns what Run returned.
func (r *rig) end() error {
	r.stop()
	err := <-r.stopped
	r.stopped <- err // for the next one
	return err
}

func lookup(name string) (string, bool) {
	if name == "KEY" {
		return key, true
	}
	return os.LookupEnv(name)
}

// write replaces the configuration, at once.
func (r *rig) write(yaml string) {
	r.t.Helper()
	text := "version: 1\nlisten: 127.0.0.1:0\nlog: {level: debug}\n" + strings.ReplaceAll(yaml, "UPSTREAM", r.upstream.URL)
	temporary := r.file + ".new"
	if err := errors.Join(os.WriteFile(temporary, []byte(text), 0o600), os.Rename(temporary, r.file)); err != nil {
		r.t.Fatal(err)
	}
}

// reload replaces the configuration and waits until it holds.
func (r *rig) reload(yaml string) {
	r.t.Helper()
	before := len(r.log.String())
	r.write(yaml)
	r.hangup <- struct{}{}
	r.log.await(before, "configuration reloaded")
}

// A request is what a test sends. Headers are in pairs, and Host is the host's.
type request struct {
	method, path, body string
	headers            []string
}

// post is a request of a body in JSON.
func post(path, body string, headers ...string) request {
	return request{"POST", path, body, append([]string{"Content-Type", "application/json"}, headers...)}
}

func get(path string, headers ...string) request { return request{"GET", path, "", headers} }

// open sends a request. The answer's body is to be closed.
func (r *rig) open(ctx context.Context, q request) (*http.Response, error) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, q.method, r.base+q.path, strings.NewReader(q.body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(q.headers); i += 2 {
		if q.headers[i] == "Host" {
			req.Host = q.headers[i+1]
			continue
		}
		req.Header.Add(q.headers[i], q.headers[i+1])
	}
	return r.client.Do(req)
}

// An answer is what came back.
type answer struct {
	*http.Response
	body string
}

// send sends a request and reads the whole answer.
func (r *rig) send(q request) answer {
	r.t.Helper()
	res, err := r.open(context.Background(), q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{res, string(body)}
}

// want checks the status of an answer, and a text that it has.
func (r *rig) want(q request, status int, text string) answer {
	r.t.Helper()
	a := r.send(q)
	if a.StatusCode != status || !strings.Contains(a.body, text) {
		r.t.Errorf("%s %s: got %d with %s, want %d with %q", q.method, q.path, a.StatusCode, a.body, status, text)
	}
	return a
}

// left returns how much is left to an entity on gpt, by limits or by stored ones.
func (r *rig) left(entity string, limits ...zael.Limit) zael.Amounts {
	r.t.Helper()
	q := zael.Query{Entity: entity, Resource: "gpt", Limits: limits, UseStoredLimits: len(limits) == 0}
	a, err := r.env.Limiter.Available(context.Background(), q)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// settle waits until all calls have settled.
func (r *rig) settle() {
	r.t.Helper()
	if err := r.gateway.Shutdown(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// metric returns the value of a metric.
func (r *rig) metric(name string) string {
	r.t.Helper()
	for line := range strings.Lines(r.send(get("/metrics")).body) {
		if strings.HasPrefix(line, name+" ") {
			return strings.TrimSpace(strings.TrimPrefix(line, name))
		}
	}
	return "none"
}

// A token has its text and how a configuration has it.
type token struct{ text, yaml string }

func newToken(name, rest string) token {
	text := access.NewToken()
	return token{text, fmt.Sprintf("- {name: %s, hash: '%s', %s}\n", name, access.HashOf(text), rest)}
}

// always is an upstream that gives one answer.
func always(a fakellm.Answer) http.Handler {
	return fakellm.Provider(func(*fakellm.Request) fakellm.Answer { return a })
}

const (
	chat     = "/openai/v1/chat/completions"
	chatBody = `{"model":"gpt-4o","messages":[{"role":"user","content":"Tell me something, please."}],"max_tokens":500}`
	// limited is a route for whoever is on this machine.
	limited = `
policies:
  gpt: {limits: ["rpm=3/365d", "tpm=100000/365d"]}
gateway:
- {prefix: /openai, upstream: UPSTREAM, upstream_key: "${KEY}", auth: {tokens: true}, limits: policies, models: {"gpt-4*": gpt}}
`
)

// yearly is a limit of which next to nothing refills during a test.
func yearly(name string, n int64) zael.Limit {
	l := zael.PerDay(name, n)
	l.RefillPeriod *= 365
	return l
}
