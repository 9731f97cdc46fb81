package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/serve/gateway"
	"github.com/zeroae/zael/internal/testrig/fakellm"
)

// FuzzPaths: a path that passes means the same to whoever reads it: it is clean, it has nothing
// to unescape, and an upstream is asked for what was matched.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{
		"/a/v1/chat/completions", "/a/v1/models/x%2F..", "/a/%2e%2e/v1/messages", "/a/v1beta/models/g:generateContent", "/a/model/x%3A1/invoke", "/a//responses",
		"/a/v1/projects/p/locations/l/publishers/x/models/m:rawPredict", "/a/openai/deployments/d/embeddings", "/a/v1/models/%5c", "/a", "/a/model/!/invoke", "/ab/v1/models", "/a/v9alpha1/models",
	} {
		f.Add(http.MethodPost, p)
		f.Add(http.MethodGet, p)
	}
	f.Fuzz(func(t *testing.T, method, text string) {
		u, err := url.ParseRequestURI(text)
		if err != nil || u.Host != "" {
			return
		}
		rest, ok := gateway.Passes(&http.Request{Method: method, URL: u}, "/a")
		if !ok {
			return
		}
		out := &url.URL{Path: "/base" + rest}
		again, err := url.ParseRequestURI(out.RequestURI())
		if err != nil || again.Path != out.Path || again.EscapedPath() != out.EscapedPath() {
			t.Errorf("%q goes upstream as %q, which is read as %+v, error %v", text, out.RequestURI(), again, err)
		}
		if path.Clean(out.Path) != out.Path || strings.Contains(out.EscapedPath(), "%") || !strings.HasPrefix(u.Path, "/a/") {
			t.Errorf("%q goes upstream as %q", text, out.RequestURI())
		}
		if method != http.MethodGet && method != http.MethodPost {
			t.Errorf("%s %q passes", method, text)
		}
	})
}

// FuzzCalls: whatever the body, the header and the query of a call, there is an answer, which is
// the upstream's or an error in JSON, and no key of the caller goes upstream.
func FuzzCalls(f *testing.F) {
	for _, body := range []string{
		chatBody, `{"model":"gpt-4","stream":true,"stream_options":null}`, `{"model":"gpt-4","stream":true,"stream_options":{}}`, `[]`, `{"model":"o1"}`, "", "\xff", `{"model":"gpt-4","messages":[[[[{"content":"data:image/png;base64,AAAA"}]]]]}`,
		strings.Repeat("[", 10_000), `{"model":"gpt-4","max_tokens":9999999999999999999,"n":-1}`, `{"model":"gpt-4\u0000"}`,
	} {
		f.Add(body, "application/json", "sk-fuzz", "key=sk-fuzz&a=b")
	}
	f.Add(chatBody, "text/plain; charset=\"", "Bearer", "%zz;&=")
	r := start(f, strings.ReplaceAll(limited, "=3/365d", "=1000000000/s"), fakellm.Provider(func(q *fakellm.Request) fakellm.Answer {
		for name, values := range q.Header {
			if strings.Contains(strings.Join(values, " "), "sk-fuzz") && name != "Content-Type" {
				f.Errorf("the upstream sees %s: %q", name, values)
			}
		}
		return fakellm.Answer{Chunks: []string{"a"}, Input: 1, Output: 1}
	}))
	f.Fuzz(func(t *testing.T, body, contentType, key, query string) {
		q := httptest.NewRequest(http.MethodPost, chat, strings.NewReader(body))
		q.Host, q.RemoteAddr, q.URL.RawQuery = "127.0.0.1", "127.0.0.1:1", query
		q.Header["Content-Type"], q.Header["Authorization"], q.Header["X-Api-Key"] = []string{contentType}, []string{key}, []string{key}
		w := httptest.NewRecorder()
		r.gateway.ServeHTTP(w, q)
		if w.Code == http.StatusOK && (!strings.Contains(w.Body.String(), "choices") || !strings.Contains(body, "gpt-4") && !strings.Contains(body, `\u`)) {
			t.Errorf("%q passes, with %q", body, w.Body)
		}
		if w.Code != http.StatusOK && (w.Code < 400 || w.Code >= 500 || !strings.HasPrefix(w.Body.String(), `{"error":{`)) {
			t.Errorf("%q: got %d with %q", body, w.Code, w.Body)
		}
	})
}
