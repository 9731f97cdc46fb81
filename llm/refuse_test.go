package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

// once is a policy that admits one call, and another in 30 s.
func once() *zael.Policy {
	return zael.MustPolicy("model", zael.PerMinute("rpm", 2).WithBurst(1))
}

// TestRefusalsHaveTheProvidersForm: with the names that its SDKs look for.
func TestRefusalsHaveTheProvidersForm(t *testing.T) {
	t.Parallel()
	for name, call := range shapes() {
		w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 1, Output: 1}))
		c := client(t, limits(t, w, once(), nil))
		w.all(t, c, call[0], call[1])
		w.Forward(500 * time.Microsecond)
		res := w.post(context.Background(), t, c, call[0], call[1])
		var got struct {
			Type    string `json:"type"`
			Message string `json:"message"`
			Error   struct {
				Type    string `json:"type"`
				Code    any    `json:"code"`
				Status  string `json:"status"`
				Message string `json:"message"`
				Details []struct {
					RetryDelay string `json:"retryDelay"`
				} `json:"details"`
			} `json:"error"`
		}
		err := json.NewDecoder(res.Body).Decode(&got)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusTooManyRequests {
			t.Fatalf("%s: status %d, error %v", name, res.StatusCode, err)
		}
		if after, ms := res.Header.Get("Retry-After"), res.Header.Get("Retry-After-Ms"); after != "30" || ms != "30000" {
			t.Errorf("%s: Retry-After %q, Retry-After-Ms %q, want 30 and 30000", name, after, ms)
		}
		if v := res.Header.Get("X-Should-Retry"); v != "" {
			t.Errorf("%s: x-should-retry %q", name, v)
		}
		var ok bool
		message := got.Error.Message
		switch api, _, _ := strings.Cut(name, " "); api {
		case "anthropic":
			ok = got.Type == "error" && got.Error.Type == "rate_limit_error"
		case "gemini":
			ok = got.Error.Code == 429.0 && got.Error.Status == "RESOURCE_EXHAUSTED" && got.Error.Details[0].RetryDelay == "30.000s"
		case "converse", "invoke":
			ok, message = res.Header.Get("X-Amzn-Errortype") == "ThrottlingException", got.Message
		default:
			ok = got.Error.Code == "rate_limit_exceeded" && got.Error.Type == "rate_limit_exceeded"
		}
		if !ok || !strings.Contains(message, "rpm on model") || strings.Contains(message, "team") {
			t.Errorf("%s: refused with %+v", name, got)
		}
		if exceeded, ok := llm.Refusal(res); !ok || exceeded.Primary().Limit.Name != "rpm" {
			t.Errorf("%s: Refusal = %v, %v", name, exceeded, ok)
		}
	}
	if _, ok := llm.Refusal(&http.Response{}); ok {
		t.Error("Refusal of an answer of the provider")
	}
}

// TestPointlessRetriesAreForbidden: where the wait is longer than the caller has, or no
// wait helps, and where a switch turns the call off.
func TestPointlessRetriesAreForbidden(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 1, Output: 1}))
	p := once()
	c := client(t, limits(t, w, p, nil))
	w.all(t, c, chat, chatBody)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	check := func(ctx context.Context, c *http.Client, status int, after bool) {
		t.Helper()
		res := w.post(ctx, t, c, chat, chatBody)
		_ = res.Body.Close()
		if res.StatusCode != status || res.Header.Get("X-Should-Retry") != "false" || (res.Header.Get("Retry-After-Ms") != "") != after {
			t.Errorf("status %d, %v", res.StatusCode, res.Header)
		}
	}
	check(ctx, c, http.StatusTooManyRequests, true)
	check(context.Background(), client(t, limits(t, w, zael.MustPolicy("b", zael.Block("rpm")), nil)), http.StatusTooManyRequests, false)

	off := zael.Scope{Entity: "team"}
	if err := w.SetSwitch(context.Background(), off, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	stored := zael.Must(zael.StoredPolicy("model", "rpm"))
	check(context.Background(), client(t, limits(t, w, stored, nil)), http.StatusForbidden, false)
}

