package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/saturate"
)

// Usage implements zael.UsageStore. It holds one window at a time in memory.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	q.Window = cmp.Or(q.Window, zael.Hourly)
	return func(yield func(zael.UsageRecord, error) bool) {
		if err := storable.Key(zael.Key{Entity: q.Entity, Resource: q.Resource}); err != nil {
			yield(zael.UsageRecord{}, err)
			return
		}
		for hour := lastHour(q); hour != noHour; {
			records, next, err := s.window(ctx, q, hour)
			if err != nil {
				yield(zael.UsageRecord{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			hour = next
		}
	}
}

// window reads the newest window that has usage in hours up to last, and returns the hour
// before it that has some; noHour at the end.
func (s *Store) window(ctx context.Context, q zael.UsageQuery, last int64) (records []zael.UsageRecord, next int64, err error) {
	sums := map[zael.Key]*hourUsage{}
	var start time.Time
	for next = last; ; next-- {
		var found map[zael.Key]*hourUsage
		err := s.readTx(ctx, "reading usage", func(tx *sql.Tx) (err error) {
			if next, err = previousHour(ctx, tx, q, next); err != nil || next == noHour {
				return err
			}
			if len(sums) == 0 {
				start, _ = q.Window.Bounds(time.Unix(next*3600, 0))
			} else if next < hourOf(start) {
				return nil
			}
			found, err = readHour(ctx, tx, q, next)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if next == noHour || next < hourOf(start) {
			break
		}
		if !q.From.IsZero() && start.Before(q.From) {
			return nil, noHour, nil
		}
		for key, n := range found {
			sum := sums[key]
			if sum == nil {
				sum = new(hourUsage)
				sums[key] = sum
			}
			sum.events = saturate.Add(sum.events, n.events)
			for name, amount := range n.amounts {
				sum.add(name, amount)
			}
			sum.overdrawn = saturate.AddAll(sum.overdrawn, n.overdrawn)
		}
	}
	for key, n := range sums {
		if n.amounts == nil {
			n.amounts = zael.Amounts{}
		}
		records = append(records, zael.UsageRecord{
			Entity: key.Entity, Resource: key.Resource, Window: q.Window, Start: start, Amounts: n.amounts, Events: n.events, Overdrawn: n.overdrawn,
		})
	}
	slices.SortFunc(records, func(a, b zael.UsageRecord) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
	})
	return records, next, nil
}

// lastHour returns the last hour of the last window that q selects.
func lastHour(q zael.UsageQuery) int64 {
	if q.To.IsZero() {
		return math.MaxInt64
	}
	_, end := q.Window.Bounds(q.To.Add(-1))
	return hourOf(end) - 1
}

// previousHour returns the last hour up to an hour that has usage, perhaps not of the
// resource; noHour if there is none. Usage is in its table, or still in a bucket.
func previousHour(ctx context.Context, tx *sql.Tx, q zael.UsageQuery, hour int64) (int64, error) {
	condition, args := "hour <= ?", []any{hour}
	if q.Entity != "" {
		condition, args = condition+" AND entity = ?", append(args, q.Entity)
	}
	found := int64(noHour)
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
func readHour(ctx context.Context, tx *sql.Tx, q zael.UsageQuery, hour int64) (map[zael.Key]*hourUsage, error) {
	condition, args := "hour = ?", []any{hour}
	if q.Entity != "" {
		condition, args = condition+" AND entity = ?", append(args, q.Entity)
	}
	if q.Resource != "" {
		condition, args = condition+" AND resource = ?", append(args, q.Resource)
	}
	found := map[zael.Key]*hourUsage{}
	err := queryRows(ctx, tx, func(rows *sql.Rows) error {
		var key zael.Key
		var events int64
		var amounts string
		var overdrawn any
		if err := rows.Scan(&key.Entity, &key.Resource, &events, &amounts, &overdrawn); err != nil {
			return err
		}
		n := new(hourUsage)
		found[key] = n
		return n.merge(events, amounts, overdrawn)
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
		if found[r.key] == nil {
			found[r.key] = new(hourUsage)
		}
		r.moveUsage(found[r.key])
		return nil
	}, "SELECT entity, resource, state FROM buckets WHERE "+condition, args...)
	return found, err
}
