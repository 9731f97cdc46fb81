package sqladmin

import (
	"context"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storedlimits"
)

// SetLimits implements zael.LimitStore.
func (a *Administration) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (rev int64, err error) {
	result := new(int64) // the change may set it after this call has ended
	set, err := a.limitsChange(scope, limits, &event, result)
	if err != nil {
		return 0, err
	}
	if err := a.database.Change(ctx, "setting limits", set); err != nil {
		return 0, err
	}
	return *result, nil
}

// DeleteLimits implements zael.LimitStore.
func (a *Administration) DeleteLimits(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (rev int64, err error) {
	return a.SetLimits(ctx, scope, nil, event)
}

// limitsChange returns the change that sets the limits of a scope, or deletes them if limits is
// empty. It writes their revision into result.
func (a *Administration) limitsChange(scope zael.Scope, limits []zael.Limit, event *zael.AuditEvent, result *int64) (Change, error) {
	if err := a.names.Key(zael.Key(scope)); err != nil {
		return nil, err
	}
	for _, l := range limits {
		if err := a.names.Text("limit", l.Name); err != nil {
			return nil, err
		}
	}
	text, err := storedlimits.Text(limits)
	if err != nil {
		return nil, err
	}
	audit, err := a.record(event)
	if err != nil {
		return nil, err
	}
	micros := event.Time.UnixMicro()
	return func(ctx context.Context, tx Tx) error {
		rev, kept, found := int64(0), storedlimits.None, false
		if err := tx.Query(ctx, a.of(scope, "rev, limits", "limits"), One(&found, &rev, &kept)); err != nil {
			return err
		}
		if text == storedlimits.None && kept == storedlimits.None {
			*result = rev
			return nil
		}
		*result = max(micros, rev+1)
		if _, err := tx.Exec(ctx, a.tables.put("limits", "rev, limits", scope.Entity, scope.Resource, *result, text)); err != nil {
			return err
		}
		return audit(ctx, tx)
	}, nil
}

// of is the query of a scope's row.
func (a *Administration) of(scope zael.Scope, columns, table string) *Query {
	return a.tables.From(columns, table).Add(" AND entity = ? AND resource = ?", scope.Entity, scope.Resource)
}

// readScopes reads the rows of scopes in a table, with a function that returns the scope of each.
func (a *Administration) readScopes(ctx context.Context, what string, scopes []zael.Scope, from func() *Query, read func(Rows) error) error {
	for some := range slices.Chunk(scopes, mostAsked) {
		q := from().Add(" AND (entity, resource) IN (VALUES ")
		for i, scope := range some {
			if err := a.names.Key(zael.Key(scope)); err != nil {
				return err
			}
			q.Add(separator(i)+"(?, ?)", scope.Entity, scope.Resource)
		}
		if err := a.database.Query(ctx, what, q.Add(")"), read); err != nil {
			return err
		}
	}
	return nil
}

// Limits implements zael.LimitStore.
func (a *Administration) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	found := map[zael.Scope]zael.LimitSet{}
	err := a.readScopes(ctx, "reading limits", scopes, func() *Query { return a.tables.From("entity, resource, rev, limits", "limits") }, func(rows Rows) error {
		for rows.Next() {
			var scope zael.Scope
			var set zael.LimitSet
			var text string
			err := rows.Scan(&scope.Entity, &scope.Resource, &set.Rev, &text)
			if err == nil {
				set.Limits, err = storedlimits.Parse(text)
			}
			if err != nil {
				return err
			}
			found[scope] = set
		}
		return rows.Err()
	})
	return inOrder(scopes, found, err)
}

// inOrder returns what was found of scopes, in their order.
func inOrder[T any](scopes []zael.Scope, found map[zael.Scope]T, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	all := make([]T, len(scopes))
	for i, scope := range scopes {
		all[i] = found[scope]
	}
	return all, nil
}

// ListEntities implements zael.ListStore.
func (a *Administration) ListEntities(ctx context.Context, l zael.ListQuery) ([]zael.Entity, error) {
	if err := a.names.List(l); err != nil {
		return nil, err
	}
	q := a.tables.From(a.entityColumns(), "entities").Named("id", l.Prefix, l.After)
	return Collect(ctx, a.database, "listing entities", q.Add(" ORDER BY id LIMIT ?", l.Max), scanEntity)
}

// ListScopes implements zael.ListStore.
func (a *Administration) ListScopes(ctx context.Context, l zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	if err := a.names.Text("prefix", l.Prefix); err != nil {
		return nil, err
	}
	q := a.tables.From("entity, resource, limits", "limits").Add(" AND limits <> ?", storedlimits.None).Named("entity", l.Prefix, "")
	if l.After != nil {
		if err := a.names.Key(zael.Key(*l.After)); err != nil {
			return nil, err
		}
		q.Add(" AND (entity, resource) > (?, ?)", l.After.Entity, l.After.Resource)
	}
	return Collect(ctx, a.database, "listing scopes", q.Add(" ORDER BY entity, resource LIMIT ?", l.Max), func(row Row) (of zael.ScopeLimits, err error) {
		var text string
		if err := row.Scan(&of.Scope.Entity, &of.Scope.Resource, &text); err != nil {
			return of, err
		}
		of.Limits, err = storedlimits.Parse(text)
		return of, err
	})
}
