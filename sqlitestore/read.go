package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"time"

	"github.com/zeroae/zael"
)

// pageRows is the number of rows that an iterator reads at a time. Between pages it
// holds no lock and no connection, so its caller may take as long as it likes.
const pageRows = 500

// readTx runs f in a read transaction, which sees one state of the file. It runs f
// again if the file was locked.
func (s *Store) readTx(ctx context.Context, f func(tx *sql.Tx) error) error {
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
		return contextError(ctx, "reading")
	}
	if s.queue.isClosed() {
		return errClosed
	}
	return fmt.Errorf("sqlitestore: reading: %w", engineError(err))
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

// pages iterates over what page reads. page returns up to pageRows records that
// follow last, the first ones if last is nil.
func pages[T any](s *Store, ctx context.Context, page func(tx *sql.Tx, last *T) ([]T, error)) iter.Seq2[T, error] { //nolint:revive // a method cannot have a type parameter
	return func(yield func(T, error) bool) {
		var last *T
		for {
			var found []T
			err := s.readTx(ctx, func(tx *sql.Tx) (err error) {
				found, err = page(tx, last)
				return err
			})
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range found {
				if !yield(v, nil) {
					return
				}
			}
			if len(found) < pageRows {
				return
			}
			last = &found[len(found)-1]
		}
	}
}

// Buckets implements zael.BucketStore.
func (s *Store) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	at, err := instantOf(now)
	if err != nil {
		return now, nil, err
	}
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return now, nil, err
		}
	}
	buckets := make([]zael.Bucket, len(keys))
	err = s.readTx(ctx, func(tx *sql.Tx) error {
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
	if err := checkText("entity", entity); err != nil {
		return errorSeq[zael.Bucket](err)
	}
	return pages(s, ctx, func(tx *sql.Tx, last *zael.Bucket) (found []zael.Bucket, err error) {
		query, args := "SELECT id, state, resource FROM buckets WHERE entity = ?", []any{entity}
		if last != nil {
			query, args = query+" AND resource > ?", append(args, last.Key.Resource)
		}
		err = queryRows(ctx, tx, func(rows *sql.Rows) error {
			r := row{key: zael.Key{Entity: entity}}
			var state []byte
			if err := rows.Scan(&r.id, &state, &r.key.Resource); err != nil {
				return err
			}
			if err := r.decode(state); err != nil {
				return err
			}
			found = append(found, zael.Bucket{Key: r.key, Limits: r.states(r.Latest)})
			return nil
		}, query+" ORDER BY resource LIMIT ?", append(args, pageRows)...)
		return found, err
	})
}

// ResourceBuckets implements zael.CapacityReader.
func (s *Store) ResourceBuckets(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
	if err := checkText("resource", resource); err != nil {
		return errorSeq[zael.Bucket](err)
	}
	return func(yield func(zael.Bucket, error) bool) {
		for r, err := range pages(s, ctx, func(tx *sql.Tx, last *row) (found []row, err error) {
			after := int64(0)
			if last != nil {
				after = last.id
			}
			err = queryRows(ctx, tx, func(rows *sql.Rows) error {
				r := row{key: zael.Key{Resource: resource}}
				var state []byte
				if err := rows.Scan(&r.id, &state, &r.key.Entity); err != nil {
					return err
				}
				found = append(found, r)
				return found[len(found)-1].decode(state)
			}, "SELECT id, state, entity FROM buckets WHERE resource = ? AND id > ? ORDER BY id LIMIT ?", resource, after, pageRows)
			return found, err
		}) {
			if !yield(zael.Bucket{Key: r.key, Limits: r.states(r.Latest)}, err) {
				return
			}
		}
	}
}

// errorSeq returns an iterator that yields only an error.
func errorSeq[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}
