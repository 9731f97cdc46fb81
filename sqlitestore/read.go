package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/sqladmin"
	"github.com/zeroae/zael/internal/storearg"
)

// readTx runs f in a read transaction, which sees one state of the file. It runs f
// again if the file was locked.
func (s *Store) readTx(ctx context.Context, what string, f func(tx *sql.Tx) error) error {
	err := retry(ctx, func() error {
		tx, err := s.pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return f(tx)
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // the engine may call it something else
		return contextError(ctx, what)
	}
	if s.queue.isClosed() {
		return errClosed
	}
	return fmt.Errorf("sqlitestore: %s: %w", what, engineError(err))
}

// queryRows calls scan for each row of a query.
func queryRows(ctx context.Context, tx *sql.Tx, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Buckets implements zael.BucketStore.
func (s *Store) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	at, err := storearg.Instant(now)
	if err != nil {
		return now, nil, err
	}
	for _, k := range keys {
		if err := storable.Key(k); err != nil {
			return now, nil, err
		}
	}
	buckets := make([]zael.Bucket, len(keys))
	err = s.readTx(ctx, "reading buckets", func(tx *sql.Tx) error {
		for i, k := range keys {
			r := row{key: k}
			err := queryRows(ctx, tx, r.scanState, "SELECT id, state FROM buckets WHERE entity = ? AND resource = ?", k.Entity, k.Resource)
			if err != nil {
				return err
			}
			buckets[i] = zael.Bucket{Key: k, Limits: r.states(at)}
			if len(r.Limits) > 0 {
				s.latest.note(r.Latest)
			}
		}
		return nil
	})
	if err != nil {
		return now, nil, err
	}
	return now, buckets, nil
}

// scanState reads the columns id and state.
func (r *row) scanState(rows *sql.Rows) error {
	var state []byte
	if err := rows.Scan(&r.id, &state); err != nil {
		return err
	}
	return r.decode(state)
}

// EntityBuckets implements zael.LimitStore.
func (s *Store) EntityBuckets(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	if err := storable.Text("entity", entity); err != nil {
		return pages.Failed[zael.Bucket](err)
	}
	return s.bucketPages(ctx, func(q *sqladmin.Query, last *row) {
		if q.Add("entity = ?", entity); last != nil {
			q.Add(" AND resource > ?", last.key.Resource)
		}
		q.Add(" ORDER BY resource")
	})
}

// ResourceBuckets implements zael.CapacityReader.
func (s *Store) ResourceBuckets(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
	if err := storable.Text("resource", resource); err != nil {
		return pages.Failed[zael.Bucket](err)
	}
	return s.bucketPages(ctx, func(q *sqladmin.Query, last *row) {
		if q.Add("resource = ?", resource); last != nil {
			q.Add(" AND id > ?", last.id)
		}
		q.Add(" ORDER BY id")
	})
}

// bucketPages iterates the buckets that a condition selects.
func (s *Store) bucketPages(ctx context.Context, condition func(q *sqladmin.Query, last *row)) iter.Seq2[zael.Bucket, error] {
	return pages.Map(pages.Of(func(last *row) ([]row, error) {
		q := new(sqladmin.Query).Add("SELECT id, entity, resource, state FROM buckets WHERE ")
		condition(q, last)
		return sqladmin.Collect(ctx, database{s}, "reading buckets", q.Add(" LIMIT ?", pages.Size), scanBucket)
	}), func(r row) zael.Bucket { return zael.Bucket{Key: r.key, Limits: r.states(r.Latest)} })
}

// scanBucket reads id, entity, resource and state.
func scanBucket(from sqladmin.Row) (r row, err error) {
	var state []byte
	if err := from.Scan(&r.id, &r.key.Entity, &r.key.Resource, &state); err != nil {
		return r, err
	}
	err = r.decode(state)
	return r, err
}
