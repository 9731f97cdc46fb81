package zael_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// at is a clock for examples that stands still.
func at() time.Time { return time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC) }

// gpt4 are the limits of the examples: 100 requests and 40,000 tokens a minute.
var gpt4 = []zael.Limit{zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000)}

func newLimiter() *zael.Limiter {
	l, err := zael.New(memstore.New(&memstore.Config{Usage: true}), &zael.Config{Clock: at, Principal: "ops"})
	if err != nil {
		panic(err)
	}
	return l
}

func Example() {
	type answer struct{ Tokens int64 }
	call := func(ctx context.Context) (answer, error) { return answer{742}, ctx.Err() }
	ctx := context.Background()

	l, err := zael.New(memstore.New(nil), nil) // or a file, Redis, PostgreSQL, DynamoDB
	if err != nil {
		panic(err)
	}
	chat := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000))
	err = l.Do(ctx, chat.For("key-1", 1, 500), func(ctx context.Context, lease *zael.Lease) error {
		reply, err := call(ctx)
		if err != nil {
			return err // nothing was recorded: everything is given back
		}
		return lease.Settle(zael.Amounts{"tpm": reply.Tokens}) // the truth, instead of 500
	})
	fmt.Println(err)
	// Output: <nil>
}

// A policy may have limits of several kinds, which are taken together.
func ExamplePolicy_kinds() {
	l := newLimiter()
	plan := zael.MustPolicy("assistant",
		zael.EachDay("tokens", 1_000_000).In("Europe/Berlin"), // a quota by the calendar
		zael.FromFirstUse("messages", 10, 5*time.Hour).Soft(), // from the first use; charges, never refuses
		zael.AtOnce("parallel", 20),                           // slots, held by leases
	)
	lease, err := l.Acquire(context.Background(), plan.For("key-1", 500, 1, 1))
	if err != nil {
		panic(err)
	}
	left, err := l.Available(context.Background(), zael.Query{Entity: "key-1", Policy: plan})
	fmt.Println(left, err, lease.Commit(context.Background()))
	// Output: messages=9 parallel=19 tokens=999500 <nil> <nil>
}

func ExampleNew() {
	l, err := zael.New(memstore.New(nil), &zael.Config{
		FailureMode: zael.FailOpen,
		Timeout:     200 * time.Millisecond,
	})
	fmt.Println(l != nil, err)
	_, err = zael.New(memstore.New(nil), &zael.Config{Timeout: -1})
	fmt.Println(err)
	// Output:
	// true <nil>
	// zael: Config.Timeout -1ns is negative: use 0 for the default of 1s
}

func ExampleLimiter_Allow() {
	l := newLimiter()
	req := zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: gpt4,
		Consume: zael.Amounts{"rpm": 1, "tpm": 30_000},
	}
	fmt.Println(l.Allow(context.Background(), req))
	fmt.Println(l.Allow(context.Background(), req))
	// Output:
	// <nil>
	// zael: rate limit exceeded: tpm of key-1 on gpt-4: 30000 requested, 10000 available, retry after 30s
}

func ExampleLimiter_Reserve() {
	l := newLimiter()
	req := zael.Request{
		Entity: "key-1", Resource: "batch", Limits: []zael.Limit{zael.PerSecond("rps", 2)},
		Consume: zael.Amounts{"rps": 2}, MaxWait: 5 * time.Second,
	}
	for range 3 { // a place in line each
		lease, err := l.Reserve(context.Background(), req)
		if err != nil {
			panic(err)
		}
		fmt.Println(lease.Delay())
	}
	// Output:
	// 0s
	// 1s
	// 2s
}

func ExampleLimiter_Acquire() {
	l := newLimiter()
	ctx := context.Background()
	lease, err := l.Acquire(ctx, zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: gpt4,
		Consume: zael.Amounts{"rpm": 1, "tpm": 500},
	})
	if err != nil {
		panic(err)
	}
	defer lease.Rollback(ctx) // does nothing after Commit
	if err := lease.Settle(zael.Amounts{"tpm": 742}); err != nil {
		panic(err)
	}
	fmt.Println(lease.Consumed(), lease.Commit(ctx))
	// Output: rpm=1 tpm=742 <nil>
}

