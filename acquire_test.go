package zael_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// A bucket of 60 that refills one token a second, from t0 on. Instants are
// seconds after it.
func TestTimeline(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerMinute("rpm", 60)
	for _, step := range []struct {
		at    float64
		take  int64
		retry time.Duration // 0: admitted
		left  int64         // after it
	}{
		{0, 60, 0, 0}, // the burst at once
		{0, 1, time.Second, 0},
		{0.999, 1, time.Millisecond, 0},
		{1, 1, 0, 0},
		{1, 1, time.Second, 0},
		{10, 10, time.Second, 9}, // all or nothing of one limit
		{10, 9, 0, 0},
		{9, 1, 2 * time.Second, -1}, // a clock that is late by 1 s sees less, and gets nothing
		{0, 1, 11 * time.Second, -10},
		{10.5, 0, 0, 0}, // asked 0
		{40, 60, 30 * time.Second, 30},
		{69.999, 60, time.Millisecond, 59},
		{70, 60, 0, 0},
		{1000, 61, zael.Never, 60},
		{1000, 60, 0, 0},
	} {
		r.clock.set(time.Duration(step.at * float64(time.Second)))
		err := r.l.Allow(r.ctx, ask(zael.Amounts{"rpm": step.take}, limit))
		if step.retry == 0 && err != nil || step.retry > 0 && r.refusal(err).RetryAfter() != step.retry {
			t.Errorf("at %v s, take %d: got %v, want retry after %v", step.at, step.take, err, step.retry)
		}
		r.left(ask(nil, limit), zael.Amounts{"rpm": step.left})
	}
}

// Bug of others (envoy ratelimit): one limit refuses, the others are charged.
func TestSeveralLimitsAllOrNone(t *testing.T) {
	t.Parallel()
	r := setup(t)
	hourly := zael.PerHour("tph", 60).WithBurst(70)
	req := ask(zael.Amounts{"rpm": 1, "tpm": 50, "tph": 50}, zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 100), hourly)
	r.allow(req)
	for range 5 {
		e := r.refused(req)
		want := []zael.Status{
			{Entity: "key-1", Resource: "gpt-4", Limit: req.Limits[0], Available: 9, Requested: 1, FullAfter: 6 * time.Second},
			{Entity: "key-1", Resource: "gpt-4", Limit: req.Limits[1], Available: 50, Requested: 50, FullAfter: 30 * time.Second},
			{
				Entity: "key-1", Resource: "gpt-4", Limit: hourly, Available: 20, Requested: 50,
				Exceeded: true, RetryAfter: 30 * time.Minute, FullAfter: 50 * time.Minute,
			},
		}
		if !slices.Equal(e.Statuses(), want) {
			t.Fatalf("statuses: got %+v, want %+v", e.Statuses(), want)
		}
		if v := e.Violations(); len(v) != 1 || v[0] != want[2] || e.Primary() != want[2] {
			t.Errorf("violations: got %v, want that of tph", v)
		}
	}
	r.left(req, zael.Amounts{"rpm": 9, "tpm": 50, "tph": 20})
}

// Trap: a finite time for more than the burst.
func TestTrapMoreThanBurstIsNever(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limits := []zael.Limit{zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 100).WithBurst(50)}
	req := ask(zael.Amounts{"rpm": 1, "tpm": 51}, limits...)
	for _, wait := range []time.Duration{0, time.Hour} {
		req.MaxWait = wait
		_, err := r.l.Reserve(r.ctx, req)
		if e := r.refusal(err); !errors.Is(err, zael.ErrNever) || e.RetryAfter() != zael.Never || e.Primary().Limit.Name != "tpm" {
			t.Errorf("MaxWait %v: got %v, want ErrNever by tpm", wait, err)
		}
	}
	if wait, err := r.l.TimeUntilAvailable(r.ctx, queryOf(req), req.Consume); !errors.Is(err, zael.ErrNever) || wait != 0 {
		t.Errorf("TimeUntilAvailable: got %v, %v, want ErrNever", wait, err)
	}
	r.left(req, zael.Amounts{"rpm": 10, "tpm": 50})
	// Refused, but not for ever.
	r.allow(ask(zael.Amounts{"tpm": 50}, limits...))
	if err := error(r.refused(ask(zael.Amounts{"tpm": 50}, limits...))); errors.Is(err, zael.ErrNever) {
		t.Errorf("the whole burst: got %v, want no match of ErrNever", err)
	}
}

// Debt that takes longer to refill than a Duration counts.
func TestWaitBeyondRange(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpd": 1}, zael.PerDay("rpd", 1))
	lease := r.lease(req)
	r.ok(lease.Settle(zael.Amounts{"rpd": 1e15}))
	r.ok(lease.Commit(r.ctx))
	if wait, err := r.l.TimeUntilAvailable(r.ctx, queryOf(req), req.Consume); err != nil || wait != zael.Never {
		t.Errorf("TimeUntilAvailable: got %v, %v, want Never", wait, err)
	}
	refused := r.refused(req)
	const want = "zael: rate limit exceeded: rpd of key-1 on gpt-4: 1 requested, -999999999999999 available, retry after more than 292 years"
	if got := refused.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if header, ok := refused.RetryAfterHeader(); ok {
		t.Errorf("got a header %q, want none", header)
	}
}

