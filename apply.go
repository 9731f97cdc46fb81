package zael

import (
	"context"
	"fmt"
)

// A Change is one part of Apply. It says one of three things: an entity to create,
// limits to set, or that limits are deleted. The zero Change is an error.
type Change struct {
	Create *Entity // as CreateEntity

	Scope  Scope   // of the limits
	Limits []Limit // as SetLimits
	Delete bool    // as DeleteLimits
}

// check finds a change that says nothing, or two things.
func (c *Change) check() error {
	said := btoi(c.Create != nil) + btoi(len(c.Limits) > 0) + btoi(c.Delete)
	switch {
	case said == 0:
		return invalid("Change", nil, "says nothing: give Create, or Limits to set, or Delete to remove those of the scope")
	case said > 1 || c.Create != nil && c.Scope != Scope{}:
		return invalid("Change", nil, "says several things: give one of Create, Limits and Delete, each in a change of its own")
	}
	return nil
}

// Apply makes several changes, in order, and tells how many are made. A store
// that is an [Applier] makes all or none, in one step; on others each is a step
// of its own, and if one fails those before it stay. All are checked before the
// first is made. Errors are those of CreateEntity, SetLimits and DeleteLimits.
func (l *Limiter) Apply(ctx context.Context, changes []Change) (made int, err error) {
	if err := l.checkOpen(); err != nil {
		return 0, err
	}
	edits := make([]Edit, len(changes))
	for i, c := range changes {
		err = c.check()
		switch {
		case err != nil:
		case c.Create != nil:
			edits[i], err = l.creation(*c.Create)
		default:
			edits[i], err = l.setting(c.Scope, c.Limits)
		}
		if err != nil {
			return 0, fmt.Errorf("change %d of %d: %w", i+1, len(changes), err)
		}
	}
	applier, ok := l.store.(Applier)
	if !ok {
		return l.applyEach(ctx, edits)
	}
	if len(edits) == 0 {
		return 0, nil
	}
	if err := l.outrank(ctx, edits); err != nil {
		return 0, err
	}
	err = applier.Apply(ctx, edits)
	l.sets.clear()
	l.parents.clear()
	if err != nil {
		return 0, l.stored(ctx, Key{}, err)
	}
	for i := range edits {
		if edits[i].Event.Action == EntityCreated {
			continue
		}
		if err := l.follow(ctx, edits[i].Scope()); err != nil {
			return len(edits), err
		}
	}
	return len(edits), nil
}

func (l *Limiter) applyEach(ctx context.Context, edits []Edit) (made int, err error) {
	for i := range edits {
		if edits[i].Event.Action == EntityCreated {
			err = l.create(ctx, &edits[i])
		} else {
			err = l.set(ctx, &edits[i])
		}
		if err != nil {
			return i, err
		}
	}
	return len(edits), nil
}
