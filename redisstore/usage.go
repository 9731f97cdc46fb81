package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/hourly"
	"github.com/zeroae/zael/internal/saturate"
)

// Usage implements zael.UsageStore. It holds one window at a time in memory. Without an entity it
// looks at the names of all keys of the server's database.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	q.Window = cmp.Or(q.Window, zael.Hourly)
	return func(yield func(zael.UsageRecord, error) bool) {
		if !s.config.Usage {
			yield(zael.UsageRecord{}, fmt.Errorf("redisstore: usage is not counted: set Config.Usage (usage=true in the store's URL): %w", errors.ErrUnsupported))
			return
		}
		if err := storable.Key(zael.Key{Entity: q.Entity, Resource: q.Resource}); err != nil {
			yield(zael.UsageRecord{}, err)
			return
		}
		days, err := s.usageDays(ctx, q)
		if err != nil {
			yield(zael.UsageRecord{}, err)
			return
		}
		for len(days) > 0 {
			// All days of one window; of hours, all windows of one day.
			start, _ := q.Window.Bounds(days[0].start)
			n := 1
			for n < len(days) && q.Window == zael.Monthly && !days[n].start.Before(start) {
				n++
			}
			records, err := s.usageIn(ctx, q, days[:n])
			if err != nil {
				yield(zael.UsageRecord{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			days = days[n:]
		}
	}
}

// A usageDay is a day of which entities have usage.
type usageDay struct {
	start    time.Time
	entities []string
}

// usageDays returns the days that a query may select, the newest first.
func (s *Store) usageDays(ctx context.Context, q zael.UsageQuery) ([]usageDay, error) {
	const what = "reading usage"
	byDay := map[string]map[string]bool{}
	note := func(entity, day string) {
		if byDay[day] == nil {
			byDay[day] = map[string]bool{}
		}
		byDay[day][entity] = true
	}
	if q.Entity != "" {
		days, err := s.ranged(ctx, what, s.keys.days(q.Entity), "-", "+", -1)
		if err != nil {
			return nil, err
		}
		for _, day := range days {
			note(q.Entity, day)
		}
	} else {
		for names, err := range s.scan(ctx, what, glob(s.keys.prefix)+"u:{*}:*") {
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				rest, _ := strings.CutPrefix(name, s.keys.prefix+"u:{")
				entity, day, ok := strings.Cut(rest, "}:")
				if ok {
					note(untag(entity), day)
				}
			}
		}
	}
	var days []usageDay
	for day, entities := range byDay {
		start, err := time.Parse(dayForm, day)
		if err != nil {
			return nil, fmt.Errorf("redisstore: %w: %w", errDamaged, err)
		}
		first, _ := q.Window.Bounds(start)
		last := start.Add(23 * time.Hour)
		if !q.From.IsZero() && cmpWindow(q, last).Before(q.From) || !q.To.IsZero() && !first.Before(q.To) {
			continue
		}
		d := usageDay{start: start}
		for entity := range entities {
			d.entities = append(d.entities, entity)
		}
		slices.Sort(d.entities)
		days = append(days, d)
	}
	slices.SortFunc(days, func(a, b usageDay) int { return b.start.Compare(a.start) })
	return days, nil
}

// cmpWindow returns the start of the window of a query that a time is in.
func cmpWindow(q zael.UsageQuery, at time.Time) time.Time {
	start, _ := q.Window.Bounds(at)
	return start
}

// usageIn returns the records of days, the newest window first.
func (s *Store) usageIn(ctx context.Context, q zael.UsageQuery, days []usageDay) ([]zael.UsageRecord, error) {
	windows := hourly.ByStart{}
	for _, day := range days {
		for page := range slices.Chunk(day.entities, pageSize) {
			names := make([]string, len(page))
			for i, entity := range page {
				names[i] = s.keys.usage(entity) + day.start.Format(dayForm)
			}
			hashes, err := s.readHashes(ctx, "reading usage", names)
			if err != nil {
				return nil, err
			}
			for i, hash := range hashes {
				for j := 0; j+1 < len(hash); j += 2 {
					f, n, err := usageField(hash[j], hash[j+1])
					if err != nil {
						return nil, err
					}
					start := cmpWindow(q, day.start.Add(time.Duration(f.hour)*time.Hour))
					if q.Resource != "" && f.resource != q.Resource || !q.From.IsZero() && start.Before(q.From) || !q.To.IsZero() && !start.Before(q.To) {
						continue
					}
					u := windows.Of(start).Of(zael.Key{Entity: page[i], Resource: f.resource})
					switch limit, over := strings.CutPrefix(f.limit, overdrawnMark); {
					case f.event:
						u.Events = saturate.Add(u.Events, n)
					case over:
						u.Overdraw(limit, n)
					default:
						u.Count(f.limit, n)
					}
				}
			}
		}
	}
	var records []zael.UsageRecord
	for _, r := range windows.Records(q.Window) {
		if r.Events != 0 || slices.ContainsFunc(slices.Collect(maps.Values(r.Amounts)), func(n int64) bool { return n != 0 }) {
			records = append(records, r)
		}
	}
	return records, nil
}

// A counted is what a field of a day's usage counts.
type counted struct {
	hour     int
	resource string
	event    bool   // acquires
	limit    string // with overdrawnMark, of acquires that left it overdrawn
}

// usageField reads a field of a day's usage: "<hour>|<resource>" of acquires,
// "<hour>|<resource>|<limit>" of tokens, and "<hour>|<resource>|!<limit>" of acquires that left the
// limit overdrawn.
func usageField(name, value string) (f counted, n int64, err error) {
	hour, rest, ok := strings.Cut(name, "|")
	resource, limit, tokens := strings.Cut(rest, "|")
	f.resource, f.event, f.limit = unescape(resource), !tokens, limit
	if f.hour, err = strconv.Atoi(hour); err == nil {
		n, err = strconv.ParseInt(value, 10, 64)
	}
	if err != nil || !ok {
		return f, 0, fmt.Errorf("redisstore: %w: usage %q: %w", errDamaged, name, err)
	}
	return f, n, nil
}
