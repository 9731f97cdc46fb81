package postgresstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storedlimits"
)

// limitsText returns limits as text, if their names can be kept.
func limitsText(limits []zael.Limit) (string, error) {
	for _, l := range limits {
		if err := checkText("limit", l.Name); err != nil {
			return "", err
		}
	}
	return storedlimits.Text(limits)
}

// SetLimits implements zael.LimitStore.
func (s *Store) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	return s.setLimits(ctx, scope, limits, event)
}

// DeleteLimits implements zael.LimitStore.
func (s *Store) DeleteLimits(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
	return s.setLimits(ctx, scope, nil, event)
}

func (s *Store) setLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (rev int64, err error) {
	set, err := s.limitsChange(scope, limits, event, &rev)
	if err != nil {
		return 0, err
	}
	if err := s.change(ctx, "storing limits", set); err != nil {
		return 0, err
	}
	return rev, nil
}

// limitsChange returns the change that sets the limits of a scope, or deletes them if limits is
// empty. It writes their revision into result.
func (s *Store) limitsChange(scope zael.Scope, limits []zael.Limit, event zael.AuditEvent, result *int64) (change, error) {
	if err := checkKey(zael.Key(scope)); err != nil {
		return nil, err
	}
	text, err := limitsText(limits)
	if err != nil {
		return nil, err
	}
	audit, err := s.auditChange(event)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx pgx.Tx) error {
		rev, kept := int64(0), storedlimits.None
		_, err := s.find(ctx, tx, new(query).add("SELECT rev, limits FROM zael.limits WHERE namespace = ? AND entity = ? AND resource = ?",
			s.config.Namespace, scope.Entity, scope.Resource), &rev, &kept)
		if err != nil {
			return err
		}
		if text == storedlimits.None && kept == storedlimits.None {
			*result = rev
			return nil
		}
		*result = max(event.Time.UnixMicro(), rev+1)
		_, err = s.exec(ctx, tx, new(query).add(`INSERT INTO zael.limits (namespace, entity, resource, rev, limits) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (namespace, entity, resource) DO UPDATE SET rev = excluded.rev, limits = excluded.limits`,
			s.config.Namespace, scope.Entity, scope.Resource, *result, text))
		if err != nil {
			return err
		}
		return audit(ctx, tx)
	}, nil
}

// Apply implements zael.Applier.
func (s *Store) Apply(ctx context.Context, edits []zael.Edit) error {
	var ids []string
	var changes []change
	for _, e := range edits {
		var c change
		var err error
		switch {
		case !e.Applies():
			err = notAnEdit(&e)
		case e.Event.Action == zael.EntityCreated:
			if slices.Contains(ids, e.Entity.ID) {
				return fmt.Errorf("%w: %s", zael.ErrEntityExists, e.Entity.ID)
			}
			ids = append(ids, e.Entity.ID)
			c, err = s.entityChange(e.Entity, e.Event)
		case e.Event.Action == zael.LimitsSet || e.Event.Action == zael.LimitsDeleted:
			c, err = s.limitsChange(e.Scope(), e.Limits, e.Event, new(int64))
		default:
			c, err = s.adminChange(e.Event.Time, &e, new(zael.EditResult))
		}
		if err != nil {
			return err
		}
		changes = append(changes, c)
	}
	return s.change(ctx, "applying changes", func(ctx context.Context, tx pgx.Tx) error {
		for _, c := range changes {
			if err := c(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// scopeArrays returns entities and resources of scopes, checked.
func scopeArrays(scopes []zael.Scope) (entities, resources []string, err error) {
	for _, scope := range scopes {
		if err := checkKey(zael.Key(scope)); err != nil {
			return nil, nil, err
		}
		entities, resources = append(entities, scope.Entity), append(resources, scope.Resource)
	}
	return entities, resources, nil
}

// Limits implements zael.LimitStore.
func (s *Store) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	entities, resources, err := scopeArrays(scopes)
	if err != nil {
		return nil, err
	}
	found := map[zael.Scope]zael.LimitSet{}
	err = s.retryRead(ctx, "reading limits", func(ctx context.Context) error {
		clear(found)
		rows, err := s.pool.Query(ctx, s.sql(`SELECT l.entity, l.resource, l.rev, l.limits FROM zael.limits l
			JOIN unnest($2::text[], $3::text[]) AS k (entity, resource) ON l.entity = k.entity COLLATE "C" AND l.resource = k.resource COLLATE "C" WHERE l.namespace = $1`),
			s.config.Namespace, entities, resources)
		if err != nil {
			return err
		}
		var scope zael.Scope
		var set zael.LimitSet
		var text string
		_, err = pgx.ForEachRow(rows, []any{&scope.Entity, &scope.Resource, &set.Rev, &text}, func() (err error) {
			set.Limits, err = storedlimits.Parse(text)
			found[scope] = set
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	sets := make([]zael.LimitSet, len(scopes))
	for i, scope := range scopes {
		sets[i] = found[scope]
	}
	return sets, nil
}
