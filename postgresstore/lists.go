package postgresstore

import (
	"context"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/prefix"
	"github.com/zeroae/zael/internal/storedlimits"
)

// named selects the names in a column that begin with a text and come after another.
func (q *query) named(column, begin, after string) *query {
	q.add(" AND "+column+" >= ? AND starts_with("+column+", ?)", begin, begin)
	if end := prefix.End(begin); end != "" && utf8.ValidString(end) { // for the index
		q.add(" AND "+column+" < ?", end)
	}
	if after != "" {
		q.add(" AND "+column+" > ?", after)
	}
	return q
}

func checkList(q zael.ListQuery) error {
	if err := checkText("prefix", q.Prefix); err != nil {
		return err
	}
	return checkText("after", q.After)
}

// listed returns what scan makes of each row of a query.
func listed[T any](ctx context.Context, s *Store, q *query, scan func(pgx.CollectableRow) (T, error)) (found []T, err error) {
	err = s.readTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = collect(ctx, s, tx, q, scan)
		return err
	})
	return found, err
}

// ListEntities implements zael.ListStore.
func (s *Store) ListEntities(ctx context.Context, l zael.ListQuery) ([]zael.Entity, error) {
	if err := checkList(l); err != nil {
		return nil, err
	}
	q := new(query).add("SELECT "+entityColumns+" FROM zael.entities WHERE namespace = ?", s.config.Namespace).named("id", l.Prefix, l.After)
	return listed(ctx, s, q.add(" ORDER BY id LIMIT ?", l.Max), scanEntity)
}

// ListScopes implements zael.ListStore.
func (s *Store) ListScopes(ctx context.Context, l zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	if err := checkText("prefix", l.Prefix); err != nil {
		return nil, err
	}
	q := new(query).add("SELECT entity, resource, limits FROM zael.limits WHERE namespace = ? AND limits <> ?", s.config.Namespace, storedlimits.None).named("entity", l.Prefix, "")
	if l.After != nil {
		if err := checkKey(zael.Key(*l.After)); err != nil {
			return nil, err
		}
		q.add(" AND (entity, resource) > (?, ?)", l.After.Entity, l.After.Resource)
	}
	return listed(ctx, s, q.add(" ORDER BY entity, resource LIMIT ?", l.Max), func(row pgx.CollectableRow) (found zael.ScopeLimits, err error) {
		var text string
		if err := row.Scan(&found.Scope.Entity, &found.Scope.Resource, &text); err != nil {
			return found, err
		}
		found.Limits, err = storedlimits.Parse(text)
		return found, err
	})
}

// ListResources implements zael.ListStore. It looks for each resource of the buckets in the
// index, so that the number of buckets does not matter.
func (s *Store) ListResources(ctx context.Context, l zael.ListQuery) ([]string, error) {
	if err := checkList(l); err != nil {
		return nil, err
	}
	name := s.config.Namespace
	q := new(query).add("WITH RECURSIVE used (name) AS ((SELECT resource FROM zael.buckets WHERE namespace = ?", name).named("resource", l.Prefix, l.After)
	q.add(" ORDER BY resource LIMIT 1) UNION ALL SELECT (SELECT b.resource FROM zael.buckets b WHERE b.namespace = ? AND b.resource > used.name", name).named("b.resource", l.Prefix, "")
	q.add(` ORDER BY b.resource LIMIT 1) FROM used WHERE used.name IS NOT NULL), first AS (SELECT name FROM used WHERE name IS NOT NULL LIMIT ?)
		SELECT name FROM first UNION SELECT resource FROM zael.limits WHERE namespace = ? AND entity = '' AND resource <> '' AND limits <> ?`, l.Max, name, storedlimits.None).named("resource", l.Prefix, l.After)
	return listed(ctx, s, q.add(" ORDER BY 1 LIMIT ?", l.Max), pgx.RowTo[string])
}
