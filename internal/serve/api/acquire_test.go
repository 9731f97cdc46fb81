package api_test

import (
	"testing"

	"github.com/zeroae/zael"
)

func TestAcquire(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const body = `{"entity":"key-1","resource":"gpt-4","consume":{"rpm":1,"tpm":500},"limits":["rpm=100/min","tpm=1000/min"],"cascade":true,"max_wait":"0s"}`
	got := s.want(200, admin, "POST", "/v1/acquire", body)
	const want = `{"admitted":true,"degraded":false,"bypassed":false,"entity_id":"key-1","resource":"gpt-4","waited_seconds":0,"lease":null,"limits":[` +
		`{"entity_id":"key-1","resource":"gpt-4","limit_name":"rpm","kind":"rate","limit":"rpm=100/min","soft":false,"capacity":100,"burst":100,"available":99,"requested":1,` +
		`"exceeded":false,"overdrawn":false,"period_start":null,"resets_at":null,"retry_after_seconds":0,"full_in_seconds":0.6},` +
		`{"entity_id":"key-1","resource":"gpt-4","limit_name":"tpm","kind":"rate","limit":"tpm=1000/min","soft":false,"capacity":1000,"burst":1000,"available":500,"requested":500,` +
		`"exceeded":false,"overdrawn":false,"period_start":null,"resets_at":null,"retry_after_seconds":0,"full_in_seconds":30}]}` + "\n"
	if got.text != want {
		t.Errorf("got  %s\nwant %s", got.text, want)
	}
	if h := got.header; h.Get("X-RateLimit-Remaining") != "500" || h.Get("X-RateLimit-Limit") != "1000" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("got the headers %v, want those of tpm", h)
	}

	s.want(200, admin, "POST", "/v1/acquire", body)
	refused := s.wantError(429, "rate_limit_exceeded", "", admin, "POST", "/v1/acquire", body)
	if refused.header.Get("Retry-After") != "30" || refused.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("got the headers %v, want to wait for 30 s", refused.header)
	}
	const wantRefused = `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Too Many Requests","status":429,` +
		`"detail":"rate limit exceeded: tpm of key-1 on gpt-4: 500 requested, 0 available, retry after 30s","error":"rate_limit_exceeded",` +
		`"message":"rate limit exceeded: tpm of key-1 on gpt-4: 500 requested, 0 available, retry after 30s","retry_after_seconds":30,"retry_after_ms":30000,"limits":[` +
		`{"entity_id":"key-1","resource":"gpt-4","limit_name":"rpm","kind":"rate","limit":"rpm=100/min","soft":false,"capacity":100,"burst":100,"available":98,"requested":1,` +
		`"exceeded":false,"overdrawn":false,"period_start":null,"resets_at":null,"retry_after_seconds":0,"full_in_seconds":1.2},` +
		`{"entity_id":"key-1","resource":"gpt-4","limit_name":"tpm","kind":"rate","limit":"tpm=1000/min","soft":false,"capacity":1000,"burst":1000,"available":0,"requested":500,` +
		`"exceeded":true,"overdrawn":false,"period_start":null,"resets_at":null,"retry_after_seconds":30,"full_in_seconds":60}],"violated-policies":["tpm"]}` + "\n"
	if refused.text != wantRefused {
		t.Errorf("got  %s\nwant %s", refused.text, wantRefused)
	}

	never := s.wantError(429, "never", "", admin, "POST", "/v1/acquire", `{"entity":"e","resource":"r","limits":["n=1/min"],"consume":{"n":2}}`)
	if never.header.Get("Retry-After") != "" || never.body["retry_after_seconds"] != nil || never.body["retry_after_ms"] != nil {
		t.Errorf("got %v %s, want no wait", never.header, never.text)
	}
}

// Without limits the stored ones hold; a policy of the configuration brings its own.
func TestAcquireStored(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const body = `{"entity":"e","resource":"r","consume":{"n":1}}`
	s.wantError(400, "invalid", "limits", acquire, "POST", "/v1/acquire", body)
	s.ok(s.limiter.SetLimits(t.Context(), zael.Scope{Resource: "r"}, []zael.Limit{zael.PerMinute("n", 1)}))
	s.want(200, admin, "POST", "/v1/acquire", `{"entity":"e","resource":"r","limits":["n=5/min"],"stored":true}`)
	s.want(200, acquire, "POST", "/v1/acquire", `{"entity":"other","resource":"r"}`)
	s.want(429, acquire, "POST", "/v1/acquire", body)
	s.want(429, acquire, "POST", "/v1/acquire", `{"entity":"e","resource":"r","stored":true}`)
	s.want(200, acquire, "POST", "/v1/acquire", `{"entity":"e","policy":"chat"}`)
	got := s.want(200, acquire, "POST", "/v1/acquire", `{"entity":"e","resource":"chat","policy":"chat","consume":{"rpm":1}}`)
	if got.body["resource"] != "chat" {
		t.Errorf("got %s, want the policy's resource", got.text)
	}
	s.want(429, acquire, "POST", "/v1/acquire", `{"entity":"e","policy":"chat"}`)
}
