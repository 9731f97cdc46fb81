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

// stampLayout is how times are kept: in UTC, so that they sort as text.
const stampLayout = "2006-01-02T15:04:05.000000000Z"

func text(t time.Time) string { return t.UTC().Format(stampLayout) }

// stamp is text of a time that can be kept.
func stamp(field string, t time.Time) (string, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return "", &zael.ValidationError{Field: field, Value: t, Reason: "is not in the years 0 to 9999"}
	}
	return text(t), nil
}

func parseStamp(s string) (time.Time, error) {
	t, err := time.Parse(stampLayout, s)
	return t.UTC(), err
}

// textMap is a map as the file has it, NULL if there is none.
func textMap(m map[string]string) (any, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	text, err := json.Marshal(m)
	return string(text), err
}

func parseMap(s sql.NullString) (m map[string]string, err error) {
	if !s.Valid {
		return nil, nil //nolint:nilnil // as it was
	}
	return m, json.Unmarshal([]byte(s.String), &m)
}

// CreateEntity implements zael.EntityStore.
func (s *Store) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	create, err := creation(e, event)
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

// isFree gives ErrEntityExists if there is an entity of this ID.
func isFree(t *txn, id string) error {
	n, err := t.conn.number("SELECT count(*) FROM entities WHERE id = ?", id)
	if err == nil && n > 0 {
		return zael.ErrEntityExists
	}
	return err
}

// creation is the change that creates an entity whose ID is free.
func creation(e zael.Entity, event zael.AuditEvent) (func(*txn) error, error) {
	if err := checkText("entity", e.ID); err != nil {
		return nil, err
	}
	if err := checkText("parent", e.ParentID); err != nil {
		return nil, err
	}
	metadata, err := textMap(e.Metadata)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: metadata: %w", err)
	}
	record, err := recorder(event)
	if err != nil {
		return nil, err
	}
	cascade := int64(0)
	if e.Cascade {
		cascade = 1
	}
	created, err := stamp("Entity.CreatedAt", e.CreatedAt)
	if err != nil {
		return nil, err
	}
	return func(t *txn) error {
		_, err := t.exec("INSERT INTO entities (id, name, parent, cascade, metadata, created_at) VALUES (?, ?, ?, ?, ?, ?)",
			e.ID, e.Name, e.ParentID, cascade, metadata, created)
		if err != nil {
			return err
		}
		return record(t)
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
	e.CreatedAt, err = parseStamp(created)
	return e, err
}

// Entities implements zael.EntityStore.
func (s *Store) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	found := make([]zael.Entity, len(ids))
	err := s.view(ctx, func(tx *sql.Tx) error {
		for i, id := range ids {
			err := each(ctx, tx, func(rows *sql.Rows) (err error) {
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
		err = each(ctx, tx, func(rows *sql.Rows) error {
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
	record, err := recorder(event)
	if err != nil {
		return err
	}
	return s.change(ctx, func(t *txn) error {
		found := int64(0)
		for _, query := range []string{
			"DELETE FROM entities WHERE id = ?",
			"DELETE FROM limits WHERE entity = ?",
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
		t.forget()
		if found == 0 {
			return zael.ErrEntityNotFound
		}
		return record(t)
	})
}
