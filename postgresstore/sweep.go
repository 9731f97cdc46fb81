package postgresstore

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/sqladmin"
	"github.com/zeroae/zael/internal/stamp"
)

const (
	sweepEvery = time.Minute // at random, from half as long to one and a half
	sweepRows  = 200         // are deleted in one transaction
)

// sweepForever deletes what is no longer needed, a little at a time. One program of those that
// share the tables does it at a time.
func (s *Store) sweepForever(ctx context.Context) {
	for {
		if pause.For(ctx, sweepEvery/2+rand.N(sweepEvery)) != nil {
			return
		}
		if !s.ready.Load() {
			continue // nobody has used the store yet
		}
		for {
			more, err := s.sweep(ctx)
			if err != nil || !more || pause.For(ctx, 20*time.Millisecond) != nil {
				break // it is tried again in a minute
			}
		}
	}
}

// sweep deletes some of what is due, and reports whether there may be more.
func (s *Store) sweep(ctx context.Context) (more bool, err error) {
	now, at, known := s.clock.Local(time.Now())
	if !known {
		return false, nil
	}
	return s.sweepAt(ctx, now, at)
}

// sweepAt sweeps what is due at an instant.
func (s *Store) sweepAt(ctx context.Context, now time.Time, at bucket.Instant) (more bool, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", s.lockNumber("sweep")).Scan(&mine); err != nil || !mine {
			return err
		}
		n, err := s.sweepBuckets(ctx, tx, at)
		if err != nil {
			return err
		}
		more = n == sweepRows
		in := adminTx{store: s, tx: tx}
		old := now.Add(-s.config.Retention)
		for _, q := range []*sqladmin.Query{
			new(sqladmin.Query).Add("DELETE FROM zael.usage WHERE ctid IN (SELECT ctid FROM zael.usage WHERE namespace = ? AND hour < ? LIMIT ?)", s.config.Namespace, hourly.Of(old), sweepRows),
			new(sqladmin.Query).Add("DELETE FROM zael.audit WHERE ctid IN (SELECT ctid FROM zael.audit WHERE namespace = ? AND time < ? LIMIT ?)", s.config.Namespace, stamp.Text(old), sweepRows),
			new(sqladmin.Query).Add("DELETE FROM zael.once WHERE ctid IN (SELECT ctid FROM zael.once WHERE until <= ? LIMIT ?)", stamp.Text(now), sweepRows),
		} {
			n, err := in.Exec(ctx, q)
			if err != nil {
				return err
			}
			more = more || n == sweepRows
		}
		return nil
	})
	return more, err
}

// sweepBuckets deletes buckets that have been full for an hour, which nobody has locked, and
// keeps their usage. It returns how many.
func (s *Store) sweepBuckets(ctx context.Context, tx pgx.Tx, at bucket.Instant) (int, error) {
	q := new(sqladmin.Query).Add(`DELETE FROM zael.buckets b USING (SELECT entity, resource FROM zael.buckets WHERE namespace = ? AND expires <= ? ORDER BY entity, resource LIMIT ? FOR UPDATE SKIP LOCKED) d
		WHERE b.namespace = ? AND b.entity = d.entity AND b.resource = d.resource RETURNING b.entity, b.resource, `+storedColumns,
		s.config.Namespace, int64(at), sweepRows, s.config.Namespace)
	var gone []row
	if err := s.query(ctx, tx, q, func(rows sqladmin.Rows) (err error) {
		gone, err = sqladmin.ReadAll(rows, scanRow)
		return err
	}); err != nil {
		return 0, err
	}
	t := newStep(s, nil)
	for i := range gone {
		t.endHour(&gone[i])
	}
	var b pgx.Batch
	if s.queueUsage(&b, t); b.Len() > 0 {
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return 0, err
		}
	}
	return len(gone), nil
}