func ExampleLimiter_Do_cascade() {
	l := newLimiter()
	ctx := context.Background()
	if _, err := l.CreateEntity(ctx, zael.Entity{ID: "key-1", ParentID: "project-a"}); err != nil {
		panic(err)
	}
	req := zael.Request{
		Entity: "key-1", Resource: "gpt-4", Cascade: true,
		Limits:       []zael.Limit{zael.PerMinute("rpm", 100)},
		ParentLimits: []zael.Limit{zael.PerMinute("rpm", 1000)},
		Consume:      zael.Amounts{"rpm": 10},
	}
	err := l.Do(ctx, req, func(context.Context, *zael.Lease) error { return nil })
	if err != nil {
		panic(err)
	}
	project, err := l.Available(ctx, zael.Query{Entity: "project-a", Resource: "gpt-4", Limits: req.ParentLimits})
	fmt.Println(project, err)
	// Output: rpm=990 <nil>
}

func ExamplePolicy() {
	// A variable of the package in a real program: mistakes come up at its start.
	chat := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000))
	l := newLimiter()
	ctx := context.Background()
	fmt.Println(l.Allow(ctx, chat.For("key-1", 1, 39_900))) // rpm, tpm
	fmt.Println(l.Allow(ctx, chat.For("key-1", 1, 200)))
	fmt.Println(l.Allow(ctx, chat.For("key-1", 1)))
	// Output:
	// <nil>
	// zael: rate limit exceeded: tpm of key-1 on gpt-4: 200 requested, 100 available, retry after 150ms
	// zael: amounts of Policy.For 1 are not as many as the 2 limits of the policy (rpm, tpm): give one for each, or none
}

func ExampleStoredPolicy() {
	l := newLimiter()
	ctx := context.Background()
	if err := l.SetLimits(ctx, zael.Scope{Resource: "gpt-4"}, gpt4); err != nil {
		panic(err)
	}
	chat := zael.Must(zael.StoredPolicy("gpt-4", "tpm"))
	fmt.Println(l.Allow(ctx, chat.For("key-1", 500))) // and 1 of rpm, which it does not name
	left, err := l.Available(ctx, zael.Query{Entity: "key-1", Policy: chat})
	fmt.Println(left, err)
	// Output:
	// <nil>
	// rpm=99 tpm=39500 <nil>
}

func ExampleLimiter_Decide() {
	l := newLimiter()
	ctx := context.Background()
	chat := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 2))
	for range 3 {
		d, err := l.Decide(ctx, chat.For("key-1"))
		if err != nil {
			panic(err)
		}
		s := d.Status(0)
		fmt.Println(d.Admitted, s.Available, "left, full in", s.FullAfter, "retry after", d.RetryAfter())
	}
	// Output:
	// true 1 left, full in 30s retry after 0s
	// true 0 left, full in 1m0s retry after 0s
	// false 0 left, full in 1m0s retry after 30s
}

func ExampleLease_Consume() {
	l := newLimiter()
	ctx := context.Background()
	err := l.Do(ctx, zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: gpt4, Consume: zael.Amounts{"rpm": 1, "tpm": 39_000},
	}, func(ctx context.Context, lease *zael.Lease) error {
		if err := lease.Consume(ctx, zael.Amounts{"tpm": 900}); err != nil {
			return err
		}
		return lease.Consume(ctx, zael.Amounts{"tpm": 900}) // too much
	})
	fmt.Println(err)
	left, err := l.Available(ctx, zael.Query{Entity: "key-1", Resource: "gpt-4", Limits: gpt4})
	fmt.Println(left, err)
	// Output:
	// zael: rate limit exceeded: tpm of key-1 on gpt-4: 900 requested, 100 available, retry after 1.2s
	// rpm=99 tpm=100 <nil>
}

func ExampleLimiter_SetLimits() {
	l := newLimiter()
	ctx := context.Background()
	system := zael.Scope{}
	vip := zael.Scope{Entity: "key-1", Resource: "gpt-4"}
	if err := l.SetLimits(ctx, system, []zael.Limit{zael.PerMinute("rpm", 10)}); err != nil {
		panic(err)
	}
	if err := l.SetLimits(ctx, vip, []zael.Limit{zael.PerMinute("rpm", 500).WithBurst(800)}); err != nil {
		panic(err)
	}
	for _, who := range []string{"key-1", "key-2"} {
		a, err := l.Available(ctx, zael.Query{Entity: who, Resource: "gpt-4", UseStoredLimits: true})
		fmt.Println(who, a, err)
	}
	stored, err := l.Limits(ctx, vip)
	fmt.Println(stored, err)
	// Output:
	// key-1 rpm=800 <nil>
	// key-2 rpm=10 <nil>
	// [rpm=500/min burst 800] <nil>
}

