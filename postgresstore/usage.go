package postgresstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/saturate"
)

// addNamed adds what usageKey.name says.
func addNamed(u *hourly.Usage, name string, n int64) {
	if name == "" {
		u.Events = saturate.Add(u.Events, n)
	} else if limit, ok := strings.CutPrefix(name, overdrawnMark); ok {
		u.Overdraw(limit, n)
	} else {
		u.Count(name, n)
	}
}

// Usage implements zael.UsageStore. It holds one window at a time in memory.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	q.Window = cmp.Or(q.Window, zael.Hourly)
	err := storable.Key(zael.Key{Entity: q.Entity, Resource: q.Resource})
	if !s.config.Usage {
		err = fmt.Errorf("postgresstore: usage is not counted: open the store with usage=true: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return pages.Failed[zael.UsageRecord](err)
	}
	return hourly.Windows(q, func(last int64) ([]zael.UsageRecord, int64, error) { return s.window(ctx, q, last) })
}

// window reads the newest window that has usage in hours up to last, in one transaction, and
// returns an hour before it at which to go on; hourly.None at the end.
func (s *Store) window(ctx context.Context, q zael.UsageQuery, last int64) (records []zael.UsageRecord, next int64, err error) {
	var sums hourly.Sums
	var start time.Time
	err = s.readTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		sums = hourly.Sums{}
		hour, err := s.previousHour(ctx, tx, q, last)
		if err != nil || hour == hourly.None {
			next = hourly.None
			return err
		}
		start, _ = q.Window.Bounds(hourly.Start(hour))
		if !q.From.IsZero() && start.Before(q.From) {
			next = hourly.None
			return nil
		}
		next = hourly.Of(start) - 1
		return s.readHours(ctx, tx, q, hourly.Of(start), hour, sums)
	})
	if err != nil {
		return nil, 0, err
	}
	return sums.Records(q.Window, start), next, nil
}

// usageTables are where usage is: in its table, or still in a bucket.
//
//nolint:gochecknoglobals // a constant table
var usageTables = []string{"usage", "buckets"}

// selected appends the conditions of q.
func (q *query) selected(u zael.UsageQuery) *query {
	if u.Entity != "" {
		q.add(" AND entity = ?", u.Entity)
	}
	if u.Resource != "" {
		q.add(" AND resource = ?", u.Resource)
	}
	return q
}

// previousHour returns the last hour up to an hour that has usage; hourly.None if there is none.
func (s *Store) previousHour(ctx context.Context, tx pgx.Tx, u zael.UsageQuery, hour int64) (int64, error) {
	found := int64(hourly.None)
	for _, table := range usageTables {
		q := new(query).add("SELECT hour FROM zael."+table+" WHERE namespace = ? AND hour <= ?", s.config.Namespace, hour)
		var last int64
		there, err := s.find(ctx, tx, q.selected(u).add(" ORDER BY hour DESC LIMIT 1"), &last)
		if err != nil {
			return 0, err
		}
		if there {
			found = max(found, last)
		}
	}
	return found, nil
}

// readHours adds the usage of hours from first to last to sums.
func (s *Store) readHours(ctx context.Context, tx pgx.Tx, u zael.UsageQuery, first, last int64, sums hourly.Sums) error {
	q := new(query).add("SELECT entity, resource, name, n FROM zael.usage WHERE namespace = ? AND hour BETWEEN ? AND ?", s.config.Namespace, first, last).selected(u)
	rows, err := tx.Query(ctx, s.sql(q.text.String()), q.args...)
	if err != nil {
		return err
	}
	var key zael.Key
	var name string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&key.Entity, &key.Resource, &name, &n}, func() error {
		addNamed(sums.Of(key), name, n)
		return nil
	}); err != nil {
		return err
	}
	q = new(query).add("SELECT entity, resource, "+storedColumns+" FROM zael.buckets WHERE namespace = ? AND hour BETWEEN ? AND ?", s.config.Namespace, first, last).selected(u)
	if rows, err = tx.Query(ctx, s.sql(q.text.String()), q.args...); err != nil {
		return err
	}
	found := map[zael.Key]*row{}
	if err := scanRows(rows, found); err != nil {
		return err
	}
	for key, r := range found {
		for name, n := range r.usage() {
			addNamed(sums.Of(key), name, n)
		}
	}
	return nil
}
