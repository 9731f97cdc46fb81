package postgresstore

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
)

// purgeRows is how many rows of a namespace are deleted in one transaction.
const purgeRows = 2000

const namespaceColumns = "name, state, registered_at, changed_at"

func scanNamespace(row pgx.CollectableRow) (n zael.Namespace, err error) {
	var registered, changed string
	if err := row.Scan(&n.Name, (*string)(&n.State), &registered, &changed); err != nil {
		return n, err
	}
	if n.RegisteredAt, err = parseTime(registered); err == nil {
		n.ChangedAt, err = parseTime(changed)
	}
	return n, err
}

// readNamespace reads a namespace; found is false if it is not registered.
func (s *Store) readNamespace(ctx context.Context, tx pgx.Tx, name string) (n zael.Namespace, found bool, err error) {
	all, err := collect(ctx, s, tx, new(query).add("SELECT "+namespaceColumns+" FROM zael.namespaces WHERE name = ?", name), scanNamespace)
	if err != nil || len(all) == 0 {
		return n, false, err
	}
	return all[0], true, nil
}

// Namespace implements zael.NamespaceStore.
func (s *Store) Namespace(ctx context.Context, name string) (n zael.Namespace, err error) {
	if err := zael.CheckNamespace(name); err != nil {
		return n, err
	}
	err = s.readTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var found bool
		var err error
		if n, found, err = s.readNamespace(ctx, tx, name); err == nil && !found {
			err = fmt.Errorf("%w: %s", zael.ErrNamespaceNotFound, name)
		}
		return err
	})
	return n, err
}

// Namespaces implements zael.NamespaceStore.
func (s *Store) Namespaces(ctx context.Context) iter.Seq2[zael.Namespace, error] {
	return pages(ctx, s, func(ctx context.Context, tx pgx.Tx, last *zael.Namespace) ([]zael.Namespace, error) {
		q := new(query).add("SELECT " + namespaceColumns + " FROM zael.namespaces")
		if last != nil {
			q.add(" WHERE name > ?", last.Name)
		}
		return collect(ctx, s, tx, q.add(" ORDER BY name LIMIT ?", pageRows), scanNamespace)
	})
}

