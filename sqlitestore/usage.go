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

// Usage implements zael.UsageStore. It keeps one window at a time in memory.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	q.Window = cmp.Or(q.Window, zael.Hourly)
	return func(yield func(zael.UsageRecord, error) bool) {
		if err := checkKey(zael.Key{Entity: q.Entity, Resource: q.Resource}); err != nil {
			yield(zael.UsageRecord{}, err)
			return
		}
		for hour := firstHour(q); ; {
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
			if next == math.MaxInt64 {
				return
			}
			hour = next
		}
	}
}

// window reads the first window that has usage in hours from first on, and the
// hour in which to go on; MaxInt64 at the end.
func (s *Store) window(ctx context.Context, q zael.UsageQuery, first int64) (records []zael.UsageRecord, next int64, err error) {
	sums := map[zael.Key]*tally{}
	var start, end time.Time
	for hour := first; ; hour++ {
		var found map[zael.Key]*tally
		err := s.view(ctx, func(tx *sql.Tx) (err error) {
			if hour, err = nextHour(ctx, tx, q, hour); err != nil || hour == math.MaxInt64 {
				return err
			}
			if len(sums) == 0 {
				start, end = q.Window.Bounds(time.Unix(hour*3600, 0))
			} else if hour >= hourOf(end) {
				return nil
			}
			found, err = hourUsage(ctx, tx, q, hour)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if hour == math.MaxInt64 || !q.To.IsZero() && !start.Before(q.To) {
			next = math.MaxInt64
			break
		}
		if hour >= hourOf(end) {
			next = hour
			break
		}
		for key, n := range found {
			sum := sums[key]
			if sum == nil {
				sum = new(tally)
				sums[key] = sum
			}
			sum.events = saturate.Add(sum.events, n.events)
			for name, amount := range n.amounts {
				sum.add(name, amount)
			}
		}
	}
	if !q.To.IsZero() && !start.Before(q.To) {
		return nil, math.MaxInt64, nil
	}
	for key, n := range sums {
		if n.amounts == nil {
			n.amounts = zael.Amounts{}
		}
		records = append(records, zael.UsageRecord{
			Entity: key.Entity, Resource: key.Resource, Window: q.Window, Start: start, Amounts: n.amounts, Events: n.events,
		})
	}
	slices.SortFunc(records, func(a, b zael.UsageRecord) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
	})
	return records, next, nil
}

// firstHour is the first hour of the first window that q selects.
func firstHour(q zael.UsageQuery) int64 {
	if q.From.IsZero() {
		return math.MinInt64 + 1 // noHour is none
	}
	start, end := q.Window.Bounds(q.From)
	if start.Before(q.From) {
		start = end
	}
	return hourOf(start)
}

// nextHour is the first hour from hour on that has usage, perhaps not of the
// resource; MaxInt64 if there is none. Usage stands in its table, or still in
// a bucket.
func nextHour(ctx context.Context, tx *sql.Tx, q zael.UsageQuery, hour int64) (int64, error) {
	condition, args := "hour >= ?", []any{hour}
	if q.Entity != "" {
		condition, args = condition+" AND entity = ?", append(args, q.Entity)
	}
	next := int64(math.MaxInt64)
	for _, table := range []string{"usage", "buckets"} {
		err := each(ctx, tx, func(rows *sql.Rows) error {
			var first sql.NullInt64
			err := rows.Scan(&first)
			if first.Valid {
				next = min(next, first.Int64)
			}
			return err
		}, "SELECT min(hour) FROM "+table+" WHERE "+condition, args...)
		if err != nil {
			return 0, err
		}
	}
	return next, nil
}

// hourUsage reads the usage of an hour.
func hourUsage(ctx context.Context, tx *sql.Tx, q zael.UsageQuery, hour int64) (map[zael.Key]*tally, error) {
	condition, args := "hour = ?", []any{hour}
	if q.Entity != "" {
		condition, args = condition+" AND entity = ?", append(args, q.Entity)
	}
	if q.Resource != "" {
		condition, args = condition+" AND resource = ?", append(args, q.Resource)
	}
	found := map[zael.Key]*tally{}
	err := each(ctx, tx, func(rows *sql.Rows) error {
		var key zael.Key
		var events int64
		var amounts string
		if err := rows.Scan(&key.Entity, &key.Resource, &events, &amounts); err != nil {
			return err
		}
		n := new(tally)
		found[key] = n
		return n.merge(events, amounts)
	}, "SELECT entity, resource, events, amounts FROM usage WHERE "+condition, args...)
	if err != nil {
		return nil, err
	}
	err = each(ctx, tx, func(rows *sql.Rows) error {
		var r row
		var state []byte
		if err := rows.Scan(&r.key.Entity, &r.key.Resource, &state); err != nil {
			return err
		}
		if err := r.decode(state); err != nil {
			return err
		}
		if found[r.key] == nil {
			found[r.key] = new(tally)
		}
		r.drain(found[r.key])
		return nil
	}, "SELECT entity, resource, state FROM buckets WHERE "+condition, args...)
	return found, err
}
