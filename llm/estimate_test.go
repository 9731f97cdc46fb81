package llm_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

// reserved returns what a call takes before it is answered.
func reserved(t *testing.T, w *world, l *llm.Limits, p *zael.Policy, path, body string) (input, output int64) {
	t.Helper()
	before := [2]int64{w.left(t, p, "itpm"), w.left(t, p, "otpm")}
	none := errors.New("not sent")
	_, err := pass(l, w.request(context.Background(), t, path, body), func(*http.Request) (*http.Response, error) {
		input, output = before[0]-w.left(t, p, "itpm"), before[1]-w.left(t, p, "otpm")
		return nil, none
	})
	if !errors.Is(err, none) {
		t.Fatal(err)
	}
	return input, output
}

func TestEstimates(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("abcd", 100) // 100 tokens
	image := strings.Repeat("iVBORw0KGgo", 10_000)
	w := setup(t, nil)
	p := policy()
	l := limits(t, w, p, nil)
	for name, c := range map[string]struct {
		path, body    string
		input, output int64
	}{
		"maximum":          {chat, `{"model":"m","messages":[{"role":"user","content":"` + text + `"}],"max_completion_tokens":70}`, 100, 70},
		"no maximum":       {chat, `{"model":"m","messages":[{"role":"user","content":"` + text + `"}]}`, 100, 1000},
		"several":          {chat, `{"model":"m","n":3,"messages":[{"content":"` + text + `"}],"max_tokens":70}`, 100, 210},
		"escapes":          {chat, `{"messages":[{"content":"` + strings.Repeat(`\"\n\u4e2d`, 80) + `"}],"max_tokens":1}`, 100, 1},
		"data URL":         {chat, `{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + image + `"}},{"type":"text","text":"` + text + `"}]}],"max_tokens":1}`, 1100, 1},
		"anthropic image":  {"/v1/messages", `{"model":"c","max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + image + `"}}]}]}`, 1000, 9},
		"gemini image":     {"/models/g:generateContent", `{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"` + image + `"}}]}],"generationConfig":{"maxOutputTokens":9,"candidateCount":2}}`, 1000, 18},
		"text in data":     {"/v1/messages", `{"max_tokens":9,"messages":[{"content":[{"source":{"type":"text","data":"` + strings.Repeat("abc ", 100) + `"}}]}]}`, 100, 9},
		"embeddings":       {"/v1/embeddings", `{"input":["` + text + `","` + text + `"]}`, 200, 0},
		"tools":            {chat, `{"tools":["` + text[:398] + `"],"messages":[],"max_tokens":1}`, 100, 1},
		"not JSON":         {chat, text, 100, 1000},
		"form with a file": {"/v1/audio/transcriptions", `{}`, 0, 0},
	} {
		if input, output := reserved(t, w, l, p, c.path, c.body); input != c.input || output != c.output {
			t.Errorf("%s: reserved %d and %d, want %d and %d", name, input, output, c.input, c.output)
		}
	}
	tokens := limits(t, w, p, &llm.Config{MediaTokens: 250, DefaultOutput: 33, Tokens: func(model, text string) int64 {
		if model != "m" {
			t.Errorf("model %q", model)
		}
		return int64(len(strings.Fields(text)))
	}})
	body := `{"messages":[{"role":"user","content":[{"text":"one\ttwo three"},{"data":"` + image + `"}]}],"model":"m"}`
	if input, output := reserved(t, w, tokens, p, chat, body); input != 253 || output != 33 {
		t.Errorf("reserved %d and %d, want 253 and 33", input, output)
	}
}

// TestEstimatesAreLearned: prompts of numbers have more tokens than a quarter of their
// bytes, and answers are shorter than what is allowed.
func TestEstimatesAreLearned(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: []string{"short"}, Input: 1000, Output: 50}))
	p := policy()
	l := limits(t, w, p, nil)
	c := client(t, l)
	body := `{"messages":[{"content":"` + strings.Repeat("17, ", 500) + `"}],"max_tokens":4000}` // 500 tokens by its bytes
	if input, output := reserved(t, w, l, p, chat, body); input != 500 || output != 4000 {
		t.Errorf("reserved %d and %d at first, want 500 and 4000", input, output)
	}
	for range 20 {
		w.all(t, c, chat, body)
		w.Forward(time.Minute)
	}
	if input, output := reserved(t, w, l, p, chat, body); input < 950 || input > 1050 || output != 50 {
		t.Errorf("reserved %d and %d in the end, want about 1000 and 50", input, output)
	}
	if _, output := reserved(t, w, l, p, chat, strings.Replace(body, "4000", "20", 1)); output != 20 {
		t.Errorf("reserved %d of a call that allows 20", output)
	}
}