// changeNamespace runs a change of a namespace: none while there is another change of or in it.
func (s *Store) changeNamespace(ctx context.Context, name string, f func(ctx context.Context, tx pgx.Tx) error) error {
	const what = "changing a namespace"
	if err := s.tryRead(ctx, func(context.Context) error { return nil }); err != nil {
		return s.translate(ctx, what, err)
	}
	return s.transact(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		in := Store{config: Config{Schema: s.config.Schema, Namespace: name}}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", in.lockNumber("")); err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

// EditNamespace implements zael.NamespaceStore.
func (s *Store) EditNamespace(ctx context.Context, name string, event zael.AuditEvent) error {
	if err := zael.CheckNamespace(name); err != nil {
		return err
	}
	audit, err := s.auditChangeIn("", event)
	if err != nil {
		return err
	}
	step, ok := map[zael.AuditAction]struct{ from, to zael.NamespaceState }{
		zael.NamespaceRegistered: {"", zael.NamespaceActive},
		zael.NamespaceRemoved:    {zael.NamespaceActive, zael.NamespaceDeleted},
		zael.NamespaceRecovered:  {zael.NamespaceDeleted, zael.NamespaceActive},
	}[event.Action]
	if !ok {
		return invalid("AuditEvent.Action", string(event.Action), "is not a change of a namespace")
	}
	return s.changeNamespace(ctx, name, func(ctx context.Context, tx pgx.Tx) error {
		n, found, err := s.readNamespace(ctx, tx, name)
		switch {
		case err != nil:
			return err
		case step.from == "" && found:
			return nil // it is registered
		case step.from != "" && !found:
			return fmt.Errorf("%w: %s", zael.ErrNamespaceNotFound, name)
		case n.State != step.from:
			return fmt.Errorf("%w: %s is %s, not %s", zael.ErrNamespaceState, name, n.State, step.from)
		}
		if err := s.moveNamespace(ctx, tx, name, step.to, event.Time); err != nil {
			return err
		}
		return audit(ctx, tx)
	})
}

// moveNamespace sets the state of a namespace, which is registered if it was not.
func (s *Store) moveNamespace(ctx context.Context, tx pgx.Tx, name string, to zael.NamespaceState, at time.Time) error {
	text, err := checkedTimeText("AuditEvent.Time", at)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, tx, new(query).add(`INSERT INTO zael.namespaces (name, state, registered_at, changed_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at`, name, string(to), text, text))
	return err
}

// purged are the tables with what is in a namespace.
//
//nolint:gochecknoglobals // a constant table
var purged = []string{"buckets", "usage", "entities", "limits", "settings", "once", "audit"}

// PurgeNamespace implements zael.NamespaceStore. It deletes a few thousand rows at a time.
// Programs that have not learned that it is deleted may write buckets meanwhile: these expire
// by themselves.
func (s *Store) PurgeNamespace(ctx context.Context, name string, event zael.AuditEvent) (records int, err error) {
	if err := zael.CheckNamespace(name); err != nil {
		return 0, err
	}
	begun := event
	begun.Details = map[string]string{"namespace": name, "state": "begun"}
	auditBegun, err := s.auditChangeIn("", begun)
	if err != nil {
		return 0, err
	}
	auditEnd, err := s.auditChangeIn("", event)
	if err != nil {
		return 0, err
	}
	if err := s.changeNamespace(ctx, name, func(ctx context.Context, tx pgx.Tx) error {
		n, found, err := s.readNamespace(ctx, tx, name)
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("%w: %s", zael.ErrNamespaceNotFound, name)
		case n.State == zael.NamespacePurging:
			return nil
		case n.State != zael.NamespaceDeleted:
			return fmt.Errorf("%w: %s is %s, not deleted: delete it first", zael.ErrNamespaceState, name, n.State)
		}
		if err := s.moveNamespace(ctx, tx, name, zael.NamespacePurging, event.Time); err != nil {
			return err
		}
		return auditBegun(ctx, tx)
	}); err != nil {
		return 0, err
	}
	for _, table := range purged {
		for {
			deleted := int64(0)
			err := s.transact(ctx, "purging a namespace", func(ctx context.Context, tx pgx.Tx) (err error) {
				deleted, err = s.exec(ctx, tx, new(query).add("DELETE FROM zael."+table+" WHERE ctid = ANY (ARRAY(SELECT ctid FROM zael."+table+" WHERE namespace = ? LIMIT ? FOR UPDATE SKIP LOCKED))", name, purgeRows))
				return err
			})
			if err != nil {
				return records, err
			}
			if records += int(deleted); deleted < purgeRows {
				break
			}
		}
	}
	return records, s.changeNamespace(ctx, name, func(ctx context.Context, tx pgx.Tx) error {
		n, err := s.exec(ctx, tx, new(query).add("DELETE FROM zael.namespaces WHERE name = ? AND state = ?", name, string(zael.NamespacePurging)))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: somebody else has purged %s", zael.ErrNamespaceNotFound, name)
		}
		return auditEnd(ctx, tx)
	})
}

// checkActive returns an error if the store's namespace is deleted, and registers it if it is
// new.
func (s *Store) checkActive(ctx context.Context, tx pgx.Tx) error {
	name := s.config.Namespace
	if name == "" {
		return nil
	}
	n, found, err := s.readNamespace(ctx, tx, name)
	switch {
	case err != nil:
		return err
	case found && n.State != zael.NamespaceActive:
		return fmt.Errorf("postgresstore: %w: %s", zael.ErrNamespaceDeleted, name)
	case found:
		return nil
	}
	now := time.Now()
	audit, err := s.auditChangeIn("", zael.AuditEvent{Time: now, Action: zael.NamespaceRegistered, Details: map[string]string{"namespace": name, "by": "first use"}})
	if err != nil {
		return err
	}
	if err := s.moveNamespace(ctx, tx, name, zael.NamespaceActive, now); err != nil {
		return err
	}
	return audit(ctx, tx)
}
