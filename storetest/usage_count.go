package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
)

func usageChecks() []check {
	return append(overdrawnChecks(), []check{
		{name: "takes are counted, net of what is given back", run: countsTakes},
		{name: "refused takes are not counted", run: countsNoRefusals},
		{name: "both sides of a cascade are counted", run: countsCascade},
		{name: "windows are hours, days and months in UTC", run: countsWindows},
		{name: "a give after the hour is net of all", run: countsLateGive},
		{name: "usage of forgotten limits stays", run: countsForgotten},
		{name: "usage is selected by time", run: usageByTime},
		{name: "usage is selected by name and in order", run: usageInOrder},
		{name: "usage is complete", run: usageComplete},
		{name: "concurrent takes are all counted", run: countsConcurrent},
		{name: "names that differ are counted apart", run: usageApart},
		{name: "deleting an entity removes its usage", also: []Role{EntityStore}, run: deletesUsage},
		{name: "a done context: all or nothing", run: usageDone},
		{name: "callers who leave are not counted", run: leaversAreNotCounted},
	}...)
}

// usage reads and wants these records, which are given in order of time and are to come
// the newest first.
func (s *script) usage(q zael.UsageQuery, want ...zael.UsageRecord) {
	want = slices.Clone(want)
	slices.SortStableFunc(want, func(a, b zael.UsageRecord) int { return b.Start.Compare(a.Start) })
	if q.Entity == "" && q.From.IsZero() { // as a Limiter has one
		q.From = s.e.t0.AddDate(-1, 0, 0)
	}
	s.do(func() error {
		got, err := collect(role[zael.UsageStore](s.e).Usage(s.ctx, q))
		if err != nil {
			return err
		}
		if len(got) != len(want) {
			return fmt.Errorf("Usage of %+v: got %d records %v, want %d", q, len(got), got, len(want))
		}
		for i, g := range got {
			if g.Start.Location() != time.UTC {
				return fmt.Errorf("Usage of %+v: got a start in %v, want UTC", q, g.Start.Location())
			}
			maps.DeleteFunc(g.Amounts, func(_ string, n int64) bool { return n == 0 })
			w := want[i]
			if g.Entity != w.Entity || g.Resource != w.Resource || g.Window != w.Window || !g.Start.Equal(w.Start) ||
				g.Events != w.Events || !maps.Equal(g.Amounts, w.Amounts) || !maps.Equal(g.Overdrawn, w.Overdrawn) {
				return fmt.Errorf("Usage of %+v in place %d: got %+v, want %+v", q, i, g, w)
			}
		}
		return nil
	})
}

// used is alice's record of an hour of env.t0's day.
func (e *env) used(hour int, events int64, amounts zael.Amounts) zael.UsageRecord {
	start := time.Date(e.t0.Year(), e.t0.Month(), e.t0.Day(), hour, 0, 0, 0, time.UTC)
	return zael.UsageRecord{
		Entity: "alice", Resource: "gpt-4", Window: zael.Hourly, Start: start, Amounts: amounts, Events: events,
	}
}

