package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/clientkey"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/testrig/fakellm"
)

var rpm = yearly("rpm", 1000)

const (
	policies = "policies:\n  gpt: {limits: ['rpm=1000/365d']}\n"
	begin    = "gateway:\n- {prefix: /openai, upstream: UPSTREAM, limits: policies, models: {'gpt-4*': gpt}, "
)

// used checks how many requests an entity has used.
func (r *rig) used(entity string, want int64) {
	r.t.Helper()
	if got := 1000 - r.left(entity, rpm)["rpm"]; got != want {
		r.t.Errorf("%s has used %d, want %d", entity, got, want)
	}
}

// TestTokens: which tokens call, in which headers, and as whom.
func TestTokens(t *testing.T) {
	t.Parallel()
	web, bound := newToken("web", "role: gateway"), newToken("app", "role: gateway, prefix: team-a/")
	admin, acquirer := newToken("ops", "role: admin"), newToken("acquire", "role: acquire")
	r := start(t, "tokens:\n"+web.yaml+bound.yaml+admin.yaml+acquirer.yaml+policies+begin+"auth: {tokens: true}, upstream_key: '${KEY}', parent: org}\n",
		fakellm.Provider(func(q *fakellm.Request) fakellm.Answer {
			if q.Header.Get("Authorization") != "Bearer "+key || q.Header.Get("X-Api-Key") != "" || q.Header.Get("X-Goog-Api-Key") != "" {
				t.Errorf("the upstream sees %v", q.Header)
			}
			return fakellm.Answer{Input: 1, Output: 1}
		}))
	for i, headers := range [][]string{
		{"Authorization", "Bearer " + web.text},
		{"X-Api-Key", web.text},
		{"X-Goog-Api-Key", web.text},
		{"Api-Key", web.text},
		{"Authorization", "Bearer " + web.text, "X-Api-Key", web.text},
	} {
		r.want(post(chat, chatBody, headers...), 200, "choices")
		r.used("web", int64(i)+1)
	}
	r.want(post(chat, chatBody, "X-Api-Key", bound.text), 200, "choices")
	r.used("team-a/app", 1)
	r.used("org", 6)
	for name, headers := range map[string][]string{
		"none": nil, "two": {"Authorization", "Bearer " + web.text, "X-Api-Key", bound.text}, "basic": {"Authorization", "Basic " + web.text, "X-Api-Key", web.text},
		"wrong": {"X-Api-Key", web.text + "x"}, "empty": {"X-Api-Key", ""},
	} {
		a := r.want(post(chat, chatBody, headers...), 401, `"code":"invalid_api_key"`)
		if a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
	}
	for _, other := range []token{admin, acquirer} {
		r.want(post(chat, chatBody, "Authorization", "Bearer "+other.text), 403, "are for the role gateway")
	}
	r.want(post(chat+"?key="+web.text, chatBody), 401, "send a token") // never in a URL
	if strings.Contains(r.log.String(), "zael_"+web.text[5:]) {
		t.Error("the log has a token")
	}
	codes := map[int]int{}
	for range 40 {
		codes[r.send(post(chat, chatBody, "X-Api-Key", access.NewToken())).StatusCode]++
	}
	if codes[401] > 30 || codes[429] < 9 {
		t.Errorf("wrong tokens got %v, want 429 after 30", codes)
	}
	r.want(post(chat, chatBody, "X-Api-Key", web.text), 200, "choices")
}

// TestNoTokens: whoever is on this machine may call, but not a web page.
func TestNoTokens(t *testing.T) {
	t.Parallel()
	r := start(t, policies+begin+"auth: {tokens: true}, upstream_key: '${KEY}', default_resource: gpt}\n", always(fakellm.Answer{Input: 1, Output: 1}))
	r.want(post(chat, chatBody, "Authorization", "Bearer unused"), 200, "choices")
	r.used("local", 1)
	r.want(post(chat, chatBody, "Origin", r.base), 200, "choices")
	for name, q := range map[string]request{
		"rebinding": post(chat, chatBody, "Host", "evil.example.com"),
		"origin":    post(chat, chatBody, "Origin", "https://evil.example.com"),
		"site":      post(chat, chatBody, "Sec-Fetch-Site", "cross-site"),
		"text":      {"POST", chat, chatBody, []string{"Content-Type", "text/plain"}},
		"form":      {"POST", "/openai/v1/audio/transcriptions", "x", []string{"Content-Type", "multipart/form-data; boundary=x"}},
		"list":      get("/openai/v1/models", "Host", "evil.example.com"),
	} {
		if a := r.send(q); a.StatusCode/100 != 4 || !strings.Contains(a.body, `{"error":{`) {
			t.Errorf("%s: got %d with %s", name, a.StatusCode, a.body)
		}
	}
	r.used("local", 2)
}

