package storetest_test

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// counted is a store that counts takes in its own way.
func counted(count func(good *reference, now time.Time, debits []zael.Debit, err error)) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
			before := copyUsage(good)
			at, err := good.Take(ctx, now, w, debits)
			good.usage = before
			count(good, now, debits, err)
			return at, err
		}
	})
}

// used is a store that reads usage in its own way.
func used(change func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error]) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.usage = func(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
			return change(good, ctx, q)
		}
	})
}

func at(now time.Time) bucket.Instant {
	i, err := bucket.At(now)
	if err != nil {
		panic(err)
	}
	return i
}

// brokenUsage have a defect as UsageStore.
func brokenUsage() []brokenStore {
	return []brokenStore{
		{
			name: "the first use is not counted",
			make: counted(func(good *reference, now time.Time, debits []zael.Debit, err error) {
				for _, d := range debits {
					known := slices.ContainsFunc(slices.Collect(maps.Keys(good.usage)), func(k usageKey) bool { return k.key == d.Key })
					if err == nil && (known || good.buckets[d.Key].seen < at(now)) {
						good.count(at(now), d, 1)
					}
				}
			}),
			fails: []string{"UsageStore/takes are counted, net of what is given back"},
		},
		{
			name: "refused takes are counted",
			make: counted(func(good *reference, now time.Time, debits []zael.Debit, _ error) {
				for _, d := range debits {
					good.count(at(now), d, 1)
				}
			}),
			fails: []string{"UsageStore/refused takes are not counted"},
		},
		{
			name: "stale takes are counted",
			make: counted(func(good *reference, now time.Time, debits []zael.Debit, err error) {
				for _, d := range debits {
					if err == nil || errors.Is(err, zael.ErrStaleLimits) {
						good.count(at(now), d, 1)
					}
				}
			}),
			fails: []string{"UsageStore/refused takes are not counted"},
		},
		{
			name: "the child alone is counted",
			make: counted(func(good *reference, now time.Time, debits []zael.Debit, err error) {
				if err == nil {
					good.count(at(now), debits[0], 1)
				}
			}),
			fails: []string{"UsageStore/both sides of a cascade are counted"},
		},
		{
			name: "an event for each limit",
			make: counted(func(good *reference, now time.Time, debits []zael.Debit, err error) {
				for _, d := range debits {
					if err == nil {
						good.count(at(now), d, int64(len(d.Charges)))
					}
				}
			}),
			fails: []string{"UsageStore/takes are counted, net of what is given back", "UsageStore/both sides of a cascade are counted"},
		},
		{
			name: "windows in the caller's time zone",
			make: counted(func(good *reference, now time.Time, debits []zael.Debit, err error) {
				_, offset := now.Zone()
				for _, d := range debits {
					if err == nil {
						good.count(at(now.Add(time.Duration(offset)*time.Second)), d, 1)
					}
				}
			}),
			fails: []string{"UsageStore/windows are hours, days and months in UTC"},
		},
		{
			name: "usage is booked in the hour of the last take",
			make: method(func(o *override, good *reference) {
				last := map[zael.Key]time.Time{}
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					before := copyUsage(good)
					instant, err := good.Take(ctx, now, w, debits)
					good.usage = before
					for _, d := range debits {
						if last[d.Key].IsZero() {
							last[d.Key] = now
						}
						if err == nil {
							good.count(at(last[d.Key]), d, 1)
						}
						last[d.Key] = now
					}
					return instant, err
				}
			}),
			fails: []string{"UsageStore/windows are hours, days and months in UTC", "UsageStore/takes are counted, net of what is given back"},
		},
		{
			name: "gives are not counted",
			make: method(func(o *override, good *reference) {
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					before := copyUsage(good)
					instant, err := good.Adjust(ctx, now, debits)
					good.usage = before
					for _, d := range charges(debits, func(_ zael.Key, c zael.Charge) bool { return c.Amount > 0 }) {
						good.count(at(now), d, 0)
					}
					return instant, err
				}
			}),
			fails: []string{"UsageStore/a give after the hour is net of all", "UsageStore/takes are counted, net of what is given back"},
		},
		{
			name: "windows up to and with the last",
			make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
				if !q.To.IsZero() {
					q.To = q.To.Add(1)
				}
				return good.Usage(ctx, q)
			}),
			fails: []string{"UsageStore/usage is selected by time"},
		},
		{
			name: "windows that the first is in",
			make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
				q.From = q.From.Truncate(time.Hour)
				return good.Usage(ctx, q)
			}),
			fails: []string{"UsageStore/usage is selected by time"},
		},
		{
			name: "usage in order of entity first",
			make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
				return sorted(good.Usage(ctx, q), func(a, b zael.UsageRecord) int {
					return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource), b.Start.Compare(a.Start))
				})
			}),
			fails: []string{"UsageStore/usage is selected by name and in order"},
		},
		{
			name: "usage in order of time",
			make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
				return sorted(good.Usage(ctx, q), func(a, b zael.UsageRecord) int {
					return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
				})
			}),
			fails: []string{"UsageStore/usage is selected by name and in order"},
		},
		{
			name: "usage without case",
			make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
				return filtered(good.Usage(ctx, zael.UsageQuery{Window: q.Window, From: q.From, To: q.To}), func(_ int, r zael.UsageRecord) bool {
					return (q.Entity == "" || strings.EqualFold(q.Entity, r.Entity)) && (q.Resource == "" || strings.EqualFold(q.Resource, r.Resource))
				})
			}),
			fails: []string{"UsageStore/names that differ are counted apart", "UsageStore/usage is selected by name and in order"},
		},
		{
			name: "the first page of usage",
			make: used(func(good *reference, ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
				return filtered(good.Usage(ctx, q), func(i int, _ zael.UsageRecord) bool { return i < 100 })
			}),
			fails: []string{"UsageStore/usage is complete"},
		},
		{
			name: "usage outlives the entity",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					usage := copyUsage(good)
					defer func() { good.usage = usage }()
					return good.DeleteEntity(ctx, id, event)
				}
			}),
			fails: []string{"UsageStore/deleting an entity removes its usage"},
		},
		{
			name: "usage is silent when the context ends",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					return good.Take(context.WithoutCancel(ctx), now, w, debits)
				}
				o.usage = func(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
					return silent(ctx, good.Usage(ctx, q))
				}
			}),
			fails: []string{"UsageStore/a done context: all or nothing"},
		},
	}
}

