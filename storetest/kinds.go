package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// missingKinds returns nil if a store has other kinds of limits than plain rates, and
// otherwise why not.
func missingKinds(ctx context.Context, store zael.Store) error {
	at := time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC)
	d := bucket.Definition{Burst: 1, Capacity: 1, Kind: bucket.Session, Period: time.Hour}
	_, err := store.Take(ctx, at, 0, []zael.Debit{{Key: key("probe"), Charges: []zael.Charge{{Name: "probe", Definition: d}}}})
	if _, refused := errors.AsType[*zael.ValidationError](err); refused {
		return fmt.Errorf("%T has no other Kinds of limits than plain rates: it says %w", store, err)
	}
	return nil
}

func kindChecks() []check {
	checks := []check{
		{name: "a store keeps a period's start and what was used in it", run: keepsPeriods},
		{name: "a store keeps flags and calendars", run: keepsDefinitions},
		{name: "what is given back counts in its own period alone", run: givesInPeriod},
		{name: "slots of a holder that is silent are free for others", run: reclaimsSlots},
		{name: "a top-up of a quota is on top until its period ends", also: []Role{AdminStore}, run: topsUpQuotas},
		{name: "a reset begins periods again", also: []Role{AdminStore}, run: resetsPeriods},
		{name: "a top-up that was used and given back stays until its period ends", also: []Role{AdminStore}, run: topUpComesBack},
		{name: "a quota of which nothing is used becomes a session that has not begun", run: unusedBecomesSession},
		{name: "what is slots now is neither topped up nor reset", also: []Role{AdminStore}, run: refillsWhatIsNow},
		{name: "slots, and what is blocked or unlimited, cannot be topped up", also: []Role{AdminStore}, run: topsUpNoOthers},
		{name: "a receipt releases only slots of its holder's generation", run: releasesOnce},
		{name: "an adjust of no slots, by no holder, changes their definition", run: changesSlots},
		{name: "random operations of all kinds against a second formulation", run: randomKinds},
	}
	for _, tl := range timelines() {
		checks = append(checks, check{name: "timeline: " + tl.name, run: tl.run})
	}
	return checks
}

// A timeline is limits, and what a Limiter answers about them at instants.
type timeline struct {
	name   string
	limits []string // as zael.ParseLimit reads them
	steps  []moment
}

// A moment is one step: what is taken, and how it stands then.
type moment struct {
	at        string
	take      []int64 // of each limit; none: nothing is asked
	refused   bool
	never     bool // the refusal matches ErrNever
	available []int64
	ask       []int64 // of each limit
	wait      time.Duration
}

const never292 = time.Duration(-1) // a wait of ErrNever

