package llm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

// A following is a client in the time of a bubble, whose limits follow the provider's, and
// that provider.
type following struct {
	*world
	limits *llm.Limits

	mu     sync.Mutex
	answer func() *http.Response // of the provider
	sent   []time.Duration       // when calls arrived
	begin  time.Time
}

func follow(t *testing.T, config llm.Config) *following {
	t.Helper()
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &following{world: &world{Still: &limiters.Still{Limiter: limiter}, url: "http://provider"}, begin: time.Now()}
	config.FollowProvider = true
	f.limits = limits(t, f.world, policy(), &config)
	return f
}

// says sets what the provider answers from now on.
func (f *following) says(status int, body string, headers map[string]string) {
	f.answer = func() *http.Response {
		h := http.Header{}
		for name, value := range headers {
			h.Set(name, value)
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
	}
}

func (f *following) next(*http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, time.Since(f.begin))
	return f.answer(), nil
}

// call makes a call, and returns the refusal if it was not sent.
func (f *following) call(ctx context.Context, t *testing.T, path, body string) (*zael.ExceededError, error) {
	t.Helper()
	res, err := f.limits.Middleware(f.request(ctx, t, path, body), f.next)
	if err != nil {
		return nil, err
	}
	exceeded, _ := llm.Refusal(res)
	_, err = io.ReadAll(res.Body)
	return exceeded, errors.Join(err, res.Body.Close())
}

