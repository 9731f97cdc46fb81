package zael_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/sqlitestore"
)

func use(entity, resource string, n int64, limit zael.Limit) zael.Request {
	return zael.Request{Entity: entity, Resource: resource, Limits: []zael.Limit{limit}, Consume: zael.Amounts{limit.Name: n}}
}

func TestResourceCapacity(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerDay("tpd", 100).WithBurst(120)
	r.create(zael.Entity{ID: "child", ParentID: "org"})
	r.create(zael.Entity{ID: "org"})
	r.allow(use("org", "gpt-4", 120, limit))
	r.allow(use("child", "gpt-4", 50, limit))
	r.allow(use("unknown", "gpt-4", 1, limit))
	debt := r.lease(use("child", "gpt-4", 0, limit))
	r.ok(debt.Settle(zael.Amounts{"tpd": 100}))
	r.ok(debt.Commit(r.ctx))
	r.allow(use("org", "other", 50, limit))                     // another resource
	r.allow(use("child", "gpt-4", 0, zael.PerDay("other", 10))) // another limit

	org := zael.EntityCapacity{Entity: "org", Capacity: 100, Available: 0, Utilization: 100}
	child := zael.EntityCapacity{Entity: "child", Capacity: 100, Available: -30, Utilization: 130}
	unknown := zael.EntityCapacity{Entity: "unknown", Capacity: 100, Available: 119, Utilization: 0}
	for _, c := range []struct {
		options zael.CapacityOptions
		want    zael.ResourceCapacity
	}{
		{zael.CapacityOptions{}, zael.ResourceCapacity{
			Capacity: 300, Available: 89, Utilization: 70.333333, Entities: []zael.EntityCapacity{child, org, unknown},
		}},
		{zael.CapacityOptions{ParentsOnly: true}, zael.ResourceCapacity{
			Capacity: 200, Available: 119, Utilization: 40.5, Entities: []zael.EntityCapacity{org, unknown},
		}},
	} {
		c.want.Resource, c.want.Limit = "gpt-4", "tpd"
		got, err := r.l.ResourceCapacity(r.ctx, "gpt-4", "tpd", c.options)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%+v: got %+v, %v\nwant %+v", c.options, got, err, c.want)
		}
	}
	r.clock.set(6 * time.Hour) // a quarter has refilled
	if got, err := r.l.ResourceCapacity(r.ctx, "gpt-4", "tpd", zael.CapacityOptions{}); err != nil || got.Entities[0].Available != -5 {
		t.Errorf("6 h later: got %+v, %v, want child at -5", got.Entities, err)
	}
	for _, q := range [][2]string{{"gpt-4", "nothing"}, {"nothing", "tpd"}} {
		for _, parentsOnly := range []bool{false, true} {
			got, err := r.l.ResourceCapacity(r.ctx, q[0], q[1], zael.CapacityOptions{ParentsOnly: parentsOnly})
			text, _ := json.Marshal(got) //nolint:errchkjson // plain numbers
			want := fmt.Sprintf(`{"resource":%q,"limit_name":%q,"total_capacity":0,"total_available":0,"utilization_pct":0,"blocked":0,"unlimited":0,"entities":[]}`, q[0], q[1])
			if err != nil || string(text) != want {
				t.Errorf("%v: got %s, %v, want %s", q, text, err, want)
			}
		}
	}
}

