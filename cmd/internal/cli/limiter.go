package cli

import (
	"context"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/client"
)

// A limiter is what commands read and change: one in this process, or a server.
//
//nolint:interfacebloat // both have all of it
type limiter interface {
	Apply(ctx context.Context, changes []zael.Change) (made int, err error)
	Audit(ctx context.Context, q zael.AuditQuery) ([]zael.AuditEvent, error)
	Available(ctx context.Context, q zael.Query) (zael.Amounts, error)
	Children(ctx context.Context, parent string) ([]zael.Entity, error)
	CreateEntity(ctx context.Context, e zael.Entity) (zael.Entity, error)
	DeleteEntity(ctx context.Context, id string) error
	DeleteLimits(ctx context.Context, scope zael.Scope) error
	DeleteNamespace(ctx context.Context, name string) error
	Entities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error)
	Entity(ctx context.Context, id string) (zael.Entity, error)
	Limits(ctx context.Context, scope zael.Scope) ([]zael.Limit, error)
	Namespace(ctx context.Context, name string) (zael.Namespace, error)
	Namespaces(ctx context.Context) ([]zael.Namespace, error)
	Overridden(ctx context.Context, changes []zael.Change) ([]zael.Override, error)
	Ping(ctx context.Context) error
	PurgeNamespace(ctx context.Context, name string) (records int, err error)
	RecoverNamespace(ctx context.Context, name string) error
	RegisterNamespace(ctx context.Context, name string) error
	Reset(ctx context.Context, entity, resource string, names []string, options zael.AdminOptions) (zael.Amounts, error)
	ResourceCapacity(ctx context.Context, resource, limit string, options zael.CapacityOptions) (zael.ResourceCapacity, error)
	Resources(ctx context.Context, q zael.ListQuery) ([]string, error)
	Scopes(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error)
	SetFailureMode(ctx context.Context, scope zael.Scope, mode zael.FailureMode, options zael.AdminOptions) error
	SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit) error
	SetParent(ctx context.Context, id, parent string, options zael.AdminOptions) error
	SetSwitch(ctx context.Context, scope zael.Scope, s zael.Switch, options zael.AdminOptions) error
	Settings(ctx context.Context, scope zael.Scope) (zael.Settings, error)
	TimeUntilAvailable(ctx context.Context, q zael.Query, amounts zael.Amounts) (time.Duration, error)
	TopUp(ctx context.Context, entity, resource string, amounts zael.Amounts, options zael.AdminOptions) (zael.Amounts, error)
	Usage(ctx context.Context, q zael.UsageQuery) (zael.Usage, error)
}

// isServer reports whether a store is the address of a server.
func isServer(url string) bool {
	return strings.HasPrefix(url, "http:") || strings.HasPrefix(url, "https:")
}

// mostTimeout is how long a server may take to answer, whatever --timeout says.
const mostTimeout = 10 * time.Minute

// dial returns a client of a server. It makes no call.
func (a *app) dial(s *storeFlags, url string) (*client.Client, error) {
	if s.timeout <= 0 {
		return nil, usagef("--timeout %v is not above 0", s.timeout)
	}
	config := &client.Config{Token: strings.TrimSpace(a.getenv("ZAEL_TOKEN")), Timeout: min(max(s.timeout, time.Millisecond), mostTimeout)}
	c, err := client.New(url, config)
	return c, ofFlags(err)
}
