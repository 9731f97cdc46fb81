package grpclimit_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/zeroae/zael/grpclimit"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	proxies := &grpclimit.Peers{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, c := range []struct {
		name string
		key  grpclimit.KeyFunc
		peer string
		md   []string
		want string // empty: an error
	}{
		{"fixed", grpclimit.Fixed("all"), "", nil, "all"},
		{"method", grpclimit.Method(), "", nil, "/a.B/C"},
		{"metadata", grpclimit.Metadata("X-Tenant"), "", []string{"x-tenant", "acme"}, "acme"},
		{"no metadata", grpclimit.Metadata("X-Tenant"), "", nil, ""},
		{"a token", grpclimit.Metadata("authorization"), "", []string{"authorization", "abc"}, "ba7816bf8f01cfea414140de5dae2223"},
		{"a secret", grpclimit.Secret(grpclimit.Metadata("x-session")), "", []string{"x-session", "abc"}, "ba7816bf8f01cfea414140de5dae2223"},
		{"joined", grpclimit.Join(grpclimit.Fixed("a|b%"), grpclimit.Method()), "", nil, "a%7Cb%25|/a.B/C"},
		{"joined, one missing", grpclimit.Join(grpclimit.Fixed("a"), grpclimit.Metadata("x")), "", nil, ""},
		{"joined, one empty", grpclimit.Join(grpclimit.Fixed("a"), grpclimit.Fixed("")), "", nil, ""},
		{"peer", grpclimit.Peer(nil), "192.0.2.1:80", []string{"x-forwarded-for", "1.1.1.1"}, "192.0.2.1"},
		{"peer over IPv6", grpclimit.Peer(nil), "[2001:db8::1]:80", nil, "2001:db8::/64"},
		{"behind a proxy", grpclimit.Peer(proxies), "10.0.0.1:80", []string{"x-forwarded-for", "1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"no peer", grpclimit.Peer(nil), "", nil, ""},
	} {
		ctx := t.Context()
		if c.peer != "" {
			ctx = peer.NewContext(ctx, &peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.peer))})
		}
		if c.md != nil {
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(c.md...))
		}
		got, err := c.key(ctx, grpclimit.Call{Method: "/a.B/C"})
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	if lease, ok := grpclimit.LeaseFrom(context.Background()); ok || lease != nil {
		t.Errorf("a lease outside of calls: got %v", lease)
	}
}
