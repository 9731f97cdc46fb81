package llm_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

// The tests here are named after what users of gateways complain of.

// TestLiteLLM18730ConcurrentCallsPassATokenLimit: also Envoy AI Gateway 680.
func TestLiteLLM18730ConcurrentCallsPassATokenLimit(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	arrived := make(chan struct{})
	w := setup(t, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		if sent.Add(1) == 4 {
			close(arrived)
		}
		<-arrived // all that are admitted are in flight together
		return fakellm.Answer{Chunks: words(), Input: 10, Output: 500}
	}))
	p := zael.MustPolicy("m", zael.PerMinute("tpm", 2100)) // four calls of about 510
	c := client(t, limits(t, w, p, nil))
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { w.all(t, c, chat, chatBody) })
	}
	group.Wait()
	if sent.Load() != 4 || w.left(t, p, "tpm") != 2100-4*510 {
		t.Errorf("%d calls were sent, %d tokens are left", sent.Load(), w.left(t, p, "tpm"))
	}
}

// TestLiteLLM41610StreamingIsNotCounted: also Envoy AI Gateway 2394.
func TestLiteLLM41610StreamingIsNotCounted(t *testing.T) {
	t.Parallel()
	for name, call := range streams() {
		w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 30, Output: 200}))
		p := policy()
		w.all(t, client(t, limits(t, w, p, nil)), call[0], call[1])
		if got := 100_000 - w.left(t, p, "tpm"); got != 230 {
			t.Errorf("%s: %d tokens are counted, want 230", name, got)
		}
	}
}

// TestLiteLLM34728ResponsesSettleToNothing: the Responses API names its tokens otherwise.
func TestLiteLLM34728ResponsesSettleToNothing(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"false", "true"} {
		w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 30, Cached: 10, Output: 200}))
		p := policy()
		w.all(t, client(t, limits(t, w, p, nil)), "/v1/responses", `{"model":"gpt-4o","stream":`+stream+`,"input":"Tell me something."}`)
		w.checkUsed(t, p, 1, 20, 200)
	}
}

// TestBifrost4790NoLimitOfCallsInFlight: as many calls are under way as there are slots,
// and the next is sent when one has ended.
func TestBifrost4790NoLimitOfCallsInFlight(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 30, Output: 200}))
	c := client(t, limits(t, w, zael.MustPolicy("m", zael.AtOnce("inflight", 1)), nil))
	one := w.post(context.Background(), t, c, chat, streamBody)
	if status, _ := w.all(t, c, chat, chatBody); status != http.StatusTooManyRequests {
		t.Errorf("while a call is under way: status %d, want 429", status)
	}
	if _, err := io.Copy(io.Discard, one.Body); err != nil {
		t.Error(err)
	}
	if status, _ := w.all(t, c, chat, chatBody); status != http.StatusOK {
		t.Errorf("after its end: status %d, want 200", status)
	}
	_ = one.Body.Close()
}

// TestLiteLLM20256SlotsLeakWhenClientsDisconnect: also LiteLLM 27955.
func TestLiteLLM20256SlotsLeakWhenClientsDisconnect(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 30, Output: 200}))
	p := zael.MustPolicy("m", zael.AtOnce("inflight", 2))
	c := client(t, limits(t, w, p, nil))
	for range 5 {
		one := w.post(context.Background(), t, c, chat, streamBody)
		two := w.post(context.Background(), t, c, chat, chatBody)
		if status, _ := w.all(t, c, chat, chatBody); status != http.StatusTooManyRequests {
			t.Errorf("a third call: status %d, want 429", status)
		}
		_ = one.Body.Close()
		_ = two.Body.Close()
	}
	if got := w.left(t, p, "inflight"); got != 2 {
		t.Errorf("%d of 2 are left", got)
	}
}

// TestLiteLLM29191AnEstimateAboveTheLimitRefusesForEver: it takes the burst, and what was
// used beyond is debt.
func TestLiteLLM29191AnEstimateAboveTheLimitRefusesForEver(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 300, Output: 400}))
	p := zael.MustPolicy("m", zael.PerMinute("itpm", 90), zael.PerMinute("tpm", 100))
	c := client(t, limits(t, w, p, nil))
	body := strings.Replace(chatBody, "Tell", strings.Repeat("Tell ", 300), 1)
	if status, _ := w.all(t, c, chat, body); status != http.StatusOK {
		t.Errorf("status %d, want 200", status)
	}
	if got := w.left(t, p, "tpm"); got != 100-700 {
		t.Errorf("%d tokens are left, want 600 of debt", got)
	}
	if status, _ := w.all(t, c, chat, body); status != http.StatusTooManyRequests {
		t.Errorf("in debt: status %d, want 429", status)
	}
	blocked := client(t, limits(t, w, zael.MustPolicy("b", zael.Block("tpm")), nil))
	if status, _ := w.all(t, blocked, chat, body); status != http.StatusTooManyRequests {
		t.Errorf("blocked: status %d, want 429", status)
	}
}

