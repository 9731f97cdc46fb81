// Package clientkey makes keys of what edges know of their clients: addresses, secrets
// and combinations.
package clientkey

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Hash returns the first 16 bytes of the SHA-256 of a secret, in hexadecimal.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:16])
}

// Holds reports whether a header, in lower case, holds credentials.
func Holds(header string) bool {
	switch header {
	case "authorization", "proxy-authorization", "cookie", "api-key", "x-api-key":
		return true
	}
	return false
}

// Join joins keys with "|" between them, where "|" and "%" in a key are written as %7C
// and %25. No key may be empty.
func Join(keys []string) (string, error) {
	var all strings.Builder
	for i, k := range keys {
		if k == "" {
			return "", errors.New("a part of the key is empty")
		}
		if i > 0 {
			all.WriteByte('|')
		}
		for _, part := range []byte(k) {
			switch part {
			case '%':
				all.WriteString("%25")
			case '|':
				all.WriteString("%7C")
			default:
				all.WriteByte(part)
			}
		}
	}
	return all.String(), nil
}

// Networks say which address is a client's.
type Networks struct {
	trusted      []netip.Prefix
	bits4, bits6 int
}

// NewNetworks returns Networks with proxies whose word is believed, and the lengths of the
// prefix that is one client: 0 means 32 and 64.
func NewNetworks(proxies []netip.Prefix, bits4, bits6 int) (*Networks, error) {
	n := &Networks{trusted: slices.Clone(proxies), bits4: bits4, bits6: bits6}
	if bits4 == 0 {
		n.bits4 = 32
	}
	if bits6 == 0 {
		n.bits6 = 64
	}
	if n.bits4 < 1 || n.bits4 > 32 || n.bits6 < 1 || n.bits6 > 128 {
		return nil, fmt.Errorf("a prefix of %d bits of IPv4 or %d of IPv6 is out of range", bits4, bits6)
	}
	return n, nil
}

// Client returns the client's address or network: that of remote, or if it is a trusted
// proxy, the last entry of the lines of X-Forwarded-For that is not one. The lines are
// asked for only then.
func (n *Networks) Client(remote string, forwarded func() []string) (string, error) {
	addr, err := parse(remote)
	if err != nil {
		return "", errors.New("the connection has no client address")
	}
	if n.trusts(addr) {
		if addr, err = n.behind(addr, forwarded()); err != nil {
			return "", err
		}
	} else if n.bits4 == 32 && addr.Is4() {
		if host, _, ok := strings.Cut(remote, ":"); ok && host[0] != '[' { // as it is: without an allocation
			return host, nil
		}
	}
	bits := n.bits6
	if addr.Is4() {
		if bits = n.bits4; bits == 32 {
			return addr.String(), nil
		}
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return "", err
	}
	return p.String(), nil
}

// Proxied reports whether remote is a trusted proxy.
func (n *Networks) Proxied(remote string) bool {
	addr, err := parse(remote)
	return err == nil && n.trusts(addr)
}

func (n *Networks) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(n.trusted, func(p netip.Prefix) bool { return p.Contains(addr.WithZone("")) })
}

// behind goes back from the proxy that made the connection, as long as those who added an
// address are trusted.
func (n *Networks) behind(proxy netip.Addr, lines []string) (netip.Addr, error) {
	client := proxy
	for _, line := range slices.Backward(lines) {
		for line != "" {
			last := strings.LastIndexByte(line, ',')
			text := strings.TrimSpace(line[last+1:])
			line = line[:max(last, 0)]
			if text == "" {
				continue
			}
			addr, err := parse(text)
			if err != nil {
				return addr, errors.New("X-Forwarded-For has an entry that is not an address")
			}
			if client = addr; !n.trusts(addr) {
				return client, nil
			}
		}
	}
	return client, nil
}

// parse reads an address with or without a port. An IPv4 address in IPv6 is the IPv4
// address.
func parse(s string) (netip.Addr, error) {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return p.Addr().Unmap(), nil
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return addr.Unmap(), err
}