func timelines() []timeline {
	one := func(n int64) []int64 { return []int64{n} }
	sec := func(n int64) time.Duration { return time.Duration(n) * time.Second }
	return []timeline{
		{"1, a day of 23 hours", []string{"q=100 each day Europe/Berlin"}, []moment{
			{at: "2026-03-29T12:00:00Z", take: one(100), available: one(0), ask: one(1), wait: sec(36_000)},
			{at: "2026-03-29T21:59:59Z", available: one(0), ask: one(1), wait: sec(1)},
			{at: "2026-03-29T22:00:00Z", available: one(100), ask: one(100)},
		}},
		{"2, a day of 25 hours", []string{"q=100 each day Europe/Berlin"}, []moment{
			{at: "2026-10-24T22:00:00Z", take: one(100), available: one(0), ask: one(1), wait: sec(90_000)},
			{at: "2026-10-25T22:59:59Z", available: one(0), ask: one(1), wait: sec(1)},
			{at: "2026-10-25T23:00:00Z", available: one(100), ask: one(101), wait: never292},
		}},
		{"3, a time in the gap", []string{"q=100 each day at 02:30 Europe/Berlin"}, []moment{
			{at: "2026-03-28T12:00:00Z", take: one(100), available: one(0)},
			{at: "2026-03-29T00:59:59Z", available: one(0), ask: one(1), wait: sec(1)},
			{at: "2026-03-29T01:00:00Z", take: one(100), available: one(0), ask: one(1), wait: sec(84_600)},
		}},
		{"3, a time in the gap of New York", []string{"q=100 each day at 02:00 America/New_York"}, []moment{
			{at: "2026-03-07T06:59:59Z", take: one(100), available: one(0), ask: one(1), wait: sec(1)},
			{at: "2026-03-07T07:00:00Z", take: one(100), available: one(0), ask: one(1), wait: sec(86_400)},
			{at: "2026-03-08T07:00:00Z", take: one(100), available: one(0), ask: one(1), wait: sec(82_800)},
			{at: "2026-03-09T06:00:00Z", available: one(100), ask: one(100)},
		}},
		{"4, months", []string{"q=1000 each month America/New_York"}, []moment{
			{at: "2026-03-15T12:00:00Z", take: one(1000), available: one(0), ask: one(1), wait: sec(1_440_000)},
			{at: "2026-11-15T12:00:00Z", take: one(1000), available: one(0), ask: one(1), wait: sec(1_357_200)},
		}},
		{"5, the 31st", []string{"q=10 each month on 31 Europe/Berlin"}, []moment{
			{at: "2026-02-10T00:00:00Z", take: one(10), available: one(0), ask: one(1), wait: sec(1_551_600)},
			{at: "2026-03-30T12:00:00Z", take: one(10), available: one(0)},
			{at: "2026-05-05T00:00:00Z", available: one(10), ask: one(10)},
			{at: "2026-05-05T00:00:00Z", take: one(10), available: one(0), ask: one(1), wait: sec(2_239_200)},
		}},
		{"6, from first use", []string{"q=10 per 5h from first use"}, []moment{
			{at: "2026-06-10T11:00:00Z", available: one(10)},
			{at: "2026-06-10T12:00:00Z", take: one(6), available: one(4)},
			{at: "2026-06-10T13:00:00Z", available: one(4), ask: one(5), wait: sec(14_400)},
			{at: "2026-06-10T17:00:00Z", take: one(11), refused: true, never: true, available: one(10)},
			{at: "2026-06-10T18:00:00Z", take: one(1), available: one(9), ask: one(10), wait: sec(18_000)},
			{at: "2026-06-10T22:59:59Z", available: one(9), ask: one(10), wait: sec(1)},
			{at: "2026-06-10T23:00:00Z", available: one(10)},
		}},
		{"7, a rate and a quota", []string{"rpm=5/min", "q=10 each day"}, []moment{
			{at: "2026-06-10T23:59:00Z", take: []int64{5, 5}, available: []int64{0, 5}},
			{at: "2026-06-10T23:59:30Z", available: []int64{2, 5}, ask: []int64{3, 3}, wait: sec(6)},
			{at: "2026-06-10T23:59:48Z", take: []int64{4, 4}, available: []int64{0, 1}, ask: []int64{2, 2}, wait: sec(24)},
			{at: "2026-06-10T23:59:48Z", take: []int64{0, 2}, refused: true, available: []int64{0, 1}},
			{at: "2026-06-11T00:00:12Z", take: []int64{2, 2}, available: []int64{0, 8}},
			{at: "2026-06-11T00:00:12Z", take: []int64{1, 1}, refused: true, available: []int64{0, 8}},
		}},
		{"8, by wall clock", []string{"rpm=100/min when mon-fri 09:00-18:00 Europe/Berlin times 0.5 when sat-sun Europe/Berlin burst 500"}, []moment{
			{at: "2026-06-10T06:59:59Z", available: one(100)},
			{at: "2026-06-10T07:00:00Z", available: one(50)},
			{at: "2026-06-10T15:59:59Z", available: one(50)},
			{at: "2026-06-10T16:00:15Z", take: one(0), available: one(75)},
			{at: "2026-06-10T16:00:30Z", available: one(100)},
			{at: "2026-06-11T06:59:30Z", take: one(100), available: one(0), ask: one(90), wait: sec(32_454)},
			{at: "2026-06-11T07:00:00Z", available: one(50), ask: one(600), wait: never292},
			{at: "2026-06-13T12:00:00Z", take: one(500), available: one(0)},
		}},
		{"block, unlimited and soft", []string{"n=0/min", "u=unlimited", "s=2 each day soft", "q=5 each hour"}, []moment{
			{at: "2026-06-10T12:00:00Z", take: []int64{0, 1000, 5, 1}, available: []int64{0, bucket.MaxAmount, -3, 4}},
			{at: "2026-06-10T12:00:01Z", take: []int64{1, 1, 1, 1}, refused: true, never: true, available: []int64{0, bucket.MaxAmount, -3, 4}},
			{at: "2026-06-10T12:00:02Z", take: []int64{0, 1, 1, 6}, refused: true, never: true, available: []int64{0, bucket.MaxAmount, -3, 4}},
			{at: "2026-06-11T12:00:00Z", available: []int64{0, bucket.MaxAmount, 2, 5}},
		}},
		{"debt is carried", []string{"q=10 each day carry debt soft"}, []moment{
			{at: "2026-06-10T12:00:00Z", take: one(25), available: one(-15)},
			{at: "2026-06-11T12:00:00Z", available: one(-5)},
			{at: "2026-06-12T12:00:00Z", take: one(1), available: one(4)},
			{at: "2026-06-13T00:00:00Z", available: one(10)},
		}},
		{"a clock that is behind", []string{"q=10 each day", "w=10 per h from first use"}, []moment{
			{at: "2026-06-11T00:00:00Z", take: []int64{7, 7}, available: []int64{3, 3}},
			{at: "2026-06-10T23:59:59Z", take: []int64{4, 0}, refused: true, available: []int64{3, 3}},
			{at: "2026-06-10T23:59:59Z", take: []int64{3, 3}, available: []int64{0, 0}},
			{at: "2026-06-11T00:59:59Z", available: []int64{0, 0}, ask: []int64{0, 1}, wait: sec(1)},
			{at: "2026-06-11T01:00:00Z", available: []int64{0, 10}},
		}},
	}
}