// TestResourceCapacityOfKinds adds up quotas and slots, and counts what is blocked and
// unlimited apart.
func TestResourceCapacityOfKinds(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.allow(use("key-1", "gpt-4", 30, zael.EachMonth("n", 100)))
	r.allow(use("key-2", "gpt-4", 50, zael.FromFirstUse("n", 100, time.Hour)))
	held := r.lease(use("key-3", "gpt-4", 8, zael.AtOnce("n", 10)))
	for _, id := range []string{"key-4", "key-5", "key-6"} {
		r.ok(r.l.SetLimits(r.ctx, zael.Scope{Entity: id, Resource: "gpt-4"}, []zael.Limit{zael.PerDay("n", 1000)}))
		r.allow(zael.Request{Entity: id, Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"n": 1}})
	}
	for _, id := range []string{"key-4", "key-5"} {
		r.ok(r.l.SetLimits(r.ctx, zael.Scope{Entity: id, Resource: "gpt-4"}, []zael.Limit{zael.Block("n")}))
	}
	r.ok(r.l.SetLimits(r.ctx, zael.Scope{Entity: "key-6", Resource: "gpt-4"}, []zael.Limit{zael.Unlimited("n")}))
	got, err := r.l.ResourceCapacity(r.ctx, "gpt-4", "n", zael.CapacityOptions{})
	text, _ := json.Marshal(got) //nolint:errchkjson // plain numbers
	if want := `{"resource":"gpt-4","limit_name":"n","total_capacity":210,"total_available":122,"utilization_pct":41.904762,` +
		`"blocked":2,"unlimited":1,"entities":[` +
		`{"entity_id":"key-1","kind":"quota","capacity":100,"available":70,"utilization_pct":30},` +
		`{"entity_id":"key-2","kind":"window","capacity":100,"available":50,"utilization_pct":50},` +
		`{"entity_id":"key-3","kind":"slots","capacity":10,"available":2,"utilization_pct":80},` +
		`{"entity_id":"key-4","kind":"block","capacity":0,"available":0,"utilization_pct":0},` +
		`{"entity_id":"key-5","kind":"block","capacity":0,"available":0,"utilization_pct":0},` +
		`{"entity_id":"key-6","kind":"unlimited","capacity":0,"available":0,"utilization_pct":0}]}`; err != nil || string(text) != want {
		t.Errorf("got  %s, %v\nwant %s", text, err, want)
	}
	var back zael.ResourceCapacity
	if err := json.Unmarshal(text, &back); err != nil || fmt.Sprint(back) != fmt.Sprint(got) {
		t.Errorf("read back: got %+v, %v, want %+v", back, err, got)
	}
	r.ok(held.Commit(r.ctx))
	if got, err = r.l.ResourceCapacity(r.ctx, "gpt-4", "n", zael.CapacityOptions{}); err != nil || got.Available != 130 && got.Available != 120 {
		t.Errorf("after the release: got %+v, %v, want all slots available or forgotten", got, err)
	}
}

// Trap: first page only.
func TestTrapCapacityOfAllEntities(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerDay("tpd", 10)
	for i := range 350 {
		id := fmt.Sprintf("key-%03d", (i*11)%350)
		if i%2 == 0 {
			r.create(zael.Entity{ID: id, ParentID: "org"})
		}
		r.allow(use(id, "gpt-4", 4, limit))
	}
	for parentsOnly, n := range map[bool]int64{false: 350, true: 175} {
		got, err := r.l.ResourceCapacity(r.ctx, "gpt-4", "tpd", zael.CapacityOptions{ParentsOnly: parentsOnly})
		if err != nil || int64(len(got.Entities)) != n || got.Capacity != 10*n || got.Available != 6*n || got.Utilization != 40 {
			t.Errorf("ParentsOnly %v: got %d entities, %d of %d, %v %%, %v, want %d, %d of %d, 40 %%",
				parentsOnly, len(got.Entities), got.Available, got.Capacity, got.Utilization, err, n, 6*n, 10*n)
		}
		for i := 1; i < len(got.Entities); i++ {
			if got.Entities[i-1].Entity >= got.Entities[i].Entity {
				t.Fatalf("got %s before %s, want them by ID", got.Entities[i-1].Entity, got.Entities[i].Entity)
			}
		}
	}
}

// A huge store has 10,000 buckets whose numbers do not add up within int64.
type huge struct{ zael.BucketStore }

