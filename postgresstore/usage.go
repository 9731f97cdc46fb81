package postgresstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/saturate"
)

// An hourUsage is the usage of a bucket.
type hourUsage struct {
	events    int64
	amounts   zael.Amounts
	overdrawn map[string]int64 // nil if there is none
}

// add adds what usageKey.name says.
func (n *hourUsage) add(name string, amount int64) {
	if name == "" {
		n.events = saturate.Add(n.events, amount)
		return
	}
	if limit, ok := strings.CutPrefix(name, overdrawnMark); ok {
		n.overdrawn = saturate.AddAll(n.overdrawn, map[string]int64{limit: amount})
		return
	}
	n.amounts[name] = saturate.Add(n.amounts[name], amount)
}

// usages are the usage of buckets.
type usages map[zael.Key]*hourUsage

func (u usages) of(key zael.Key) *hourUsage {
	n := u[key]
	if n == nil {
		n = &hourUsage{amounts: zael.Amounts{}}
		u[key] = n
	}
	return n
}

// Usage implements zael.UsageStore. It holds one window at a time in memory.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	q.Window = cmp.Or(q.Window, zael.Hourly)
	return func(yield func(zael.UsageRecord, error) bool) {
		err := storable.Key(zael.Key{Entity: q.Entity, Resource: q.Resource})
		if !s.config.Usage {
			err = fmt.Errorf("postgresstore: usage is not counted: open the store with usage=true: %w", errors.ErrUnsupported)
		}
		if err != nil {
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

// window reads the newest window that has usage in hours up to last, in one transaction, and
// returns an hour before it at which to go on; noHour at the end.
func (s *Store) window(ctx context.Context, q zael.UsageQuery, last int64) (records []zael.UsageRecord, next int64, err error) {
	var sums usages
	var start time.Time
	err = s.readTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		sums = usages{}
		hour, err := s.previousHour(ctx, tx, q, last)
		if err != nil || hour == noHour {
			next = noHour
			return err
		}
		start, _ = q.Window.Bounds(time.Unix(hour*3600, 0))
		if !q.From.IsZero() && start.Before(q.From) {
			next = noHour
			return nil
		}
		next = hourOf(start) - 1
		return s.readHours(ctx, tx, q, hourOf(start), hour, sums)
	})
	if err != nil {
		return nil, 0, err
	}
	for key, n := range sums {
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

// previousHour returns the last hour up to an hour that has usage; noHour if there is none.
func (s *Store) previousHour(ctx context.Context, tx pgx.Tx, u zael.UsageQuery, hour int64) (int64, error) {
	found := int64(noHour)
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
func (s *Store) readHours(ctx context.Context, tx pgx.Tx, u zael.UsageQuery, first, last int64, sums usages) error {
	q := new(query).add("SELECT entity, resource, name, n FROM zael.usage WHERE namespace = ? AND hour BETWEEN ? AND ?", s.config.Namespace, first, last).selected(u)
	rows, err := tx.Query(ctx, s.sql(q.text.String()), q.args...)
	if err != nil {
		return err
	}
	var key zael.Key
	var name string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&key.Entity, &key.Resource, &name, &n}, func() error {
		sums.of(key).add(name, n)
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
			sums.of(key).add(name, n)
		}
	}
	return nil
}