// audited is a store that reads events in its own way.
func audited(change func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error]) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.audit = func(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
			return change(good, ctx, q)
		}
	})
}

// brokenAudit have a defect as AuditStore.
func brokenAudit() []brokenStore {
	return []brokenStore{
		{
			name: "deleting is not recorded",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					events := slices.Clone(good.events)
					defer func() { good.events = events }()
					return good.DeleteEntity(ctx, id, event)
				}
			}),
			fails: []string{"AuditStore/each change records its event"},
		},
		{
			name: "events without a principal",
			make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
				return func(yield func(zael.AuditEvent, error) bool) {
					for event, err := range good.Audit(ctx, q) {
						if event.Principal = ""; !yield(event, err) {
							return
						}
					}
				}
			}),
			fails: []string{"AuditStore/each change records its event"},
		},
		{
			name: "takes are recorded",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					good.write(zael.AuditEvent{Time: now, Action: "take"})
					return good.Take(ctx, now, w, debits)
				}
			}),
			fails: []string{"AuditStore/takes record nothing"},
		},
		{
			name: "events in the order of the changes",
			make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
				return list(ctx, func() []zael.AuditEvent {
					all := slices.Clone(good.events)
					slices.Reverse(all)
					return all[:min(len(all), cmp.Or(q.Max, 100))]
				})
			}),
			fails: []string{"AuditStore/events are read newest first"},
		},
		{
			name: "events oldest first",
			make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
				return sorted(good.Audit(ctx, q), func(a, b zael.AuditEvent) int { return a.Time.Compare(b.Time) })
			}),
			fails: []string{"AuditStore/events are read newest first", "AuditStore/each change records its event"},
		},
		{
			name: "all events",
			make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
				q.Max = cmp.Or(q.Max, 1000)
				return good.Audit(ctx, q)
			}),
			fails: []string{"AuditStore/events are selected by time and number"},
		},
		{
			name: "events up to and with the last",
			make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
				if !q.To.IsZero() {
					q.To = q.To.Add(1)
				}
				return good.Audit(ctx, q)
			}),
			fails: []string{"AuditStore/events are selected by time and number"},
		},
		{
			name: "the newest events, and of those an entity's",
			make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
				entity := q.Entity
				q.Entity = ""
				return filtered(good.Audit(ctx, q), func(_ int, event zael.AuditEvent) bool { return entity == "" || event.Entity == entity })
			}),
			fails: []string{"AuditStore/events are selected by entity"},
		},
		{
			name: "events of all entities that begin so",
			make: audited(func(good *reference, ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
				n, entity := cmp.Or(q.Max, 100), q.Entity
				q.Entity, q.Max = "", 1000
				found := filtered(good.Audit(ctx, q), func(_ int, event zael.AuditEvent) bool { return strings.HasPrefix(event.Entity, entity) })
				return filtered(found, func(i int, _ zael.AuditEvent) bool { return i < n })
			}),
			fails: []string{"AuditStore/events are selected by entity"},
		},
		{
			name: "events go with their entity",
			make: method(func(o *override, good *reference) {
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					good.events = slices.DeleteFunc(good.events, func(old zael.AuditEvent) bool { return old.Entity == id })
					return good.DeleteEntity(ctx, id, event)
				}
			}),
			fails: []string{"AuditStore/events outlive their entity"},
		},
		{
			name: "details are the caller's",
			make: method(func(o *override, good *reference) {
				o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
					err := good.CreateEntity(ctx, e, event)
					good.events[len(good.events)-1] = event
					return err
				}
			}),
			fails: []string{"AuditStore/an event is kept as it was"},
		},
		{
			name: "events by the second",
			make: method(func(o *override, good *reference) {
				o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
					event.Time = event.Time.Truncate(time.Second)
					return good.CreateEntity(ctx, e, event)
				}
			}),
			fails: []string{"AuditStore/an event is kept as it was"},
		},
		{
			name: "audit is silent when the context ends",
			make: method(func(o *override, good *reference) {
				o.create = func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
					return good.CreateEntity(context.WithoutCancel(ctx), e, event)
				}
				o.audit = func(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
					return silent(ctx, good.Audit(ctx, q))
				}
			}),
			fails: []string{"AuditStore/a done context: all or nothing"},
		},
	}
}
