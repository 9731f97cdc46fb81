package sqlitestore

import (
	"context"
	"database/sql"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/prefix"
	"github.com/zeroae/zael/internal/storedlimits"
)

// A condition is a part of a WHERE clause.
type condition struct {
	text string
	args []any
}

func (c *condition) and(text string, args ...any) {
	if c.text != "" {
		c.text += " AND "
	}
	c.text += text
	c.args = append(c.args, args...)
}

// named selects the names in a column that begin with a prefix and come after another.
func (c *condition) named(column, begin, after string) {
	c.and(column+" >= ?", begin)
	if end := prefix.End(begin); end != "" {
		c.and(column+" < ?", end)
	}
	if after != "" {
		c.and(column+" > ?", after)
	}
}

func checkList(q zael.ListQuery) error {
	if err := checkText("prefix", q.Prefix); err != nil {
		return err
	}
	return checkText("after", q.After)
}

// ListEntities implements zael.ListStore.
func (s *Store) ListEntities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error) {
	if err := checkList(q); err != nil {
		return nil, err
	}
	var c condition
	c.named("id", q.Prefix, q.After)
	return listed(ctx, s, scanEntity, "SELECT "+entityColumns+" FROM entities WHERE "+c.text+" ORDER BY id LIMIT ?", append(c.args, q.Max)...)
}

// ListScopes implements zael.ListStore.
func (s *Store) ListScopes(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	if err := checkText("prefix", q.Prefix); err != nil {
		return nil, err
	}
	var c condition
	c.and("limits <> ?", storedlimits.None)
	c.named("entity", q.Prefix, "")
	if q.After != nil {
		if err := checkKey(zael.Key(*q.After)); err != nil {
			return nil, err
		}
		c.and("(entity, resource) > (?, ?)", q.After.Entity, q.After.Resource)
	}
	return listed(ctx, s, func(rows *sql.Rows) (found zael.ScopeLimits, err error) {
		var text string
		if err := rows.Scan(&found.Scope.Entity, &found.Scope.Resource, &text); err != nil {
			return found, err
		}
		found.Limits, err = storedlimits.Parse(text)
		return found, err
	}, "SELECT entity, resource, limits FROM limits WHERE "+c.text+" ORDER BY entity, resource LIMIT ?", append(c.args, q.Max)...)
}

// ListResources implements zael.ListStore. It looks for each resource of the buckets in the
// index, so that the number of buckets does not matter.
func (s *Store) ListResources(ctx context.Context, q zael.ListQuery) ([]string, error) {
	if err := checkList(q); err != nil {
		return nil, err
	}
	var c condition
	c.named("resource", q.Prefix, q.After)
	first := "SELECT min(resource) FROM buckets WHERE " + c.text
	end := condition{text: "1"}
	if least := prefix.End(q.Prefix); least != "" {
		end.and("resource < ?", least)
	}
	query := "WITH RECURSIVE used(name) AS (" + first + ` UNION ALL
		SELECT (SELECT min(resource) FROM buckets WHERE resource > name AND ` + end.text + `) FROM used WHERE name IS NOT NULL LIMIT ?)
		SELECT name FROM used WHERE name IS NOT NULL
		UNION SELECT resource FROM limits WHERE entity = '' AND resource <> '' AND limits <> ? AND ` + c.text + " ORDER BY 1 LIMIT ?"
	args := append(append(append([]any{}, c.args...), end.args...), q.Max+1, storedlimits.None)
	args = append(append(args, c.args...), q.Max)
	return listed(ctx, s, func(rows *sql.Rows) (name string, err error) { return name, rows.Scan(&name) }, query, args...)
}

// listed returns the rows of a query.
func listed[T any](ctx context.Context, s *Store, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	var found []T
	err := s.readTx(ctx, func(tx *sql.Tx) error {
		found = []T{} // of the last try
		return queryRows(ctx, tx, func(rows *sql.Rows) error {
			v, err := scan(rows)
			found = append(found, v)
			return err
		}, query, args...)
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