func TestTimeUntilAvailable(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limits := []zael.Limit{zael.PerMinute("rpm", 60), zael.PerMinute("tpm", 600)}
	r.allow(ask(zael.Amounts{"rpm": 60, "tpm": 500}, limits...))
	q := queryOf(ask(nil, limits...))
	for _, c := range []struct {
		need zael.Amounts
		want time.Duration
	}{
		{nil, time.Second}, // 1 of each
		{zael.Amounts{"rpm": 0}, 0},
		{zael.Amounts{"rpm": 0, "tpm": 100}, 0},
		{zael.Amounts{"rpm": 1}, time.Second},
		{zael.Amounts{"rpm": 0, "tpm": 101}, 100 * time.Millisecond},
		{zael.Amounts{"rpm": 5, "tpm": 600}, 50 * time.Second}, // the longer of both
		{zael.Amounts{"rpm": 60, "tpm": 101}, time.Minute},
	} {
		wait, err := r.l.TimeUntilAvailable(r.ctx, q, c.need)
		if err != nil || wait != c.want {
			t.Errorf("%v: got %v, %v, want %v", c.need, wait, err, c.want)
			continue
		}
		// It is the time at which they fit, and not 1 ns before.
		if c.want > 0 {
			other := setup(t)
			other.allow(ask(zael.Amounts{"rpm": 60, "tpm": 500}, limits...))
			other.clock.set(wait - 1)
			req := ask(nil, limits...)
			req.Consume = c.need
			other.refuses(req)
			other.clock.set(wait)
			other.allow(req)
		}
	}
	r.left(ask(nil, limits...), zael.Amounts{"rpm": 0, "tpm": 100})
}

// A limit asked for 0 refuses while it is in debt.
func TestAskedZeroInDebt(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limits := []zael.Limit{zael.PerMinute("rpm", 60), zael.PerMinute("tpm", 60)}
	lease := r.lease(ask(zael.Amounts{"tpm": 1}, limits...))
	r.ok(lease.Settle(zael.Amounts{"tpm": 70}))
	r.ok(lease.Commit(r.ctx))
	for _, consume := range []zael.Amounts{{"rpm": 0, "tpm": 0}, {"tpm": 0}, {"rpm": 1, "tpm": 0}} {
		e := r.refused(ask(consume, limits...))
		if v := e.Violations(); len(v) != 1 || v[0].Limit.Name != "tpm" || v[0].Available != -10 || v[0].RetryAfter != 10*time.Second {
			t.Errorf("%v: got %v, want a debt of 10 of tpm, for 10 s", consume, v)
		}
		if wait, err := r.l.TimeUntilAvailable(r.ctx, queryOf(ask(nil, limits...)), consume); err != nil || wait != 10*time.Second {
			t.Errorf("%v: got a wait of %v, %v, want 10 s", consume, wait, err)
		}
	}
	r.left(ask(nil, limits...), zael.Amounts{"rpm": 60, "tpm": -10})
	// A request that does not name the limit at all is not bound by it.
	r.allow(ask(zael.Amounts{"rpm": 1}, limits[0]))
	r.clock.set(10*time.Second - 1)
	r.refuses(ask(nil, limits...))
	r.clock.set(10 * time.Second)
	r.allow(ask(nil, limits...))
	r.refuses(ask(zael.Amounts{"tpm": 1}, limits...))
}

// Attack: two call sites that name different subsets switch off each other's
// limits.
func TestSubsetsDoNotResetEachOther(t *testing.T) {
	t.Parallel()
	r := setup(t)
	rpm, tpm := zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 10)
	admitted := zael.Amounts{}
	for i := range 100 {
		for _, limits := range [][]zael.Limit{{rpm}, {tpm}, {tpm, rpm}} {
			name := limits[i%len(limits)].Name
			if r.l.Allow(r.ctx, ask(zael.Amounts{name: 1}, limits...)) == nil {
				admitted[name]++
			}
		}
	}
	if want := (zael.Amounts{"rpm": 10, "tpm": 10}); !maps.Equal(admitted, want) {
		t.Errorf("got %v, want %v", admitted, want)
	}
}

// Attack: two call sites with other numbers for one limit flip its definition
// to make tokens. They get the larger burst, once.
func TestFlippingDefinitionsMintsNothing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	admitted := int64(0)
	for range 200 {
		for _, limit := range []zael.Limit{zael.PerDay("rpd", 10), zael.PerDay("rpd", 100), zael.PerDay("rpd", 1000).WithBurst(5)} {
			for _, n := range []int64{7, 3, 1} {
				if r.l.Allow(r.ctx, ask(zael.Amounts{"rpd": n}, limit)) == nil {
					admitted += n
				}
			}
		}
	}
	if admitted != 100 {
		t.Errorf("got %d tokens at one instant, want the larger burst, 100", admitted)
	}
}

