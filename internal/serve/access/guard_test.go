package access_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/zeroae/zael/internal/serve/access"
)

// A door is a guard with a handler that says who came through.
type door struct {
	*access.Guard

	refused map[string]int // by reason
	handler http.Handler
}

func newDoor(t *testing.T, rules access.Rules) *door {
	t.Helper()
	d := &door{refused: map[string]int{}}
	var err error
	d.Guard, err = access.NewGuard(rules, slog.New(slog.DiscardHandler), func(reason string) { d.refused[reason]++ })
	if err != nil {
		t.Fatal(err)
	}
	d.handler = d.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%+v", access.From(r.Context()))
	}))
	return d
}

// knock sends a request from an address, with headers in pairs, of which Host is the host's.
func (d *door) knock(from, method, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/v1/acquire", strings.NewReader(body))
	r.RemoteAddr, r.Host = from, "127.0.0.1:8080"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w
}

const here, there = "127.0.0.1:50000", "192.0.2.1:50000"

func TestToken(t *testing.T) {
	t.Parallel()
	text := access.NewToken()
	if other := access.NewToken(); !strings.HasPrefix(text, "zael_") || len(text) != len("zael_")+43 || text == other {
		t.Errorf("got %q and %q, want different tokens of zael_ and 43 characters", text, other)
	}
	var h access.Hash
	if err := h.UnmarshalText([]byte(access.HashOf(text).String())); err != nil || h != access.HashOf(text) {
		t.Errorf("got %v (%v), want %v", h, err, access.HashOf(text))
	}
	for _, wrong := range []string{"", "sha256:", text, "sha256:" + strings.Repeat("0", 63), "sha256:" + strings.Repeat("0", 66), strings.Repeat("0", 64), "sha256:" + strings.Repeat("g", 64)} {
		if err := h.UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
}

// TestBearers checks who comes in with a token.
func TestBearers(t *testing.T) {
	t.Parallel()
	var rules access.Rules
	tokens := map[access.Role]string{}
	for role := access.Acquire; role <= access.Admin; role++ {
		tokens[role] = access.NewToken()
		rules.Tokens = append(rules.Tokens, access.Token{
			Principal: access.Principal{Name: role.String(), Role: role, Prefix: "p-"}, Hash: access.HashOf(tokens[role]),
		})
	}
	d := newDoor(t, rules)
	for role, text := range tokens {
		for _, authorization := range []string{"Bearer " + text, "bearer " + text, "BEARER  " + text + " "} {
			// A token is enough: no page of others has it.
			w := d.knock(there, "POST", "x", "Authorization", authorization, "Host", "any.example.com", "Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site")
			if want := fmt.Sprintf("%+v", rules.Tokens[role-1].Principal); w.Code != 200 || w.Body.String() != want {
				t.Errorf("%s: got %d and %s, want %s", role, w.Code, w.Body, want)
			}
		}
	}
	right := tokens[access.Admin]
	for _, c := range []struct {
		name    string
		headers []string
		reason  string
	}{
		{"none", nil, "no_token"},
		{"empty", []string{"Authorization", ""}, "no_token"},
		{"two", []string{"Authorization", "Bearer " + right, "Authorization", "Bearer " + right}, "no_token"},
		{"basic", []string{"Authorization", "Basic " + right}, "no_token"},
		{"alone", []string{"Authorization", right}, "no_token"},
		{"as a key", []string{"X-Api-Key", right}, "no_token"},
		{"empty bearer", []string{"Authorization", "Bearer "}, "token"},
		{"cut", []string{"Authorization", "Bearer " + right[:len(right)-1]}, "token"},
		{"longer", []string{"Authorization", "Bearer " + right + "A"}, "token"},
		{"its hash", []string{"Authorization", "Bearer " + access.HashOf(right).String()}, "token"},
		{"another", []string{"Authorization", "Bearer " + access.NewToken()}, "token"},
	} {
		before := d.refused[c.reason]
		w := d.knock(here, "GET", "", c.headers...)
		if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" || d.refused[c.reason] != before+1 || !strings.Contains(w.Body.String(), `"error":"unauthenticated"`) {
			t.Errorf("%s: got %d, %s, want 401 for %q", c.name, w.Code, w.Body, c.reason)
		}
	}
}

