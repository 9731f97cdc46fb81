package access_test

import (
	"testing"

	"github.com/zeroae/zael/internal/serve/access"
)

// The table of what each role may do; "own" is an entity under the prefix, "other" one that is not.
func TestPrincipal(t *testing.T) {
	t.Parallel()
	type may struct{ acquire, limits, gateway, levels, read, readAll, change, changeAll bool }
	for name, test := range map[string]struct {
		p          access.Principal
		own, other may
	}{
		"nobody":                 {},
		"acquire":                {p: access.Principal{Role: access.Acquire}, own: may{acquire: true, levels: true}, other: may{acquire: true, levels: true}},
		"acquire, own limits":    {p: access.Principal{Role: access.Acquire, MaySetLimits: true}, own: may{acquire: true, limits: true, levels: true}, other: may{acquire: true, limits: true, levels: true}},
		"acquire under a prefix": {p: access.Principal{Role: access.Acquire, Prefix: "a/"}, own: may{acquire: true, levels: true}},
		"gateway":                {p: access.Principal{Role: access.Gateway, MaySetLimits: true}, own: may{gateway: true}, other: may{gateway: true}},
		"read":                   {p: access.Principal{Role: access.Read, MaySetLimits: true}, own: may{levels: true, read: true, readAll: true}, other: may{levels: true, read: true, readAll: true}},
		"read under a prefix":    {p: access.Principal{Role: access.Read, Prefix: "a/"}, own: may{levels: true, read: true}},
		"admin": {
			p:   access.Principal{Role: access.Admin},
			own: may{acquire: true, limits: true, levels: true, read: true, readAll: true, change: true, changeAll: true}, other: may{acquire: true, limits: true, levels: true, read: true, readAll: true, change: true, changeAll: true},
		},
		"admin under a prefix": {p: access.Principal{Role: access.Admin, Prefix: "a/"}, own: may{acquire: true, limits: true, levels: true, read: true, change: true}, other: may{limits: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for entity, want := range map[string]may{"a/1": test.own, "b": test.other} {
				got := may{
					test.p.MayAcquire(entity), test.p.MaySendLimits(), test.p.MayUseGateway(), test.p.MayReadLevels(entity),
					test.p.MayRead(entity), test.p.MayReadAll(), test.p.MayChange(entity), test.p.MayChangeAll(),
				}
				if got != want {
					t.Errorf("%s: got %+v, want %+v", entity, got, want)
				}
			}
			if got := access.From(access.With(t.Context(), test.p)); got != test.p {
				t.Errorf("from the context: got %+v, want %+v", got, test.p)
			}
		})
	}
	var r access.Role
	if err := r.UnmarshalText([]byte("root")); err == nil {
		t.Error(`got no error for role "root"`)
	}
	if err := r.UnmarshalText([]byte("read")); err != nil || r != access.Read || r.String() != "read" {
		t.Errorf("got %v and %v, want read", r, err)
	}
}