// run plays the timeline.
func (tl timeline) run(ctx context.Context, e *env) error {
	limits := make([]zael.Limit, len(tl.limits))
	for i, text := range tl.limits {
		l, err := zael.ParseLimit(text)
		if err != nil {
			return err
		}
		limits[i] = l
	}
	policy, err := zael.NewPolicy("gpt-4", limits...)
	if err != nil {
		return err
	}
	var now time.Time
	l, err := zael.New(e.store, &zael.Config{Clock: func() time.Time { return now }, Timeout: time.Minute})
	if err != nil {
		return err
	}
	names := policy.Names()
	for _, m := range tl.steps {
		if now, err = time.Parse(time.RFC3339, m.at); err != nil {
			return err
		}
		if err := m.check(ctx, l, policy, names); err != nil {
			return fmt.Errorf("%s: %w", m.at, err)
		}
	}
	return nil
}

func (m *moment) check(ctx context.Context, l *zael.Limiter, policy *zael.Policy, names []string) error {
	if m.take != nil {
		_, err := l.Reserve(ctx, policy.For("key-1", m.take...))
		switch {
		case m.refused && (!errors.Is(err, zael.ErrExceeded) || errors.Is(err, zael.ErrNever) != m.never):
			return fmt.Errorf("take %v: got %w, want a refusal, that no wait helps: %v", m.take, err, m.never)
		case !m.refused && err != nil:
			return fmt.Errorf("take %v: got %w", m.take, err)
		}
	}
	q := zael.Query{Entity: "key-1", Policy: policy}
	got, err := l.Available(ctx, q)
	if err != nil {
		return fmt.Errorf("available: %w", err)
	}
	for i, name := range names {
		if got[name] != m.available[i] {
			return fmt.Errorf("available of %s: got %d, want %d", name, got[name], m.available[i])
		}
	}
	if m.ask == nil {
		return nil
	}
	amounts := zael.Amounts{}
	for i, name := range names {
		amounts[name] = m.ask[i]
	}
	wait, err := l.TimeUntilAvailable(ctx, q, amounts)
	switch {
	case m.wait == never292 && !errors.Is(err, zael.ErrNever):
		return fmt.Errorf("wait for %v: got %v, %w, want ErrNever", m.ask, wait, err)
	case m.wait != never292 && (err != nil || wait != m.wait):
		return fmt.Errorf("wait for %v: got %v (%w), want %v", m.ask, wait, err, m.wait)
	}
	return nil
}

// quotaOf returns a quota of 10 each day in a zone.
func quotaOf(zone string) bucket.Definition {
	c, err := bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.Daily, Zone: zone})
	if err != nil {
		panic(err)
	}
	return bucket.Definition{Burst: 10, Capacity: 10, Kind: bucket.Quota, Calendar: c}
}

func slotsOf(n int64) bucket.Definition {
	return bucket.Definition{Burst: n, Capacity: n, Kind: bucket.Slots, Period: time.Minute}
}

// changesSlots changes stored limits of slots while some are held.
func changesSlots(ctx context.Context, e *env) error {
	s := e.script(ctx)
	take := func(holder string, n, most, rev int64) zael.Debit {
		d := slotsOf(most)
		d.Rev = rev
		return zael.Debit{Key: key("alice"), Holder: holder, Charges: []zael.Charge{ask("slots", d, n)}}
	}
	a, none := take("holder-a", 2, 3, 3), take("", 0, 2, 7)
	s.admit(0, a)
	s.adjust(0, none)
	s.stale(take("holder-b", 1, 3, 3))
	s.refuse(0, take("holder-b", 1, 2, 7))
	a.Charges[0].Amount = -1
	s.adjust(0, a)
	s.admit(0, take("holder-b", 1, 2, 7))
	return s.err
}

