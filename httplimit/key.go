package httplimit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
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
	switch http.CanonicalHeaderKey(name) {
	case "Authorization", "Proxy-Authorization", "Cookie", "Api-Key", "X-Api-Key":
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
		sum := sha256.Sum256([]byte(value))
		return hex.EncodeToString(sum[:16]), nil
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
		var all strings.Builder
		for i, key := range keys {
			k, err := key(r)
			if err != nil {
				return "", err
			}
			if k == "" {
				return "", errors.New("a part of the key is empty")
			}
			if i > 0 {
				all.WriteByte('|')
			}
			all.WriteString(joined.Replace(k))
		}
		return all.String(), nil
	}
}

var joined = strings.NewReplacer("%", "%25", "|", "%7C") //nolint:gochecknoglobals // a constant

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
	c := clientAddress{bits4: 32, bits6: 64}
	if a != nil {
		c.trusted = slices.Clone(a.TrustedProxies)
		if a.IPv4Bits != 0 {
			c.bits4 = a.IPv4Bits
		}
		if a.IPv6Bits != 0 {
			c.bits6 = a.IPv6Bits
		}
	}
	if c.bits4 < 1 || c.bits4 > 32 || c.bits6 < 1 || c.bits6 > 128 {
		panic(fmt.Sprintf("httplimit: a prefix of %d bits of IPv4 or %d of IPv6 is out of range", c.bits4, c.bits6))
	}
	return c.key
}

type clientAddress struct {
	trusted      []netip.Prefix
	bits4, bits6 int
}

func (c *clientAddress) key(r *http.Request) (string, error) {
	addr, err := parseAddress(r.RemoteAddr)
	if err != nil {
		return "", errors.New("the connection has no client address")
	}
	if len(c.trusted) == 0 && c.bits4 == 32 && addr.Is4() {
		if host, _, ok := strings.Cut(r.RemoteAddr, ":"); ok && host[0] != '[' { // as it is: without an allocation
			return host, nil
		}
	}
	if c.trusts(addr) {
		if addr, err = c.forwarded(addr, r.Header.Values("X-Forwarded-For")); err != nil {
			return "", err
		}
	}
	bits := c.bits6
	if addr.Is4() {
		if bits = c.bits4; bits == 32 {
			return addr.String(), nil
		}
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return "", err
	}
	return p.String(), nil
}

func (c *clientAddress) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(c.trusted, func(p netip.Prefix) bool { return p.Contains(addr.WithZone("")) })
}

// forwarded goes back from the proxy that made the connection, as long as those who
// added an address are trusted.
func (c *clientAddress) forwarded(proxy netip.Addr, headers []string) (netip.Addr, error) {
	client := proxy
	for _, line := range slices.Backward(headers) {
		for line != "" {
			last := strings.LastIndexByte(line, ',')
			text := strings.TrimSpace(line[last+1:])
			line = line[:max(last, 0)]
			if text == "" {
				continue
			}
			addr, err := parseAddress(text)
			if err != nil {
				return addr, errors.New("X-Forwarded-For has an entry that is not an address")
			}
			if client = addr; !c.trusts(addr) {
				return client, nil
			}
		}
	}
	return client, nil
}

// parseAddress reads an address with or without a port. An IPv4 address in IPv6 is the
// IPv4 address.
func parseAddress(s string) (netip.Addr, error) {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return p.Addr().Unmap(), nil
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return addr.Unmap(), err
}