// families are answers of providers that keep calls like that of chatBody back, which need
// 6 tokens of input and 500 of output.
func families() map[string]struct {
	status  int
	headers map[string]string
	limit   string
	wait    time.Duration
} {
	type m = map[string]string
	date := time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC) // of the provider's clock, which is not ours
	return map[string]struct {
		status  int
		headers map[string]string
		limit   string
		wait    time.Duration
	}{
		"Retry-After":         {429, m{"Retry-After": "7"}, "provider", 7 * time.Second},
		"Retry-After-Ms":      {429, m{"Retry-After-Ms": "1500", "Retry-After": "2"}, "provider", 1500 * time.Millisecond},
		"Retry-After, a date": {429, m{"Date": date.Format(http.TimeFormat), "Retry-After": date.Add(9 * time.Second).Format(http.TimeFormat)}, "provider", 9 * time.Second},
		"Retry-After of 503":  {503, m{"Retry-After": "3"}, "provider", 3 * time.Second},
		"Retry-After of 529":  {529, m{"Retry-After": "4"}, "provider", 4 * time.Second},
		"for years":           {429, m{"Retry-After": "99999999999999999999"}, "provider", time.Hour},
		"X-RateLimit, seconds": {
			200,
			m{"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "12"},
			"provider", 12 * time.Second,
		},
		"X-RateLimit, epoch": {
			200,
			m{"Date": date.Format(http.TimeFormat), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(date.Unix() + 20)},
			"provider", 20 * time.Second,
		},
		"X-RateLimit, epoch in ms": {
			429,
			m{"Date": date.Format(http.TimeFormat), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(date.UnixMilli() + 2500)},
			"provider", 2500 * time.Millisecond,
		},
		"IETF, early drafts": {200, m{"RateLimit-Remaining": "0", "RateLimit-Reset": "8"}, "provider", 8 * time.Second},
		"IETF, draft 11": {
			200,
			m{"RateLimit-Policy": `"minute";q=100;w=60, "day";q=1000;w=86400`, "RateLimit": `"minute";r=0;t=11, "day";r=4;t=9000`},
			"provider", 11 * time.Second,
		},
		"OpenAI, requests": {
			200,
			m{"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0s"},
			"provider-requests", time.Second,
		},
		"OpenAI, tokens": { // 10 a second, of which 500 lack
			429,
			m{"x-ratelimit-limit-tokens": "1006", "x-ratelimit-remaining-tokens": "6", "x-ratelimit-reset-tokens": "1m40s"},
			"provider-tokens", 50 * time.Second,
		},
		"OpenAI, a limit below the call's need": {
			200,
			m{"x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "50", "x-ratelimit-reset-tokens": "500ms"},
			"provider-tokens", 500 * time.Millisecond,
		},
		"Anthropic, requests": {
			200, m{
				"Date": date.Format(http.TimeFormat), "anthropic-ratelimit-requests-limit": "10", "anthropic-ratelimit-requests-remaining": "0",
				"anthropic-ratelimit-requests-reset": date.Add(time.Minute).Format(time.RFC3339),
			}, "provider-requests", 6 * time.Second,
		},
		"Anthropic, tokens": {
			200, m{
				"Date": date.Format(http.TimeFormat), "anthropic-ratelimit-tokens-limit": "1000", "anthropic-ratelimit-tokens-remaining": "0",
				"anthropic-ratelimit-tokens-reset": date.Add(100 * time.Second).Format(time.RFC3339),
			}, "provider-tokens", 50600 * time.Millisecond,
		},
		"Anthropic, tokens of input": {
			200, m{
				"Date": date.Format(http.TimeFormat), "anthropic-ratelimit-input-tokens-limit": "1000", "anthropic-ratelimit-input-tokens-remaining": "0",
				"anthropic-ratelimit-input-tokens-reset": date.Add(1000 * time.Second).Format(time.RFC3339),
			}, "provider-input-tokens", 6 * time.Second,
		},
		"Anthropic, tokens of output": {
			429, m{
				"Date": date.Format(http.TimeFormat), "anthropic-ratelimit-output-tokens-limit": "1000", "anthropic-ratelimit-output-tokens-remaining": "0",
				"anthropic-ratelimit-output-tokens-reset": date.Add(100 * time.Second).Format(time.RFC3339), "retry-after": "2",
			}, "provider-output-tokens", 50 * time.Second,
		},
		"nothing":      {429, m{}, "", 0},
		"enough":       {200, m{"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "1s", "RateLimit": `"m";r=3;t=9`}, "", 0},
		"no rate":      {200, m{"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "0"}, "", 0},
		"no numbers":   {429, m{"Retry-After": "soon", "RateLimit": `;;"r=0`, "X-RateLimit-Remaining": "-1", "X-RateLimit-Reset": "NaN"}, "", 0},
		"long past":    {429, m{"Date": date.Format(http.TimeFormat), "Retry-After": date.Add(-time.Hour).Format(http.TimeFormat)}, "", 0},
		"of a success": {200, m{"Retry-After": "9"}, "", 0},
	}
}

// TestProviderLimitsBind: what the provider says keeps the next call back, for exactly as
// long as it says.
func TestProviderLimitsBind(t *testing.T) {
	t.Parallel()
	for name, c := range families() {
		synctest.Test(t, func(t *testing.T) {
			f := follow(t, llm.Config{})
			f.says(c.status, "{}", c.headers)
			if refused, err := f.call(t.Context(), t, chat, chatBody); refused != nil || err != nil {
				t.Fatalf("%s: the first call: %v, %v", name, refused, err)
			}
			f.says(200, "{}", nil)
			refused, err := f.call(t.Context(), t, chat, chatBody)
			if err != nil || (refused != nil) != (c.wait > 0) {
				t.Fatalf("%s: refused %v, error %v, want a wait of %s", name, refused, err, c.wait)
			}
			if refused == nil {
				return
			}
			got := refused.Primary()
			if got.Limit.Name != c.limit || got.RetryAfter.Round(time.Microsecond) != c.wait {
				t.Errorf("%s: %s refuses for %s, want %s for %s", name, got.Limit.Name, got.RetryAfter, c.limit, c.wait)
			}
			<-time.After(c.wait - time.Millisecond)
			if refused, _ := f.call(t.Context(), t, chat, chatBody); refused == nil {
				t.Errorf("%s: a call is sent 1 ms too early", name)
			}
			<-time.After(time.Millisecond + time.Microsecond)
			if refused, _ := f.call(t.Context(), t, chat, chatBody); refused != nil {
				t.Errorf("%s: refused when the wait is over: %v", name, refused)
			}
		})
	}
}

// TestProviderLimitsBindGemini: whose error says in its body when to call again. The
// caller reads it whole.
func TestProviderLimitsBindGemini(t *testing.T) {
	t.Parallel()
	const body = `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"a"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}`
	for _, text := range []string{body, "[" + body + "]", strings.Replace(body, "{", `{"padding":"`+strings.Repeat("x", 1<<20)+`",`, 1)} {
		synctest.Test(t, func(t *testing.T) {
			const path = "/models/g:generateContent"
			f := follow(t, llm.Config{})
			f.says(429, text, nil)
			res, err := f.limits.Middleware(f.request(t.Context(), t, path, "{}"), f.next)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(res.Body); err != nil || string(got) != text {
				t.Errorf("read %d bytes, error %v, want the %d that were sent", len(got), err, len(text))
			}
			_ = res.Body.Close()
			refused, err := f.call(t.Context(), t, path, "{}")
			if want := 34500 * time.Millisecond; err != nil || (len(text) < 1<<20) != (refused != nil) || refused != nil && refused.RetryAfter() != want {
				t.Errorf("refused %v, error %v, want %s", refused, err, want)
			}
		})
	}
}

// TestProviderLimitsAreTakenFrom: calls that were sent since the answer that told of them
// count, and those that wait go one after the other as the limit refills.
func TestProviderLimitsAreTakenFrom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, llm.Config{MaxWait: time.Minute})
		f.says(200, "{}", map[string]string{"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "58s"})
		if _, err := f.call(t.Context(), t, chat, chatBody); err != nil {
			t.Fatal(err)
		}
		f.says(200, "{}", nil)
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				if refused, err := f.call(t.Context(), t, chat, chatBody); refused != nil || err != nil {
					t.Errorf("refused %v, error %v", refused, err)
				}
			})
		}
		group.Wait()
		for i, want := range []float64{0, 0, 0, 1, 2, 3} {
			if got := f.sent[i].Round(time.Millisecond).Seconds(); got != want {
				t.Errorf("calls were sent at %v, want call %d at %v s", f.sent, i, want)
			}
		}
	})
}

