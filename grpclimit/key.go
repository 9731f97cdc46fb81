package grpclimit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/zeroae/zael/internal/clientkey"
)

// Fixed returns a KeyFunc that returns the same key for all calls, so that they share one
// bucket.
func Fixed(key string) KeyFunc {
	return func(context.Context, Call) (string, error) { return key, nil }
}

// Method returns a KeyFunc that returns the full name of the method.
func Method() KeyFunc {
	return func(_ context.Context, call Call) (string, error) { return call.Method, nil }
}

// Metadata returns a KeyFunc for servers that returns a value of the call's metadata,
// such as a tenant's name. A call without it fails with the code INVALID_ARGUMENT. Only
// metadata that a proxy or an earlier interceptor has verified keeps callers apart. The
// values of authorization, proxy-authorization, cookie, api-key and x-api-key are hashed
// as [Secret] does; use Secret for others that hold credentials.
func Metadata(name string) KeyFunc {
	name = strings.ToLower(name)
	key := func(ctx context.Context, _ Call) (string, error) {
		values := metadata.ValueFromIncomingContext(ctx, name)
		if len(values) == 0 || values[0] == "" {
			return "", fmt.Errorf("the metadata %s is missing", name)
		}
		return values[0], nil
	}
	if clientkey.Holds(name) {
		return Secret(key)
	}
	return key
}

// Secret returns a KeyFunc that returns a hash of what key returns: the first 16 bytes of
// SHA-256, in hexadecimal. Keys are stored, and API keys and tokens must not be.
func Secret(key KeyFunc) KeyFunc {
	return func(ctx context.Context, call Call) (string, error) {
		value, err := key(ctx, call)
		if err != nil || value == "" {
			return value, err
		}
		return clientkey.Hash(value), nil
	}
}

// Join returns a KeyFunc that joins several keys to one, so that each combination of them
// has limits of its own: the keys with "|" between them, where "|" and "%" in a key are
// written as %7C and %25.
func Join(keys ...KeyFunc) KeyFunc {
	keys = slices.Clone(keys)
	return func(ctx context.Context, call Call) (string, error) {
		parts := make([]string, len(keys))
		for i, key := range keys {
			var err error
			if parts[i], err = key(ctx, call); err != nil {
				return "", err
			}
		}
		return clientkey.Join(parts)
	}
}

// Peers say which address is a client's. A nil *Peers is the same as the zero Peers: the
// address of the connection.
type Peers struct {
	// TrustedProxies are the networks of proxies whose x-forwarded-for is believed.
	// Without any it is ignored, as anybody can send it.
	TrustedProxies []netip.Prefix
	// IPv4Bits and IPv6Bits are the lengths of the prefix that is one client. 0 means
	// 32 and 64: a client with IPv6 usually owns a /64.
	IPv4Bits, IPv6Bits int
}

// Peer returns a KeyFunc for servers that returns the client's address: "192.0.2.1", or
// the network of an IPv6 address, "2001:db8::/64". If the connection comes from a trusted
// proxy, it is the last address of x-forwarded-for that is not a trusted proxy. Peer
// panics if a length is out of range.
func Peer(p *Peers) KeyFunc {
	if p == nil {
		p = new(Peers)
	}
	networks, err := clientkey.NewNetworks(p.TrustedProxies, p.IPv4Bits, p.IPv6Bits)
	if err != nil {
		panic("grpclimit: " + err.Error())
	}
	return func(ctx context.Context, _ Call) (string, error) {
		from, ok := peer.FromContext(ctx)
		if !ok || from.Addr == nil {
			return "", errors.New("the connection has no client address")
		}
		return networks.Client(from.Addr.String(), func() []string { return metadata.ValueFromIncomingContext(ctx, "x-forwarded-for") })
	}
}
