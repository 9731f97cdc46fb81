package limitsfile

import (
	"context"

	"github.com/zeroae/zael"
)

// A Writer changes what is stored; a *zael.Limiter is one.
type Writer interface {
	Apply(ctx context.Context, changes []zael.Change) (made int, err error)
	RegisterNamespace(ctx context.Context, name string) error
}

// Apply makes the changes of a plan, in its order, and returns those that it made. Where
// the store can, all or none are made. Otherwise, if one fails, those before it are
// made, and a new plan has the rest. Namespaces are registered first, each in a step of its
// own.
func Apply(ctx context.Context, store Writer, p *Plan) ([]Change, error) {
	registered := 0 // which come first
	for ; registered < len(p.Changes) && p.Changes[registered].Namespace != ""; registered++ {
		if err := store.RegisterNamespace(ctx, p.Changes[registered].Namespace); err != nil {
			return p.Changes[:registered], err
		}
	}
	changes := make([]zael.Change, len(p.Changes)-registered)
	for i, c := range p.Changes[registered:] {
		switch s := c.Setting; {
		case s != nil:
			changes[i] = zael.Change{Scope: s.Scope, Switch: s.Switch, FailureMode: s.FailureMode}
		case c.Entity != nil:
			changes[i].Create = c.Entity
		case c.Action == Delete:
			changes[i] = zael.Change{Scope: c.Scope, Delete: true}
		default:
			changes[i] = zael.Change{Scope: c.Scope, Limits: c.After}
		}
	}
	made, err := store.Apply(ctx, changes)
	return p.Changes[:registered+made], err
}
