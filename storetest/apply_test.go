package storetest_test

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/zeroae/zael"
)

// Apply works on copies, which it keeps if all edits are made.
func (s *reference) Apply(ctx context.Context, edits []zael.Edit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := &reference{
		entities: maps.Clone(s.entities), limits: maps.Clone(s.limits), events: slices.Clone(s.events), admin: s.admin,
	}
	copied.admin.settings = maps.Clone(s.admin.settings)
	if err := applyEach(ctx, copied, edits); err != nil {
		return err
	}
	s.entities, s.limits, s.events, s.admin = copied.entities, copied.limits, copied.events, copied.admin
	return nil
}

func applyEach(ctx context.Context, s interface {
	zael.EntityStore
	zael.LimitStore
	zael.AdminStore
}, edits []zael.Edit,
) error {
	for _, e := range edits {
		var err error
		scope := e.Scope()
		switch e.Event.Action {
		case zael.EntityCreated:
			err = s.CreateEntity(ctx, e.Entity, e.Event)
		case zael.LimitsSet:
			_, err = s.SetLimits(ctx, scope, e.Limits, e.Event)
		case zael.LimitsDeleted:
			_, err = s.DeleteLimits(ctx, scope, e.Event)
		default:
			_, err = s.Administer(ctx, e.Event.Time, e, zael.Once{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// applying is a store that applies edits in its own way.
func applying(apply func(ctx context.Context, good *reference, edits []zael.Edit) error) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.apply = func(ctx context.Context, edits []zael.Edit) error { return apply(ctx, good, edits) }
	})
}

// brokenApplies have a defect as Applier.
func brokenApplies() []brokenStore {
	return []brokenStore{
		{
			name: "applies one by one",
			make: applying(func(ctx context.Context, good *reference, edits []zael.Edit) error {
				return applyEach(ctx, good, edits)
			}),
			fails: []string{"Applier/all edits are made or none", "Applier/each edit records its event"},
		},
		{
			name: "applies from the end",
			make: applying(func(ctx context.Context, good *reference, edits []zael.Edit) error {
				edits = slices.Clone(edits)
				slices.Reverse(edits)
				return good.Apply(ctx, edits)
			}),
			fails: []string{"Applier/edits are made in order"},
		},
		{
			name: "keeps entities that exist",
			make: applying(func(ctx context.Context, good *reference, edits []zael.Edit) error {
				for i := range edits {
					if err := good.Apply(ctx, edits[i:i+1]); err != nil && !errors.Is(err, zael.ErrEntityExists) {
						return err
					}
				}
				return nil
			}),
			fails: []string{"Applier/all edits are made or none"},
		},
		{
			name: "a context that ends leaves the first edit",
			make: applying(func(ctx context.Context, good *reference, edits []zael.Edit) error {
				if err := ctx.Err(); err != nil {
					return errors.Join(good.Apply(context.WithoutCancel(ctx), edits[:1]), err)
				}
				return good.Apply(ctx, edits)
			}),
			fails: []string{"Applier/a done context: all or nothing"},
		},
		{
			name: "deletes limits without a revision",
			make: applying(func(ctx context.Context, good *reference, edits []zael.Edit) error {
				if err := good.Apply(ctx, edits); err != nil {
					return err
				}
				good.mu.Lock()
				defer good.mu.Unlock()
				maps.DeleteFunc(good.limits, func(_ zael.Scope, set zael.LimitSet) bool { return len(set.Limits) == 0 })
				return nil
			}),
			fails: []string{"Applier/edits are made in order"},
		},
	}
}
