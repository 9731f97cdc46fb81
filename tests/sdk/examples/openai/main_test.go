package main

import (
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openai/openai-go/v3/option"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
)

// runOn runs the example on a provider.
func runOn(t *testing.T, policy *zael.Policy, provider fakellm.Provider) (string, error) {
	t.Helper()
	server := httptest.NewServer(provider)
	defer server.Close()
	var out strings.Builder
	err := run(t.Context(), policy, []string{"One?", "Two?", "Three?"}, &out, option.WithAPIKey("key"), option.WithBaseURL(server.URL+"/v1/"))
	return out.String(), err
}

// Answers come in streams, after a call that fails and is sent again, and settle to what
// the provider reports.
func TestAnswers(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	provider := fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		if calls.Add(1) == 1 {
			return fakellm.Answer{Status: 503}
		}
		return fakellm.Answer{Chunks: []string{"An ", "answer."}, Input: 20, Output: 5}
	})
	out, err := runOn(t, zael.MustPolicy("gpt-4o-mini", zael.PerHour("rph", 60), zael.EachDay("tpd", 40_000)), provider)
	if want := "One?\n\tAn answer.\nTwo?\n\tAn answer.\nThree?\n\tAn answer.\nleft: rph=56 tpd=39925\n"; err != nil || out != want {
		t.Errorf("wrote %q, error %v, want %q", out, err, want)
	}
}

// A stream that breaks off is an error, and settles to what was seen.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	provider := fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		return fakellm.Answer{Chunks: []string{"A beginning ", "and an end."}, Input: 20, Output: 5, Before: func(chunk int) bool { return chunk < 1 }}
	})
	out, err := runOn(t, zael.MustPolicy("gpt-4o-mini", zael.EachDay("tpd", 40_000)), provider)
	if err == nil || !strings.Contains(out, "One?\n\tA beginning \n") || !strings.Contains(out, "left: tpd=39988") {
		t.Errorf("wrote %q, error %v", out, err)
	}
}

// A refusal names the limit. It is not sent again, as no wait helps.
func TestRefusal(t *testing.T) {
	t.Parallel()
	provider := fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		t.Error("a call was sent")
		return fakellm.Answer{}
	})
	if _, err := runOn(t, zael.MustPolicy("gpt-4o-mini", zael.Block("rpm")), provider); err == nil || !strings.Contains(err.Error(), "rpm refuses") {
		t.Errorf("error %v", err)
	}
}