// TestWrongTokens checks that tries are limited for each address, and that a valid token is
// never refused for them.
func TestWrongTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, wrongTokens) // no time goes by
}

func wrongTokens(t *testing.T) {
	right := access.NewToken()
	d := newDoor(t, access.Rules{
		Tokens:  []access.Token{{Principal: access.Principal{Name: "a", Role: access.Read}, Hash: access.HashOf(right)}},
		Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	try := func(from string, forwarded ...string) int {
		headers := []string{"Authorization", "Bearer " + access.NewToken()}
		for _, f := range forwarded {
			headers = append(headers, "X-Forwarded-For", f)
		}
		return d.knock(from, "GET", "", headers...).Code
	}
	exhaust := func(from string, forwarded ...string) {
		t.Helper()
		codes := map[int]int{}
		for range 60 {
			codes[try(from, forwarded...)]++
		}
		if codes[401] != 30 || codes[429] != 30 {
			t.Errorf("%s: got %v, want 30 times 401 and then 429", from, codes)
		}
	}
	exhaust(there)
	w := d.knock(there, "GET", "", "Authorization", "Bearer "+access.NewToken())
	if w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"error":"rate_limit_exceeded"`) {
		t.Errorf("got %v and %s, want Retry-After", w.Header(), w.Body)
	}
	if w := d.knock(there, "GET", "", "Authorization", "Bearer "+right); w.Code != 200 {
		t.Errorf("a valid token from the same address: got %d, want 200", w.Code)
	}
	if w := d.knock(there, "GET", ""); w.Code != 401 {
		t.Errorf("no token from the same address: got %d, want 401: it is no try", w.Code)
	}
	if got := try("192.0.2.2:1"); got != 401 {
		t.Errorf("another address: got %d, want 401", got)
	}
	exhaust("[2001:db8::1]:1")
	if got := try("[2001:db8::2]:1"); got != 429 {
		t.Errorf("the same /64: got %d, want 429", got)
	}
	if got := try("[2001:db8:0:1::1]:1"); got != 401 {
		t.Errorf("another /64: got %d, want 401", got)
	}
	exhaust("10.1.2.3:1", "198.51.100.1")
	if got := try("10.1.2.3:1", "198.51.100.2"); got != 401 {
		t.Errorf("another client of the proxy: got %d, want 401", got)
	}
	if got := try("203.0.113.1:1", "198.51.100.1"); got != 401 {
		t.Errorf("who only claims to be a proxy: got %d, want 401", got)
	}
	exhaust("10.1.2.3:1", "nonsense")
}

// TestWithoutTokens checks that web pages do not get in where no token is asked for.
func TestWithoutTokens(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json; charset=utf-8"
	for _, c := range []struct {
		name    string
		method  string
		headers []string
		body    string
		reason  string // empty: let in
	}{
		{"curl", "GET", nil, "", ""},
		{"curl with a body", "POST", []string{"Content-Type", jsonType}, "{}", ""},
		{"curl without a body", "POST", nil, "", ""},
		{"localhost", "GET", []string{"Host", "LocalHost:8080"}, "", ""},
		{"IPv6", "GET", []string{"Host", "[::1]:8080"}, "", ""},
		{"IPv6 without a port", "GET", []string{"Host", "[::1]"}, "", ""},
		{"a name of hosts", "GET", []string{"Host", "Limits.example.com"}, "", ""},
		{"its own page", "POST", []string{"Origin", "http://127.0.0.1:8080", "Sec-Fetch-Site", "same-origin", "Content-Type", jsonType}, "{}", ""},
		{"its own page behind a proxy", "GET", []string{"Origin", "https://limits.example.com", "Host", "limits.example.com"}, "", ""},
		{"its own page, with the port", "GET", []string{"Origin", "http://localhost", "Host", "localhost:80"}, "", ""},
		{"typed into a browser", "GET", []string{"Sec-Fetch-Site", "none"}, "", ""},
		{"DNS rebinding", "GET", []string{"Host", "evil.example.com:8080", "Sec-Fetch-Site", "same-origin"}, "", "host"},
		{"DNS rebinding with Origin", "GET", []string{"Host", "evil.example.com:8080", "Origin", "http://evil.example.com:8080"}, "", "host"},
		{"no host", "GET", []string{"Host", ""}, "", "host"},
		{"a name that begins right", "GET", []string{"Host", "localhost.evil.example.com"}, "", "host"},
		{"a name that ends right", "GET", []string{"Host", "evil-limits.example.com"}, "", "host"},
		{"another address", "GET", []string{"Host", "192.0.2.1:8080"}, "", "host"},
		{"all addresses", "GET", []string{"Host", "0.0.0.0:8080"}, "", "host"},
		{"foreign page", "POST", []string{"Origin", "https://evil.example.com", "Content-Type", jsonType}, "{}", "origin"},
		{"foreign page reads", "GET", []string{"Origin", "https://evil.example.com"}, "", "origin"},
		{"preflight", "OPTIONS", []string{"Origin", "https://evil.example.com", "Access-Control-Request-Method", "POST"}, "", "origin"},
		{"page of another port", "POST", []string{"Origin", "http://127.0.0.1:3000"}, "", "origin"},
		{"opaque origin", "POST", []string{"Origin", "null"}, "", "origin"},
		{"one of two origins", "GET", []string{"Origin", "http://127.0.0.1:8080", "Origin", "http://evil.example.com"}, "", "origin"},
		{"origin with a user", "GET", []string{"Origin", "http://127.0.0.1:8080@evil.example.com"}, "", "origin"},
		{"image of a foreign page", "GET", []string{"Sec-Fetch-Site", "cross-site"}, "", "site"},
		{"image of another port's page", "GET", []string{"Sec-Fetch-Site", "same-site"}, "", "site"},
		{"form", "POST", []string{"Content-Type", "application/x-www-form-urlencoded"}, "a=1", "media_type"},
		{"form with text", "POST", []string{"Content-Type", "text/plain"}, "{}", "media_type"},
		{"body without a type", "POST", nil, "{}", "media_type"},
		{"two types", "POST", []string{"Content-Type", jsonType, "Content-Type", "text/plain"}, "{}", "media_type"},
	} {
		d := newDoor(t, access.Rules{Hosts: []string{"limits.example.com"}})
		w := d.knock(here, c.method, c.body, c.headers...)
		if c.reason == "" {
			if w.Code != 200 || !strings.Contains(w.Body.String(), "Name:local Role:admin") {
				t.Errorf("%s: got %d, %s, want it let in", c.name, w.Code, w.Body)
			}
			continue
		}
		if w.Code != 403 && (c.reason != "media_type" || w.Code != 400) || d.refused[c.reason] != 1 {
			t.Errorf("%s: got %d, %s, %v, want it refused for %q", c.name, w.Code, w.Body, d.refused, c.reason)
		}
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: got the header %s, want none", c.name, name)
			}
		}
	}
}

// TestOpen checks a daemon that was told to let everybody in: under its addresses, but not under
// the name of a page.
func TestOpen(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Rules{AllowRemote: true})
	if w := d.knock(there, "GET", "", "Host", "192.0.2.7:8080"); w.Code != 200 || !strings.Contains(w.Body.String(), "Name:anyone") {
		t.Errorf("got %d and %s, want it let in as anyone", w.Code, w.Body)
	}
	if w := d.knock(there, "GET", "", "Host", "evil.example.com"); w.Code != 403 {
		t.Errorf("under a foreign name: got %d, want 403", w.Code)
	}
}

// TestHostsWithTokens checks that names bind where they are configured.
func TestHostsWithTokens(t *testing.T) {
	t.Parallel()
	text := access.NewToken()
	d := newDoor(t, access.Rules{
		Hosts:  []string{"limits.example.com"},
		Tokens: []access.Token{{Principal: access.Principal{Name: "a", Role: access.Read}, Hash: access.HashOf(text)}},
	})
	for host, want := range map[string]int{"limits.example.com": 200, "192.0.2.7": 200, "localhost": 200, "evil.example.com": 403} {
		if w := d.knock(there, "GET", "", "Host", host, "Authorization", "Bearer "+text); w.Code != want {
			t.Errorf("%s: got %d, want %d", host, w.Code, want)
		}
	}
}

// TestTokenRemoved checks that a request ends when its token is gone or has changed, and no
// other does.
func TestTokenRemoved(t *testing.T) {
	t.Parallel()
	texts := map[string]string{}
	var all []access.Token
	for _, name := range []string{"stays", "goes", "changes"} {
		texts[name] = access.NewToken()
		all = append(all, access.Token{Principal: access.Principal{Name: name, Role: access.Admin}, Hash: access.HashOf(texts[name])})
	}
	d := newDoor(t, access.Rules{Tokens: all})
	contexts := make(chan context.Context)
	leave := make(chan struct{})
	handler := d.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		contexts <- r.Context()
		<-leave
	}))
	open := map[string]context.Context{}
	returned := make(chan struct{}, len(all))
	for name, text := range texts {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+text)
		go func() {
			handler.ServeHTTP(httptest.NewRecorder(), r)
			returned <- struct{}{}
		}()
		open[name] = <-contexts //nolint:fatcontext // each is another request's
	}
	changed := all[2]
	changed.Prefix = "a-"
	if err := d.Set(access.Rules{Tokens: []access.Token{all[0], changed}}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"goes", "changes"} {
		<-open[name].Done()
		if err := context.Cause(open[name]); !errors.Is(err, access.ErrTokenRemoved) {
			t.Errorf("%s: got %v, want ErrTokenRemoved", name, err)
		}
	}
	if err := open["stays"].Err(); err != nil {
		t.Errorf("the token that stays: got %v, want its request to go on", err)
	}
	close(leave)
	for range all {
		<-returned
	}
	if w := d.knock(here, "GET", "", "Authorization", "Bearer "+texts["goes"]); w.Code != 401 {
		t.Errorf("the removed token: got %d, want 401", w.Code)
	}
	if w := d.knock(here, "GET", "", "Authorization", "Bearer "+texts["changes"]); w.Code != 200 || !strings.Contains(w.Body.String(), "Prefix:a-") {
		t.Errorf("the changed token: got %d and %s, want its new prefix", w.Code, w.Body)
	}
}

// FuzzGuard: whatever the headers, nobody comes in without the token, and where none is asked for
// no host that is a name does.
func FuzzGuard(f *testing.F) {
	f.Add("Bearer zael_", "localhost:8080", "http://localhost:8080", "same-origin", "application/json", "{}")
	f.Add("bearer", "[::1", "null", "", "", "")
	f.Add("", "a@localhost", "http://[", "none", ";", "x")
	text := access.NewToken()
	rules := access.Rules{Tokens: []access.Token{{Principal: access.Principal{Name: "a", Role: access.Admin}, Hash: access.HashOf(text)}}}
	f.Fuzz(func(t *testing.T, authorization, host, origin, site, contentType, body string) {
		headers := []string{"Authorization", authorization, "Host", host, "Origin", origin, "Sec-Fetch-Site", site, "Content-Type", contentType}
		if w := newDoor(t, rules).knock(there, "POST", body, headers...); w.Code != 401 {
			t.Errorf("with tokens: got %d, want 401", w.Code)
		}
		w := newDoor(t, access.Rules{}).knock(there, "POST", body, headers...)
		if w.Code != 200 && w.Code != 403 && w.Code != 400 {
			t.Errorf("without tokens: got %d, want 200, 400 or 403", w.Code)
		}
		name, _, err := net.SplitHostPort(host)
		if err != nil {
			name = strings.Trim(host, "[]")
		}
		if addr, err := netip.ParseAddr(name); w.Code == 200 && !strings.EqualFold(name, "localhost") && (err != nil || !addr.IsLoopback()) {
			t.Errorf("let in under the host %q", host)
		}
		if w.Code == 200 && site != "none" && site != "same-origin" {
			t.Errorf("let in from the site %q", site)
		}
	})
}
