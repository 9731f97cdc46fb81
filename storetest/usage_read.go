package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael"
)

func usageByTime(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(100)
	for hour := range 5 {
		s.admit(time.Duration(hour)*time.Hour+time.Minute, debit(key("alice"), ask("rpm", d, int64(hour)+1)))
	}
	at := func(after time.Duration) time.Time { return e.t0.Add(after) }
	for _, tt := range []struct {
		from, to    time.Time
		first, last int // hours
	}{
		{time.Time{}, time.Time{}, 14, 18},
		{at(time.Hour), time.Time{}, 15, 18},
		{at(time.Hour + 1), time.Time{}, 16, 18},
		{time.Time{}, at(3 * time.Hour), 14, 16},
		{time.Time{}, at(3*time.Hour + 1), 14, 17},
		{at(time.Hour), at(3 * time.Hour), 15, 16},
		{at(time.Hour).In(time.FixedZone("UTC-3", -3*3600)), at(2*time.Hour + time.Minute).In(time.FixedZone("UTC+9", 9*3600)), 15, 16},
		{at(2 * time.Hour), at(2 * time.Hour), 0, -1},
		{at(9 * time.Hour), time.Time{}, 0, -1},
	} {
		var want []zael.UsageRecord
		for hour := tt.first; hour <= tt.last; hour++ {
			want = append(want, e.used(hour, 1, zael.Amounts{"rpm": int64(hour) - 13}))
		}
		s.usage(zael.UsageQuery{Entity: "alice", From: tt.from, To: tt.to}, want...)
		s.usage(zael.UsageQuery{Resource: "gpt-4", Window: zael.Hourly, From: tt.from, To: tt.to}, want...)
	}
	return s.err
}

// usageInOrder takes in no order and reads by entity, by resource and by both.
func usageInOrder(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(100)
	var all []zael.UsageRecord
	for _, hour := range []int{14, 15} {
		for _, entity := range []string{"bob", "Zoe", "alice", "alice-2"} {
			for _, resource := range []string{"b", "a", "B"} {
				r := e.used(hour, 1, zael.Amounts{"rpm": int64(len(all)) + 1})
				r.Entity, r.Resource = entity, resource
				all = append(all, r)
				s.admit(r.Start.Sub(e.t0), debit(zael.Key{Entity: entity, Resource: resource}, ask("rpm", d, r.Amounts["rpm"])))
			}
		}
	}
	slices.SortFunc(all, func(a, b zael.UsageRecord) int {
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
	})
	for _, q := range []zael.UsageQuery{
		{Entity: "alice"}, {Resource: "b"}, {Entity: "alice", Resource: "a"}, {Entity: "Zoe"}, {Resource: "B"}, {Entity: "nobody"}, {Resource: "alice"},
	} {
		var want []zael.UsageRecord
		for _, r := range all {
			if (q.Entity == "" || q.Entity == r.Entity) && (q.Resource == "" || q.Resource == r.Resource) {
				want = append(want, r)
			}
		}
		s.usage(q, want...)
	}
	return s.err
}

// usageComplete has more records than engines answer in one page.
func usageComplete(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(100)
	var want []zael.UsageRecord
	for i := range 150 {
		r := e.used(14, 1, zael.Amounts{"rpm": int64(i%50) + 1})
		r.Entity = fmt.Sprintf("entity-%03d", i)
		want = append(want, r)
		s.admit(0, debit(key(r.Entity), ask("rpm", d, r.Amounts["rpm"])))
	}
	s.usage(zael.UsageQuery{Resource: "gpt-4"}, want...)
	return s.err
}

// usageApart takes another amount for each hostile key and reads it back by
// entity and resource.
func usageApart(ctx context.Context, e *env) error {
	d := never(1000)
	s := e.script(ctx)
	var want []zael.UsageRecord
	for i, k := range e.hostileKeys() {
		n := int64(i) + 1
		_, err := e.take(ctx, e.t0, 0, debit(k.Key, ask("rpm", d, n)))
		refused, err := refuses("Take of "+keyText(k.Key), k.plain, err)
		if err != nil {
			return err
		}
		if !refused && k.Entity != "" && k.Resource != "" { // an empty one selects all
			r := e.used(14, 1, zael.Amounts{"rpm": n})
			r.Entity, r.Resource = k.Entity, k.Resource
			want = append(want, r)
		}
	}
	for i, r := range want {
		if !e.short || i%3 == 0 {
			s.usage(zael.UsageQuery{Entity: r.Entity, Resource: r.Resource}, r)
		}
	}
	for _, text := range append(partsOfKeys(), "of", "b", "alice", "Alice", "ali\u00e9", "alie\u0301") {
		ofEntity, ofResource := zael.UsageQuery{Entity: text}, zael.UsageQuery{Resource: text}
		s.usage(ofEntity, chosen(ofEntity, want)...)
		s.usage(ofResource, chosen(ofResource, want)...)
	}
	return s.err
}

// chosen returns the records that a query by names selects, in order.
func chosen(q zael.UsageQuery, all []zael.UsageRecord) []zael.UsageRecord {
	var list []zael.UsageRecord
	for _, r := range all {
		if (q.Entity == "" || q.Entity == r.Entity) && (q.Resource == "" || q.Resource == r.Resource) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b zael.UsageRecord) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
	})
	return list
}

func deletesUsage(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := define(10, 10, time.Second)
	other := e.used(14, 1, zael.Amounts{"rpm": 2})
	other.Entity = "Alice"

	s.admit(0, debit(key("Alice"), ask("rpm", d, 2)))
	for i := range 40 {
		s.admit(0, debit(zael.Key{Entity: "alice", Resource: fmt.Sprintf("r%d", i)}, ask("rpm", d, 1)))
	}
	s.remove("alice", nil)
	for _, window := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		s.usage(zael.UsageQuery{Entity: "alice", Window: window})
	}
	s.usage(zael.UsageQuery{Resource: "r7"})
	s.usage(zael.UsageQuery{Entity: "Alice"}, other)
	s.remove("alice", zael.ErrEntityNotFound)

	// Usage is enough to find an entity by, when its bucket is full again.
	s.admit(time.Second, debit(key("bob"), ask("rpm", d, 1)))
	s.adjust(time.Minute, debit(key("carol"), ask("rpm", d, 1)))
	s.remove("bob", nil)
	s.usage(zael.UsageQuery{Entity: "bob"})
	s.remove("bob", zael.ErrEntityNotFound)
	return s.err
}

func usageDone(ctx context.Context, e *env) error {
	for name, gone := range done(ctx) {
		k := key(name)
		_, takeErr := e.take(gone, e.t0, 0, debit(k, ask("rpm", never(10), 1)))
		made, err := heeds(gone, "Take", takeErr)
		if err != nil {
			return err
		}
		var want []zael.UsageRecord
		if made {
			r := e.used(14, 1, zael.Amounts{"rpm": 1})
			r.Entity = name
			want = append(want, r)
		}
		s := e.script(ctx)
		s.usage(zael.UsageQuery{Entity: name}, want...)
		if s.err != nil {
			return s.err
		}

		got, err := collect(role[zael.UsageStore](e).Usage(gone, zael.UsageQuery{Entity: name}))
		if made, err = heeds(gone, "Usage", err); err != nil {
			return err
		}
		if made && len(got) != len(want) {
			return errors.New("Usage with a done context: got records missing and no error")
		}
	}
	return nil
}
