package postgresstore

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/enginecall"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/sqladmin"
)

// prepare finds out, once, whether the tables are there in the version of this program, and
// makes them if Config.Migrate says so.
func (s *Store) prepare(ctx context.Context) error {
	if s.ready.Load() {
		return nil
	}
	version := 0
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		version, err = readVersion(ctx, tx, s.config.Schema)
		return err
	})
	switch {
	case err != nil:
		return err
	case version > schemaVersion:
		return fmt.Errorf("%w: %w", ErrNoTables, s.newerSchema(version))
	case version < schemaVersion && s.config.Migrate:
		if err := s.CreateTables(ctx, CreateOptions{NoRoles: true}); err != nil {
			return err
		}
	case version < schemaVersion:
		return s.noTables()
	}
	s.ready.Store(true)
	return nil
}

// retryRead makes a call that changes nothing until it is answered.
func (s *Store) retryRead(ctx context.Context, what string, call func(context.Context) error) error {
	if s.queue.isClosed() {
		return errClosed
	}
	return s.translate(ctx, what, retries.Read(ctx, func() error { return s.tryRead(ctx, call) }))
}

// tryRead makes a call, with a part of the time that is left.
func (s *Store) tryRead(ctx context.Context, call func(context.Context) error) error {
	attempt := patientAttempt
	if d, ok := ctx.Deadline(); ok {
		attempt = min(max(time.Until(d)/2, leastAttempt), patientAttempt)
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return call(ctx)
}

// readTx runs f in a transaction that sees one state of the database. It runs f again if it
// failed.
func (s *Store) readTx(ctx context.Context, f func(ctx context.Context, tx pgx.Tx) error) error {
	return s.retryRead(ctx, "reading", func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			return f(ctx, tx)
		})
	})
}

// transact runs f in a transaction that writes, again if it was surely not made and may succeed.
func (s *Store) transact(ctx context.Context, what string, f func(ctx context.Context, tx pgx.Tx) error) error {
	if !s.inflight.Begin() {
		return errClosed
	}
	defer s.inflight.End()
	for i := 0; ; i++ {
		err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error { return f(ctx, tx) })
		if err == nil || isAnswer(err) {
			return err
		}
		if fateOf(err) == enginecall.Unknown || !retries.Again(ctx, i, err) {
			return s.translate(ctx, what, err)
		}
	}
}

// change runs a change of administration: one at a time in a namespace, which must not be
// deleted.
func (s *Store) change(ctx context.Context, what string, f func(ctx context.Context, tx pgx.Tx) error) error {
	if err := s.tryRead(ctx, func(context.Context) error { return nil }); err != nil {
		return s.translate(ctx, what, err)
	}
	return s.transact(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", s.lockNumber("")); err != nil {
			return err
		}
		if err := s.checkActive(ctx, &adminTx{store: s, tx: tx}); err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

// A query is a text of SQL with the values of its parameters.
type query struct {
	text strings.Builder
	args []any
}

// add appends a text in which each ? stands for a value.
func (q *query) add(text string, values ...any) *query {
	for _, v := range values {
		before, after, _ := strings.Cut(text, "?")
		q.args = append(q.args, v)
		fmt.Fprintf(&q.text, "%s$%d", before, len(q.args))
		text = after
	}
	q.text.WriteString(text)
	return q
}

// find calls scan with the columns of the only row of a query, and reports whether there is one.
func (s *Store) find(ctx context.Context, tx pgx.Tx, q *query, targets ...any) (found bool, err error) {
	rows, err := tx.Query(ctx, s.sql(q.text.String()), q.args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	if rows.Next() {
		found = true
		if err := rows.Scan(targets...); err != nil {
			return false, err
		}
	}
	rows.Close()
	return found, rows.Err()
}

// Buckets implements zael.BucketStore.
func (s *Store) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	now, at, err := s.clock.Instant(ctx, now)
	if err != nil {
		return now, nil, err
	}
	var entities, resources []string
	for _, k := range keys {
		if err := storable.Key(k); err != nil {
			return now, nil, err
		}
		entities, resources = append(entities, k.Entity), append(resources, k.Resource)
	}
	var found map[zael.Key]*row
	err = s.retryRead(ctx, "reading buckets", func(ctx context.Context) error {
		found = map[zael.Key]*row{}
		rows, err := s.pool.Query(ctx, s.sql("SELECT b.entity, b.resource, "+storedColumns+` FROM zael.buckets b
			WHERE b.namespace = $1 AND (b.entity, b.resource) IN (SELECT k.entity COLLATE "C", k.resource COLLATE "C" FROM unnest($2::text[], $3::text[]) AS k (entity, resource))`),
			s.config.Namespace, entities, resources)
		if err != nil {
			return err
		}
		return scanRows(rows, found)
	})
	if err != nil {
		return now, nil, err
	}
	buckets := make([]zael.Bucket, len(keys))
	for i, k := range keys {
		r := found[k]
		if r == nil {
			r = missing(k)
		}
		buckets[i] = zael.Bucket{Key: k, Limits: r.states(at)}
	}
	return now, buckets, nil
}

// EntityBuckets implements zael.LimitStore.
func (s *Store) EntityBuckets(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	if err := storable.Text("entity", entity); err != nil {
		return pages.Failed[zael.Bucket](err)
	}
	return s.bucketPages(ctx, func(q *sqladmin.Query, last *row) {
		if q.Add(" AND entity = ?", entity); last != nil {
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
		if q.Add(" AND resource = ?", resource); last != nil {
			q.Add(" AND entity > ?", last.key.Entity)
		}
		q.Add(" ORDER BY entity")
	})
}

// bucketPages iterates the buckets that a condition selects.
func (s *Store) bucketPages(ctx context.Context, condition func(q *sqladmin.Query, last *row)) iter.Seq2[zael.Bucket, error] {
	return pages.Map(pages.Of(func(last *row) ([]row, error) {
		q := new(sqladmin.Query).Add("SELECT entity, resource, "+storedColumns+" FROM zael.buckets WHERE namespace = ?", s.config.Namespace)
		condition(q, last)
		return sqladmin.Collect(ctx, database{s}, "reading buckets", q.Add(" LIMIT ?", pages.Size), scanRow)
	}), func(r row) zael.Bucket { return zael.Bucket{Key: r.key, Limits: r.states(r.Latest)} })
}

// scanRow reads entity, resource and storedColumns.
func scanRow(from sqladmin.Row) (row, error) {
	var k zael.Key
	var c stored
	if err := from.Scan(append([]any{&k.Entity, &k.Resource}, c.targets()...)...); err != nil {
		return row{}, err
	}
	r, err := c.row(k)
	if err != nil {
		return row{}, err
	}
	return *r, nil
}
