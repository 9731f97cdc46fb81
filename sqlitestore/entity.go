package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/zeroae/zael"
)

// timeLayout is the form of times in the file: UTC with nine decimals, so that
// they sort as text.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

func timeText(t time.Time) string { return t.UTC().Format(timeLayout) }

// checkedTimeText returns timeText of t, or an error if t does not fit timeLayout.
func checkedTimeText(field string, t time.Time) (string, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return "", &zael.ValidationError{Field: field, Value: t, Reason: "is not in the years 0 to 9999"}
	}
	return timeText(t), nil
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	return t.UTC(), err
}

// mapText returns a map as it is stored: as JSON, or NULL if it is nil.
func mapText(m map[string]string) (any, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	text, err := json.Marshal(m)
	return string(text), err
}

func parseMap(s sql.NullString) (m map[string]string, err error) {
	if !s.Valid {
		return nil, nil //nolint:nilnil // NULL
	}
	return m, json.Unmarshal([]byte(s.String), &m)
}

// CreateEntity implements zael.EntityStore.
func (s *Store) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	create, err := entityChange(e, event)
	if err != nil {
		return err
	}
	return s.change(ctx, func(t *txn) error {
		if err := isFree(t, e.ID); err != nil {
			return err
		}
		return create(t)
	})
}

// isFree returns zael.ErrEntityExists if there is an entity with this ID.
func isFree(t *txn, id string) error {
	n, err := t.conn.queryInt("SELECT count(*) FROM entities WHERE id = ?", id)
	if err == nil && n > 0 {
		return zael.ErrEntityExists
	}
	return err
}

// entityChange returns the change that creates e, whose ID must be free.
func entityChange(e zael.Entity, event zael.AuditEvent) (func(*txn) error, error) {
	if err := checkText("entity", e.ID); err != nil {
		return nil, err
	}
	if err := checkText("parent", e.ParentID); err != nil {
		return nil, err
	}
	metadata, err := mapText(e.Metadata)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: metadata: %w", err)
	}
	audit, err := auditChange(event)
	if err != nil {
		return nil, err
	}
	cascade := int64(0)
	if e.Cascade {
		cascade = 1
	}
	created, err := checkedTimeText("Entity.CreatedAt", e.CreatedAt)
	if err != nil {
		return nil, err
	}
	return func(t *txn) error {
		_, err := t.exec("INSERT INTO entities (id, name, parent, cascade, metadata, created_at) VALUES (?, ?, ?, ?, ?, ?)",
			e.ID, e.Name, e.ParentID, cascade, metadata, created)
		if err != nil {
			return err
		}
		return audit(t)
	}, nil
}

const entityColumns = "id, name, parent, cascade, metadata, created_at"

func scanEntity(rows *sql.Rows) (e zael.Entity, err error) {
	var metadata sql.NullString
	var created string
	if err := rows.Scan(&e.ID, &e.Name, &e.ParentID, &e.Cascade, &metadata, &created); err != nil {
		return e, err
	}
	if e.Metadata, err = parseMap(metadata); err != nil {
		return e, err
	}
	e.CreatedAt, err = parseTime(created)
	return e, err
}

// Entities implements zael.EntityStore.
func (s *Store) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	found := make([]zael.Entity, len(ids))
	err := s.readTx(ctx, func(tx *sql.Tx) error {
		for i, id := range ids {
			err := queryRows(ctx, tx, func(rows *sql.Rows) (err error) {
				found[i], err = scanEntity(rows)
				return err
			}, "SELECT "+entityColumns+" FROM entities WHERE id = ?", id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Children implements zael.EntityStore.
func (s *Store) Children(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
	if parent == "" {
		return func(func(zael.Entity, error) bool) {}
	}
	return pages(s, ctx, func(tx *sql.Tx, last *zael.Entity) (found []zael.Entity, err error) {
		query, args := "SELECT "+entityColumns+" FROM entities WHERE parent = ? AND parent <> ''", []any{parent}
		if last != nil {
			query, args = query+" AND id > ?", append(args, last.ID)
		}
		err = queryRows(ctx, tx, func(rows *sql.Rows) error {
			e, err := scanEntity(rows)
			found = append(found, e)
			return err
		}, query+" ORDER BY id LIMIT ?", append(args, pageRows)...)
		return found, err
	})
}

// DeleteEntity implements zael.EntityStore.
func (s *Store) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	if err := checkText("entity", id); err != nil {
		return err
	}
	audit, err := auditChange(event)
	if err != nil {
		return err
	}
	return s.change(ctx, func(t *txn) error {
		found := int64(0)
		for _, query := range []string{
			"DELETE FROM entities WHERE id = ?",
			"DELETE FROM limits WHERE entity = ?",
			"DELETE FROM settings WHERE entity = ?",
			"DELETE FROM buckets WHERE entity = ?",
			"DELETE FROM usage WHERE entity = ?",
		} {
			result, err := t.exec(query, id)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			found += n
		}
		t.dropCache()
		if err := t.readSettings(); err != nil {
			return err
		}
		if found == 0 {
			return zael.ErrEntityNotFound
		}
		return audit(t)
	})
}