// keepsPeriods reads back what was taken of a quota and a session.
func keepsPeriods(ctx context.Context, e *env) error {
	s := e.script(ctx)
	q := quotaOf("Europe/Berlin")
	w := bucket.Definition{Burst: 10, Capacity: 10, Kind: bucket.Session, Period: time.Hour}
	s.admit(time.Minute, debit(key("key-1"), ask("q", q, 3), ask("w", w, 4)))
	s.admit(2*time.Minute, debit(key("key-1"), ask("q", q, 2), ask("w", w, 1)))
	s.do(func() error {
		_, buckets, err := e.store.Buckets(ctx, e.t0.Add(3*time.Minute), []zael.Key{key("key-1")})
		if err != nil {
			return err
		}
		midnight := mustAt(time.Date(2026, time.January, 12, 23, 0, 0, 0, time.UTC)) // of Berlin
		first := mustAt(e.t0.Add(time.Minute))
		gotQ, gotW := limitOf(buckets[0], "q"), limitOf(buckets[0], "w")
		if gotQ.Definition != q || gotQ.Mark != int64(midnight) || gotQ.Used != 5 {
			return fmt.Errorf("the quota: got %+v, want 5 used since %v", gotQ, midnight.Time())
		}
		if gotW.Definition != w || gotW.Mark != int64(first) || gotW.Used != 5 {
			return fmt.Errorf("the session: got %+v, want 5 used since %v", gotW, first.Time())
		}
		return nil
	})
	return s.err
}

// keepsDefinitions stores each kind and flag, and reads it back.
func keepsDefinitions(ctx context.Context, e *env) error {
	s := e.script(ctx)
	soft, carry, rate := quotaOf("America/New_York"), quotaOf("UTC"), define(5, 5, time.Second)
	soft.Flags, carry.Flags, rate.Flags = bucket.Soft, bucket.CarryDebt|bucket.Soft, bucket.Soft
	unlimited := bucket.Unbounded()
	unlimited.Rev = 7
	want := map[string]bucket.Definition{"soft": soft, "carry": carry, "rate": rate, "unlimited": unlimited}
	for name, d := range want {
		s.admit(0, debit(key("key-1"), ask(name, d, 1)))
	}
	s.do(func() error {
		_, buckets, err := e.store.Buckets(ctx, e.t0, []zael.Key{key("key-1")})
		if err != nil {
			return err
		}
		for name, d := range want {
			if got := limitOf(buckets[0], name).Definition; got != d {
				return fmt.Errorf("%s: got %+v, want %+v", name, got, d)
			}
		}
		return nil
	})
	return s.err
}

// givesInPeriod gives back a quota's charge in its period, and after its end.
func givesInPeriod(ctx context.Context, e *env) error {
	q := quotaOf("UTC")
	k := key("key-1")
	for _, c := range []struct {
		after     time.Duration // of the give
		available int64
	}{{time.Hour, 8}, {24 * time.Hour, 8}} {
		k.Entity += "+"
		taken, again := debit(k, ask("q", q, 6)), debit(k, ask("q", q, 2))
		if _, err := e.take(ctx, e.t0, 0, taken); err != nil {
			return err
		}
		if _, err := e.take(ctx, e.t0.Add(c.after), 0, again); err != nil {
			return err
		}
		back := zael.Charge{Name: "q", Definition: q, Amount: -6, Receipt: taken.Charges[0].Receipt}
		if _, err := e.adjust(ctx, e.t0.Add(c.after), debit(k, back)); err != nil {
			return err
		}
		_, buckets, err := e.store.Buckets(ctx, e.t0.Add(c.after), []zael.Key{k})
		if err != nil {
			return err
		}
		if got := limitOf(buckets[0], "q").Available(mustAt(e.t0.Add(c.after))); got != c.available {
			return fmt.Errorf("6 given back %v later, with 2 used then: got %d available, want %d", c.after, got, c.available)
		}
	}
	return nil
}

// takeSlots takes slots for a holder.
func (e *env) takeSlots(ctx context.Context, after time.Duration, holder string, n int64) (zael.Charge, error) {
	d := debit(key("key-1"), ask("parallel", slotsOf(2), n))
	d.Holder = holder
	_, err := e.take(ctx, e.t0.Add(after), 0, d)
	return d.Charges[0], err
}