// TestCachedInput: it does not count, unless the user's function says so.
func TestCachedInput(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 1000, Cached: 600, Output: 200}))
	p := policy()
	w.all(t, client(t, limits(t, w, p, nil)), chat, chatBody)
	w.checkUsed(t, p, 1, 400, 200)
	w.Forward(time.Hour)
	half := func(_ *llm.Call, u llm.Usage) zael.Amounts {
		n := u.Input - u.CachedInput/2
		return zael.Amounts{"itpm": n, "tpm": n + u.Output}
	}
	w.all(t, client(t, limits(t, w, p, &llm.Config{Amounts: half})), chat, chatBody)
	w.checkUsed(t, p, 1, 700, 200)
}

// TestMoney: a budget is a limit that counts micro-dollars.
func TestMoney(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 1000, Cached: 600, Output: 201}))
	budget := zael.MustPolicy("budget", zael.EachMonth("usd", 1*llm.Dollar))
	prices := map[string]llm.Price{
		"gpt-4o": {Input: 2.50 * llm.Dollar, CachedInput: 1.25 * llm.Dollar, Output: 10 * llm.Dollar},
		"":       {Input: 0.15 * llm.Dollar, Output: 0.60 * llm.Dollar},
	}
	c := client(t, limits(t, w, budget, &llm.Config{Prices: prices}))
	spent := int64(0)
	check := func(body string, want int64) {
		t.Helper()
		if status, _ := w.all(t, c, chat, body); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		spent += want
		if got := llm.Dollar - w.left(t, budget, "usd"); got != spent {
			t.Errorf("spent %d micro-dollars, want %d", got, spent)
		}
	}
	check(chatBody, 400*5/2+600*5/4+201*10)
	check(strings.Replace(chatBody, "gpt-4o", "other", 1), (1000*15+201*60+99)/100) // rounded up

	delete(prices, "")
	none := limits(t, w, budget, &llm.Config{Prices: prices})
	_, err := pass(none, w.request(context.Background(), t, chat, strings.Replace(chatBody, "gpt-4o", "other", 1)), nil)
	if _, ok := errors.AsType[*llm.CallError](err); !ok || !strings.Contains(err.Error(), "Config.Prices") {
		t.Errorf("error %v, want a CallError that names Config.Prices", err)
	}
}

// TestPolicies: models have the policy of the table, of the function, or the one of New.
func TestPolicies(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 10, Output: 20}))
	mini := zael.MustPolicy("mini", zael.PerMinute("rpm", 1000), zael.PerMinute("gpu", 50))
	other := zael.MustPolicy("other", zael.PerMinute("rpm", 1000))
	p := policy()
	c := client(t, limits(t, w, p, &llm.Config{
		Models: map[string]*zael.Policy{"gpt-4o-mini": mini},
		Units:  map[string]llm.Unit{"gpu": llm.OutputTokens},
		Policy: func(call *llm.Call) (*zael.Policy, error) {
			if call.Model == "new" {
				return other, nil
			}
			return p, nil
		},
	}))
	for _, model := range []string{"gpt-4o-mini", "new", "gpt-4o"} {
		w.all(t, c, chat, strings.Replace(chatBody, "gpt-4o", model, 1))
	}
	w.checkUsed(t, p, 1, 10, 20)
	if got := 50 - w.left(t, mini, "gpu"); got != 20 {
		t.Errorf("gpu: used %d, want 20", got)
	}
	if got := 1000 - w.left(t, other, "rpm"); got != 1 {
		t.Errorf("other: used %d, want 1", got)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	p := policy()
	for field, err := range map[string]error{
		"limiter":               second(llm.New(nil, p, fixed, nil)),
		"policy":                second(llm.New(w.Limiter, nil, fixed, nil)),
		"key":                   second(llm.New(w.Limiter, p, nil, nil)),
		"policy \"budget\"":     second(llm.New(w.Limiter, zael.MustPolicy("m", zael.PerMinute("budget", 1)), fixed, nil)),
		"policy \"stored\"":     second(llm.New(w.Limiter, zael.Must(zael.StoredPolicy("stored")), fixed, nil)),
		"Config.MaxWait":        second(llm.New(w.Limiter, p, fixed, &llm.Config{MaxWait: -1})),
		"Config.Drain":          second(llm.New(w.Limiter, p, fixed, &llm.Config{Drain: -1})),
		"Config.MediaTokens":    second(llm.New(w.Limiter, p, fixed, &llm.Config{MediaTokens: -1})),
		"Config.DefaultOutput":  second(llm.New(w.Limiter, p, fixed, &llm.Config{DefaultOutput: -1})),
		"Config.Units[x]":       second(llm.New(w.Limiter, p, fixed, &llm.Config{Units: map[string]llm.Unit{"x": 99}})),
		"Config.Prices[gpt-4o]": second(llm.New(w.Limiter, p, fixed, &llm.Config{Prices: map[string]llm.Price{"gpt-4o": {Output: -1}}})),
		"Config.Models[gpt-4o]": second(llm.New(w.Limiter, p, fixed, &llm.Config{Models: map[string]*zael.Policy{"gpt-4o": nil}})),
	} {
		if _, ok := errors.AsType[*zael.ValidationError](err); !ok || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error %v, want a ValidationError that names it", field, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
