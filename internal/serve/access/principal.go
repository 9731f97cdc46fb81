// Package access decides who may do what with the daemon: roles, bearer tokens, and the checks of
// requests that need no token.
package access

import (
	"context"
	"fmt"
	"strings"
)

// A Role is what a token may be used for.
type Role int

// The roles. What each may do is a method of [Principal].
const (
	Acquire Role = iota + 1 // acquires by stored limits or named policies, and ends its leases
	Gateway                 // calls through the routes of the gateway
	Read                    // lists, levels, usage, audit, metrics and the dashboard
	Admin                   // everything that the others may, and changes
)

// String returns the role's name in a configuration.
func (r Role) String() string {
	switch r {
	case Acquire:
		return "acquire"
	case Gateway:
		return "gateway"
	case Read:
		return "read"
	case Admin:
		return "admin"
	default:
		return fmt.Sprintf("Role(%d)", int(r))
	}
}

// UnmarshalText sets the role to the one that has the name.
func (r *Role) UnmarshalText(text []byte) error {
	for role := Acquire; role <= Admin; role++ {
		if role.String() == string(text) {
			*r = role
			return nil
		}
	}
	return fmt.Errorf("role %q: want acquire, gateway, read or admin", text)
}

// A Principal is the sender of a request: the bearer of a token, or a caller that needs none. The
// zero Principal may do nothing.
type Principal struct {
	Name         string // of the token, or "local"; stands in the audit log
	Role         Role
	Prefix       string // the entities that it may name begin with it; empty: all
	MaySetLimits bool   // its acquires may carry limits of their own
}

// MayAcquire reports whether the principal may acquire for an entity and end leases of it.
func (p Principal) MayAcquire(entity string) bool {
	return (p.Role == Acquire || p.Role == Admin) && p.Covers(entity)
}

// MaySendLimits reports whether the acquires of the principal may carry limits of their own. A
// caller that sends its limits admits itself.
func (p Principal) MaySendLimits() bool {
	return p.Role == Admin || p.Role == Acquire && p.MaySetLimits
}

// MayUseGateway reports whether the principal may call through the gateway.
func (p Principal) MayUseGateway() bool {
	return p.Role == Gateway || p.Role == Admin && (p.Name == Local || p.Name == Anyone)
}

// Covers reports whether an entity begins with the principal's prefix.
func (p Principal) Covers(entity string) bool { return strings.HasPrefix(entity, p.Prefix) }

// MayReadLevels reports whether the principal may see what is left of an entity's limits.
func (p Principal) MayReadLevels(entity string) bool {
	return (p.Role == Acquire || p.Role == Read || p.Role == Admin) && p.Covers(entity)
}

// MayRead reports whether the principal may see all else of an entity: usage, audit, limits.
func (p Principal) MayRead(entity string) bool {
	return (p.Role == Read || p.Role == Admin) && p.Covers(entity)
}

// MayReadAll reports whether the principal may see what concerns more than one entity: resources,
// the system, metrics. A principal with a prefix may not.
func (p Principal) MayReadAll() bool {
	return (p.Role == Read || p.Role == Admin) && p.Prefix == ""
}

// MayChange reports whether the principal may change what concerns an entity.
func (p Principal) MayChange(entity string) bool { return p.Role == Admin && p.Covers(entity) }

// MayChangeAll reports whether the principal may change what concerns more than one entity.
func (p Principal) MayChangeAll() bool { return p.Role == Admin && p.Prefix == "" }

type key struct{}

// With returns a copy of the context of a request with its principal.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// From returns the principal of the context of a request: the zero Principal if it has none.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(key{}).(Principal)
	return p
}
