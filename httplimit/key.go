package httplimit

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/zeroae/zael/internal/clientkey"
)

// Fixed returns a KeyFunc that returns the same key for all requests, so that they
// share one bucket.
func Fixed(key string) KeyFunc {
	return func(*http.Request) (string, error) { return key, nil }
}

// Header returns a KeyFunc that returns the value of a request header, such as a
// tenant's name. A request without it is answered with status 400. Only a header that a
// proxy or earlier middleware has verified keeps callers apart: anybody can send any
// other. The value of Authorization, Proxy-Authorization, Cookie, Api-Key and X-Api-Key
// is hashed as [Secret] does; use Secret for others that hold credentials.
func Header(name string) KeyFunc {
	key := header(name)
	if clientkey.Holds(strings.ToLower(name)) {
		return Secret(key)
	}
	return key
}

func header(name string) KeyFunc {
	return func(r *http.Request) (string, error) {
		value := r.Header.Get(name)
		if value == "" {
			return "", fmt.Errorf("the header %s is missing", http.CanonicalHeaderKey(name))
		}
		return value, nil
	}
}

// Secret returns a KeyFunc that returns a hash of what key returns: the first 16 bytes
// of SHA-256, in hexadecimal. Keys are stored, and API keys and tokens must not be:
//
//	httplimit.Secret(httplimit.Header("X-Session-Token"))
func Secret(key KeyFunc) KeyFunc {
	return func(r *http.Request) (string, error) {
		value, err := key(r)
		if err != nil || value == "" {
			return value, err
		}
		return clientkey.Hash(value), nil
	}
}

// BasicAuthUser returns a KeyFunc that returns the user of basic authentication, which
// somebody else has to check. A request without one is answered with status 400.
func BasicAuthUser() KeyFunc {
	return func(r *http.Request) (string, error) {
		user, _, ok := r.BasicAuth()
		if !ok || user == "" {
			return "", errors.New("the request has no user of basic authentication")
		}
		return user, nil
	}
}

// Pattern returns a KeyFunc that returns the pattern of [http.ServeMux] that the request
// matched, such as "GET /users/{id}". The Middleware has to be within the ServeMux:
// around the handler of a pattern, and not around the whole.
func Pattern() KeyFunc {
	return func(r *http.Request) (string, error) {
		if r.Pattern == "" {
			return "", errors.New("the request matched no pattern")
		}
		return r.Pattern, nil
	}
}

// Join returns a KeyFunc that joins several keys to one, so that each combination of
// them has limits of its own: the keys with "|" between them, where "|" and "%" in a key
// are written as %7C and %25.
func Join(keys ...KeyFunc) KeyFunc {
	keys = slices.Clone(keys)
	return func(r *http.Request) (string, error) {
		parts := make([]string, len(keys))
		for i, key := range keys {
			var err error
			if parts[i], err = key(r); err != nil {
				return "", err
			}
		}
		return clientkey.Join(parts)
	}
}

// Addresses say which address is a client's. A nil *Addresses is the same as the zero
// Addresses: the address of the connection.
type Addresses struct {
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is believed.
	// Without any the header is ignored, as anybody can send it.
	TrustedProxies []netip.Prefix
	// IPv4Bits and IPv6Bits are the lengths of the prefix that is one client. 0 means
	// 32 and 64: a client with IPv6 usually owns a /64.
	IPv4Bits, IPv6Bits int
}

// Address returns a KeyFunc that returns the client's address: "192.0.2.1", or the
// network of an IPv6 address, "2001:db8::/64". If the connection comes from a trusted
// proxy, it is the last address of X-Forwarded-For that is not a trusted proxy.
// Address panics if a length is out of range.
func Address(a *Addresses) KeyFunc {
	if a == nil {
		a = new(Addresses)
	}
	networks, err := clientkey.NewNetworks(a.TrustedProxies, a.IPv4Bits, a.IPv6Bits)
	if err != nil {
		panic("httplimit: " + err.Error())
	}
	return func(r *http.Request) (string, error) {
		return networks.Client(r.RemoteAddr, func() []string { return r.Header.Values("X-Forwarded-For") })
	}
}
