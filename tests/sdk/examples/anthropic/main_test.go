package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

// runOn runs the example on a provider.
func runOn(t *testing.T, policy *zael.Policy, answer fakellm.Answer) (string, error) {
	t.Helper()
	server := httptest.NewServer(fakellm.Provider(func(*fakellm.Request) fakellm.Answer { return answer }))
	defer server.Close()
	var out strings.Builder
	err := run(t.Context(), policy, []string{"One?", "Two?", "Three?"}, &out, option.WithAPIKey("key"), option.WithBaseURL(server.URL))
	return out.String(), err
}

// Each answer costs what the provider reports, until the budget refuses.
func TestBudget(t *testing.T) {
	t.Parallel()
	policy := zael.MustPolicy("m", zael.FromFirstUse("usd", 0.03*llm.Dollar, 1<<40))
	out, err := runOn(t, policy, fakellm.Answer{Chunks: []string{"An ", "answer."}, Input: 1000, Cached: 400, Output: 900})
	if want := "1000 tokens in, 900 out\nAn answer.\n"; out != want { // 15,420 micro-dollars; the next may cost 15,000 for its output
		t.Errorf("wrote %q, want %q", out, want)
	}
	if err == nil || !strings.Contains(err.Error(), "usd refuses") {
		t.Errorf("error %v", err)
	}
}

// An answer that breaks off is an error, and is paid for by what was seen.
func TestBrokenAnswer(t *testing.T) {
	t.Parallel()
	out, err := runOn(t, zael.MustPolicy("m", zael.PerDay("otpd", 10_000)), fakellm.Answer{Chunks: []string{"An ", "answer."}, Input: 1000, Output: 900, Cut: true})
	if err == nil || strings.Contains(out, "answer") || !strings.Contains(out, " tokens in") {
		t.Errorf("wrote %q, error %v", out, err)
	}
}