func ExampleLimiter_TimeUntilAvailable() {
	l := newLimiter()
	ctx := context.Background()
	q := zael.Query{Entity: "key-1", Resource: "gpt-4", Limits: gpt4}
	err := l.Allow(ctx, zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: gpt4, Consume: zael.Amounts{"tpm": 40_000},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(l.TimeUntilAvailable(ctx, q, zael.Amounts{"tpm": 1000}))
	_, err = l.TimeUntilAvailable(ctx, q, zael.Amounts{"tpm": 50_000})
	fmt.Println(errors.Is(err, zael.ErrNever), err)
	// Output:
	// 1.5s <nil>
	// true zael: no wait helps: 50000 of tpm is more than its burst of 40000
}

func ExampleLimiter_CreateEntity() {
	l := newLimiter()
	ctx := context.Background()
	e, err := l.CreateEntity(ctx, zael.Entity{ID: "key-1", ParentID: "project-a"})
	fmt.Println(e.Name, e.CreatedAt, err)
	_, err = l.CreateEntity(ctx, zael.Entity{ID: "key-1"})
	fmt.Println(errors.Is(err, zael.ErrEntityExists))
	children, err := l.Children(ctx, "project-a")
	fmt.Println(len(children), err)
	// Output:
	// key-1 2026-01-13 14:00:00 +0000 UTC <nil>
	// true
	// 1 <nil>
}

func ExampleLimiter_ResourceCapacity() {
	l := newLimiter()
	ctx := context.Background()
	for entity, tokens := range map[string]int64{"key-1": 10_000, "key-2": 30_000} {
		err := l.Allow(ctx, zael.Request{
			Entity: entity, Resource: "gpt-4", Limits: gpt4, Consume: zael.Amounts{"tpm": tokens},
		})
		if err != nil {
			panic(err)
		}
	}
	c, err := l.ResourceCapacity(ctx, "gpt-4", "tpm", zael.CapacityOptions{})
	fmt.Println(c.Available, c.Capacity, c.Utilization, err)
	// Output: 40000 80000 50 <nil>
}

func ExampleLimiter_Usage() {
	l := newLimiter()
	ctx := context.Background()
	err := l.Allow(ctx, zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: gpt4, Consume: zael.Amounts{"rpm": 1, "tpm": 500},
	})
	if err != nil {
		panic(err)
	}
	u, err := l.Usage(ctx, zael.UsageQuery{Entity: "key-1", Window: zael.Daily})
	fmt.Println(u.Records[0].Start.Format(time.DateOnly), u.Amounts, u.Events, err)
	// Output: 2026-01-13 rpm=1 tpm=500 1 <nil>
}

func ExampleLimiter_Audit() {
	l := newLimiter()
	ctx := context.Background()
	if err := l.SetLimits(ctx, zael.Scope{Entity: "key-1"}, gpt4); err != nil {
		panic(err)
	}
	events, err := l.Audit(ctx, zael.AuditQuery{Entity: "key-1"})
	fmt.Println(events[0].Action, events[0].Principal, events[0].Details["limits"], err)
	// Output: limits_set ops rpm=100/min, tpm=40000/min <nil>
}

func ExampleParseLimit() {
	for _, text := range []string{"rpm=100/min", "tpm=10000/min burst 20000", "rps=2/3s", "rpm=100"} {
		l, err := zael.ParseLimit(text)
		fmt.Println(l.Burst, l.RefillPeriod, err)
	}
	// Output:
	// 100 1m0s <nil>
	// 20000 1m0s <nil>
	// 2 3s <nil>
	// 0 0s zael: Limit "rpm=100" has no period: write it like "rpm=100/min" or "tpm=10000/min burst 20000", "q=100 each day", "q=10 per 5h from first use" or "parallel=20 at once"
}

func ExampleExceededError() {
	l := newLimiter()
	err := l.Allow(context.Background(), zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: gpt4, Consume: zael.Amounts{"rpm": 1, "tpm": 50_000},
	})
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		for _, s := range exceeded.Statuses() {
			fmt.Println(s.Limit.Name, s.Available, s.Requested, s.Exceeded)
		}
		fmt.Println(exceeded.Primary().Limit.Name, errors.Is(err, zael.ErrNever))
	}
	// Output:
	// rpm 100 1 false
	// tpm 40000 50000 true
	// tpm true
}

func ExampleWindow_Bounds() {
	t := time.Date(2026, 1, 13, 23, 30, 0, 0, time.FixedZone("", -3600)) // the 14th in UTC
	for _, w := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		start, end := w.Bounds(t)
		fmt.Println(w, start.Format(time.RFC3339), end.Format(time.RFC3339))
	}
	// Output:
	// hourly 2026-01-14T00:00:00Z 2026-01-14T01:00:00Z
	// daily 2026-01-14T00:00:00Z 2026-01-15T00:00:00Z
	// monthly 2026-01-01T00:00:00Z 2026-02-01T00:00:00Z
}