// TestEntities: keys are let in whose hash is an entity of the store.
func TestEntities(t *testing.T) {
	t.Parallel()
	admin := newToken("ops", "role: admin")
	r := start(t, "tokens:\n"+admin.yaml+policies+begin+"auth: {entities: true}, upstream_key: '${KEY}'}\n", always(fakellm.Answer{Input: 1, Output: 1}))
	entity := "key-" + clientkey.Hash("sk-alice")
	if _, err := r.env.Limiter.CreateEntity(context.Background(), zael.Entity{ID: entity}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.want(post(chat, chatBody, "Authorization", "Bearer sk-alice"), 200, "choices")
	}
	r.used(entity, 2)
	r.want(post(chat, chatBody, "Authorization", "Bearer sk-mallory"), 401, "the key is not known here")
	r.want(post(chat, chatBody), 401, "send a key")
	r.want(post(chat, chatBody, "Authorization", "Bearer "+admin.text), 401, "not known")
	if err := r.env.Limiter.SetSwitch(context.Background(), zael.Scope{Entity: entity}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	r.want(post(chat, chatBody, "Authorization", "Bearer sk-alice"), 403, `"code":"permission_denied"`)
	if text := r.log.String(); strings.Contains(text, "sk-") {
		t.Error("the log has a key")
	}
}

// TestHeaders: a header names the entity only if a trusted proxy has sent it, and only as far
// as the token may.
func TestHeaders(t *testing.T) {
	t.Parallel()
	bound := newToken("app", "role: gateway, prefix: team-a/")
	yaml := "tokens:\n" + bound.yaml + policies + begin + "auth: {tokens: true}, upstream_key: '${KEY}', entity: header:X-Team}\n"
	r := start(t, "trusted_proxies: [127.0.0.1]\n"+yaml, fakellm.Provider(func(q *fakellm.Request) fakellm.Answer {
		if q.Header.Get("X-Team") != "" {
			t.Error("the upstream sees the entity")
		}
		return fakellm.Answer{Input: 1, Output: 1}
	}))
	auth := []string{"Authorization", "Bearer " + bound.text}
	r.want(post(chat, chatBody, append(auth, "X-Team", "team-a/bob")...), 200, "choices")
	r.used("team-a/bob", 1)
	r.want(post(chat, chatBody, append(auth, "X-Team", "team-b/bob")...), 403, "may not name")
	r.want(post(chat, chatBody, append(auth, "X-Team", "team-a/\xff")...), 400, "Request.Entity")
	r.want(post(chat, chatBody, auth...), 400, "X-Team")
	r.want(post(chat, chatBody, append(auth, "X-Team", "team-a/a", "X-Team", "team-a/b")...), 400, "X-Team")
	r.want(post(chat, chatBody, "X-Team", "team-a/bob"), 401, "send a token")
	r.reload("trusted_proxies: [10.0.0.0/8]\n" + yaml)
	r.want(post(chat, chatBody, append(auth, "X-Team", "team-a/bob")...), 403, "none of trusted_proxies")
	r.used("team-a/bob", 1)
}

// TestOwnKeys: where callers bring keys of their own, these pass, and what they share is taken
// by all of them.
func TestOwnKeys(t *testing.T) {
	t.Parallel()
	r := start(t, "policies:\n  gpt: {limits: ['rpm=4/365d']}\n"+begin+"client_limits: ['requests=5/365d'], parent: all}\n"+
		"- {prefix: /gemini, upstream: UPSTREAM, limits: policies, default_resource: gpt, parent: all}\n",
		fakellm.Provider(func(q *fakellm.Request) fakellm.Answer {
			if key := q.Header.Get("Authorization") + q.Header.Get("X-Goog-Api-Key"); key == "" && q.Model != "" || strings.Contains(key, "zael_") {
				t.Errorf("the upstream sees %v", q.Header)
			}
			return fakellm.Answer{Input: 1, Output: 1}
		}))
	limit := yearly("rpm", 4)
	r.want(post(chat, chatBody, "Authorization", "Bearer sk-alice"), 200, "choices")
	r.want(post(chat, chatBody, "X-Goog-Api-Key", "sk-bob"), 200, "choices")
	r.want(post(chat, chatBody), 401, "send a key")
	if a, b := r.left("key-"+clientkey.Hash("sk-alice"), limit), r.left("all", limit); a["rpm"] != 3 || b["rpm"] != 2 {
		t.Errorf("alice has %v left, all have %v", a, b)
	}
	r.want(post("/gemini/v1beta/models/g:generateContent?key=sk-eve", `{}`), 200, "candidates")
	r.want(post(chat, chatBody, "Authorization", "Bearer sk-new-1"), 200, "choices")
	r.want(post(chat, chatBody, "Authorization", "Bearer sk-new-2"), 429, "rpm on gpt")
	r.want(post(chat, chatBody, "Authorization", "Bearer sk-new-3"), 429, "rpm on gpt") // the fifth of the address
	a := r.want(post(chat, chatBody, "Authorization", "Bearer sk-new-4"), 429, "requests on gateway-clients")
	if a.Header.Get("Retry-After") == "" {
		t.Errorf("refused with %v", a.Header)
	}
}

// A signer signs tokens.
type signer struct {
	jose.Signer
	public jose.JSONWebKey
}

func newSigner(t *testing.T, id string) signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer{s, jose.JSONWebKey{Key: &private.PublicKey, KeyID: id, Algorithm: "ES256", Use: "sig"}}
}

