package zael

import (
	"context"
	"fmt"
)

// A Change is an entity to create, limits to store for a scope or to delete, or a setting
// of a scope. The zero Change is an error. See [Limiter.Apply].
type Change struct {
	Create *Entity // the entity to create, as CreateEntity does

	Scope  Scope   // whose limits to change
	Limits []Limit // the limits to store, as SetLimits does
	Delete bool    // delete the limits, as DeleteLimits does

	Switch      *Switch      // the switch to store, as SetSwitch does
	FailureMode *FailureMode // the failure mode to store, as SetFailureMode does
}

// check returns an error unless the change is exactly one of them.
func (c *Change) check() error {
	said := btoi(c.Create != nil) + btoi(len(c.Limits) > 0) + btoi(c.Delete) + btoi(c.Switch != nil) + btoi(c.FailureMode != nil)
	switch {
	case said == 0:
		return invalid("Change", nil, "says nothing: give Create, or Limits to set, Delete to remove those of the scope, Switch or FailureMode")
	case said > 1 || c.Create != nil && c.Scope != Scope{}:
		return invalid("Change", nil, "says several things: give one of Create, Limits, Delete, Switch and FailureMode, each in a change of its own")
	}
	return nil
}

// Apply makes changes in order and returns how many it made. A store that is an
// [Applier] makes all of them or none, in one step. On other stores each is a step of
// its own, and if one fails those before it stay. All are checked before the first is
// made. Errors are those of the methods that make one change each.
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
			edits[i], err = l.creationEdit(ctx, *c.Create)
		case c.Switch != nil, c.FailureMode != nil:
			edits[i], err = l.settingEdit(ctx, &c)
		default:
			edits[i], err = l.limitEdit(ctx, c.Scope, c.Limits)
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
	if err := l.raiseRevisions(ctx, edits); err != nil {
		return 0, err
	}
	err = applier.Apply(ctx, edits)
	l.limitCache.clear()
	l.entityCache.clear()
	l.forgetSettings()
	if err != nil {
		return 0, l.storeError(ctx, Key{}, err)
	}
	for i := range edits {
		if !edits[i].changesLimits() {
			continue
		}
		if err := l.applyToLiveBuckets(ctx, edits[i].Scope()); err != nil {
			return len(edits), err
		}
	}
	return len(edits), nil
}

func (l *Limiter) applyEach(ctx context.Context, edits []Edit) (made int, err error) {
	for i := range edits {
		switch e := &edits[i]; {
		case e.Event.Action == EntityCreated:
			err = l.createEntity(ctx, e)
		case e.changesLimits():
			err = l.changeLimits(ctx, e)
		default:
			_, err = l.administer(ctx, *e, AdminOptions{})
		}
		if err != nil {
			return i, err
		}
	}
	return len(edits), nil
}

// changesLimits reports whether an edit is of limits.
func (e *Edit) changesLimits() bool {
	return e.Event.Action == LimitsSet || e.Event.Action == LimitsDeleted
}

// settingEdit returns the checked edit of a switch or a failure mode, for an Applier.
func (l *Limiter) settingEdit(ctx context.Context, c *Change) (e Edit, err error) {
	if c.Switch != nil {
		e, err = switchEdit(c.Scope, *c.Switch)
	} else {
		e, err = failureModeEdit(c.Scope, *c.FailureMode)
	}
	if err != nil {
		return e, err
	}
	if l.adminStore == nil {
		return e, l.unsupported("AdminStore")
	}
	e.Event.Principal = l.principalOf(ctx)
	e.Event.Time, err = l.auditTime()
	return e, err
}
