package sdk_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"

	"github.com/anthropics/anthropic-sdk-go/v2"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/v2/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

// direct is a transport to a handler without a network, so that tests can run in the
// virtual time of testing/synctest.
type direct struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	from, to := io.Pipe()
	w := &pipeWriter{header: http.Header{}, to: to, begun: make(chan struct{})}
	stop := context.AfterFunc(r.Context(), func() { _ = from.CloseWithError(r.Context().Err()) })
	go func() {
		defer stop()
		defer func() {
			if recover() != nil { // http.ErrAbortHandler
				w.WriteHeader(http.StatusOK)
				_ = to.CloseWithError(io.ErrUnexpectedEOF)
			}
		}()
		d.handler.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		_ = to.Close()
	}()
	select {
	case <-w.begun:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: from, ContentLength: -1, Request: r,
	}, nil
}

// A pipeWriter is the writer of an answer that goes through a pipe.
type pipeWriter struct {
	header, sent http.Header
	status       int
	to           *io.PipeWriter
	once         sync.Once
	begun        chan struct{}
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.to.Write(p)
}

func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

// A sdk calls a model by an SDK.
type sdk struct {
	name string
	// call returns the text of the answer. each is called for each piece of a stream, if
	// the answer is streamed; it may be left.
	call func(ctx context.Context, stream bool, each func() (stay bool)) (string, error)
	// limited reports whether err is a rate limit error of the SDK, and returns the refusal
	// if the SDK's error has the answer.
	limited func(err error) (exceeded *zael.ExceededError, ok bool)
	retries bool // by itself
}

var errLeft = errors.New("left in the middle")

const prompt = "Tell me something that I have not heard, please."

// A middleware is what openai-go and anthropic-sdk-go take.
type middleware = func(*http.Request, func(*http.Request) (*http.Response, error)) (*http.Response, error)

// through is a transport through a middleware.
type through struct {
	middleware middleware
	base       http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t through) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.middleware(r, t.base.RoundTrip)
}

