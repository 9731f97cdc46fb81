package llm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

func TestRecognize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path  string
		api   llm.API
		model string
	}{
		{"/v1/chat/completions", llm.OpenAIChat, ""},
		{"/openai/deployments/gpt%204/chat/completions?api-version=1", llm.OpenAIChat, "gpt 4"},
		{"/v1/completions", llm.OpenAICompletions, ""},
		{"/v1/responses", llm.OpenAIResponses, ""},
		{"/v1/responses/resp_1/cancel", llm.NoAPI, ""},
		{"/v1/embeddings", llm.OpenAIEmbeddings, ""},
		{"/v1/images/generations", llm.OpenAIMedia, ""},
		{"/v1/audio/transcriptions", llm.OpenAIMedia, ""},
		{"/v1/messages", llm.Anthropic, ""},
		{"/v1/messages/count_tokens", llm.NoAPI, ""},
		{"/v1/messages/batches", llm.NoAPI, ""},
		{"/v1/threads/t1/messages", llm.NoAPI, ""},
		{"/v1/projects/p/locations/l/publishers/anthropic/models/claude-4:streamRawPredict", llm.Anthropic, "claude-4"},
		{"/v1beta/models/gemini-2.5-pro:generateContent", llm.Gemini, "gemini-2.5-pro"},
		{"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", llm.Gemini, "gemini-2.5-pro"},
		{"/v1beta/models/gemini-2.5-pro:countTokens", llm.NoAPI, ""},
		{"/v1beta/models/e:embedContent", llm.GeminiEmbeddings, "e"},
		{"/model/anthropic.claude-v2%3A1/converse", llm.BedrockConverse, "anthropic.claude-v2:1"},
		{"/model/m/converse-stream", llm.BedrockConverse, "m"},
		{"/model/m/invoke", llm.BedrockInvoke, "m"},
		{"/model/m/invoke-with-response-stream", llm.BedrockInvoke, "m"},
		{"/v1/files", llm.NoAPI, ""},
		{"/v1/chat/completions//", llm.OpenAIChat, ""},
		{"/v1/chat%2Fcompletions", llm.OpenAIChat, ""},
		{"/v1/chat/%63ompletions", llm.OpenAIChat, ""},
		{"/v1%2F%6Dessages", llm.Anthropic, ""},
		{"/v1beta/models/g%3AgenerateContent", llm.Gemini, "g"},
		{"/v1beta/tunedModels/t:generateContent", llm.Gemini, "t"},
		{"/model/arn%3Aaws%3Abedrock%3Ar%3A1%3Aprofile%2Fp/invok%65", llm.BedrockInvoke, "arn:aws:bedrock:r:1:profile/p"},
		{"/", llm.NoAPI, ""},
		{"/model/converse", llm.NoAPI, ""},
	} {
		r := httptest.NewRequest(http.MethodPost, c.path, nil)
		if api, model := llm.Recognize(r); api != c.api || model != c.model {
			t.Errorf("Recognize(%s) = %v %q, want %v %q", c.path, api, model, c.api, c.model)
		}
	}
	if api, _ := llm.Recognize(httptest.NewRequest(http.MethodGet, chat, nil)); api != llm.NoAPI {
		t.Errorf("Recognize(GET) = %v, want none", api)
	}
}

// shapes are the calls of all APIs, plain and streamed.
func shapes() map[string][2]string {
	const converse = `{"messages":[{"role":"user","content":[{"text":"Tell me something."}]}],"inferenceConfig":{"maxTokens":500}}`
	const anthropic = `{"model":"claude","messages":[{"role":"user","content":"Tell me something."}],"max_tokens":500}`
	const gemini = `{"contents":[{"parts":[{"text":"Tell me something."}]}],"generationConfig":{"maxOutputTokens":500}}`
	return map[string][2]string{
		"chat":               {chat, chatBody},
		"chat stream":        {chat, streamBody},
		"chat stream asked":  {chat, strings.Replace(streamBody, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)},
		"completions":        {"/v1/completions", `{"model":"m","prompt":"Tell me","max_tokens":500}`},
		"completions stream": {"/v1/completions", `{"model":"m","prompt":"Tell me","max_tokens":500,"stream":true}`},
		"responses":          {"/v1/responses", `{"model":"m","input":"Tell me","max_output_tokens":500}`},
		"responses stream":   {"/v1/responses", `{"model":"m","input":"Tell me","max_output_tokens":500,"stream":true}`},
		"anthropic":          {"/v1/messages", anthropic},
		"anthropic stream":   {"/v1/messages", strings.Replace(anthropic, "{", `{"stream":true,`, 1)},
		"gemini":             {"/v1beta/models/g:generateContent", gemini},
		"gemini stream":      {"/v1beta/models/g:streamGenerateContent?alt=sse", gemini},
		"gemini array":       {"/v1beta/models/g:streamGenerateContent", gemini},
		"converse":           {"/model/m/converse", converse},
		"converse stream":    {"/model/m/converse-stream", converse},
		"invoke":             {"/model/m/invoke", anthropic},
		"invoke stream":      {"/model/m/invoke-with-response-stream", anthropic},
	}
}