// TestWaitInLine: a call waits for its turn, up to MaxWait and the caller's deadline.
func TestWaitInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{Still: &limiters.Still{Limiter: limiter}, url: "http://provider"}
		l := limits(t, w, once(), &llm.Config{MaxWait: time.Minute})
		sent := 0
		next := func(*http.Request) (*http.Response, error) {
			sent++
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, nil
		}
		begin := time.Now()
		for i := range 3 {
			status, err := pass(l, w.request(t.Context(), t, chat, chatBody), next)
			if got, want := time.Since(begin).Round(time.Second), time.Duration(i)*30*time.Second; err != nil || status != http.StatusOK || got != want {
				t.Errorf("call %d: status %d, error %v, after %s, want %s", i, status, err, got, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if status, err := pass(l, w.request(ctx, t, chat, chatBody), next); err != nil || status != http.StatusTooManyRequests {
			t.Errorf("beyond the deadline: status %d, error %v, want 429", status, err)
		}
		go cancel()
		<-ctx.Done()
		if _, err := pass(l, w.request(ctx, t, chat, chatBody), next); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: error %v", err)
		}
		if sent != 3 {
			t.Errorf("%d calls were sent, want 3", sent)
		}
	})
}

// TestRetryAfterMsIsRight: a call that is sent again after it is admitted, and not before.
func TestRetryAfterMsIsRight(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 100, Output: 400}))
	p := zael.MustPolicy("m", zael.PerMinute("tpm", 1000).WithBurst(600))
	c := client(t, limits(t, w, p, nil))
	w.all(t, c, chat, chatBody)
	res := w.post(context.Background(), t, c, chat, chatBody)
	_ = res.Body.Close()
	ms, err := strconv.Atoi(res.Header.Get("Retry-After-Ms"))
	if err != nil || ms < 1000 {
		t.Fatalf("Retry-After-Ms %d, error %v", ms, err)
	}
	w.Forward(time.Duration(ms-2) * time.Millisecond)
	if status, _ := w.all(t, c, chat, chatBody); status != http.StatusTooManyRequests {
		t.Errorf("2 ms before: status %d, want 429", status)
	}
	w.Forward(2 * time.Millisecond)
	if status, _ := w.all(t, c, chat, chatBody); status != http.StatusOK {
		t.Errorf("at the time: status %d, want 200", status)
	}
}

// TestErrorsOfLimits: what cannot be decided is an error of Go, not a refusal.
func TestErrorsOfLimits(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	noKey := llm.Must(llm.New(w.Limiter, policy(), llm.APIKey(), nil))
	if _, err := pass(noKey, w.request(context.Background(), t, chat, chatBody), nil); !isCallError(err) {
		t.Errorf("without a key: error %v, want a CallError", err)
	}
	empty := llm.Must(llm.New(w.Limiter, policy(), llm.Fixed(""), nil))
	if _, err := pass(empty, w.request(context.Background(), t, chat, chatBody), nil); !isCallError(err) {
		t.Errorf("with an empty key: error %v, want a CallError", err)
	}
	if _, err := pass(new(llm.Limits), w.request(context.Background(), t, chat, chatBody), nil); !isCallError(err) {
		t.Errorf("zero Limits: error %v, want a CallError", err)
	}
	none := limits(t, w, policy(), &llm.Config{Policy: func(*llm.Call) (*zael.Policy, error) { return nil, nil }}) //nolint:nilnil // the mistake that is tested
	if _, err := pass(none, w.request(context.Background(), t, chat, chatBody), nil); !isCallError(err) {
		t.Errorf("no policy: error %v, want a CallError", err)
	}
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := pass(limits(t, w, policy(), nil), w.request(context.Background(), t, chat, chatBody), nil); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

func isCallError(err error) bool {
	_, ok := errors.AsType[*llm.CallError](err)
	return ok
}

// TestAPIKey: keys are told apart, hashed, and the key of a signature for AWS is that of
// the signer, not of the signature.
func TestAPIKey(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	key := func(header, value, query string) string {
		r := w.request(context.Background(), t, "/models/g:generateContent"+query, "{}")
		if header != "" {
			r.Header.Set(header, value)
		}
		key, err := llm.APIKey()(r)
		if err != nil {
			t.Errorf("%s: error %v", header, err)
		}
		if len(key) != 32 || strings.Contains(key, "secret") {
			t.Errorf("%s: key %q is not a hash", header, key)
		}
		return key
	}
	same := key("Authorization", "Bearer secret", "")
	for _, other := range []string{key("X-Api-Key", "secret", ""), key("Api-Key", "secret", ""), key("X-Goog-Api-Key", "secret", ""), key("", "", "?key=secret")} {
		if other != same {
			t.Errorf("key %s, want %s", other, same)
		}
	}
	if key("Authorization", "Bearer secret2", "") == same {
		t.Error("two keys are one")
	}
	aws := func(id, signature string) string {
		return key("Authorization", "AWS4-HMAC-SHA256 Credential="+id+"/20260113/r/bedrock/aws4_request, SignedHeaders=host, Signature="+signature, "")
	}
	if aws("A", "1") != aws("A", "2") || aws("A", "1") == aws("B", "1") {
		t.Error("the key of a signed request is not the signer's")
	}
}