func (huge) ResourceBuckets(context.Context, string) iter.Seq2[zael.Bucket, error] {
	state := bucket.State{
		Definition: bucket.Definition{Burst: 1e15, Capacity: 1e15, Amount: 9e9, Period: time.Second}, Mark: math.MaxInt64,
	}
	return func(yield func(zael.Bucket, error) bool) {
		for range 10_000 {
			if !yield(zael.Bucket{Limits: []zael.LimitState{{Name: "tpd", State: state}}}, nil) {
				return
			}
		}
	}
}

func (huge) Usage(context.Context, zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	record := zael.UsageRecord{Amounts: zael.Amounts{"a": 9e18, "b": -9e18}, Events: 9e18}
	return func(yield func(zael.UsageRecord, error) bool) {
		for range 2 {
			if !yield(record, nil) {
				return
			}
		}
	}
}

func TestSumsStopAtTheEndsOfInt64(t *testing.T) {
	t.Parallel()
	r := setupOn(t, huge{memstore.New(nil)}, nil)
	c, err := r.l.ResourceCapacity(r.ctx, "r", "tpd", zael.CapacityOptions{})
	if err != nil || c.Capacity != math.MaxInt64 || c.Available != math.MinInt64 || c.Utilization < 100 {
		t.Errorf("capacity: got %d and %d, %v %%, %v, want the ends of int64", c.Capacity, c.Available, c.Utilization, err)
	}
	u, err := r.l.Usage(r.ctx, zael.UsageQuery{Entity: "e"})
	if err != nil || u.Events != math.MaxInt64 || u.Amounts["a"] != math.MaxInt64 || u.Amounts["b"] != math.MinInt64 {
		t.Errorf("usage: got %v and %d events, %v, want the ends of int64", u.Amounts, u.Events, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	r := setupOn(t, memstore.New(&memstore.Config{Usage: true}), nil)
	rpm, tpm := zael.PerMinute("rpm", 1000), zael.PerMinute("tpm", 10_000)
	take := func(entity, resource string, consume zael.Amounts) *zael.Lease {
		t.Helper()
		req := ask(consume, rpm)
		if _, both := consume["tpm"]; both {
			req.Limits = append(req.Limits, tpm)
		}
		req.Entity, req.Resource = entity, resource
		return r.lease(req)
	}
	// Trap: the first consumption of a bucket was never counted.
	r.ok(take("a", "r", zael.Amounts{"rpm": 1, "tpm": 100}).Commit(r.ctx))
	if _, err := r.l.Reserve(r.ctx, use("a", "r", 1001, rpm)); err == nil {
		t.Error("more than the burst: got a lease, want a refusal, which counts nothing")
	}
	settled := take("a", "r", zael.Amounts{"rpm": 1, "tpm": 100})
	r.clock.set(70 * time.Minute) // into the next hour
	r.ok(settled.Settle(zael.Amounts{"tpm": 250}))
	r.ok(settled.Commit(r.ctx))
	r.ok(take("a", "s", zael.Amounts{"rpm": 2}).Commit(r.ctx))
	r.ok(take("b", "r", zael.Amounts{"rpm": 3}).Rollback(r.ctx))
	r.clock.set(24 * time.Hour)
	r.ok(take("b", "r", zael.Amounts{"rpm": 4}).Commit(r.ctx))

	hour := func(n int) time.Time { return t0().Add(time.Duration(n) * time.Hour) }
	midnight := t0().Truncate(day)
	record := func(entity, resource string, w zael.Window, start time.Time, events int64, amounts zael.Amounts) zael.UsageRecord {
		return zael.UsageRecord{Entity: entity, Resource: resource, Window: w, Start: start, Amounts: amounts, Events: events}
	}
	for _, c := range []struct {
		q    zael.UsageQuery
		want []zael.UsageRecord
		sum  zael.Amounts
	}{
		{zael.UsageQuery{Entity: "a"}, []zael.UsageRecord{
			record("a", "r", zael.Hourly, hour(1), 0, zael.Amounts{"tpm": 150}),
			record("a", "s", zael.Hourly, hour(1), 1, zael.Amounts{"rpm": 2}),
			record("a", "r", zael.Hourly, hour(0), 2, zael.Amounts{"rpm": 2, "tpm": 200}),
		}, zael.Amounts{"rpm": 4, "tpm": 350}},
		{zael.UsageQuery{Entity: "a", Resource: "r", From: hour(1)}, []zael.UsageRecord{
			record("a", "r", zael.Hourly, hour(1), 0, zael.Amounts{"tpm": 150}),
		}, zael.Amounts{"tpm": 150}},
		{zael.UsageQuery{Resource: "r", Window: zael.Daily}, []zael.UsageRecord{
			record("b", "r", zael.Daily, midnight.Add(day), 1, zael.Amounts{"rpm": 4}),
			record("a", "r", zael.Daily, midnight, 2, zael.Amounts{"rpm": 2, "tpm": 350}),
			record("b", "r", zael.Daily, midnight, 1, zael.Amounts{"rpm": 0}),
		}, zael.Amounts{"rpm": 6, "tpm": 350}},
		{zael.UsageQuery{Resource: "r", Window: zael.Daily, To: midnight.Add(day)}, []zael.UsageRecord{
			record("a", "r", zael.Daily, midnight, 2, zael.Amounts{"rpm": 2, "tpm": 350}),
			record("b", "r", zael.Daily, midnight, 1, zael.Amounts{"rpm": 0}),
		}, zael.Amounts{"rpm": 2, "tpm": 350}},
		{zael.UsageQuery{Entity: "b", Window: zael.Monthly}, []zael.UsageRecord{
			record("b", "r", zael.Monthly, time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC), 2, zael.Amounts{"rpm": 4}),
		}, zael.Amounts{"rpm": 4}},
		{zael.UsageQuery{Entity: "nobody"}, []zael.UsageRecord{}, zael.Amounts{}},
	} {
		got, err := r.l.Usage(r.ctx, c.q)
		if err != nil || fmt.Sprint(got.Records) != fmt.Sprint(c.want) || !maps.Equal(got.Amounts, c.sum) {
			t.Errorf("%+v: got %v, totals %v, %v\nwant %v, totals %v", c.q, got.Records, got.Amounts, err, c.want, c.sum)
		}
		events := int64(0)
		for _, rec := range c.want {
			events += rec.Events
		}
		if got.Events != events {
			t.Errorf("%+v: got %d events, want %d", c.q, got.Events, events)
		}
	}
}

// Of a resource the latest windows are read, if nothing else is asked for.
func TestUsageQueryWithDefaults(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 1, 14, 30, 0, 0, time.UTC)
	at := func(month time.Month, day, hour int) time.Time {
		return time.Date(2026, month, day, hour, 0, 0, 0, time.UTC)
	}
	for _, c := range []struct {
		q    zael.UsageQuery
		from time.Time
	}{
		{zael.UsageQuery{Resource: "r"}, at(time.February, 28, 15)}, // 24 hours, that of now among them
		{zael.UsageQuery{Resource: "r", Window: zael.Daily}, at(time.January, 30, 0)},
		{zael.UsageQuery{Resource: "r", Window: zael.Monthly}, time.Date(2025, time.April, 1, 0, 0, 0, 0, time.UTC)},
		{zael.UsageQuery{Resource: "r", To: at(time.January, 13, 0)}, at(time.January, 12, 0)},
		{zael.UsageQuery{Resource: "r", To: at(time.April, 13, 0)}, at(time.February, 28, 15)}, // nothing is in the future
		{zael.UsageQuery{Resource: "r", From: at(time.January, 1, 0)}, at(time.January, 1, 0)},
		{zael.UsageQuery{Entity: "e"}, time.Time{}},
		{zael.UsageQuery{Entity: "e", Resource: "r", Window: zael.Daily}, time.Time{}},
	} {
		got := c.q.WithDefaults(now)
		want := c.q
		if want.From = c.from; want.Window == "" {
			want.Window = zael.Hourly
		}
		if got != want {
			t.Errorf("%+v: got %+v, want %+v", c.q, got, want)
		}
	}
}