// TestReportedUsageOfEveryShape: what is settled is what was reported, to the token, and
// the caller reads what the provider sends.
func TestReportedUsageOfEveryShape(t *testing.T) {
	t.Parallel()
	for name, call := range shapes() {
		for _, zip := range []bool{false, true} {
			var got llm.Usage
			w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 345, Cached: 45, Output: 210, Gzip: zip}))
			p := policy()
			c := client(t, limits(t, w, p, &llm.Config{Settled: func(_ *llm.Call, u llm.Usage) { got = u }}))
			r := w.request(context.Background(), t, call[0], call[1])
			if zip {
				r.Header.Set("Accept-Encoding", "gzip, br") // so that net/http does not decompress
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.Header.Get("Content-Encoding") != "" {
				t.Errorf("%s: error %v, encoding %q", name, err, res.Header.Get("Content-Encoding"))
			}
			if want := (llm.Usage{Input: 345, CachedInput: 45, Output: 210, Reported: true}); got != want {
				t.Errorf("%s, gzip %v: settled %+v, want %+v", name, zip, got, want)
			}
			w.checkUsed(t, p, 1, 300, 210)
			if asked := strings.HasSuffix(name, "asked"); strings.Contains(string(data), "prompt_tokens") != asked && strings.Contains(call[1], `"stream":true`) {
				t.Errorf("%s: the chunk with usage is shown or hidden: %s", name, data)
			}
		}
	}
}

func TestEmbeddingsAndMedia(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Input: 12, Output: 0}))
	p := policy()
	c := client(t, limits(t, w, p, nil))
	w.all(t, c, "/v1/embeddings", `{"model":"e","input":["one","two"]}`)
	w.checkUsed(t, p, 1, 12, 0)
	w.all(t, c, "/v1/images/generations", `{"model":"i","prompt":"a cat"}`)
	w.checkUsed(t, p, 2, 24, 0)
}

// TestBackgroundKeepsItsEstimate: the answer comes before the work is done, and so it does
// where the stream of one is left; usage that is reported counts all the same.
func TestBackgroundKeepsItsEstimate(t *testing.T) {
	t.Parallel()
	const plain = `{"model":"m","background":true,"input":"Tell me something","max_output_tokens":500}`
	stream := strings.Replace(plain, "{", `{"stream":true,`, 1)
	for name, c := range map[string]struct {
		answer fakellm.Answer
		body   string
		output int64
	}{
		"queued":      {fakellm.Answer{NoUsage: true}, plain, 500},
		"stream left": {fakellm.Answer{Chunks: words(), Input: 10, Output: 200, Before: func(chunk int) bool { return chunk < 2 }}, stream, 500},
		"reported":    {fakellm.Answer{Chunks: words(), Input: 4, Output: 200}, stream, 200},
	} {
		w := setup(t, always(c.answer))
		p := policy()
		res := w.post(context.Background(), t, client(t, limits(t, w, p, nil)), "/v1/responses", c.body)
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if got := 100_000 - w.left(t, p, "otpm"); got != c.output {
			t.Errorf("%s: %d tokens of output are counted, want %d", name, got, c.output)
		}
	}
}

