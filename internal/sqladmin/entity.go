package sqladmin

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

// mapText returns a map as it is kept: as JSON, or NULL if it is nil.
func mapText(field string, m map[string]string) (*string, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // NULL
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, storearg.Invalid(field, nil, err.Error())
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

// CreateEntity implements zael.EntityStore.
func (a *Administration) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	create, err := a.creation(&e, &event)
	if err != nil {
		return err
	}
	return a.database.Change(ctx, "creating an entity", func(ctx context.Context, tx Tx) error {
		if err := a.checkFree(ctx, tx, []string{e.ID}); err != nil {
			return err
		}
		return create(ctx, tx)
	})
}

// checkFree returns an error if an entity with one of these IDs exists, or an ID is given twice.
func (a *Administration) checkFree(ctx context.Context, tx Tx, ids []string) error {
	for i, id := range ids {
		taken := slices.Contains(ids[:i], id)
		if !taken {
			if err := tx.Query(ctx, a.tables.From("1", "entities").Add(" AND id = ?", id), One(&taken)); err != nil {
				return err
			}
		}
		if taken {
			return fmt.Errorf("%w: %s", zael.ErrEntityExists, id)
		}
	}
	return nil
}

// creation returns the change that creates an entity, whose ID is free.
func (a *Administration) creation(e *zael.Entity, event *zael.AuditEvent) (Change, error) {
	if err := a.names.Name("entity", e.ID); err != nil {
		return nil, err
	}
	if err := a.names.Name("parent", e.ParentID); err != nil {
		return nil, err
	}
	if err := a.names.Text("name", e.Name); err != nil {
		return nil, err
	}
	metadata, err := mapText("Entity.Metadata", e.Metadata)
	if err != nil {
		return nil, err
	}
	audit, err := a.record(event)
	if err != nil {
		return nil, err
	}
	created, err := stamp.Checked("Entity.CreatedAt", e.CreatedAt)
	if err != nil {
		return nil, err
	}
	row := []any{e.ID, e.Name, e.ParentID, e.Cascade, metadata, created}
	return func(ctx context.Context, tx Tx) error {
		if _, err := tx.Exec(ctx, a.tables.insert("entities", a.entityColumns(), row...)); err != nil {
			return err
		}
		return audit(ctx, tx)
	}, nil
}

func (a *Administration) entityColumns() string {
	return "id, name, parent, " + a.tables.Cascade + ", metadata, created_at"
}

func scanEntity(row Row) (e zael.Entity, err error) {
	var metadata *string
	var created string
	if err := row.Scan(&e.ID, &e.Name, &e.ParentID, &e.Cascade, &metadata, &created); err != nil {
		return e, err
	}
	if e.Metadata, err = parseMap(metadata); err != nil {
		return e, err
	}
	e.CreatedAt, err = stamp.Parse(created)
	return e, err
}

// Entities implements zael.EntityStore.
func (a *Administration) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	byID := map[string]zael.Entity{}
	for some := range slices.Chunk(ids, mostAsked) {
		q := a.tables.From(a.entityColumns(), "entities").Add(" AND id IN (")
		for i, id := range some {
			if err := a.names.Text("entity", id); err != nil {
				return nil, err
			}
			q.Add(separator(i)+"?", id)
		}
		found, err := Collect(ctx, a.database, "reading entities", q.Add(")"), scanEntity)
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			byID[e.ID] = e
		}
	}
	all := make([]zael.Entity, len(ids))
	for i, id := range ids {
		all[i] = byID[id]
	}
	return all, nil
}

// mostAsked is how many rows a query asks for by their keys.
const mostAsked = 5000

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ", "
}

// Children implements zael.EntityStore.
func (a *Administration) Children(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
	if parent == "" {
		return func(func(zael.Entity, error) bool) {}
	}
	if err := a.names.Text("parent", parent); err != nil {
		return pages.Failed[zael.Entity](err)
	}
	return pages.Of(func(last *zael.Entity) ([]zael.Entity, error) {
		q := a.tables.From(a.entityColumns(), "entities").Add(" AND parent = ? AND parent <> ''", parent)
		if last != nil {
			q.Add(" AND id > ?", last.ID)
		}
		return Collect(ctx, a.database, "reading children", q.Add(" ORDER BY id LIMIT ?", pages.Size), scanEntity)
	})
}

// DeleteEntity implements zael.EntityStore.
func (a *Administration) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	if err := a.names.Text("entity", id); err != nil {
		return err
	}
	audit, err := a.record(&event)
	if err != nil {
		return err
	}
	return a.database.Change(ctx, "deleting an entity", func(ctx context.Context, tx Tx) error {
		found, err := tx.Exec(ctx, a.tables.Delete("entities").Add(" AND id = ?", id))
		if err != nil {
			return err
		}
		for _, table := range []string{"limits", "settings"} {
			n, err := tx.Exec(ctx, a.tables.Delete(table).Add(" AND entity = ?", id))
			if err != nil {
				return err
			}
			found += n
		}
		n, err := tx.DeleteBuckets(ctx, id)
		if err != nil {
			return err
		}
		if found+n == 0 {
			return zael.ErrEntityNotFound
		}
		return audit(ctx, tx)
	})
}

// setParent changes the parent of an entity.
func (a *Administration) setParent(ctx context.Context, tx Tx, id, parent string) error {
	err := edits.CheckParent(id, parent, func(id string) (parent string, created bool, err error) {
		err = tx.Query(ctx, a.tables.From("parent", "entities").Add(" AND id = ?", id), One(&created, &parent))
		return parent, created, err
	})
	if err != nil {
		return err
	}
	q := new(Query).Add("UPDATE "+a.tables.Prefix+"entities SET parent = ? WHERE id = ?", parent, id)
	if a.tables.Namespace != nil {
		q.Add(" AND namespace = ?", *a.tables.Namespace)
	}
	_, err = tx.Exec(ctx, q)
	return err
}