// A total of a resource has what was taken with cascade twice: the part of parents is told
// apart.
func TestUsageOfParents(t *testing.T) {
	t.Parallel()
	r := setupOn(t, memstore.New(&memstore.Config{Usage: true}), nil)
	for _, e := range []zael.Entity{{ID: "project"}, {ID: "key-1", ParentID: "project"}, {ID: "key-2", ParentID: "project"}, {ID: "key-3", ParentID: "elsewhere"}} {
		_, err := r.l.CreateEntity(r.ctx, e)
		r.ok(err)
	}
	limits := []zael.Limit{zael.PerMinute("rpm", 1000)}
	for _, entity := range []string{"key-1", "key-2", "key-3"} {
		r.ok(r.l.Allow(r.ctx, zael.Request{Entity: entity, Resource: "r", Limits: limits, Consume: zael.Amounts{"rpm": 10}, Cascade: entity != "key-3"}))
	}
	r.ok(r.l.Allow(r.ctx, zael.Request{Entity: "project", Resource: "r", Limits: limits, Consume: zael.Amounts{"rpm": 1}}))
	u, err := r.l.Usage(r.ctx, zael.UsageQuery{Resource: "r"})
	if err != nil || u.Events != 6 || u.Amounts["rpm"] != 51 || u.Parents == nil || u.Parents.Events != 3 || u.Parents.Amounts["rpm"] != 21 {
		t.Errorf("got %+v, parents %+v (%v), want 51 in 6 events, of them 21 in 3 of the parent", u, u.Parents, err)
	}
	u, err = r.l.Usage(r.ctx, zael.UsageQuery{Entity: "key-1"})
	if err != nil || u.Parents != nil {
		t.Errorf("of an entity: got %+v (%v), want no parents", u, err)
	}
	if u, err := r.l.Usage(r.ctx, zael.UsageQuery{Resource: "other"}); err != nil || u.Parents != nil {
		t.Errorf("of a resource without usage: got %+v (%v), want no parents", u, err)
	}
}