func countsTakes(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := never(1000)
	q := zael.UsageQuery{Entity: "alice"}
	taken := debit(k, ask("rpm", d, 1), ask("tpm", d, 500))

	s.usage(q)
	s.admit(0, taken) // the first use counts
	s.usage(q, e.used(14, 1, zael.Amounts{"rpm": 1, "tpm": 500}))
	s.admit(time.Minute, debit(k, ask("rpm", d, 2)))
	s.usage(q, e.used(14, 2, zael.Amounts{"rpm": 3, "tpm": 500}))
	s.adjust(time.Minute, debit(k, back(taken.Charges[1], 200), ask("rpm", d, 1)))
	s.usage(q, e.used(14, 2, zael.Amounts{"rpm": 4, "tpm": 300}))
	s.adjust(time.Minute, debit(k, ask("tpm", d, 2000))) // into debt
	s.usage(q, e.used(14, 2, zael.Amounts{"rpm": 4, "tpm": 2300}))
	s.adjust(time.Minute, debit(key("bob"), ask("tpm", d, 7))) // a bucket's first charge, and no take
	bob := e.used(14, 0, zael.Amounts{"tpm": 7})
	bob.Entity = "bob"
	s.usage(zael.UsageQuery{Entity: "bob"}, bob)
	s.adjust(time.Minute, debit(k, ask("rpm", trickle(1000), 0)))
	s.usage(q, e.used(14, 2, zael.Amounts{"rpm": 4, "tpm": 2300}))
	s.admit(time.Hour, debit(k, ask("rpm", trickle(1000), 5))) // another hour
	s.usage(q, e.used(14, 2, zael.Amounts{"rpm": 4, "tpm": 2300}), e.used(15, 1, zael.Amounts{"rpm": 5}))
	return s.err
}

func countsNoRefusals(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	d := stored(never(10), 5)
	q := zael.UsageQuery{Resource: "gpt-4"}

	s.refuse(0, debit(k, ask("rpm", d, 11)))
	s.usage(q)
	s.admit(0, debit(k, ask("rpm", d, 8)))
	s.refuse(0, debit(k, ask("tpm", d, 1), ask("rpm", d, 3)))
	s.refuse(0, debit(key("bob"), ask("rpm", d, 1)), debit(k, ask("rpm", d, 3)))
	s.stale(debit(k, ask("rpm", stored(never(10), 4), 1)))
	s.usage(q, e.used(14, 1, zael.Amounts{"rpm": 8}))
	return s.err
}

func countsCascade(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(10)
	parent := e.used(14, 2, zael.Amounts{"rpm": 3})
	parent.Entity = "parent"

	s.admit(0, debit(key("alice"), ask("rpm", d, 2), ask("tpm", d, 5)), debit(key("parent"), ask("rpm", d, 2)))
	s.admit(0, debit(key("parent"), ask("rpm", d, 1)))
	s.usage(zael.UsageQuery{Entity: "alice"}, e.used(14, 1, zael.Amounts{"rpm": 2, "tpm": 5}))
	s.usage(zael.UsageQuery{Entity: "parent"}, parent)
	return s.err
}

// countsWindows takes at the ends of windows, by a clock in another time zone,
// each time another power of two.
func countsWindows(ctx context.Context, e *env) error {
	zone := time.FixedZone("UTC+5:30", 5*3600+1800)
	e.t0 = e.t0.In(zone)
	s := e.script(ctx)
	d := never(1000)
	next := int64(1)
	take := func(month time.Month, day, hour, minute, second, nanosecond int) {
		now := time.Date(2026, month, day, hour, minute, second, nanosecond, time.UTC)
		s.admit(now.Sub(e.t0), debit(key("alice"), ask("rpm", d, next)))
		next *= 2
	}
	want := func(window zael.Window, month time.Month, day, hour int, events, rpm int64) zael.UsageRecord {
		r := e.used(0, events, zael.Amounts{"rpm": rpm})
		r.Window, r.Start = window, time.Date(2026, month, day, hour, 0, 0, 0, time.UTC)
		return r
	}

	take(time.January, 31, 23, 59, 59, 999_999_999) // 1
	take(time.February, 1, 0, 0, 0, 0)              // 2
	take(time.February, 1, 0, 59, 59, 999_999_999)  // 4
	take(time.February, 1, 1, 0, 0, 0)              // 8
	s.usage(zael.UsageQuery{Entity: "alice"},
		want(zael.Hourly, time.January, 31, 23, 1, 1),
		want(zael.Hourly, time.February, 1, 0, 2, 6),
		want(zael.Hourly, time.February, 1, 1, 1, 8))
	s.usage(zael.UsageQuery{Entity: "alice", Window: zael.Daily},
		want(zael.Daily, time.January, 31, 0, 1, 1),
		want(zael.Daily, time.February, 1, 0, 3, 14))
	take(time.February, 28, 23, 59, 59, 0) // 16
	take(time.March, 1, 0, 0, 0, 0)        // 32
	s.usage(zael.UsageQuery{Resource: "gpt-4", Window: zael.Monthly},
		want(zael.Monthly, time.January, 1, 0, 1, 1),
		want(zael.Monthly, time.February, 1, 0, 4, 30),
		want(zael.Monthly, time.March, 1, 0, 1, 32))
	return s.err
}

