package httplimit_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/httplimit"
)

var chat = zael.MustPolicy("chat", zael.PerMinute("rpm", 60), zael.PerMinute("tpm", 6000), zael.PerMinute("itpm", 3000), zael.PerMinute("other", 60))

// chatAnswer is the answer to the first request, of 1 rpm, 1500 tpm and 2000 itpm.
func chatAnswer(t *testing.T, headers httplimit.Headers) http.Header {
	t.Helper()
	cost := func(*http.Request) (zael.Amounts, error) { return zael.Amounts{"tpm": 1500, "itpm": 2000}, nil }
	return get(middleware(t, setup(t), chat, httplimit.Fixed("all"), &httplimit.Config{Headers: headers, Cost: cost}).Handler(hello), client).Header()
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		headers httplimit.Headers
		want    map[string]string
		not     []string
	}{
		{httplimit.XRateLimit, map[string]string{ // of the limit with the least share left
			"X-RateLimit-Limit": "3000", "X-RateLimit-Remaining": "1000", "X-RateLimit-Reset": "40",
		}, []string{"RateLimit", "Retry-After"}},
		{httplimit.RateLimitDraft11, map[string]string{
			"RateLimit-Policy": `"rpm";q=60;w=60, "tpm";q=6000;w=60, "itpm";q=3000;w=60, "other";q=60;w=60`,
			"RateLimit":        `"rpm";r=59;t=1, "tpm";r=4500;t=15, "itpm";r=1000;t=40, "other";r=59;t=1`,
		}, []string{"X-RateLimit-Limit"}},
		{httplimit.OpenAI, map[string]string{
			"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
			"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "4500", "x-ratelimit-reset-tokens": "15s",
		}, []string{"X-RateLimit-Limit"}},
		{httplimit.Anthropic, map[string]string{
			"anthropic-ratelimit-requests-limit": "60", "anthropic-ratelimit-requests-remaining": "59",
			"anthropic-ratelimit-input-tokens-limit": "3000", "anthropic-ratelimit-input-tokens-remaining": "1000",
		}, []string{"X-RateLimit-Limit"}},
		{httplimit.NoHeaders, nil, []string{"X-RateLimit-Limit", "RateLimit", "RateLimit-Policy"}},
	} {
		got := chatAnswer(t, c.headers)
		for name, value := range c.want {
			if got.Get(name) != value {
				t.Errorf("%d: %s: got %q, want %q", c.headers, name, got.Get(name), value)
			}
		}
		for _, name := range c.not {
			if got.Get(name) != "" {
				t.Errorf("%d: %s: got %q, want none", c.headers, name, got.Get(name))
			}
		}
	}
}

// Anthropic's resets are times.
// TestAIGateway1754RemainingHeadersDoNotFall: also APISIX 13049, headers have names that no
// client reads. What is left falls with each request, under the names of each family.
func TestAIGateway1754RemainingHeadersDoNotFall(t *testing.T) {
	t.Parallel()
	policy := zael.MustPolicy("chat", zael.PerMinute("rpm", 60))
	for headers, c := range map[httplimit.Headers]struct {
		name string
		want []string
	}{
		httplimit.XRateLimit:       {"X-RateLimit-Remaining", []string{"59", "58", "57"}},
		httplimit.RateLimitDraft11: {"RateLimit", []string{`"rpm";r=59;t=1`, `"rpm";r=58;t=2`, `"rpm";r=57;t=3`}},
		httplimit.OpenAI:           {"x-ratelimit-remaining-requests", []string{"59", "58", "57"}},
		httplimit.Anthropic:        {"anthropic-ratelimit-requests-remaining", []string{"59", "58", "57"}},
	} {
		handler := middleware(t, setup(t), policy, httplimit.Fixed("all"), &httplimit.Config{Headers: headers}).Handler(hello)
		for i, want := range c.want {
			if got := get(handler, client).Header().Get(c.name); got != want {
				t.Errorf("request %d: %s: got %q, want %q", i+1, c.name, got, want)
			}
		}
	}
}

func TestResetTime(t *testing.T) {
	t.Parallel()
	before := time.Now()
	got, err := time.Parse(time.RFC3339, chatAnswer(t, httplimit.Anthropic).Get("anthropic-ratelimit-tokens-reset"))
	after := time.Now()
	if err != nil || got.Before(before.Add(15*time.Second)) || got.After(after.Add(17*time.Second)) {
		t.Errorf("got %v, %v, want 15 s from %v, rounded up", got, err, before)
	}
}

// The headers of the draft are structured fields, for every name that a limit can have.
func TestDraftIsStructured(t *testing.T) {
	t.Parallel()
	w := setup(t)
	policy := zael.MustPolicy("api", zael.Limit{Name: "A/b.c_d-9", RefillAmount: 1e15, RefillPeriod: 366 * 24 * time.Hour}, zael.PerDay("n", 1))
	h := middleware(t, w, policy, httplimit.Fixed("all"), &httplimit.Config{Headers: httplimit.RateLimitDraft11}).Handler(hello)
	for range 2 { // served, and refused
		got := get(h, client).Header()
		for name, parameters := range map[string][]string{"RateLimit-Policy": {"q", "w"}, "RateLimit": {"r", "t"}} {
			list, err := httpsfv.UnmarshalList(got.Values(name))
			if err != nil || len(list) != 2 {
				t.Fatalf("%s: %q: got %v, %v, want two members", name, got.Get(name), list, err)
			}
			for i, member := range list {
				item, ok := member.(httpsfv.Item)
				if !ok || item.Value != policy.Names()[i] || !slices.Equal(item.Params.Names(), parameters) {
					t.Errorf("%s: got %+v, want %s with %v", name, member, policy.Names()[i], parameters)
				}
			}
		}
	}
}
