package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/edits"
	"github.com/zeroae/zael/internal/oncekey"
	"github.com/zeroae/zael/internal/sqladmin"
	"github.com/zeroae/zael/internal/storearg"
)

// storable says what can be kept: in a text with a zero byte, SQLite's functions and tools see its
// end there.
//
//nolint:gochecknoglobals // a constant
var storable = storearg.Names{NoZero: true}

// administration is what the file has beside buckets and usage.
type administration = sqladmin.Administration

func newAdministration(s *Store, retention time.Duration) administration {
	return sqladmin.New(database{s}, sqladmin.Tables{Cascade: "cascade", AuditKept: retention}, storable)
}

// A database is a Store as package sqladmin sees it.
type database struct{ store *Store }

// Query implements sqladmin.Database.
func (d database) Query(ctx context.Context, what string, q *sqladmin.Query, read func(sqladmin.Rows) error) error {
	return d.store.readTx(ctx, what, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, q.String(), q.Args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		if err := read(rows); err != nil {
			return err
		}
		return rows.Err()
	})
}

// Change implements sqladmin.Database.
func (d database) Change(ctx context.Context, _ string, change sqladmin.Change) error {
	return d.store.change(ctx, func(t *txn) error { return change(ctx, adminTx{t}) })
}

// Instant implements sqladmin.Database.
func (d database) Instant(_ context.Context, now time.Time) (bucket.Instant, error) {
	return storearg.Instant(now)
}

// isAnswer reports whether err is what a change answers, having changed nothing.
func isAnswer(err error) bool {
	_, invalid := errors.AsType[*zael.ValidationError](err) // of an amount
	return invalid || edits.IsAnswer(err)
}

// An adminTx is the writer's transaction as package sqladmin sees it.
type adminTx struct{ *txn }

// Query implements sqladmin.Tx.
func (t adminTx) Query(_ context.Context, q *sqladmin.Query, read func(sqladmin.Rows) error) error {
	return t.conn.read(q.String(), read, valuesOf(q.Args)...)
}

// Exec implements sqladmin.Tx.
func (t adminTx) Exec(_ context.Context, q *sqladmin.Query) (int64, error) {
	result, err := t.exec(q.String(), valuesOf(q.Args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Fill implements sqladmin.Tx.
func (t adminTx) Fill(_ context.Context, edit *zael.Edit, at bucket.Instant) (zael.Amounts, error) {
	r, err := t.row(zael.Key(edit.Scope()))
	if err != nil {
		return nil, err
	}
	r.Forgotten = t.file.forgotten
	available, err := edit.Fill(&r.Record, at, rand.Uint64())
	if err == nil && len(r.Limits) > 0 {
		t.touch(r)
	}
	return available, err
}

// TellSettings implements sqladmin.Tx.
func (t adminTx) TellSettings(_ context.Context, _ zael.Scope, rev int64) error {
	t.dropCache() // whose rows have revisions of settings
	t.latestSettings = rev
	return nil
}

// DeleteBuckets implements sqladmin.Tx.
func (t adminTx) DeleteBuckets(_ context.Context, entity string) (found int64, err error) {
	for _, query := range []string{"DELETE FROM buckets WHERE entity = ?", "DELETE FROM usage WHERE entity = ?"} {
		result, err := t.exec(query, entity)
		if err != nil {
			return found, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return found, err
		}
		found += n
	}
	t.dropCache()
	return found, t.readSettings() // those of the entity are deleted
}

// Kept implements sqladmin.Tx.
func (t adminTx) Kept(_ context.Context, key, now string) (*oncekey.Kept, error) {
	return t.kept(key, now)
}

// Keep implements sqladmin.Tx.
func (t adminTx) Keep(_ context.Context, key, now string, k oncekey.Kept) error {
	return t.keep(key, now, k)
}

// readSettings reads the greatest revision of settings.
func (t *txn) readSettings() (err error) {
	t.latestSettings, err = t.conn.queryInt("SELECT max(rev) FROM settings")
	return err
}

// settingsRev returns the greatest revision of the settings that hold for a key.
func (t *txn) settingsRev(key zael.Key) (int64, error) {
	if t.latestSettings == 0 {
		return 0, nil
	}
	return t.conn.queryInt("SELECT max(rev) FROM settings WHERE entity IN (?, '') AND resource IN (?, '')", key.Entity, key.Resource)
}