// release gives back the slots of a charge.
func (e *env) release(ctx context.Context, after time.Duration, holder string, c zael.Charge) error {
	c.Amount = -c.Amount
	d := debit(key("key-1"), c)
	d.Holder = holder
	_, err := e.adjust(ctx, e.t0.Add(after), d)
	return err
}

// reclaimsSlots is the part of timeline 9 that needs no renewal.
func reclaimsSlots(ctx context.Context, e *env) error {
	for _, st := range []struct {
		after  time.Duration
		holder string
		ok     bool
	}{
		{0, "A", true},
		{10 * time.Second, "B", true},
		{20 * time.Second, "C", false},
		{59 * time.Second, "C", false},
		{60 * time.Second, "C", true}, // A has been silent for a minute
		{61 * time.Second, "D", false},
		{70 * time.Second, "D", true}, // B too
	} {
		c, err := e.takeSlots(ctx, st.after, st.holder, 1)
		if (err == nil) != st.ok || err != nil && !errors.Is(err, zael.ErrExceeded) {
			return fmt.Errorf("%s after %v: got %w, want it admitted: %v", st.holder, st.after, err, st.ok)
		}
		if err != nil && st.after == 20*time.Second {
			if wait := c.State.Wait(mustAt(e.t0.Add(st.after)), 1); wait != 40*time.Second {
				return fmt.Errorf("%s after %v: got a wait of %v, want 40s", st.holder, st.after, wait)
			}
		}
	}
	return nil
}

// releasesOnce releases twice, and with a receipt from before the holder was removed.
func releasesOnce(ctx context.Context, e *env) error {
	old, err := e.takeSlots(ctx, 0, "A", 2)
	if err != nil {
		return err
	}
	b, err := e.takeSlots(ctx, time.Minute, "B", 1) // A is removed
	if err != nil {
		return err
	}
	again, err := e.takeSlots(ctx, 61*time.Second, "A", 1)
	if err != nil {
		return err
	}
	for i, st := range []struct {
		holder string
		charge zael.Charge
		free   int64
	}{{"A", old, 0}, {"B", b, 1}, {"B", b, 1}, {"A", again, 2}} {
		if err := e.release(ctx, 62*time.Second, st.holder, st.charge); err != nil {
			return err
		}
		_, buckets, err := e.store.Buckets(ctx, e.t0.Add(62*time.Second), []zael.Key{key("key-1")})
		if err != nil {
			return err
		}
		got := int64(2)
		if len(buckets[0].Limits) > 0 {
			got = limitOf(buckets[0], "parallel").Available(mustAt(e.t0.Add(62 * time.Second)))
		}
		if got != st.free {
			return fmt.Errorf("release %d, by %s: got %d free, want %d", i+1, st.holder, got, st.free)
		}
	}
	return nil
}

// unusedBecomesSession makes sessions of quotas, and of a session, of which nothing is used.
func unusedBecomesSession(ctx context.Context, e *env) error {
	day, hour := 24*time.Hour, time.Hour
	w := bucket.Definition{Burst: 10, Capacity: 10, Kind: bucket.Session, Period: day}
	short := w
	short.Period = hour
	start := time.Duration(0)
	for _, c := range []struct {
		name  string
		from  bucket.Definition
		after time.Duration // when it becomes a session
	}{
		{"quota", quotaOf("UTC"), time.Minute},
		{"past-quota", hourlyOf(), 2 * hour},
		{"past-session", short, 2 * hour},
		{"session", short, time.Minute},
	} {
		s := e.script(ctx)
		k := key(c.name)
		taken := debit(k, ask("w", c.from, 4))
		s.admit(start, taken)
		s.adjust(start, debit(k, back(taken.Charges[0], 4)))
		s.admit(start+c.after, debit(k, ask("w", w, 0)))
		begun := start + c.after + 30*time.Minute
		s.admit(begun, debit(k, ask("w", w, 10)))
		s.refuse(begun+day-time.Minute, debit(k, ask("w", w, 1)))
		s.admit(begun+day, debit(k, ask("w", w, 10)))
		if s.err != nil {
			return fmt.Errorf("a %s: %w", c.name, s.err)
		}
		start += 3 * day // some stores never go back
	}
	return nil
}

func hourlyOf() bucket.Definition {
	d := quotaOf("UTC")
	d.Calendar, _ = bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.EachHour})
	return d
}