// TestOtherRequestsPass: they take nothing, and their bodies are not read.
func TestOtherRequestsPass(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{}))
	p := policy()
	l := limits(t, w, p, nil)
	r := w.request(context.Background(), t, "/v1/files", "{}")
	body := r.Body
	_, err := pass(l, r, func(got *http.Request) (*http.Response, error) {
		if got != r || got.Body != body {
			t.Error("the request was changed")
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.checkUsed(t, p, 0, 0, 0)
}

// TestFailedCalls: tokens are given back, the request stays; a call that was not sent
// costs nothing.
func TestFailedCalls(t *testing.T) {
	t.Parallel()
	status := http.StatusInternalServerError
	w := setup(t, fakellm.Provider(func(*fakellm.Request) fakellm.Answer { return fakellm.Answer{Status: status} }))
	p := policy()
	l := limits(t, w, p, nil)
	c := client(t, l)
	w.all(t, c, chat, chatBody)
	w.checkUsed(t, p, 1, 0, 0)
	status = http.StatusTooManyRequests
	w.all(t, c, chat, streamBody)
	w.checkUsed(t, p, 2, 0, 0)

	refusedConn := errors.New("no connection")
	_, err := pass(l, w.request(context.Background(), t, chat, chatBody), func(*http.Request) (*http.Response, error) { return nil, refusedConn })
	if !errors.Is(err, refusedConn) {
		t.Errorf("Middleware = %v, want the error of next", err)
	}
	w.checkUsed(t, p, 2, 0, 0)

	func() {
		defer func() { _ = recover() }()
		_, _ = pass(l, w.request(context.Background(), t, chat, chatBody), func(*http.Request) (*http.Response, error) { panic("inner") })
	}()
	w.checkUsed(t, p, 2, 0, 0)
}

// TestBodyIsReplayable: the request that is sent can be sent again, with the right length,
// and the caller's is as it was.
func TestBodyIsReplayable(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	l := limits(t, w, policy(), nil)
	want := strings.Replace(streamBody, "{", `{"stream_options":{"include_usage":true},`, 1)
	for body, want := range map[string]string{
		chatBody:                              chatBody,
		streamBody:                            want,
		`{"stream":true,"stream_options":{}}`: `{"stream":true,"stream_options":{"include_usage":true}}`,
		`{"stream":true,"stream_options" : null }`:                                       `{"stream":true,"stream_options" : {"include_usage":true} }`,
		`{"stream":true,"stream_options":{"x":1}}`:                                       `{"stream":true,"stream_options":{"include_usage":true,"x":1}}`,
		`{"stream":true,"stream_options":{"include_usage":false}}`:                       `{"stream":true,"stream_options":{"include_usage":true}}`,
		` {"stream":true,"a":"\"stream_options\":{","b":[{"}":"]"}],"c":1.5e3,"d":true}`: ` {"stream_options":{"include_usage":true},"stream":true,"a":"\"stream_options\":{","b":[{"}":"]"}],"c":1.5e3,"d":true}`,
		`{"stream":true`: `{"stream":true`,
		`[]`:             `[]`,
		``:               ``,
	} {
		r := w.request(context.Background(), t, chat, body)
		_, err := pass(l, r, func(out *http.Request) (*http.Response, error) {
			if out == r {
				t.Error("the caller's request is sent")
			}
			for range 2 {
				again, err := out.GetBody()
				if err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(again)
				if string(got) != want || out.ContentLength != int64(len(want)) {
					t.Errorf("sent %s (length %d), want %s", got, out.ContentLength, want)
				}
			}
			got, _ := io.ReadAll(out.Body)
			if string(got) != want {
				t.Errorf("sent %s, want %s", got, want)
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestSignedBodyIsNotChanged: a signature for AWS is one of the body.
func TestSignedBodyIsNotChanged(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	for _, config := range []*llm.Config{nil, {KeepBody: true}} {
		l := limits(t, w, policy(), config)
		r := w.request(context.Background(), t, chat, streamBody)
		if config == nil {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=ID/20260113/region/bedrock/aws4_request, Signature=0")
		}
		_, err := pass(l, r, func(out *http.Request) (*http.Response, error) {
			if got, _ := io.ReadAll(out.Body); string(got) != streamBody {
				t.Errorf("sent %s", got)
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestBodyIsReadAndClosed: as a RoundTripper must, also where the call is refused.
func TestBodyIsReadAndClosed(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	l := limits(t, w, zael.MustPolicy("m", zael.Block("rpm")), nil)
	var closed atomic.Bool
	r := w.request(context.Background(), t, chat, chatBody)
	r.Body = closer{bytes.NewReader([]byte(chatBody)), &closed}
	status, err := pass(l, r, nil)
	if err != nil || status != http.StatusTooManyRequests || !closed.Load() {
		t.Errorf("Middleware = %d, %v, closed %v", status, err, closed.Load())
	}
	broken := errors.New("broken")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), errReader{broken}))
	if _, err := pass(l, r, nil); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the body", err)
	}
}

type closer struct {
	io.Reader
	closed *atomic.Bool
}

func (c closer) Close() error { c.closed.Store(true); return nil }

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