// TestLiteLLM39309ARefusedCallIsChargedByTheOtherLimits: nothing is taken.
func TestLiteLLM39309ARefusedCallIsChargedByTheOtherLimits(t *testing.T) {
	t.Parallel()
	w := setup(t, nil)
	p := zael.MustPolicy("m", zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 1000), zael.Block("otpm"))
	c := client(t, limits(t, w, p, nil))
	for range 3 {
		w.all(t, c, chat, chatBody)
	}
	if rpm, tpm := w.left(t, p, "rpm"), w.left(t, p, "tpm"); rpm != 10 || tpm != 1000 {
		t.Errorf("%d requests and %d tokens are left, want 10 and 1000", rpm, tpm)
	}
}

// TestBifrost3547LimitsTimesReplicas: also APISIX 12482. Two Limits on one store hold one
// budget.
func TestBifrost3547LimitsTimesReplicas(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 10, Output: 490}))
	p := zael.MustPolicy("m", zael.PerMinute("tpm", 2000))
	admitted := 0
	replicas := []*http.Client{client(t, limits(t, w, p, nil)), client(t, limits(t, w, p, nil))}
	for i := range 10 {
		if status, _ := w.all(t, replicas[i%2], chat, chatBody); status == http.StatusOK {
			admitted++
		}
	}
	if admitted != 3 { // the fourth needs an estimate of more than the 500 that are left
		t.Errorf("%d calls were admitted, want 3", admitted)
	}
}

// TestLiteLLM18728CachedTokensAreCounted: they are not.
func TestLiteLLM18728CachedTokensAreCounted(t *testing.T) {
	t.Parallel()
	for name, call := range shapes() {
		w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 1000, Cached: 900, Output: 50}))
		p := policy()
		w.all(t, client(t, limits(t, w, p, nil)), call[0], call[1])
		if got := 100_000 - w.left(t, p, "itpm"); got != 100 {
			t.Errorf("%s: %d tokens of input are counted, want 100", name, got)
		}
	}
}

// TestLiteLLM18953LockedOutForMinutesNearALimit: the wait is that for the tokens that
// lack, not a fixed one.
func TestLiteLLM18953LockedOutForMinutesNearALimit(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 10, Output: 500}))
	p := zael.MustPolicy("m", zael.PerMinute("tpm", 6000)) // 100 a second
	c := client(t, limits(t, w, p, nil))
	for range 11 {
		w.all(t, c, chat, chatBody)
	}
	res := w.post(context.Background(), t, c, chat, chatBody)
	_ = res.Body.Close()
	exceeded, ok := llm.Refusal(res)
	if !ok || exceeded.RetryAfter().Seconds() > 2 {
		t.Errorf("refused %v, with a wait of %v, want at most 2 s", ok, exceeded.RetryAfter())
	}
}

// TestAgentgateway2171LimitsChangeOnlyByADeploy: stored limits bind the next call.
func TestAgentgateway2171LimitsChangeOnlyByADeploy(t *testing.T) {
	t.Parallel()
	w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 10, Output: 500}))
	c := client(t, limits(t, w, zael.Must(zael.StoredPolicy("m", "rpm")), nil))
	if _, err := c.Do(w.request(context.Background(), t, chat, chatBody)); !errors.Is(err, zael.ErrNoLimits) { //nolint:bodyclose // an error
		t.Errorf("error %v, want ErrNoLimits", err)
	}
	for _, n := range []int64{100, 1} {
		if err := w.SetLimits(context.Background(), zael.Scope{Resource: "m"}, []zael.Limit{zael.PerMinute("rpm", n)}); err != nil {
			t.Fatal(err)
		}
		want := map[int64]int{100: http.StatusOK, 1: http.StatusTooManyRequests}[n]
		w.all(t, c, chat, chatBody)
		if status, _ := w.all(t, c, chat, chatBody); status != want {
			t.Errorf("of %d a minute: status %d, want %d", n, status, want)
		}
	}
}

// TestRetriesOfCallsThatFailedAreNotChargedTwice: each attempt is a lease of its own.
func TestRetriesOfCallsThatFailedAreNotChargedTwice(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	w := setup(t, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		if n.Add(1) < 3 {
			return fakellm.Answer{Status: http.StatusServiceUnavailable}
		}
		return fakellm.Answer{Chunks: words(), Input: 30, Output: 200}
	}))
	p := policy()
	c := client(t, limits(t, w, p, nil))
	for range 3 {
		res := w.post(context.Background(), t, c, chat, chatBody)
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	w.checkUsed(t, p, 3, 30, 200)
}
