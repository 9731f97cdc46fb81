package access_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/problem"
)

func TestAnyKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		h    http.Header
		want string // empty: none
	}{
		{http.Header{}, ""},
		{http.Header{"Authorization": {"Bearer a"}}, "a"},
		{http.Header{"Authorization": {"Bearer "}}, ""},
		{http.Header{"Authorization": {"Basic a"}}, ""},
		{http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=a"}, "X-Api-Key": {"a"}}, ""},
		{http.Header{"Authorization": {"Bearer a", "Bearer a"}}, ""},
		{http.Header{"X-Api-Key": {" a "}}, "a"},
		{http.Header{"X-Goog-Api-Key": {"a"}}, "a"},
		{http.Header{"Api-Key": {"a"}}, "a"},
		{http.Header{"X-Api-Key": {""}}, ""},
		{http.Header{"X-Api-Key": {"a"}, "Authorization": {"Bearer a"}}, "a"},
		{http.Header{"X-Api-Key": {"b"}, "Authorization": {"Bearer a"}}, ""},
		{http.Header{"X-Api-Key": {"a", "b"}}, ""},
		{http.Header{"X-Api-Key": {"a"}, "X-Goog-Api-Key": {"b"}}, ""},
		{http.Header{"X-Api-Key": {"a"}, "X-Goog-Api-Key": {""}}, ""},
	} {
		if got, ok := access.AnyKey(c.h); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%v: got %q and %v, want %q", c.h, got, ok, c.want)
		}
	}
}

// TestHandlerWith: a handler may find out by itself who calls, in place of a token but not of the
// checks of a request's origin; and refusals are written as it says.
func TestHandlerWith(t *testing.T) {
	t.Parallel()
	token := access.NewToken()
	own := func(r *http.Request) bool { return r.URL.Path == "/own" }
	refuse := func(w http.ResponseWriter, _ *http.Request, code problem.Code, _ string) {
		w.WriteHeader(code.Status())
		_, _ = fmt.Fprint(w, "own form")
	}
	for _, withToken := range []bool{false, true} {
		var rules access.Rules
		if withToken {
			rules.Tokens = []access.Token{{Principal: access.Principal{Name: "web", Role: access.Gateway}, Hash: access.HashOf(token)}}
		}
		d := newDoor(t, rules)
		gate := access.Gate{Token: access.AnyKey, Authenticates: own, Refuse: refuse}
		h := d.HandlerWith(gate, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p := access.From(r.Context())
			_, _ = fmt.Fprint(w, p.Name, " ", p.MayUseGateway())
		}))
		ask := func(path, key, origin string) (int, string) {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = "127.0.0.1:8080"
			if key != "" {
				r.Header.Set("X-Api-Key", key)
			}
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code, w.Body.String()
		}
		for _, c := range []struct {
			path, key, origin string
			local, tokens     string // the answer without tokens and with one
		}{
			{"/", "", "", "200 local true", "401 own form"},
			{"/", token, "", "200 local true", "200 web true"},
			{"/own", "", "", "200  false", "200  false"},
			{"/own", "", "https://evil.example.com", "403 own form", "200  false"},
			{"/", token, "https://evil.example.com", "403 own form", "200 web true"},
		} {
			status, body := ask(c.path, c.key, c.origin)
			want := c.local
			if withToken {
				want = c.tokens
			}
			if got := fmt.Sprint(status, " ", body); got != want {
				t.Errorf("%s with the key %q from %q, tokens %v: got %s, want %s", c.path, c.key, c.origin, withToken, got, want)
			}
		}
	}
}
