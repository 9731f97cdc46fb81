// Package hourly has the usage of buckets by the hour, and sums it up to the records of windows.
// Hours are counted from 1970.
package hourly

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/saturate"
)

// None is no hour.
const None = math.MinInt64

// Of returns the hour of t.
func Of(t time.Time) int64 {
	s := t.Unix()
	h := s / 3600
	if s%3600 < 0 {
		h--
	}
	return h
}

// Start returns when an hour starts.
func Start(hour int64) time.Time { return time.Unix(hour*3600, 0) }

// Last returns the last hour of the last window that q selects.
func Last(q zael.UsageQuery) int64 {
	if q.To.IsZero() {
		return math.MaxInt64
	}
	_, end := q.Window.Bounds(q.To.Add(-1))
	return Of(end) - 1
}

// A Usage is that of a bucket. The zero Usage is none.
type Usage struct {
	Events    int64
	Amounts   zael.Amounts     // nil if there are none
	Overdrawn map[string]int64 // nil if there is none
}

// Count adds tokens of a limit.
func (u *Usage) Count(limit string, tokens int64) {
	if u.Amounts == nil {
		u.Amounts = zael.Amounts{}
	}
	u.Amounts[limit] = saturate.Add(u.Amounts[limit], tokens)
}

// Overdraw adds acquires that left a limit overdrawn.
func (u *Usage) Overdraw(limit string, acquires int64) {
	u.Overdrawn = saturate.AddAll(u.Overdrawn, map[string]int64{limit: acquires})
}

// Add adds another Usage, which it does not change.
func (u *Usage) Add(more *Usage) {
	u.Events = saturate.Add(u.Events, more.Events)
	for limit, tokens := range more.Amounts {
		u.Count(limit, tokens)
	}
	u.Overdrawn = saturate.AddAll(u.Overdrawn, more.Overdrawn)
}

// Sums are the usage of buckets.
type Sums map[zael.Key]*Usage

// Of returns the usage of a bucket, which it makes if there is none.
func (s Sums) Of(key zael.Key) *Usage {
	u := s[key]
	if u == nil {
		u = new(Usage)
		s[key] = u
	}
	return u
}

// Add adds other sums, which it does not change.
func (s Sums) Add(more Sums) {
	for key, u := range more {
		s.Of(key).Add(u)
	}
}

// Records returns the sums as the records of a window that starts at start, by entity and resource.
// The records may share the maps of s.
func (s Sums) Records(w zael.Window, start time.Time) []zael.UsageRecord {
	records := make([]zael.UsageRecord, 0, len(s))
	for key, u := range s {
		r := zael.UsageRecord{
			Entity: key.Entity, Resource: key.Resource, Window: w, Start: start,
			Events: u.Events, Amounts: u.Amounts, Overdrawn: u.Overdrawn,
		}
		if r.Amounts == nil {
			r.Amounts = zael.Amounts{}
		}
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b zael.UsageRecord) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
	})
	return records
}

// ByStart are the sums of windows, by their starts.
type ByStart map[time.Time]Sums

// Of returns the sums of the window that starts at start, which it makes if there are none.
func (b ByStart) Of(start time.Time) Sums {
	s := b[start]
	if s == nil {
		s = Sums{}
		b[start] = s
	}
	return s
}

// Records returns the records of all windows, the newest first.
func (b ByStart) Records(w zael.Window) (records []zael.UsageRecord) {
	for _, start := range slices.SortedFunc(maps.Keys(b), func(x, y time.Time) int { return y.Compare(x) }) {
		records = append(records, b[start].Records(w, start)...)
	}
	return records
}

// Windows iterates the records of all windows that q selects, the newest first. read returns those
// of the newest window that has usage in hours up to last, and an hour before the window at which
// to go on, or None at the end.
func Windows(q zael.UsageQuery, read func(last int64) (records []zael.UsageRecord, next int64, err error)) iter.Seq2[zael.UsageRecord, error] {
	return func(yield func(zael.UsageRecord, error) bool) {
		for hour := Last(q); hour != None; {
			records, next, err := read(hour)
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
