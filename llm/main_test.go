package llm_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/llm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is a limiter in memory whose clock stands until it is set, and a provider.
type world struct {
	*limiters.Still
	url string
}

func setup(tb testing.TB, provider http.Handler) *world {
	tb.Helper()
	w := &world{Still: limiters.New(tb)}
	if provider != nil {
		s := httptest.NewServer(provider)
		tb.Cleanup(s.Close)
		w.url = s.URL
	}
	return w
}

// always is a provider that gives one answer.
func always(a fakellm.Answer) fakellm.Provider {
	return func(*fakellm.Request) fakellm.Answer { return a }
}

// words is an answer of 20 chunks with 800 bytes: 200 tokens at four bytes each.
func words() []string {
	chunks := make([]string, 20)
	for i := range chunks {
		chunks[i] = "forty bytes of an answer, with its space "[:40]
	}
	return chunks
}

var fixed = llm.Fixed("team")

func policy() *zael.Policy {
	return zael.MustPolicy("model", zael.PerMinute("rpm", 1000), zael.PerMinute("tpm", 100_000),
		zael.PerMinute("itpm", 100_000), zael.PerMinute("otpm", 100_000))
}

// left returns how much of a limit is left to an entity.
func (w *world) left(tb testing.TB, p *zael.Policy, limit string) int64 {
	tb.Helper()
	a, err := w.Available(context.Background(), zael.Query{Entity: "team", Policy: p})
	if err != nil {
		tb.Fatal(err)
	}
	return a[limit]
}

// checkUsed compares what was used of the limits of policy.
func (w *world) checkUsed(tb testing.TB, p *zael.Policy, requests, input, output int64) {
	tb.Helper()
	got := [4]int64{1000 - w.left(tb, p, "rpm"), 100_000 - w.left(tb, p, "tpm"), 100_000 - w.left(tb, p, "itpm"), 100_000 - w.left(tb, p, "otpm")}
	if want := [4]int64{requests, input + output, input, output}; got != want {
		tb.Errorf("used rpm, tpm, itpm, otpm = %d, want %d", got, want)
	}
}

// limits is New, which must not fail.
func limits(tb testing.TB, w *world, p *zael.Policy, config *llm.Config) *llm.Limits {
	tb.Helper()
	l, err := llm.New(w.Limiter, p, fixed, config)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// client is one whose calls are limited. Its connections end with the test.
func client(tb testing.TB, l *llm.Limits) *http.Client {
	tb.Helper()
	base := &http.Transport{}
	tb.Cleanup(base.CloseIdleConnections)
	return &http.Client{Transport: l.Transport(base)}
}

// post sends a body and returns the answer, whose body is to be closed.
func (w *world) post(ctx context.Context, tb testing.TB, c *http.Client, path, body string) *http.Response {
	tb.Helper()
	res, err := c.Do(w.request(ctx, tb, path, body))
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

func (w *world) request(ctx context.Context, tb testing.TB, path, body string) *http.Request {
	tb.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// pass sends a request through the middleware, and returns the status of the answer.
func pass(l *llm.Limits, r *http.Request, next func(*http.Request) (*http.Response, error)) (int, error) {
	res, err := l.Middleware(r, next)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// all posts a body and returns the status and the whole answer.
func (w *world) all(tb testing.TB, c *http.Client, path, body string) (int, string) {
	tb.Helper()
	res := w.post(context.Background(), tb, c, path, body)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res.StatusCode, string(data)
}

const (
	chat       = "/v1/chat/completions"
	chatBody   = `{"model":"gpt-4o","messages":[{"role":"user","content":"Tell me something, please."}],"max_tokens":500}`
	streamBody = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Tell me something, please."}],"max_tokens":500}`
)