func (s signer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func writeKeys(t *testing.T, file string, signers ...signer) {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, s := range signers {
		set.Keys = append(set.Keys, s.public)
	}
	text, err := json.Marshal(set)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestJWT: a claim of a token that a known key has signed for this server names the entity.
func TestJWT(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jwks.json")
	a, b, stranger := newSigner(t, "a"), newSigner(t, "b"), newSigner(t, "a")
	writeKeys(t, file, a)
	yaml := policies + begin + fmt.Sprintf("auth: {jwt: {jwks: %s, issuer: https://id, audience: zael, claim: team}}, upstream_key: '${KEY}'}\n", file)
	r := start(t, yaml, always(fakellm.Answer{Input: 1, Output: 1}))
	now := time.Now()
	claims := func(change string, value any) map[string]any {
		all := map[string]any{"iss": "https://id", "aud": []string{"other", "zael"}, "exp": now.Add(time.Hour).Unix(), "team": "red"}
		if all[change] = value; value == nil {
			delete(all, change)
		}
		return all
	}
	call := func(text string) request { return post(chat, chatBody, "Authorization", "Bearer "+text) }
	r.want(call(a.sign(t, claims("", nil))), 200, "choices")
	r.used("red", 1)
	for name, text := range map[string]string{
		"another issuer":   a.sign(t, claims("iss", "https://evil")),
		"another audience": a.sign(t, claims("aud", "other")),
		"no audience":      a.sign(t, claims("aud", nil)),
		"over":             a.sign(t, claims("exp", now.Add(-time.Hour).Unix())),
		"without an end":   a.sign(t, claims("exp", nil)),
		"not yet":          a.sign(t, claims("nbf", now.Add(time.Hour).Unix())),
		"without claim":    a.sign(t, claims("team", nil)),
		"claim no text":    a.sign(t, claims("team", 7)),
		"stranger":         stranger.sign(t, claims("", nil)),
		"another key":      b.sign(t, claims("", nil)),
		"unsigned":         "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkIn0.",
		"nonsense":         "x",
	} {
		if got := r.send(call(text)); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: got %d with %s", name, got.StatusCode, got.body)
		}
	}
	writeKeys(t, file, a, b)
	r.reload(yaml)
	r.want(call(b.sign(t, claims("", nil))), 200, "choices")
	r.used("red", 2)
}

// TestTokenRemoved: a token that a reload removes ends its open streams.
func TestTokenRemoved(t *testing.T) {
	t.Parallel()
	web, other := newToken("web", "role: gateway"), newToken("other", "role: gateway")
	rest := policies + begin + "auth: {tokens: true}, upstream_key: '${KEY}'}\n"
	ended := make(chan struct{})
	streaming := make(chan struct{}, 1)
	r := start(t, "tokens:\n"+web.yaml+other.yaml+rest, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
		_ = http.NewResponseController(w).Flush()
		streaming <- struct{}{}
		<-q.Context().Done()
		close(ended)
	}))
	res, err := r.open(context.Background(), post(chat, chatBody, "Authorization", "Bearer "+web.text))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	<-streaming
	r.reload("tokens:\n" + other.yaml + rest)
	<-ended
	r.want(post(chat, chatBody, "Authorization", "Bearer "+web.text), 401, "may have been removed")
}
