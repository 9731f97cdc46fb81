package gateway_test

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/fakellm"
)

// TestPasses: calls pass with the operator's key, streamed and not, are counted to the token,
// and told what is left; the fourth is refused as the provider would.
func TestPasses(t *testing.T) {
	t.Parallel()
	r := start(t, limited, fakellm.Provider(func(q *fakellm.Request) fakellm.Answer {
		if got := q.Header.Get("Authorization"); got != "Bearer "+key {
			t.Errorf("the upstream sees %q", got)
		}
		if q.Path != "/v1/chat/completions" {
			t.Errorf("the upstream is asked for %s", q.Path)
		}
		return fakellm.Answer{Chunks: []string{"one ", "two"}, Input: 10, Output: 20, Header: http.Header{"X-Ratelimit-Remaining-Requests": {"9999"}, "Set-Cookie": {"a=b"}}}
	}))
	plain := r.want(post(chat, chatBody, "Authorization", "Bearer sk-unused"), 200, `"content":"one two"`)
	if h := plain.Header; h.Get("X-Ratelimit-Remaining-Requests") != "2" || h.Get("X-Ratelimit-Limit-Tokens") != "100000" || h.Get("Set-Cookie") != "" {
		t.Errorf("headers %v", h)
	}
	stream := r.want(post(chat, strings.Replace(chatBody, "{", `{"stream":true,`, 1)), 200, "data: [DONE]")
	if strings.Contains(stream.body, "usage\":{") || strings.Count(stream.body, "data: ") != 3 {
		t.Errorf("the stream has usage that nobody asked for: %s", stream.body)
	}
	r.want(post(chat, strings.Replace(chatBody, "gpt-4o", "gpt-4", 1)), 200, "one")
	refused := r.want(post(chat, chatBody), 429, `"code":"rate_limit_exceeded"`)
	if h := refused.Header; h.Get("Retry-After") == "" || h.Get("X-Ratelimit-Remaining-Requests") != "0" {
		t.Errorf("refused with %v", h)
	}
	if left := r.left("local", yearly("rpm", 3), yearly("tpm", 100_000)); left["tpm"] != 100_000-90 {
		t.Errorf("%d tokens are left, want those without 90", left["tpm"])
	}
	for name, want := range map[string]string{
		`zael_gateway_calls_total{outcome="passed",resource="gpt",route="/openai"}`:                 "3",
		`zael_gateway_calls_total{outcome="refused",resource="gpt",route="/openai"}`:                "1",
		`zael_gateway_tokens_total{kind="input",resource="gpt",route="/openai",source="reported"}`:  "30",
		`zael_gateway_tokens_total{kind="output",resource="gpt",route="/openai",source="reported"}`: "60",
		`zael_gateway_streams`: "0", `zael_gateway_unsettled_total`: "0", `zael_serve_request_seconds_count{route="gateway",status="200"}`: "3",
	} {
		if got := r.metric(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if strings.Contains(r.log.String(), "Tell me something") || strings.Contains(r.log.String(), "sk-") {
		t.Error("the log has a body or a key")
	}
}

// TestUnknownModels: a model that the route does not have is refused in the provider's form,
// and takes nothing.
func TestUnknownModels(t *testing.T) {
	t.Parallel()
	r := start(t, limited, always(fakellm.Answer{Input: 10, Output: 20}))
	for _, body := range []string{
		`{"model":"o1","messages":[]}`, `{"model":"gpt-","messages":[]}`, `{"messages":[]}`, `{"model":null}`, `{"model":"gpt-4","Model":"o1"}`, `{"model":"gpt-4"} x`, "\xff", "",
	} {
		a := r.send(post(chat, body))
		if a.StatusCode/100 != 4 || !strings.Contains(a.body, `{"error":{`) || a.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: got %d with %s", body, a.StatusCode, a.body)
		}
	}
	r.want(post("/openai/v1/messages", `{"model":"claude"}`), 404, `"type":"not_found_error"`)
	r.want(post("/openai/v1beta/models/gemini:generateContent", `{}`), 404, `"status":"NOT_FOUND"`)
	if left := r.left("local", yearly("rpm", 3)); left["rpm"] != 3 {
		t.Errorf("%v is left, want 3", left)
	}
	if got := r.metric(`zael_gateway_calls_total{outcome="unknown_model",resource="",route="/openai"}`); got == "none" {
		t.Error("unknown models are not counted")
	}
}

// TestLeavesSettle: a caller that leaves in the middle is charged what was seen.
func TestLeavesSettle(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	r := start(t, limited, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		return fakellm.Answer{Chunks: []string{strings.Repeat("word", 10), "never"}, Input: 10, Output: 200, Before: func(chunk int) bool {
			if chunk == 1 {
				<-gone
			}
			return true
		}}
	}))
	ctx, cancel := context.WithCancel(context.Background())
	res, err := r.open(ctx, post(chat, strings.Replace(chatBody, "{", `{"stream":true,`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.Contains(line, "word") {
		t.Errorf("a stream that goes on begins with %q, error %v", line, err)
	}
	cancel()
	_ = res.Body.Close()
	r.settle()
	close(gone)
	for kind, most := range map[string]float64{"input": 20, "output": 20} { // 10 tokens were seen
		got, err := strconv.ParseFloat(r.metric(`zael_gateway_tokens_total{kind="`+kind+`",resource="gpt",route="/openai",source="estimated"}`), 64)
		if err != nil || got < 5 || got > most {
			t.Errorf("%v tokens of %s were counted, error %v", got, kind, err)
		}
	}
	r.log.await(0, "path=/openai/v1/chat/completions status=200") // counted, though it was cut
}
