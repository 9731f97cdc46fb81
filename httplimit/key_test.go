package httplimit_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/zeroae/zael/httplimit"
)

func TestAddress(t *testing.T) {
	t.Parallel()
	proxies := &httplimit.Addresses{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	wide := &httplimit.Addresses{IPv4Bits: 24, IPv6Bits: 56}
	for _, c := range []struct {
		name      string
		config    *httplimit.Addresses
		remote    string
		forwarded []string
		want      string // empty: an error
	}{
		{"IPv4", nil, "192.0.2.1:80", nil, "192.0.2.1"},
		{"IPv6", nil, "[2001:db8:1:2:3:4:5:6]:80", nil, "2001:db8:1:2::/64"},
		{"the same network", nil, "[2001:db8:1:2:ffff::1]:80", nil, "2001:db8:1:2::/64"},
		{"IPv4 in IPv6", nil, "[::ffff:192.0.2.1]:80", nil, "192.0.2.1"},
		{"link-local", nil, "[fe80::1%eth0]:80", nil, "fe80::/64"},
		{"a wide prefix", wide, "192.0.2.77:80", nil, "192.0.2.0/24"},
		{"a wide prefix of IPv6", wide, "[2001:db8:1:2ff::1]:80", nil, "2001:db8:1:200::/56"},
		{"a Unix socket", nil, "@", nil, ""},
		{"nothing", nil, "", nil, ""},

		{"a header of anybody", nil, "192.0.2.1:80", []string{"198.51.100.1"}, "192.0.2.1"},
		{"a header of no proxy", proxies, "192.0.2.1:80", []string{"198.51.100.1"}, "192.0.2.1"},
		{"by a proxy", proxies, "10.0.0.1:80", []string{"198.51.100.1"}, "198.51.100.1"},
		{"by a proxy over IPv6", proxies, "[fd00::1]:80", []string{"2001:db8::1"}, "2001:db8::/64"},
		{"what a client sent comes first", proxies, "10.0.0.1:80", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"in another line", proxies, "10.0.0.1:80", []string{"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
		{"by two proxies", proxies, "10.0.0.1:80", []string{"1.1.1.1, 198.51.100.1 , 10.2.3.4"}, "198.51.100.1"},
		{"by two proxies in two lines", proxies, "10.0.0.1:80", []string{"198.51.100.1", "10.2.3.4"}, "198.51.100.1"},
		{"with a port", proxies, "10.0.0.1:80", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6 with a port", proxies, "10.0.0.1:80", []string{"[2001:db8::1]:4711"}, "2001:db8::/64"},
		{"IPv6 in brackets", proxies, "10.0.0.1:80", []string{"[2001:db8::1]"}, "2001:db8::/64"},
		{"only proxies", proxies, "10.0.0.1:80", []string{"10.9.9.9"}, "10.9.9.9"},
		{"a proxy itself", proxies, "10.0.0.1:80", nil, "10.0.0.1"},
		{"nonsense by a proxy", proxies, "10.0.0.1:80", []string{"198.51.100.1, unknown"}, ""},
		{"nonsense before", proxies, "10.0.0.1:80", []string{"unknown, 198.51.100.1"}, "198.51.100.1"},
		{"empty entries", proxies, "10.0.0.1:80", []string{",198.51.100.1,,"}, "198.51.100.1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.remote
		for _, line := range c.forwarded {
			r.Header.Add("X-Forwarded-For", line)
		}
		got, err := httplimit.Address(c.config)(r)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

func TestAddressPanics(t *testing.T) {
	t.Parallel()
	for _, a := range []httplimit.Addresses{{IPv4Bits: 33}, {IPv6Bits: 129}, {IPv4Bits: -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: got no panic", a)
				}
			}()
			httplimit.Address(&a)
		}()
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	user := func(r *http.Request) { r.SetBasicAuth("alice", "secret") }
	for _, c := range []struct {
		name string
		key  httplimit.KeyFunc
		edit func(*http.Request)
		want string // empty: an error
	}{
		{"fixed", httplimit.Fixed("all"), nil, "all"},
		{"header", httplimit.Header("x-tenant"), with("X-Tenant", "acme"), "acme"},
		{"no header", httplimit.Header("x-tenant"), nil, ""},
		{"a token", httplimit.Header("authorization"), with("Authorization", "Bearer abc"), "4b6a1c2f"},
		{"a secret", httplimit.Secret(httplimit.Header("X-Session")), with("X-Session", "abc"), "ba7816bf8f01cfea414140de5dae2223"},
		{"no secret", httplimit.Secret(httplimit.Header("X-Session")), nil, ""},
		{"user", httplimit.BasicAuthUser(), user, "alice"},
		{"no user", httplimit.BasicAuthUser(), nil, ""},
		{"pattern", httplimit.Pattern(), func(r *http.Request) { r.Pattern = "GET /users/{id}" }, "GET /users/{id}"},
		{"no pattern", httplimit.Pattern(), nil, ""},
		{"joined", httplimit.Join(httplimit.Fixed("a|b%"), httplimit.BasicAuthUser()), user, "a%7Cb%25|alice"},
		{"joined, one fails", httplimit.Join(httplimit.Fixed("a"), httplimit.BasicAuthUser()), nil, ""},
		{"joined, one empty", httplimit.Join(httplimit.Fixed("a"), httplimit.Fixed("")), nil, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if c.edit != nil {
			c.edit(r)
		}
		got, err := c.key(r)
		if c.name == "a token" { // by its hash, which is 32 digits
			if len(got) != 32 || strings.Contains(got, "abc") || err != nil {
				t.Errorf("%s: got %q, %v, want a hash", c.name, got, err)
			}
			continue
		}
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}
