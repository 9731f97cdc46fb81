package llm_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/llm"
)

type tenantKey struct{}

// A gateway is a reverse proxy whose transport are limits. Its callers name themselves, and
// the provider sees the gateway's own API key.
func (w *world) gateway(t *testing.T, policies map[string]*zael.Policy, settled func(*llm.Call, llm.Usage)) *httptest.Server {
	t.Helper()
	tenant := func(r *http.Request) (string, error) {
		name, _ := r.Context().Value(tenantKey{}).(string)
		return name, nil
	}
	unknown := errors.New("the gateway has no such model")
	limits, err := llm.New(w.Limiter, policy(), tenant, &llm.Config{
		Models:  policies,
		Policy:  func(*llm.Call) (*zael.Policy, error) { return nil, unknown },
		Settled: settled,
	})
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: limits.Transport(base),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Header.Set("Authorization", "Bearer key-of-the-gateway")
		},
		ModifyResponse: func(res *http.Response) error {
			if d, ok := llm.Decision(res); ok {
				res.Header.Set("X-Ratelimit-Remaining-Requests", strconv.FormatInt(d.Status(0).Available, 10))
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				status = http.StatusRequestEntityTooLarge
			} else if errors.Is(err, unknown) {
				status = http.StatusNotFound
			}
			w.WriteHeader(status)
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 1000)
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantKey{}, r.Header.Get("X-Tenant"))))
	}))
	t.Cleanup(base.CloseIdleConnections)
	t.Cleanup(server.Close)
	return server
}