// Bugs of others: refill lost, or gained, by every write. Refusals, reads and
// small takes in between change nothing.
func TestRefillNeitherLostNorGained(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.Limit{Name: "a", RefillAmount: 7, RefillPeriod: 13 * time.Second, Burst: 20}
	admitted := int64(0)
	const step = 63 * time.Millisecond
	steps := schedules.Count(t, 4000)
	for i := range steps {
		r.clock.set(time.Duration(i) * step)
		for _, n := range []int64{1, 3, 0} {
			if r.l.Allow(r.ctx, ask(zael.Amounts{"a": n}, limit)) == nil {
				admitted += n
			}
		}
		if _, err := r.l.Available(r.ctx, queryOf(ask(nil, limit))); err != nil {
			t.Fatal(err)
		}
	}
	if want := int64(20 + 7*time.Duration(steps-1)*step/(13*time.Second)); admitted != want {
		t.Errorf("under overload: got %d admitted, want the burst and all of the refill, %d", admitted, want)
	}
}

// Smoothing: a burst below the rate.
func TestBurstBelowTheRate(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerSecond("rps", 100).WithBurst(1)
	for i := range 10 {
		r.clock.set(time.Duration(i) * 10 * time.Millisecond)
		r.allow(ask(zael.Amounts{"rps": 1}, limit))
		if e := r.refused(ask(zael.Amounts{"rps": 1}, limit)); e.RetryAfter() != 10*time.Millisecond {
			t.Errorf("got retry after %v, want 10ms", e.RetryAfter())
		}
	}
}

// Bug of others: names with - or . break the expression; names that differ are
// never mixed up.
func TestNamesAreKeptApart(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var all []zael.Request
	for _, name := range []string{"a-b", "a.b", "a/b", "a_b", "A-b", "ab", "a", "a-b.c/d_e-"} {
		for _, entity := range []string{"e:1", "e.1", "E:1", "e:1@r"} {
			for _, resource := range []string{"r/s", "R/s", "r-s"} {
				all = append(all, zael.Request{
					Entity: entity, Resource: resource, Limits: []zael.Limit{zael.PerDay(name, 1)}, Consume: zael.Amounts{name: 1},
				})
			}
		}
	}
	for _, req := range all {
		r.allow(req)
	}
	for _, req := range all {
		r.refuses(req)
	}
}

// One Limiter serves calls of every shape in any order: what it keeps between
// them is never another call's.
func TestCallsOfDifferentShapesInARow(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for i := range 30 {
		entity := fmt.Sprintf("key-%d", i)
		a, b := zael.PerDay("a", int64(10+i)), zael.PerDay("b", int64(20+i))
		take := func(consume zael.Amounts, limits ...zael.Limit) {
			t.Helper()
			req := ask(consume, limits...)
			req.Entity, req.Resource = entity, "r"
			r.allow(req)
		}
		take(zael.Amounts{"a": 1}, a)
		take(zael.Amounts{"b": 2}, b)
		take(zael.Amounts{"a": 1, "b": 1}, a, b)
		take(zael.Amounts{"b": 1}, b, a)
		take(nil, a, b)
		bad := zael.Request{Entity: entity, Resource: "r", Limits: []zael.Limit{a, b}, Consume: zael.Amounts{"a": 5, "b": -1}}
		if err := r.l.Allow(r.ctx, bad); err == nil {
			t.Fatal("a negative amount: got it admitted, want an error")
		}
		r.refuses(zael.Request{Entity: entity, Resource: "r", Limits: []zael.Limit{a, b}, Consume: zael.Amounts{"a": int64(9 + i), "b": 3}})
		r.left(zael.Request{Entity: entity, Resource: "r", Limits: []zael.Limit{a, b}}, zael.Amounts{"a": int64(8 + i), "b": int64(16 + i)})
	}
}

func TestNoLimitsIsNeverUnlimited(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, req := range []zael.Request{
		{Entity: "key-1", Resource: "gpt-4"},
		{Entity: "key-1", Resource: "gpt-4", Consume: zael.Amounts{"rpm": 1}},
		{Entity: "key-1", Resource: "gpt-4", Cascade: true, ParentLimits: []zael.Limit{zael.PerMinute("rpm", 1)}},
		{Entity: "key-1", Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"rpm": 1}},
		{Entity: "key-1", Resource: "gpt-4", FailureMode: zael.FailOpen},
	} {
		for call, do := range callsOf(r.l) {
			if err := do(r.ctx, req); !errors.Is(err, zael.ErrNoLimits) {
				t.Errorf("%s %+v: got %v, want ErrNoLimits", call, req, err)
			}
		}
	}
}

func TestCallsWithADoneContext(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, &zael.Config{FailureMode: zael.FailOpen})
	ctx, cancel := context.WithCancel(r.ctx)
	cancel()
	req := ask(zael.Amounts{"rpm": 1}, zael.PerMinute("rpm", 10))
	for call, do := range callsOf(r.l) {
		if err := do(ctx, req); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", call, err)
		}
	}
	if n := f.asked(); n != 0 {
		t.Errorf("the store was asked %d times, want 0", n)
	}
}
