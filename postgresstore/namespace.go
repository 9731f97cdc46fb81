package postgresstore

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/sqladmin"
	"github.com/zeroae/zael/internal/stamp"
)

// purgeRows is how many rows of a namespace are deleted in one transaction.
const purgeRows = 2000

const namespaceColumns = "name, state, registered_at, changed_at"

func scanNamespace(row sqladmin.Row) (n zael.Namespace, err error) {
	var state, registered, changed string
	if err := row.Scan(&n.Name, &state, &registered, &changed); err != nil {
		return n, err
	}
	n.State = zael.NamespaceState(state)
	if n.RegisteredAt, err = stamp.Parse(registered); err == nil {
		n.ChangedAt, err = stamp.Parse(changed)
	}
	return n, err
}

func namespaceQuery(name string) *sqladmin.Query {
	return new(sqladmin.Query).Add("SELECT "+namespaceColumns+" FROM zael.namespaces WHERE name = ?", name)
}

// Namespace implements zael.NamespaceStore.
func (s *Store) Namespace(ctx context.Context, name string) (n zael.Namespace, err error) {
	if err := zael.CheckNamespace(name); err != nil {
		return n, err
	}
	found, err := sqladmin.Collect(ctx, database{s}, "reading a namespace", namespaceQuery(name), scanNamespace)
	if err != nil {
		return n, err
	}
	if len(found) == 0 {
		return n, fmt.Errorf("%w: %s", zael.ErrNamespaceNotFound, name)
	}
	return found[0], nil
}

// Namespaces implements zael.NamespaceStore.
func (s *Store) Namespaces(ctx context.Context) iter.Seq2[zael.Namespace, error] {
	return pages.Of(func(last *zael.Namespace) ([]zael.Namespace, error) {
		q := new(sqladmin.Query).Add("SELECT " + namespaceColumns + " FROM zael.namespaces")
		if last != nil {
			q.Add(" WHERE name > ?", last.Name)
		}
		return sqladmin.Collect(ctx, database{s}, "reading namespaces", q.Add(" ORDER BY name LIMIT ?", pages.Size), scanNamespace)
	})
}

// changeNamespace runs a change of a namespace: none while there is another change of or in it.
func (s *Store) changeNamespace(ctx context.Context, name string, change sqladmin.Change) error {
	const what = "changing a namespace"
	if err := s.tryRead(ctx, func(context.Context) error { return nil }); err != nil {
		return s.translate(ctx, what, err)
	}
	return s.transact(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		in := Store{config: Config{Schema: s.config.Schema, Namespace: name}}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", in.lockNumber("")); err != nil {
			return err
		}
		return change(ctx, &adminTx{store: s, tx: tx})
	})
}

// EditNamespace implements zael.NamespaceStore.
func (s *Store) EditNamespace(ctx context.Context, name string, event zael.AuditEvent) error {
	move, err := edits.MoveOf(&event)
	if err != nil {
		return err
	}
	return s.moveNamespace(ctx, name, move, &event)
}

// moveNamespace makes a move of a namespace with its event, unless it has been made.
func (s *Store) moveNamespace(ctx context.Context, name string, move edits.Move, event *zael.AuditEvent) error {
	if err := zael.CheckNamespace(name); err != nil {
		return err
	}
	set, err := s.namespaceChange(name, move.To, event)
	if err != nil {
		return err
	}
	return s.changeNamespace(ctx, name, func(ctx context.Context, tx sqladmin.Tx) error {
		n, registered, err := readNamespace(ctx, tx, name)
		if err != nil {
			return err
		}
		if made, err := move.Check(name, &n, registered); made || err != nil {
			return err
		}
		return set(ctx, tx)
	})
}

// readNamespace reads a namespace, if it is registered.
func readNamespace(ctx context.Context, tx sqladmin.Tx, name string) (n zael.Namespace, registered bool, err error) {
	err = tx.Query(ctx, namespaceQuery(name), func(rows sqladmin.Rows) (err error) {
		if registered = rows.Next(); registered {
			n, err = scanNamespace(rows)
		}
		return err
	})
	return n, registered, err
}

// namespaceChange returns the change that sets the state of a namespace, which is registered if it
// was not, and records the event.
func (s *Store) namespaceChange(name string, to zael.NamespaceState, event *zael.AuditEvent) (sqladmin.Change, error) {
	audit, err := s.recordNamespace(event)
	if err != nil {
		return nil, err
	}
	at := stamp.Text(event.Time)
	return func(ctx context.Context, tx sqladmin.Tx) error {
		if _, err := tx.Exec(ctx, new(sqladmin.Query).Add(`INSERT INTO zael.namespaces (name, state, registered_at, changed_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at`, name, string(to), at, at)); err != nil {
			return err
		}
		return audit(ctx, tx)
	}, nil
}

// recordNamespace records an event of a namespace, in the default one.
func (s *Store) recordNamespace(event *zael.AuditEvent) (sqladmin.Change, error) {
	registry := newAdministration(s, "")
	return sqladmin.Record(&registry, event)
}

// purged are the tables with what is in a namespace.
//
//nolint:gochecknoglobals // a constant table
var purged = []string{"buckets", "usage", "entities", "limits", "settings", "once", "audit"}

// PurgeNamespace implements zael.NamespaceStore. It deletes a few thousand rows at a time.
// Programs that have not learned that it is deleted may write buckets meanwhile: these expire
// by themselves.
func (s *Store) PurgeNamespace(ctx context.Context, name string, event zael.AuditEvent) (records int, err error) {
	end, err := s.recordNamespace(&event)
	if err != nil {
		return 0, err
	}
	begun := edits.Begun(name, event)
	if err := s.moveNamespace(ctx, name, edits.Purge, &begun); err != nil {
		return 0, err
	}
	for _, table := range purged {
		q := new(sqladmin.Query).Add("DELETE FROM zael."+table+" WHERE ctid = ANY (ARRAY(SELECT ctid FROM zael."+table+" WHERE namespace = ? LIMIT ? FOR UPDATE SKIP LOCKED))", name, purgeRows)
		for deleted := int64(purgeRows); deleted == purgeRows; records += int(deleted) {
			err := s.transact(ctx, "purging a namespace", func(ctx context.Context, tx pgx.Tx) (err error) {
				in := adminTx{store: s, tx: tx}
				deleted, err = in.Exec(ctx, q)
				return err
			})
			if err != nil {
				return records, err
			}
		}
	}
	return records, s.changeNamespace(ctx, name, func(ctx context.Context, tx sqladmin.Tx) error {
		n, err := tx.Exec(ctx, new(sqladmin.Query).Add("DELETE FROM zael.namespaces WHERE name = ? AND state = ?", name, string(zael.NamespacePurging)))
		if err != nil {
			return err
		}
		if n == 0 {
			return edits.Purged(name)
		}
		return end(ctx, tx)
	})
}

// checkActive returns an error if the store's namespace is deleted, and registers it if it is
// new.
func (s *Store) checkActive(ctx context.Context, tx sqladmin.Tx) error {
	name := s.config.Namespace
	if name == "" {
		return nil
	}
	n, registered, err := readNamespace(ctx, tx, name)
	switch {
	case err != nil:
		return err
	case registered && n.State != zael.NamespaceActive:
		return fmt.Errorf("postgresstore: %w: %s", zael.ErrNamespaceDeleted, name)
	case registered:
		return nil
	}
	event := edits.FirstUse(name, time.Now())
	register, err := s.namespaceChange(name, zael.NamespaceActive, &event)
	if err != nil {
		return err
	}
	return register(ctx, tx)
}
