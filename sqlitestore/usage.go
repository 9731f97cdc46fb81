package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"iter"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/pages"
)

// Usage implements zael.UsageStore. It holds one window at a time in memory.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	q.Window = cmp.Or(q.Window, zael.Hourly)
	if err := storable.Key(zael.Key{Entity: q.Entity, Resource: q.Resource}); err != nil {
		return pages.Failed[zael.UsageRecord](err)
	}
	return hourly.Windows(q, func(last int64) ([]zael.UsageRecord, int64, error) { return s.window(ctx, q, last) })
}

// window reads the newest window that has usage in hours up to last, and returns the hour
// before it that has some; hourly.None at the end.
func (s *Store) window(ctx context.Context, q zael.UsageQuery, last int64) (records []zael.UsageRecord, next int64, err error) {
	sums := hourly.Sums{}
	var start time.Time
	for next = last; ; next-- {
		var found hourly.Sums
		err := s.readTx(ctx, "reading usage", func(tx *sql.Tx) (err error) {
			if next, err = previousHour(ctx, tx, q, next); err != nil || next == hourly.None {
				return err
			}
			if len(sums) == 0 {
				start, _ = q.Window.Bounds(hourly.Start(next))
			} else if next < hourly.Of(start) {
				return nil
			}
			found, err = readHour(ctx, tx, q, next)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if next == hourly.None || next < hourly.Of(start) {
			return sums.Records(q.Window, start), next, nil
		}
		if !q.From.IsZero() && start.Before(q.From) {
			return nil, hourly.None, nil
		}
		sums.Add(found)
	}
}

// previousHour returns the last hour up to an hour that has usage, perhaps not of the
// resource; hourly.None if there is none. Usage is in its table, or still in a bucket.
func previousHour(ctx context.Context, tx *sql.Tx, q zael.UsageQuery, hour int64) (int64, error) {
	condition, args := "hour <= ?", []any{hour}
	if q.Entity != "" {
		condition, args = condition+" AND entity = ?", append(args, q.Entity)
	}
	found := int64(hourly.None)
	for _, table := range []string{"usage", "buckets"} {
		err := queryRows(ctx, tx, func(rows *sql.Rows) error {
			var last sql.NullInt64
			err := rows.Scan(&last)
			if last.Valid {
				found = max(found, last.Int64)
			}
			return err
		}, "SELECT max(hour) FROM "+table+" WHERE "+condition, args...)
		if err != nil {
			return 0, err
		}
	}
	return found, nil
}

// readHour returns the usage of an hour.
func readHour(ctx context.Context, tx *sql.Tx, q zael.UsageQuery, hour int64) (hourly.Sums, error) {
	condition, args := "hour = ?", []any{hour}
	if q.Entity != "" {
		condition, args = condition+" AND entity = ?", append(args, q.Entity)
	}
	if q.Resource != "" {
		condition, args = condition+" AND resource = ?", append(args, q.Resource)
	}
	found := hourly.Sums{}
	err := queryRows(ctx, tx, func(rows *sql.Rows) error {
		var key zael.Key
		var events int64
		var amounts string
		var overdrawn any
		if err := rows.Scan(&key.Entity, &key.Resource, &events, &amounts, &overdrawn); err != nil {
			return err
		}
		return merge(found.Of(key), events, amounts, overdrawn)
	}, "SELECT entity, resource, events, amounts, overdrawn FROM usage WHERE "+condition, args...)
	if err != nil {
		return nil, err
	}
	err = queryRows(ctx, tx, func(rows *sql.Rows) error {
		var r row
		var state []byte
		if err := rows.Scan(&r.key.Entity, &r.key.Resource, &state); err != nil {
			return err
		}
		if err := r.decode(state); err != nil {
			return err
		}
		r.moveUsage(found.Of(r.key))
		return nil
	}, "SELECT entity, resource, state FROM buckets WHERE "+condition, args...)
	return found, err
}
