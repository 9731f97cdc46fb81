package postgresstore

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
)

// timeLayout is the form of times in the tables: UTC with nine decimals, so that they sort as
// text. PostgreSQL's own times have microseconds.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

func timeText(t time.Time) string { return t.UTC().Format(timeLayout) }

// checkedTimeText returns timeText of t, or an error if t does not fit timeLayout.
func checkedTimeText(field string, t time.Time) (string, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return "", invalid(field, t, "is not in the years 0 to 9999")
	}
	return timeText(t), nil
}

func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	return t.UTC(), err
}

// mapText returns a map as it is stored: as JSON, or NULL if it is nil.
func mapText(m map[string]string) (*string, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	s := string(text)
	return &s, nil
}

func parseMap(s *string) (m map[string]string, err error) {
	if s == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	return m, json.Unmarshal([]byte(*s), &m)
}

// A change is a part of a transaction of administration.
type change func(ctx context.Context, tx pgx.Tx) error

// CreateEntity implements zael.EntityStore.
func (s *Store) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	create, err := s.entityChange(e, event)
	if err != nil {
		return err
	}
	return s.change(ctx, "creating an entity", create)
}

// entityChange returns the change that creates e.
func (s *Store) entityChange(e zael.Entity, event zael.AuditEvent) (change, error) {
	for _, t := range [][2]string{{"entity", e.ID}, {"parent", e.ParentID}} {
		if err := checkIndexed(t[0], t[1]); err != nil {
			return nil, err
		}
	}
	if err := checkText("name", e.Name); err != nil {
		return nil, err
	}
	metadata, err := mapText(e.Metadata)
	if err != nil {
		return nil, fmt.Errorf("postgresstore: metadata: %w", err)
	}
	audit, err := s.auditChange(event)
	if err != nil {
		return nil, err
	}
	created, err := checkedTimeText("Entity.CreatedAt", e.CreatedAt)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx pgx.Tx) error {
		n, err := s.exec(ctx, tx, new(query).add(`INSERT INTO zael.entities (namespace, id, name, parent, cascades, metadata, created_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			s.config.Namespace, e.ID, e.Name, e.ParentID, e.Cascade, metadata, created))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %s", zael.ErrEntityExists, e.ID)
		}
		return audit(ctx, tx)
	}, nil
}

const entityColumns = "id, name, parent, cascades, metadata, created_at"

func scanEntity(row pgx.CollectableRow) (e zael.Entity, err error) {
	var metadata *string
	var created string
	if err := row.Scan(&e.ID, &e.Name, &e.ParentID, &e.Cascade, &metadata, &created); err != nil {
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
	for _, id := range ids {
		if err := checkText("entity", id); err != nil {
			return nil, err
		}
	}
	found := make([]zael.Entity, len(ids))
	err := s.readTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		all, err := collect(ctx, s, tx, new(query).add("SELECT "+entityColumns+" FROM zael.entities WHERE namespace = ? AND id = ANY (?)", s.config.Namespace, ids), scanEntity)
		byID := make(map[string]zael.Entity, len(all))
		for _, e := range all {
			byID[e.ID] = e
		}
		for i, id := range ids {
			found[i] = byID[id]
		}
		return err
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
	if err := checkText("parent", parent); err != nil {
		return errorSeq[zael.Entity](err)
	}
	return pages(ctx, s, func(ctx context.Context, tx pgx.Tx, last *zael.Entity) ([]zael.Entity, error) {
		q := new(query).add("SELECT "+entityColumns+" FROM zael.entities WHERE namespace = ? AND parent = ? AND parent <> ''", s.config.Namespace, parent)
		if last != nil {
			q.add(" AND id > ?", last.ID)
		}
		return collect(ctx, s, tx, q.add(" ORDER BY id LIMIT ?", pageRows), scanEntity)
	})
}

// DeleteEntity implements zael.EntityStore.
func (s *Store) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	if err := checkText("entity", id); err != nil {
		return err
	}
	audit, err := s.auditChange(event)
	if err != nil {
		return err
	}
	return s.change(ctx, "deleting an entity", func(ctx context.Context, tx pgx.Tx) error {
		// In the order of keys, as acquires lock them.
		if _, err := s.exec(ctx, tx, new(query).add("SELECT 1 FROM zael.buckets WHERE namespace = ? AND entity = ? ORDER BY resource FOR UPDATE", s.config.Namespace, id)); err != nil {
			return err
		}
		found := int64(0)
		for _, text := range []string{
			"DELETE FROM zael.entities WHERE namespace = ? AND id = ?",
			"DELETE FROM zael.limits WHERE namespace = ? AND entity = ?",
			"DELETE FROM zael.settings WHERE namespace = ? AND entity = ?",
			"DELETE FROM zael.buckets WHERE namespace = ? AND entity = ?",
			"DELETE FROM zael.usage WHERE namespace = ? AND entity = ?",
		} {
			n, err := s.exec(ctx, tx, new(query).add(text, s.config.Namespace, id))
			if err != nil {
				return err
			}
			found += n
		}
		if found == 0 {
			return zael.ErrEntityNotFound
		}
		s.queue.forgetAll()
		return audit(ctx, tx)
	})
}