func TestUsageThatIsNotCounted(t *testing.T) {
	t.Parallel()
	r := setup(t)
	if _, err := r.l.Usage(r.ctx, zael.UsageQuery{Entity: "a"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want errors.ErrUnsupported", err)
	}
}

// The slots of a holder that has died are free, though nobody has changed the bucket since.
func TestCapacityOfSlotsOfTheDead(t *testing.T) {
	t.Parallel()
	s, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "zael.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)
	now := begun
	l, err := zael.New(s, &zael.Config{Clock: func() time.Time { return now }, CloseStore: true})
	if err != nil {
		t.Fatal(err)
	}
	d := bucket.Definition{Burst: 5, Capacity: 5, Kind: bucket.Slots, Period: time.Minute}
	for i, entity := range []string{"a", "b"} {
		debit := zael.Debit{Key: zael.Key{Entity: entity, Resource: "gpt-4"}, Holder: "dies", Charges: []zael.Charge{{Name: "parallel", Definition: d, Amount: 3}}}
		if _, err := s.Take(t.Context(), begun.Add(time.Duration(i)*time.Minute), 0, []zael.Debit{debit}); err != nil {
			t.Fatal(err)
		}
	}
	for after, want := range map[time.Duration]int64{time.Minute - 1: 4, time.Minute: 7, 2 * time.Minute: 10} {
		now = begun.Add(after)
		got, err := l.ResourceCapacity(t.Context(), "gpt-4", "parallel", zael.CapacityOptions{})
		if err != nil || got.Available != want || got.Capacity != 10 || len(got.Entities) != 2 {
			t.Errorf("after %v: got %+v, %v; want %d of 10 available", after, got, err, want)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
