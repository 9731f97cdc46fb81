package suite

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

// llmGroups are calls of a chat completion through package llm and through a transport
// alone, which answers at once: a plain answer of 1,200 bytes, a stream of 400 chunks, and
// calls that are refused.
func llmGroups() []Group {
	const (
		prompt   = `{"model":"gpt-4o","messages":[{"role":"user","content":"Tell me something that I have not heard, please."}],"max_tokens":500`
		plain    = prompt + `}`
		streamed = prompt + `,"stream":true,"stream_options":{"include_usage":true}}`
		chunk    = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"some words"},"finish_reason":null}],"usage":null}` + "\n\n"
		usage    = `"usage":{"prompt_tokens":10,"completion_tokens":400}`
	)
	answer := canned{"application/json", `{"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("some words ", 100) + `"}}],` + usage + `}`}
	stream := canned{"text/event-stream", strings.Repeat(chunk, 400) + `data: {"choices":[],` + usage + "}\n\ndata: [DONE]\n\n"}
	return []Group{
		{Name: "llm/plain", Benchmarks: llmBenchmarks(answer, plain, 1_000_000_000, http.StatusOK)},
		{Name: "llm/streamed", Benchmarks: llmBenchmarks(stream, streamed, 1_000_000_000, http.StatusOK)},
		{Name: "llm/refused", Benchmarks: llmBenchmarks(answer, plain, 1, http.StatusTooManyRequests)[1:]},
	}
}

// llmBenchmarks returns the benchmarks of limits of n requests an hour, after the first of
// which each answer has a status.
func llmBenchmarks(base http.RoundTripper, body string, n int64, status int) []Benchmark {
	limited := func(b *testing.B, config *llm.Config) http.RoundTripper {
		b.Helper()
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			b.Fatal(err)
		}
		policy, err := zael.NewPolicy("bench", zael.PerHour("requests", n), zael.PerSecond("tokens", 1e9).WithBurst(1e12))
		if err != nil {
			b.Fatal(err)
		}
		limits, err := llm.New(l, policy, llm.Fixed("all"), config)
		if err != nil {
			b.Fatal(err)
		}
		return limits.Transport(base)
	}
	return []Benchmark{
		{Name: "the transport alone", Run: func(b *testing.B) { b.Helper(); callModel(b, base, body, status) }},
		{Name: "zael llm", Run: func(b *testing.B) { b.Helper(); callModel(b, limited(b, nil), body, status) }},
		{Name: "zael llm, FollowProvider", Run: func(b *testing.B) {
			b.Helper()
			callModel(b, limited(b, &llm.Config{FollowProvider: true}), body, status)
		}},
	}
}

// callModel makes a call and reads its answer, again and again.
func callModel(b *testing.B, transport http.RoundTripper, body string, status int) {
	b.Helper()
	buf := make([]byte, 4<<10)
	call := func() int {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://provider/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		res, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{res.Body}, buf); err != nil {
			b.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	call()
	b.ReportAllocs()
	for b.Loop() {
		if got := call(); got != status {
			b.Fatalf("status: got %d, want %d", got, status)
		}
	}
}

// A canned transport has one answer.
type canned struct{ kind, text string }

// RoundTrip implements http.RoundTripper.
func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	_ = r.Body.Close()
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {c.kind}}, Body: io.NopCloser(strings.NewReader(c.text)), Request: r,
	}, nil
}
