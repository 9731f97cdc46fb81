package limitsfile

import (
	"context"

	"github.com/zeroae/zael"
)

// A Writer is what Apply changes; a *zael.Limiter is one.
type Writer interface {
	CreateEntity(ctx context.Context, e zael.Entity) (zael.Entity, error)
	SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit) error
	DeleteLimits(ctx context.Context, scope zael.Scope) error
}

// Apply makes the changes of a plan in its order and calls done after each.
// Each is one step of the store. If one fails, those before it are made, and a
// new plan has the rest.
func Apply(ctx context.Context, store Writer, p *Plan, done func(Change)) error {
	for _, c := range p.Changes {
		var err error
		switch {
		case c.Entity != nil:
			_, err = store.CreateEntity(ctx, *c.Entity)
		case c.Action == Delete:
			err = store.DeleteLimits(ctx, c.Scope)
		default:
			err = store.SetLimits(ctx, c.Scope, c.After)
		}
		if err != nil {
			return err
		}
		done(c)
	}
	return nil
}
