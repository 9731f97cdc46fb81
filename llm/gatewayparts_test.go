package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

// TestListingAndOther: calls that only a program of its own knows take a request, and tokens
// by bytes if they are of unknown form, read or not.
func TestListingAndOther(t *testing.T) {
	t.Parallel()
	w := setup(t, http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(out, strings.Repeat("a", 4000))
	}))
	p := policy()
	api := llm.Listing
	l := limits(t, w, p, &llm.Config{Recognize: func(*http.Request) (llm.API, string) { return api, "" }})
	c := client(t, l)
	if status, _ := w.all(t, c, "/v1/models", ""); status != 200 {
		t.Fatalf("status %d", status)
	}
	w.checkUsed(t, p, 1, 0, 0)
	api = llm.Other
	body := `{"model":"m","text":"` + strings.Repeat("b", 777) + `"}` // 800 bytes
	if status, _ := w.all(t, c, "/v1/rerank", body); status != 200 {
		t.Fatalf("status %d", status)
	}
	w.checkUsed(t, p, 2, 200, 1000)
	r := w.request(context.Background(), t, "/v1/files", "")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("c", 2000))), -1
	r.Header.Set("Content-Type", "multipart/form-data")
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	if cerr := res.Body.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	w.checkUsed(t, p, 3, 700, 2000)
}

// TestModelTwice: which of two models counts depends on the server, so none may.
func TestModelTwice(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{}))
	c := client(t, limits(t, w, policy(), nil))
	for _, body := range []string{`{"model":"a","model":"b"}`, `{"model":"a","MODEL":"b"}`, `{"mod\u0065l":"a","model":"a"}`} {
		res, err := c.Do(w.request(context.Background(), t, chat, body))
		if err == nil {
			_ = res.Body.Close()
		}
		if _, ok := errors.AsType[*llm.CallError](err); !ok {
			t.Errorf("%s: error %v", body, err)
		}
	}
	w.checkUsed(t, policy(), 0, 0, 0)
}

// TestAcquireAndPrice: a program may take the lease, and say what a model costs.
func TestAcquireAndPrice(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Input: 10, Output: 20}))
	p := zael.MustPolicy("model", zael.PerMinute("rpm", 10), zael.EachMonth("usd", llm.Dollar))
	unpriced := errors.New("no price")
	api := llm.OpenAIChat
	l := limits(t, w, p, &llm.Config{
		Prices:    map[string]llm.Price{"": {Input: 900 * llm.Dollar}},
		Recognize: func(*http.Request) (llm.API, string) { return api, "" },
		Price: func(call *llm.Call) (llm.Price, error) {
			if call.Model != "gpt-4o" {
				return llm.Price{}, unpriced
			}
			return llm.Price{Input: llm.Dollar, Output: 2 * llm.Dollar}, nil
		},
		Acquire: func(ctx context.Context, call *llm.Call, req zael.Request) (*zael.Lease, error) {
			if call.API == llm.OpenAIChat && call.Model != "gpt-4o" {
				t.Errorf("asked for %q", call.Model)
			}
			req.Parent = "org"
			return w.Acquire(ctx, req)
		},
	})
	c := client(t, l)
	if status, _ := w.all(t, c, chat, chatBody); status != 200 {
		t.Fatalf("status %d", status)
	}
	_, err := c.Do(w.request(context.Background(), t, chat, strings.Replace(chatBody, "gpt-4o", "o1", 1))) //nolint:bodyclose // there is none
	if !errors.Is(err, unpriced) {
		t.Errorf("a model without a price: error %v", err)
	}
	api = llm.Listing // costs nothing
	if status, _ := w.all(t, c, "/v1/models", ""); status != 200 {
		t.Fatalf("status %d", status)
	}
	for _, entity := range []string{"team", "org"} {
		a, err := w.Available(context.Background(), zael.Query{Entity: entity, Policy: p})
		if err != nil || a["usd"] != llm.Dollar-50 || a["rpm"] != 8 {
			t.Errorf("%s has %v left, error %v", entity, a, err)
		}
	}
}

// TestFailure: errors of a gateway have the form of the provider's.
func TestFailure(t *testing.T) {
	t.Parallel()
	r := setup(t, nil).request(context.Background(), t, chat, "")
	for status, want := range map[int][4]string{
		400: {"invalid_request", "invalid_request_error", "INVALID_ARGUMENT", "ValidationException"},
		401: {"invalid_api_key", "authentication_error", "UNAUTHENTICATED", "UnrecognizedClientException"},
		403: {"permission_denied", "permission_error", "PERMISSION_DENIED", "AccessDeniedException"},
		404: {"not_found", "not_found_error", "NOT_FOUND", "ResourceNotFoundException"},
		413: {"request_too_large", "request_too_large", "INVALID_ARGUMENT", "ValidationException"},
		502: {"server_error", "api_error", "INTERNAL", "InternalServerException"},
		503: {"service_unavailable", "overloaded_error", "UNAVAILABLE", "ServiceUnavailableException"},
		504: {"timeout", "timeout_error", "DEADLINE_EXCEEDED", "ModelTimeoutException"},
	} {
		for i, api := range []llm.API{llm.Other, llm.Anthropic, llm.Gemini, llm.BedrockInvoke} {
			res := llm.Failure(r, api, status, `a "reason"`)
			var body struct {
				Message string `json:"message"`
				Error   struct {
					Message any `json:"message"`
					Code    any `json:"code"`
					Type    any `json:"type"`
					Status  any `json:"status"`
				} `json:"error"`
			}
			err := json.NewDecoder(res.Body).Decode(&body)
			_ = res.Body.Close()
			got := []any{body.Error.Code, body.Error.Type, body.Error.Status, res.Header.Get("X-Amzn-Errortype")}[i]
			message := body.Error.Message
			if api == llm.BedrockInvoke {
				message = body.Message
			}
			if err != nil || res.StatusCode != status || got != want[i] || message != `a "reason"` || (res.Header.Get("X-Should-Retry") == "false") != (status < 500) {
				t.Errorf("%d in the form of %v: %v with %q, %v, error %v", status, api, got, message, res.Header, err)
			}
		}
	}
	refused := llm.Refuse(r, llm.Anthropic, zael.NewExceededError(zael.Status{Limit: zael.PerMinute("rpm", 1), Requested: 1, Exceeded: true, RetryAfter: time.Second}))
	defer func() { _ = refused.Body.Close() }()
	if _, ok := llm.Refusal(refused); !ok || refused.StatusCode != http.StatusTooManyRequests || refused.Header.Get("Retry-After") != "1" {
		t.Errorf("a refusal: %v", refused)
	}
	if unit, ok := llm.UnitOf("itpm"); !ok || unit != llm.InputTokens {
		t.Errorf("itpm counts %v", unit)
	}
	if _, ok := llm.UnitOf("things"); ok {
		t.Error("things tells what it counts")
	}
}