// TestProviderLimitsCountCallsInFlight: an answer tells how limits stood when its call was
// sent; the calls that were sent since have taken of that.
func TestProviderLimitsCountCallsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, llm.Config{})
		heard := make(chan struct{})
		f.says(200, "{}", map[string]string{"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "2", "x-ratelimit-reset-requests": "5800s"})
		first := make(chan error)
		go func() {
			_, err := pass(f.limits, f.request(t.Context(), t, chat, chatBody), func(r *http.Request) (*http.Response, error) {
				<-heard
				return f.next(r)
			})
			first <- err
		}()
		synctest.Wait()
		lost := errors.New("lost")
		_, err := pass(f.limits, f.request(t.Context(), t, chat, chatBody), func(r *http.Request) (*http.Response, error) {
			httptrace.ContextClientTrace(r.Context()).WroteHeaders() // it was sent
			close(heard)
			return nil, errors.Join(<-first, lost) // after the first was answered
		})
		if !errors.Is(err, lost) {
			t.Error(err)
		}
		f.says(200, "{}", nil)
		for i := range 2 { // one of two is left
			if refused, err := f.call(t.Context(), t, chat, chatBody); err != nil || (refused != nil) != (i > 0) {
				t.Errorf("call %d: refused %v, error %v", i, refused, err)
			}
		}
	})
}

// TestProviderRefusalsTakeNothing: of our limits; a call that leaves the line gives back
// what it has taken, and one that was not sent has taken nothing of the provider's.
func TestProviderRefusalsTakeNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, llm.Config{MaxWait: 10 * time.Second})
		f.says(429, "{}", map[string]string{"Retry-After": "20", "x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9000s"})
		used := func(requests, tokens int64) {
			t.Helper()
			if got, want := [2]int64{1000 - f.left(t, policy(), "rpm"), 100_000 - f.left(t, policy(), "tpm")}, [2]int64{requests, tokens}; got != want {
				t.Errorf("used %v, want %v", got, want)
			}
		}
		_, _ = f.call(t.Context(), t, chat, chatBody)
		used(1, 0)
		if refused, err := f.call(t.Context(), t, chat, chatBody); refused == nil || err != nil {
			t.Errorf("refused %v, error %v", refused, err)
		}
		used(1, 0)
		<-time.After(12 * time.Second) // 8 s are left
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := f.call(ctx, t, chat, chatBody)
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: error %v", err)
		}
		<-time.After(8 * time.Second)
		used(0, 0)
		unsent := errors.New("no connection")
		for range 2 { // the provider has one
			_, err := pass(f.limits, f.request(t.Context(), t, chat, chatBody), func(*http.Request) (*http.Response, error) { return nil, unsent })
			if !errors.Is(err, unsent) {
				t.Errorf("error %v, want that of the network", err)
			}
		}
	})
}

// TestProviderLimitsAreThoseOfAnAccount: another model, key or host, and limits that do
// not follow, are not bound; and no more than the last accounts are remembered.
func TestProviderLimitsAreThoseOfAnAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, llm.Config{})
		sent := func(url, key, model string) bool {
			t.Helper()
			f.url = url
			r := f.request(t.Context(), t, chat, strings.Replace(chatBody, "gpt-4o", model, 1))
			r.Header.Set("Authorization", "Bearer "+key)
			before := len(f.sent)
			if _, err := pass(f.limits, r, f.next); err != nil {
				t.Fatal(err)
			}
			return len(f.sent) > before
		}
		f.says(429, "{}", map[string]string{"Retry-After": "60"})
		sent("http://a", "1", "m")
		f.says(200, "{}", nil)
		for _, c := range []struct {
			url, key, model string
			want            bool
		}{{"http://a", "1", "m", false}, {"http://a", "1", "n", true}, {"http://a", "2", "m", true}, {"http://b", "1", "m", true}} {
			if got := sent(c.url, c.key, c.model); got != c.want {
				t.Errorf("%+v: sent %v", c, got)
			}
		}
		f.limits = limits(t, f.world, policy(), nil)
		if !sent("http://a", "1", "m") {
			t.Error("limits that do not follow are bound")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, llm.Config{})
		f.limits = limits(t, f.world, zael.MustPolicy("m", zael.Unlimited("rpm")), &llm.Config{FollowProvider: true})
		f.says(429, "{}", map[string]string{"Retry-After": "60"})
		for i := range 2002 {
			_, _ = f.call(t.Context(), t, chat, strings.Replace(chatBody, "gpt-4o", fmt.Sprint("m", i), 1))
		}
		if refused, _ := f.call(t.Context(), t, chat, strings.Replace(chatBody, "gpt-4o", "m2001", 1)); refused == nil {
			t.Error("the last account is forgotten")
		}
		if refused, _ := f.call(t.Context(), t, chat, strings.Replace(chatBody, "gpt-4o", "m0", 1)); refused != nil {
			t.Error("the first of many accounts is not forgotten")
		}
	})
}