// sdks returns all of them, as clients of a provider through limits.
func sdks(t *testing.T, limit middleware, provider http.Handler) []sdk {
	t.Helper()
	plain := &http.Client{Transport: direct{provider}}
	oai := openai.NewClient(option.WithAPIKey("key"), option.WithBaseURL("http://provider/v1/"), option.WithHTTPClient(plain), option.WithMiddleware(limit))
	oaiLimited := func(err error) (*zael.ExceededError, bool) {
		e, ok := errors.AsType[*openai.Error](err)
		if !ok || e.StatusCode != http.StatusTooManyRequests || e.Code != "rate_limit_exceeded" {
			return nil, false
		}
		return refusal(e.Response), true
	}
	claude := anthropic.NewClient(anthropicoption.WithAPIKey("key"), anthropicoption.WithBaseURL("http://provider/"), anthropicoption.WithHTTPClient(plain), anthropicoption.WithMiddleware(limit))
	gemini, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		APIKey: "key", Backend: genai.BackendGeminiAPI, HTTPClient: &http.Client{Transport: through{limit, direct{provider}}},
		HTTPOptions: genai.HTTPOptions{BaseURL: "http://provider"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return []sdk{
		{"openai chat", func(ctx context.Context, stream bool, each func() bool) (string, error) {
			return openAIChat(ctx, &oai, stream, each)
		}, oaiLimited, true},
		{"openai responses", func(ctx context.Context, stream bool, each func() bool) (string, error) {
			return openAIResponses(ctx, &oai, stream, each)
		}, oaiLimited, true},
		{"anthropic", func(ctx context.Context, stream bool, each func() bool) (string, error) {
			return anthropicMessages(ctx, &claude, stream, each)
		}, func(err error) (*zael.ExceededError, bool) {
			e, ok := errors.AsType[*anthropic.Error](err)
			if !ok || e.StatusCode != http.StatusTooManyRequests || e.Type() != "rate_limit_error" {
				return nil, false
			}
			return refusal(e.Response), true
		}, true},
		{"genai", func(ctx context.Context, stream bool, each func() bool) (string, error) {
			return geminiContent(ctx, gemini, stream, each)
		}, func(err error) (*zael.ExceededError, bool) {
			e, ok := errors.AsType[genai.APIError](err)
			return nil, ok && e.Code == http.StatusTooManyRequests && e.Status == "RESOURCE_EXHAUSTED"
		}, false},
	}
}

func refusal(res *http.Response) *zael.ExceededError {
	exceeded, _ := llm.Refusal(res)
	return exceeded
}

func openAIChat(ctx context.Context, c *openai.Client, stream bool, each func() bool) (text string, err error) {
	params := openai.ChatCompletionNewParams{
		Model: "gpt-4o", MaxCompletionTokens: openai.Int(500), Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
	}
	if !stream {
		got, err := c.Chat.Completions.New(ctx, params)
		if err != nil {
			return "", err
		}
		return got.Choices[0].Message.Content, nil
	}
	s := c.Chat.Completions.NewStreaming(ctx, params)
	defer func() { _ = s.Close() }()
	for s.Next() {
		chunk := s.Current()
		if len(chunk.Choices) != 1 {
			return text, errors.New("a chunk without a choice is not hidden")
		}
		text += chunk.Choices[0].Delta.Content
		if !each() {
			return text, errLeft
		}
	}
	return text, s.Err()
}

func openAIResponses(ctx context.Context, c *openai.Client, stream bool, each func() bool) (text string, err error) {
	params := responses.ResponseNewParams{
		Model: "gpt-4o", MaxOutputTokens: openai.Int(500), Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(prompt)},
	}
	if !stream {
		got, err := c.Responses.New(ctx, params)
		if err != nil {
			return "", err
		}
		return got.OutputText(), nil
	}
	s := c.Responses.NewStreaming(ctx, params)
	defer func() { _ = s.Close() }()
	for s.Next() {
		if delta, ok := s.Current().AsAny().(responses.ResponseTextDeltaEvent); ok {
			text += delta.Delta
			if !each() {
				return text, errLeft
			}
		}
	}
	return text, s.Err()
}

func anthropicMessages(ctx context.Context, c *anthropic.Client, stream bool, each func() bool) (text string, err error) {
	params := anthropic.MessageNewParams{
		Model: "claude", MaxTokens: 500, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(prompt))},
	}
	if !stream {
		got, err := c.Messages.New(ctx, params)
		if err != nil {
			return "", err
		}
		return got.Content[0].Text, nil
	}
	s := c.Messages.NewStreaming(ctx, params)
	defer func() { _ = s.Close() }()
	for s.Next() {
		if event := s.Current(); event.Type == "content_block_delta" {
			text += event.Delta.Text
			if !each() {
				return text, errLeft
			}
		}
	}
	return text, s.Err()
}

func geminiContent(ctx context.Context, c *genai.Client, stream bool, each func() bool) (text string, err error) {
	config := &genai.GenerateContentConfig{MaxOutputTokens: 500}
	if !stream {
		got, err := c.Models.GenerateContent(ctx, "gemini", genai.Text(prompt), config)
		if err != nil {
			return "", err
		}
		return got.Text(), nil
	}
	for got, err := range c.Models.GenerateContentStream(ctx, "gemini", genai.Text(prompt), config) {
		if err != nil {
			return text, err
		}
		text += got.Text()
		if !each() {
			return text, errLeft
		}
	}
	return text, nil
}

// limits returns those of a policy, in memory.
func limits(t *testing.T, policy *zael.Policy, config *llm.Config) (*zael.Limiter, *llm.Limits) {
	t.Helper()
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := llm.New(limiter, policy, llm.Fixed("team"), config)
	if err != nil {
		t.Fatal(err)
	}
	return limiter, l
}
