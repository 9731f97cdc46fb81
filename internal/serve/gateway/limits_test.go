package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

// TestStoredLimits: stored limits hold, whatever their names, unless nobody can tell what they
// count; without any there is no call.
func TestStoredLimits(t *testing.T) {
	t.Parallel()
	r := start(t, "prices: {gpt-4o: {input: 1, output: 2}}\ngateway:\n"+
		"- {prefix: /openai, upstream: UPSTREAM, upstream_key: '${KEY}', auth: {tokens: true}, limits: stored, models: {'gpt-4*': gpt, o1: odd}, parent: org}\n",
		always(fakellm.Answer{Input: 10, Output: 20}))
	set := func(scope zael.Scope, limits ...zael.Limit) {
		t.Helper()
		if err := r.env.Limiter.SetLimits(context.Background(), scope, limits); err != nil {
			t.Fatal(err)
		}
	}
	r.want(post(chat, chatBody), 403, "no limits are stored")
	set(zael.Scope{Entity: "local", Resource: "gpt"}, yearly("rpm", 100), yearly("tokens", 100_000))
	set(zael.Scope{Entity: "org"}, yearly("usd", llm.Dollar), zael.AtOnce("inflight", 2))
	set(zael.Scope{Resource: "odd"}, yearly("things", 100))
	a := r.want(post(chat, chatBody), 200, "choices")
	if got := a.Header.Get("X-Ratelimit-Remaining-Requests"); got != "99" {
		t.Errorf("%s requests are left, want 99", got)
	}
	if left := r.left("local"); left["rpm"] != 99 || left["tokens"] != 100_000-30 {
		t.Errorf("local has %v left", left)
	}
	if left := r.left("org"); left["usd"] != llm.Dollar-50 || left["inflight"] != 2 {
		t.Errorf("org has %v left", left)
	}
	r.want(post(chat, strings.Replace(chatBody, "gpt-4o", "gpt-4", 1)), 400, `has no price`)
	r.want(post(chat, strings.Replace(chatBody, "gpt-4o", "o1", 1)), 403, "the stored limit things on odd has a name")
	r.want(get("/openai/v1/models"), 200, "list") // of no price
	if err := r.env.Limiter.SetSwitch(context.Background(), zael.Scope{Resource: "gpt"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	r.want(post(chat, chatBody), 403, "permission_denied")
}

// TestMaxWait: a call waits in line for its tokens, as long as its route lets it, and gives up
// when the daemon ends.
func TestMaxWait(t *testing.T) {
	t.Parallel()
	// A slot is free when the call before has ended; the next one waits for it.
	release, arrived := make(chan struct{}), make(chan struct{}, 3)
	const yaml = "shutdown_timeout: 1m\nmax: {waits: 1}\npolicies:\n  gpt: {limits: ['inflight=1 at once']}\n" + begin + "auth: {tokens: true}, upstream_key: '${KEY}', max_wait: 1h}\n"
	r := start(t, yaml, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		arrived <- struct{}{}
		<-release
		return fakellm.Answer{Input: 1, Output: 1}
	}))
	answers := make(chan string, 3)
	call := func() {
		res, err := r.open(context.Background(), post(chat, chatBody))
		if err != nil {
			answers <- err.Error()
			return
		}
		_ = res.Body.Close()
		answers <- fmt.Sprint(res.StatusCode)
	}
	go call()
	<-arrived
	go call()
	for r.metric("zael_serve_waits") != "1" {
		runtime.Gosched()
	}
	r.want(post(chat, chatBody), 503, "too many requests wait")
	release <- struct{}{}
	<-arrived // the one that waited
	if got := <-answers; got != "200" {
		t.Errorf("the first call: %s", got)
	}
	go call()
	for r.metric("zael_serve_waits") != "1" {
		runtime.Gosched()
	}
	r.stop()
	if got := <-answers; got != "503" {
		t.Errorf("a call that waits when the daemon ends: %s, want 503", got)
	}
	close(release)
	if got := <-answers; got != "200" {
		t.Errorf("a call that is under way when the daemon ends: %s, want 200", got)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// TestStreams: more calls at a time than may are refused.
func TestStreams(t *testing.T) {
	t.Parallel()
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	r := start(t, "max: {streams: 1}\n"+limited, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		arrived <- struct{}{}
		<-release
		return fakellm.Answer{Input: 1, Output: 1}
	}))
	first := make(chan int, 1)
	go func() { first <- r.send(post(chat, chatBody)).StatusCode }()
	<-arrived
	a := r.want(post(chat, chatBody), 503, "max.streams")
	if a.Header.Get("Retry-After") != "1" || a.Header.Get("X-Should-Retry") != "" {
		t.Errorf("refused with %v", a.Header)
	}
	close(release)
	if got := <-first; got != http.StatusOK {
		t.Errorf("the first call: %d", got)
	}
	r.want(post(chat, chatBody), 200, "choices")
}

// TestRoutesReload: routes come and go with the file; a wrong file changes nothing.
func TestRoutesReload(t *testing.T) {
	t.Parallel()
	r := start(t, limited, always(fakellm.Answer{Input: 1, Output: 1}))
	r.want(post(chat, chatBody), 200, "choices")
	r.reload(strings.Replace(limited, "prefix: /openai", "prefix: /other", 1))
	r.want(post(chat, chatBody), 404, "there is nothing here")
	r.want(post("/other/v1/chat/completions", chatBody), 200, "choices")
	before := len(r.log.String())
	r.write(strings.Replace(limited, "limits: policies", "limits: {policy: none}", 1))
	r.hangup <- struct{}{}
	r.log.await(before, "there is no policy none")
	r.want(post("/other/v1/chat/completions", chatBody), 200, "choices")
	r.reload("")
	r.want(post("/other/v1/chat/completions", chatBody), 404, "there is nothing here")
}