// TestGateway: a reverse proxy limits its callers by its transport: answers stream, callers
// that leave settle, refusals have the provider's form, and errors can be told apart.
func TestGateway(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	w := setup(t, fakellm.Provider(func(r *fakellm.Request) fakellm.Answer {
		if r.Header.Get("Authorization") != "Bearer key-of-the-gateway" {
			t.Errorf("the provider sees %q", r.Header.Get("Authorization"))
		}
		return fakellm.Answer{Chunks: words(), Input: 10, Output: 200, Before: func(chunk int) bool {
			if chunk == 10 && strings.Contains(string(r.Body), "leave") {
				<-gone // until the caller has left
			}
			return true
		}}
	}))
	p := zael.MustPolicy("gpt", zael.PerMinute("rpm", 3), zael.PerMinute("otpm", 100_000))
	settled := make(chan llm.Usage, 10)
	gateway := w.gateway(t, map[string]*zael.Policy{"gpt-4o": p}, func(_ *llm.Call, u llm.Usage) { settled <- u })
	ask := func(ctx context.Context, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway.URL+chat, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Tenant", "team")
		res, err := gateway.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	res := ask(context.Background(), chatBody)
	_, err := io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if u := <-settled; err != nil || res.Header.Get("X-Ratelimit-Remaining-Requests") != "2" || u.Output != 200 || !u.Reported {
		t.Errorf("a call: %v, settled %+v, error %v", res.Header, u, err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	res = ask(ctx, strings.Replace(streamBody, "Tell", "leave", 1))
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
		t.Errorf("a stream that goes on begins with %q, error %v", line, err)
	}
	cancel()
	if u := <-settled; u.Reported || u.Output > 105 {
		t.Errorf("a caller that left: settled %+v", u)
	}
	close(gone)
	_ = res.Body.Close()

	for _, c := range []struct {
		body      string
		status    int
		remaining string
	}{
		{strings.Replace(chatBody, "Tell", strings.Repeat("a", 1000), 1), http.StatusRequestEntityTooLarge, ""},
		{strings.Replace(chatBody, "gpt-4o", "unknown", 1), http.StatusNotFound, ""},
		{chatBody, http.StatusOK, "0"},
		{chatBody, http.StatusTooManyRequests, "0"},
	} {
		res := ask(context.Background(), c.body)
		data, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != c.status || res.Header.Get("X-Ratelimit-Remaining-Requests") != c.remaining {
			t.Errorf("status %d, %v, error %v, want %d with %q left", res.StatusCode, res.Header, err, c.status, c.remaining)
		}
		if c.status == http.StatusTooManyRequests && (res.Header.Get("Retry-After") != "20" || !strings.Contains(string(data), "rate_limit_exceeded")) {
			t.Errorf("refused with %v and %s", res.Header, data)
		}
	}
}

// TestDecisionOfOtherAnswers: there is none.
func TestDecisionOfOtherAnswers(t *testing.T) {
	t.Parallel()
	if _, ok := llm.Decision(&http.Response{Request: httptest.NewRequest(http.MethodGet, "/", nil)}); ok {
		t.Error("an answer that no limits have seen has a decision")
	}
	if _, ok := llm.Decision(nil); ok {
		t.Error("no answer has a decision")
	}
}

// TestRefusedFormIsClosed: also a body that is not read must be closed.
func TestRefusedFormIsClosed(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	l := limits(t, w, zael.MustPolicy("m", zael.Block("rpm")), nil)
	r := w.request(context.Background(), t, "/v1/audio/transcriptions", "a form")
	r.Header.Set("Content-Type", "multipart/form-data")
	var closed atomic.Bool
	r.Body = closer{strings.NewReader("a form"), &closed}
	if status, err := pass(l, r, nil); err != nil || status != http.StatusTooManyRequests || !closed.Load() {
		t.Errorf("status %d, error %v, closed %v", status, err, closed.Load())
	}
}

// TestOddJSON: neither a body nor an answer that is wrong makes a call panic or changes
// what passes, wherever the bytes are wrong.
func TestOddJSON(t *testing.T) {
	t.Parallel()
	bodies := []string{
		chatBody, `{"n":1e9,"max_tokens":-1,"stream":"yes","messages":{"content":[[[["data:;base64,"]]]]}}`,
		`{"model":{"a":1},"stream_options":[1],"generationConfig":null,"tools":7}`, strings.Repeat("[", 5000), `{"a":"\ud800"}`, "\x00", `"`,
	}
	answers := []string{
		`{"usage":{"prompt_tokens":1e400,"completion_tokens":-5,"prompt_tokens_details":[]},"choices":[{"message":{"content":"\u00"}}]}`,
		`{"usage":{"input_tokens":9223372036854775807,"output_tokens":9223372036854775807,"cache_read_input_tokens":9223372036854775807}}`,
		`}}}]]]{"usage":{"usage":{"usage":`, strings.Repeat(`{"a":[`, 5000), "data: {\"choices\":[],\"usage\":{}}\n\ndata:data:data:\n\n\n: \r\r\r\ndata: [DONE",
		"\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00\x00\x00", "\xff\xff\xff\xff\x00\x00\x00\x05aaaa" + strings.Repeat("x", 100), `{"usageMetadata":"none","candidates":{}}`,
	}
	kinds := []string{"application/json", "text/event-stream", "application/vnd.amazon.eventstream"}
	w := setup(t, nil)
	for seed := range schedules.Seeds(t, 300) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // of a test
		odd := func(all []string) string {
			b := []byte(all[random.IntN(len(all))])
			for range random.IntN(4) {
				b[random.IntN(len(b))] = "{}[]\",:\\0\n\x00"[random.IntN(11)]
			}
			return string(b)
		}
		l := limits(t, w, zael.MustPolicy("m", zael.Unlimited("tpm")), &llm.Config{FollowProvider: true})
		for name, call := range shapes() {
			text := odd(answers)
			r := w.request(context.Background(), t, call[0], odd(append(bodies, call[1])))
			res, err := l.Middleware(r, func(*http.Request) (*http.Response, error) {
				status := []int{200, 200, 200, 429}[random.IntN(4)]
				return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kinds[random.IntN(3)]}}, Body: io.NopCloser(strings.NewReader(text))}, nil
			})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := io.ReadAll(res.Body)
			if hides := strings.Contains(text, ":data:"); err != nil || string(got) != text && !hides {
				t.Errorf("%s: read %q, error %v, want %q", name, got, err, text)
			}
			_ = res.Body.Close()
		}
	}
}
