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
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// hoursKept is how many hours of usage are kept: the newest in which there was any.
const hoursKept = 24

// A usage has counts for each hour; days and months are sums.
type usage struct {
	mu    sync.Mutex
	hours map[int64]map[zael.Key]*tally // by the hour since 1970
}

type tally struct {
	amounts   zael.Amounts
	events    int64
	overdrawn map[string]int64 // nil if there is none
}

func newUsage() *usage { return &usage{hours: map[int64]map[zael.Key]*tally{}} }

// count adds the amounts of debits, which were made at an instant, and of a take its event and the
// limits that it left overdrawn.
func (u *usage) count(c *call, debits []zael.Debit, events int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	hour := u.hour(hourOf(c.now))
	if hour == nil {
		return
	}
	for i := range debits {
		row := hour[debits[i].Key]
		if row == nil {
			row = &tally{amounts: zael.Amounts{}}
			hour[debits[i].Key] = row
		}
		row.events += events
		for j := range debits[i].Charges {
			ch := &debits[i].Charges[j]
			if c.taking && !debits[i].Bypass && ch.Overdraws(c.at) {
				row.overdrawn = saturate.AddAll(row.overdrawn, map[string]int64{ch.Name: 1})
			}
			released := ch.Definition.Kind == bucket.Slots && ch.Amount < 0 // they were used
			if ch.Amount != 0 && !released {
				row.amounts[ch.Name] = saturate.Add(row.amounts[ch.Name], ch.Amount)
			}
		}
	}
}

// hour returns the counts of an hour, or nil if it is older than those that are kept.
func (u *usage) hour(n int64) map[zael.Key]*tally {
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
	u.hours[n] = map[zael.Key]*tally{}
	return u.hours[n]
}

func (u *usage) deleteEntity(id string) (found bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, rows := range u.hours {
		maps.DeleteFunc(rows, func(key zael.Key, _ *tally) bool {
			found = found || key.Entity == id
			return key.Entity == id
		})
	}
	return found
}

func hourOf(t time.Time) int64 {
	s := t.Unix()
	h := s / 3600
	if s%3600 < 0 {
		h--
	}
	return h
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
	type window struct {
		key   zael.Key
		start int64
	}
	sums := map[window]*zael.UsageRecord{}
	u.mu.Lock()
	for hour, rows := range u.hours {
		start, _ := q.Window.Bounds(time.Unix(hour*3600, 0))
		if !q.From.IsZero() && start.Before(q.From) || !q.To.IsZero() && !start.Before(q.To) {
			continue
		}
		for key, row := range rows {
			if q.Entity != "" && q.Entity != key.Entity || q.Resource != "" && q.Resource != key.Resource {
				continue
			}
			w := window{key, start.Unix()}
			sum := sums[w]
			if sum == nil {
				sum = &zael.UsageRecord{
					Entity: key.Entity, Resource: key.Resource, Window: cmp.Or(q.Window, zael.Hourly),
					Start: start, Amounts: zael.Amounts{},
				}
				sums[w] = sum
			}
			sum.Events = saturate.Add(sum.Events, row.events)
			for name, n := range row.amounts {
				sum.Amounts[name] = saturate.Add(sum.Amounts[name], n)
			}
			sum.Overdrawn = saturate.AddAll(sum.Overdrawn, row.overdrawn)
		}
	}
	u.mu.Unlock()
	all := make([]zael.UsageRecord, 0, len(sums))
	for _, r := range sums {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b zael.UsageRecord) int {
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
	})
	return all
}
