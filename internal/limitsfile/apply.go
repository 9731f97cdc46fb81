package limitsfile

import (
	"context"

	"github.com/zeroae/zael"
)

// A Writer changes what is stored; a *zael.Limiter is one.
type Writer interface {
	Apply(ctx context.Context, changes []zael.Change) (made int, err error)
}

// Apply makes the changes of a plan, in its order, and returns those that it made. Where
// the store can, all or none are made. Otherwise, if one fails, those before it are
// made, and a new plan has the rest.
func Apply(ctx context.Context, store Writer, p *Plan) ([]Change, error) {
	changes := make([]zael.Change, len(p.Changes))
	for i, c := range p.Changes {
		switch {
		case c.Entity != nil:
			changes[i].Create = c.Entity
		case c.Action == Delete:
			changes[i] = zael.Change{Scope: c.Scope, Delete: true}
		default:
			changes[i] = zael.Change{Scope: c.Scope, Limits: c.After}
		}
	}
	made, err := store.Apply(ctx, changes)
	return p.Changes[:made], err
}
