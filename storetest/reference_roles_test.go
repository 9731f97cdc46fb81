package storetest_test

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

var (
	_ zael.InstantStore   = (*reference)(nil)
	_ zael.LocalStore     = (*reference)(nil)
	_ zael.EntityStore    = (*reference)(nil)
	_ zael.LimitStore     = (*reference)(nil)
	_ zael.AdminStore     = (*reference)(nil)
	_ zael.CapacityReader = (*reference)(nil)
	_ zael.ListStore      = (*reference)(nil)
	_ zael.UsageStore     = (*reference)(nil)
	_ zael.AuditStore     = (*reference)(nil)
)

func (s *reference) write(event zael.AuditEvent) {
	event.Details = maps.Clone(event.Details)
	s.events = append(s.events, event)
}

func (s *reference) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.entities[e.ID]; ok {
		return zael.ErrEntityExists
	}
	e.Metadata = maps.Clone(e.Metadata)
	s.entities[e.ID] = e
	s.write(event)
	return nil
}

func (s *reference) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []zael.Entity
	for _, id := range ids {
		e := s.entities[id]
		e.Metadata = maps.Clone(e.Metadata)
		all = append(all, e)
	}
	return all, nil
}

func (s *reference) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.entities) + len(s.buckets) + len(s.limits) + len(s.usage)
	delete(s.entities, id)
	maps.DeleteFunc(s.buckets, func(k zael.Key, _ *record) bool { return k.Entity == id })
	maps.DeleteFunc(s.limits, func(scope zael.Scope, _ zael.LimitSet) bool { return scope.Entity == id })
	maps.DeleteFunc(s.usage, func(k usageKey, _ zael.UsageRecord) bool { return k.key.Entity == id })
	if s.deleteSettings(id) {
		before++
	}
	if before == len(s.entities)+len(s.buckets)+len(s.limits)+len(s.usage) {
		return zael.ErrEntityNotFound
	}
	s.write(event)
	return nil
}

func (s *reference) Children(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
	return list(ctx, func() []zael.Entity {
		s.mu.Lock()
		defer s.mu.Unlock()
		var all []zael.Entity
		for _, id := range slices.Sorted(maps.Keys(s.entities)) {
			if e := s.entities[id]; e.ParentID == parent {
				e.Metadata = maps.Clone(e.Metadata)
				all = append(all, e)
			}
		}
		return all
	})
}

// list iterates a copy.
func list[T any](ctx context.Context, all func() []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err := ctx.Err(); err != nil {
			var zero T
			yield(zero, err)
			return
		}
		for _, v := range all() {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func (s *reference) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rev := max(event.Time.UnixMicro(), s.limits[scope].Rev+1)
	s.limits[scope] = zael.LimitSet{Limits: slices.Clone(limits), Rev: rev}
	s.write(event)
	return rev, nil
}

func (s *reference) DeleteLimits(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.limits[scope].Limits) == 0 {
		return s.limits[scope].Rev, nil
	}
	rev := max(event.Time.UnixMicro(), s.limits[scope].Rev+1)
	s.limits[scope] = zael.LimitSet{Rev: rev}
	s.write(event)
	return rev, nil
}

func (s *reference) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []zael.LimitSet
	for _, scope := range scopes {
		set := s.limits[scope]
		set.Limits = slices.Clone(set.Limits)
		all = append(all, set)
	}
	return all, nil
}

func (s *reference) EntityBuckets(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	return s.list(ctx, func(k zael.Key) bool { return k.Entity == entity })
}

func (s *reference) ResourceBuckets(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
	return s.list(ctx, func(k zael.Key) bool { return k.Resource == resource })
}

func (s *reference) list(ctx context.Context, selected func(zael.Key) bool) iter.Seq2[zael.Bucket, error] {
	return list(ctx, func() []zael.Bucket {
		s.mu.Lock()
		defer s.mu.Unlock()
		var all []zael.Bucket
		for k := range s.buckets {
			if selected(k) {
				all = append(all, s.bucket(k))
			}
		}
		slices.SortFunc(all, func(a, b zael.Bucket) int {
			return cmp.Or(cmp.Compare(a.Key.Resource, b.Key.Resource), cmp.Compare(a.Key.Entity, b.Key.Entity))
		})
		return all
	})
}

// A usageKey names a record of usage.
type usageKey struct {
	key    zael.Key
	window zael.Window
	start  time.Time
}

// count adds what a debit took, and events, in each window.
func (s *reference) count(at bucket.Instant, d zael.Debit, events int64) {
	t := at.Time()
	for window, start := range map[zael.Window]time.Time{
		zael.Hourly:  t.Truncate(time.Hour),
		zael.Daily:   time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC),
		zael.Monthly: time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC),
	} {
		k := usageKey{d.Key, window, start}
		r, ok := s.usage[k]
		if !ok {
			r = zael.UsageRecord{Entity: d.Key.Entity, Resource: d.Key.Resource, Window: window, Start: start, Amounts: zael.Amounts{}}
		}
		for i := range d.Charges {
			c := &d.Charges[i]
			if c.Definition.Kind != bucket.Slots || c.Amount > 0 { // slots that are released were used
				r.Amounts[c.Name] += c.Amount
			}
			if events > 0 && !d.Bypass && c.Overdraws(at) {
				r.Overdrawn = saturate.AddAll(maps.Clone(r.Overdrawn), map[string]int64{c.Name: 1})
			}
		}
		r.Events += events
		s.usage[k] = r
	}
}

func (s *reference) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	return list(ctx, func() []zael.UsageRecord {
		s.mu.Lock()
		defer s.mu.Unlock()
		var all []zael.UsageRecord
		for _, r := range s.usage {
			if r.Window == cmp.Or(q.Window, zael.Hourly) && (q.Entity == "" || q.Entity == r.Entity) &&
				(q.Resource == "" || q.Resource == r.Resource) && within(r.Start, q.From, q.To) {
				r.Amounts = maps.Clone(r.Amounts)
				all = append(all, r)
			}
		}
		slices.SortFunc(all, func(a, b zael.UsageRecord) int {
			return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
		})
		return all
	})
}

func within(t, from, to time.Time) bool {
	return (from.IsZero() || !t.Before(from)) && (to.IsZero() || t.Before(to))
}

func (s *reference) Audit(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	return list(ctx, func() []zael.AuditEvent {
		s.mu.Lock()
		defer s.mu.Unlock()
		var all []zael.AuditEvent
		for _, event := range s.events {
			if (q.Entity == "" || q.Entity == event.Entity) && within(event.Time, q.From, q.To) {
				event.Details = maps.Clone(event.Details)
				all = append(all, event)
			}
		}
		slices.SortFunc(all, func(a, b zael.AuditEvent) int { return b.Time.Compare(a.Time) })
		return all[:min(len(all), cmp.Or(q.Max, 100))]
	})
}