// countsLateGive: whichever hour a give counts in, the sum is net.
func countsLateGive(ctx context.Context, e *env) error {
	s := e.script(ctx)
	d := never(100)
	taken := debit(key("alice"), ask("tpm", d, 50))
	s.admit(time.Hour-1, taken)
	s.adjust(time.Hour+time.Second, debit(key("alice"), back(taken.Charges[0], 20)))
	s.do(func() error {
		got, err := collect(role[zael.UsageStore](e).Usage(ctx, zael.UsageQuery{Entity: "alice"}))
		if err != nil {
			return err
		}
		var tpm, events int64
		for _, r := range got {
			tpm, events = tpm+r.Amounts["tpm"], events+r.Events
		}
		if tpm != 30 || events != 1 {
			return fmt.Errorf("50 taken in one hour, 20 given back in the next: got %d and %d events in all, want 30 and 1", tpm, events)
		}
		return nil
	})
	day := e.used(0, 1, zael.Amounts{"tpm": 30})
	day.Window = zael.Daily
	s.usage(zael.UsageQuery{Entity: "alice", Window: zael.Daily}, day)
	return s.err
}

// countsForgotten names each limit once, and one of them again when it has been
// forgotten.
func countsForgotten(ctx context.Context, e *env) error {
	s := e.script(ctx)
	k := key("alice")
	s.names(0, 20*time.Second, k)
	s.admit(50*time.Minute, debit(k, ask("once-0", trickle(10), 5)))
	amounts := zael.Amounts{"busy": 1}
	for i := range once {
		amounts[fmt.Sprintf("once-%d", i)]++
	}
	amounts["once-0"] += 5
	s.usage(zael.UsageQuery{Entity: "alice"}, e.used(14, once+2, amounts))
	return s.err
}

// countsConcurrent takes, is refused, charges and gives back at once.
func countsConcurrent(ctx context.Context, e *env) error {
	const callers = 200
	k := key("alice")
	d := never(callers)
	var admitted atomic.Int64
	err := together(callers, func(int) error {
		lease := debit(k, ask("rpm", d, 3))
		ok, err := e.try(ctx, e.t0, lease)
		if err != nil || !ok || admitted.Add(1)%2 == 0 {
			return err
		}
		_, err = e.adjust(ctx, e.t0, debit(k, back(lease.Charges[0], 1), ask("tpm", d, 2)))
		return err
	})
	if err != nil {
		return err
	}
	at, got, err := e.read(ctx, e.t0, k)
	if err != nil {
		return err
	}
	records, err := collect(role[zael.UsageStore](e).Usage(ctx, zael.UsageQuery{Entity: "alice"}))
	if err != nil {
		return err
	}
	if len(records) != 1 {
		return fmt.Errorf("Usage of one bucket in one hour: got %d records, want 1", len(records))
	}
	for _, name := range []string{"rpm", "tpm"} {
		if used, taken := records[0].Amounts[name], level(limitOf(got[0], name), at)/1000; used != taken || taken == 0 {
			return fmt.Errorf("%s after %d callers: got %d counted, want as many as were taken, %d", name, callers, used, taken)
		}
	}
	if n := records[0].Events; n != admitted.Load() {
		return fmt.Errorf("events of %d callers: got %d, want the %d admitted", callers, n, admitted.Load())
	}
	return nil
}
