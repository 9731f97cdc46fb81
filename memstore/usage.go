package memstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/hourly"
)

// hoursKept is how many hours of usage are kept: the newest in which there was any.
const hoursKept = 24

// A usage has counts for each hour; days and months are sums.
type usage struct {
	mu    sync.Mutex
	hours map[int64]hourly.Sums
}

func newUsage() *usage { return &usage{hours: map[int64]hourly.Sums{}} }

// count adds the amounts of debits, which were made at an instant, and of a take its event and the
// limits that it left overdrawn.
func (u *usage) count(c *call, debits []zael.Debit, events int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	hour := u.hour(hourly.Of(c.now))
	if hour == nil {
		return
	}
	for i := range debits {
		row := hour.Of(debits[i].Key)
		row.Events += events
		for j := range debits[i].Charges {
			ch := &debits[i].Charges[j]
			if c.taking && !debits[i].Bypass && ch.Overdraws(c.at) {
				row.Overdraw(ch.Name, 1)
			}
			released := ch.Definition.Kind == bucket.Slots && ch.Amount < 0 // they were used
			if ch.Amount != 0 && !released {
				row.Count(ch.Name, ch.Amount)
			}
		}
	}
}

// hour returns the counts of an hour, or nil if it is older than those that are kept.
func (u *usage) hour(n int64) hourly.Sums {
	if h := u.hours[n]; h != nil {
		return h
	}
	if len(u.hours) >= hoursKept {
		oldest := slices.Min(slices.Collect(maps.Keys(u.hours)))
		if n < oldest {
			return nil
		}
		delete(u.hours, oldest)
	}
	u.hours[n] = hourly.Sums{}
	return u.hours[n]
}

func (u *usage) deleteEntity(id string) (found bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, rows := range u.hours {
		maps.DeleteFunc(rows, func(key zael.Key, _ *hourly.Usage) bool {
			found = found || key.Entity == id
			return key.Entity == id
		})
	}
	return found
}

// Usage implements zael.UsageStore.
func (s *Store) Usage(_ context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	return func(yield func(zael.UsageRecord, error) bool) {
		if s.usage == nil {
			yield(zael.UsageRecord{}, fmt.Errorf("memstore: usage is not counted, set Config.Usage: %w", errors.ErrUnsupported))
			return
		}
		for _, r := range s.usage.records(q) {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (u *usage) records(q zael.UsageQuery) []zael.UsageRecord {
	q.Window = cmp.Or(q.Window, zael.Hourly)
	windows := hourly.ByStart{}
	u.mu.Lock()
	for hour, rows := range u.hours {
		start, _ := q.Window.Bounds(hourly.Start(hour))
		if !q.From.IsZero() && start.Before(q.From) || !q.To.IsZero() && !start.Before(q.To) {
			continue
		}
		sums := windows.Of(start)
		for key, row := range rows {
			if (q.Entity == "" || q.Entity == key.Entity) && (q.Resource == "" || q.Resource == key.Resource) {
				sums.Of(key).Add(row)
			}
		}
	}
	u.mu.Unlock()
	return windows.Records(q.Window)
}
