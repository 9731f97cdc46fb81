package zael_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael"
)

const day = 24 * time.Hour

func TestBuilders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got  zael.Limit
		want zael.Limit
	}{
		{zael.PerSecond("rps", 7), zael.Limit{Name: "rps", Capacity: 7, Burst: 7, RefillAmount: 7, RefillPeriod: time.Second}},
		{zael.PerMinute("rpm", 7), zael.Limit{Name: "rpm", Capacity: 7, Burst: 7, RefillAmount: 7, RefillPeriod: time.Minute}},
		{zael.PerHour("rph", 7), zael.Limit{Name: "rph", Capacity: 7, Burst: 7, RefillAmount: 7, RefillPeriod: time.Hour}},
		{zael.PerDay("rpd", 7), zael.Limit{Name: "rpd", Capacity: 7, Burst: 7, RefillAmount: 7, RefillPeriod: day}},
		{zael.PerMinute("up", 7).WithBurst(20), zael.Limit{Name: "up", Capacity: 7, Burst: 20, RefillAmount: 7, RefillPeriod: time.Minute}},
		{zael.PerMinute("down", 7).WithBurst(2), zael.Limit{Name: "down", Capacity: 2, Burst: 2, RefillAmount: 7, RefillPeriod: time.Minute}},
	} {
		if c.got != c.want {
			t.Errorf("got %+v, want %+v", c.got, c.want)
		}
		if err := c.got.Validate(); err != nil {
			t.Errorf("%v: got %v, want it valid", c.got, err)
		}
	}
}

func TestWithBurstLeavesTheOriginal(t *testing.T) {
	t.Parallel()
	l := zael.PerMinute("rpm", 10)
	if other := l.WithBurst(3); l.Burst != 10 || other.Burst != 3 {
		t.Errorf("got bursts %d and %d, want 10 and 3", l.Burst, other.Burst)
	}
}

// Zero fields of a literal are filled where it is used.
func TestLimitLiteralDefaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ literal, want zael.Limit }{
		{
			zael.Limit{Name: "a", RefillAmount: 10, RefillPeriod: time.Minute},
			zael.Limit{Name: "a", Capacity: 10, Burst: 10, RefillAmount: 10, RefillPeriod: time.Minute},
		},
		{
			zael.Limit{Name: "a", Burst: 4, RefillAmount: 10, RefillPeriod: time.Minute},
			zael.Limit{Name: "a", Capacity: 4, Burst: 4, RefillAmount: 10, RefillPeriod: time.Minute},
		},
		{
			zael.Limit{Name: "a", Burst: 40, RefillAmount: 10, RefillPeriod: time.Minute},
			zael.Limit{Name: "a", Capacity: 10, Burst: 40, RefillAmount: 10, RefillPeriod: time.Minute},
		},
		{
			zael.Limit{Name: "a", Capacity: 3, Burst: 40, RefillAmount: 10, RefillPeriod: time.Minute},
			zael.Limit{Name: "a", Capacity: 3, Burst: 40, RefillAmount: 10, RefillPeriod: time.Minute},
		},
	} {
		r := setup(t)
		scope := zael.Scope{Resource: "gpt-4"}
		r.ok(r.l.SetLimits(r.ctx, scope, []zael.Limit{c.literal}))
		stored, err := r.l.Limits(r.ctx, scope)
		if err != nil || len(stored) != 1 || stored[0] != c.want {
			t.Errorf("stored %+v: got %+v, %v, want %+v", c.literal, stored, err, c.want)
		}
		e := r.refused(ask(zael.Amounts{"a": c.want.Burst + 1}, c.literal))
		if e.Statuses()[0].Limit != c.want {
			t.Errorf("status of %+v: got %+v, want %+v", c.literal, e.Statuses()[0].Limit, c.want)
		}
	}
}

// Every message names the limit, what is wrong and what is allowed.
func TestLimitValidate(t *testing.T) {
	t.Parallel()
	good := zael.PerMinute("rpm", 10)
	with := func(change func(*zael.Limit)) zael.Limit {
		l := good
		change(&l)
		return l
	}
	const tokens = "1 to 1000000000000000"
	for _, c := range []struct {
		name  string
		limit zael.Limit
		field string
		text  []string
	}{
		{"no name", with(func(l *zael.Limit) { l.Name = "" }), "Limit.Name", []string{`""`, "1 to 64 characters", "beginning with a letter"}},
		{"name begins with digit", with(func(l *zael.Limit) { l.Name = "1rpm" }), "Limit.Name", []string{`"1rpm"`, "beginning with a letter"}},
		{"long name", with(func(l *zael.Limit) { l.Name = strings.Repeat("a", 65) }), "Limit.Name", []string{"1 to 64 characters"}},
		{"negative burst", with(func(l *zael.Limit) { l.Burst = -1 }), "Limit rpm", []string{"burst -1", tokens}},
		{"large burst", with(func(l *zael.Limit) { l.Burst = 1e15 + 1 }), "Limit rpm", []string{"burst 1000000000000001", tokens}},
		{"negative amount", with(func(l *zael.Limit) { l.RefillAmount = -1 }), "Limit rpm", []string{"refill amount -1", tokens}},
		{"no amount", with(func(l *zael.Limit) { l.RefillAmount = 0 }), "Limit rpm", []string{"refill amount 0", tokens}},
		{"no amount and no burst", zael.PerMinute("rpm", 0), "Limit rpm", []string{"refill amount 0", tokens}},
		{"large amount", with(func(l *zael.Limit) { l.RefillAmount, l.RefillPeriod = 1e15+1, 366*day }), "Limit rpm", []string{"refill amount", tokens}},
		{"no period", with(func(l *zael.Limit) { l.RefillPeriod = 0 }), "Limit rpm", []string{"refill period 0s", "1s to 8784h0m0s"}},
		{"short period", with(func(l *zael.Limit) { l.RefillPeriod = time.Second - 1 }), "Limit rpm", []string{"refill period 999.999999ms", "1s to"}},
		{"long period", with(func(l *zael.Limit) { l.RefillPeriod = 366*day + 1 }), "Limit rpm", []string{"refill period", "to 8784h0m0s"}},
		{"fast", with(func(l *zael.Limit) { l.RefillAmount, l.RefillPeriod = 9e9+1, time.Second }), "Limit rpm", []string{"rate 9000000001 per 1s", "9000000000 tokens a second"}},
		{"negative capacity", with(func(l *zael.Limit) { l.Capacity = -1 }), "Limit rpm", []string{"capacity -1", "1 to the burst, 10"}},
		{"capacity above burst", with(func(l *zael.Limit) { l.Capacity = 11 }), "Limit rpm", []string{"capacity 11", "1 to the burst, 10"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := c.limit.Validate()
			invalidField(t, err, c.field)
			for _, text := range c.text {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("got %v, want a message with %q", err, text)
				}
			}
		})
	}
	for _, l := range []zael.Limit{
		with(func(l *zael.Limit) { l.Burst, l.Capacity = 1e15, 1e15 }),
		with(func(l *zael.Limit) { l.RefillAmount, l.RefillPeriod = 9e9, time.Second }),
		with(func(l *zael.Limit) { l.RefillAmount, l.RefillPeriod = 1e15, 366*day }),
		with(func(l *zael.Limit) { l.RefillPeriod = 366 * day }),
		with(func(l *zael.Limit) { l.Name = "a" + strings.Repeat("-", 63) }),
	} {
		if err := l.Validate(); err != nil {
			t.Errorf("%+v: got %v, want it valid", l, err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want zael.Limit
		back string
	}{
		{"rpm=100/min", zael.PerMinute("rpm", 100), "rpm=100/min"},
		{"rps=2/s", zael.PerSecond("rps", 2), "rps=2/s"},
		{"rph=2/h", zael.PerHour("rph", 2), "rph=2/h"},
		{"rpd=2/d", zael.PerDay("rpd", 2), "rpd=2/d"},
		{"tpm=10000/min burst 20000", zael.PerMinute("tpm", 10_000).WithBurst(20_000), "tpm=10000/min burst 20000"},
		{"  tpm=10000/min\tburst   5 ", zael.PerMinute("tpm", 10_000).WithBurst(5), "tpm=10000/min burst 5"},
		{"a=2/3s", zael.Limit{Name: "a", Capacity: 2, Burst: 2, RefillAmount: 2, RefillPeriod: 3 * time.Second}, "a=2/3s"},
		{"a=100/15min", zael.Limit{Name: "a", Capacity: 100, Burst: 100, RefillAmount: 100, RefillPeriod: 15 * time.Minute}, "a=100/15min"},
		{"a=1/60s", zael.PerMinute("a", 1), "a=1/min"},
		{"a=1/7d", zael.Limit{Name: "a", Capacity: 1, Burst: 1, RefillAmount: 1, RefillPeriod: 7 * day}, "a=1/7d"},
		{"a=1/1h30m", zael.Limit{Name: "a", Capacity: 1, Burst: 1, RefillAmount: 1, RefillPeriod: 90 * time.Minute}, "a=1/90min"},
		{"a=1/1.5s", zael.Limit{Name: "a", Capacity: 1, Burst: 1, RefillAmount: 1, RefillPeriod: 1500 * time.Millisecond}, "a=1/1.5s"},
		{
			"a=10/min burst 20 capacity 15",
			zael.Limit{Name: "a", Capacity: 15, Burst: 20, RefillAmount: 10, RefillPeriod: time.Minute},
			"a=10/min burst 20 capacity 15",
		},
		{
			"a=10/min capacity 5 burst 20",
			zael.Limit{Name: "a", Capacity: 5, Burst: 20, RefillAmount: 10, RefillPeriod: time.Minute},
			"a=10/min burst 20 capacity 5",
		},
		{"a=10/min burst 10 capacity 10", zael.PerMinute("a", 10), "a=10/min"},
	} {
		got, err := zael.ParseLimit(c.text)
		if err != nil || got != c.want {
			t.Errorf("%q: got %+v, %v, want %+v", c.text, got, err, c.want)
		}
		if got.String() != c.back {
			t.Errorf("%q: written as %q, want %q", c.text, got, c.back)
		}
	}
}

func TestParseLimitErrors(t *testing.T) {
	t.Parallel()
	const remedy = `write it like "rpm=100/min"`
	for _, c := range []struct {
		text, field string
		want        []string
	}{
		{"", "Limit", []string{"is empty", remedy}},
		{" \t", "Limit", []string{"is empty", remedy}},
		{"rpm", "Limit", []string{"has no =", remedy}},
		{"rpm=100", "Limit", []string{"has no period", remedy}},
		{"rpm=/min", "Limit", []string{`amount "" is not a whole number from 1 to`, remedy}},
		{"rpm=-1/min", "Limit", []string{`amount "-1"`, remedy}},
		{"rpm=1.5/min", "Limit", []string{`amount "1.5"`, remedy}},
		{"rpm=1000000000000001/min", "Limit", []string{"1 to 1000000000000000", remedy}},
		{"rpm=99999999999999999999/min", "Limit", []string{"1 to 1000000000000000", remedy}},
		{"rpm=1/", "Limit", []string{`period "" is not s, min, h or d`, remedy}},
		{"rpm=1/month", "Limit", []string{`period "month"`, remedy}},
		{"rpm=1/99999999999999999999d", "Limit", []string{"period", remedy}},
		{"rpm=1/9999999999d", "Limit", []string{"period", remedy}},
		{"rpm=1/12", "Limit", []string{`period "12"`, remedy}},
		{"rpm=1/min burst", "Limit", []string{"no number after burst", remedy}},
		{"rpm=1/min burst x", "Limit", []string{`burst "x"`, remedy}},
		{"rpm=1/min burst 0", "Limit", []string{`burst "0"`, remedy}},
		{"rpm=1/min burst 1 burst 2", "Limit", []string{"says burst twice", remedy}},
		{"rpm=1/min capacity 1 capacity 1", "Limit", []string{"says capacity twice", remedy}},
		{"rpm=1/min bust 2", "Limit", []string{`has "bust"`, remedy}},
		{"=1/min", "Limit.Name", []string{"1 to 64 characters"}},
		{"a#b=1/min", "Limit.Name", []string{`"a#b"`}},
		{"rpm=1/0s", "Limit rpm", []string{"refill period 0s", "1s to"}},
		{"rpm=1/500ms", "Limit rpm", []string{"refill period 500ms", "1s to"}},
		{"rpm=1/-5s", "Limit rpm", []string{"refill period -5s", "1s to"}},
		{"rpm=1/367d", "Limit rpm", []string{"refill period", "to 8784h"}},
		{"rpm=9000000001/s", "Limit rpm", []string{"9000000000 tokens a second"}},
		{"rpm=1/min capacity 2", "Limit rpm", []string{"capacity 2", "1 to the burst, 1"}},
	} {
		_, err := zael.ParseLimit(c.text)
		invalidField(t, err, c.field)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %v, want a message with %q", c.text, err, want)
			}
		}
	}
}

func validLimits() *rapid.Generator[zael.Limit] {
	return rapid.Custom(func(t *rapid.T) zael.Limit {
		l := zael.Limit{
			Name: rapid.StringMatching(`[A-Za-z][A-Za-z0-9_./-]{0,20}`).Draw(t, "name"),
			RefillPeriod: rapid.OneOf(
				rapid.Map(rapid.Int64Range(1, 366*86_400), func(s int64) time.Duration { return time.Duration(s) * time.Second }),
				rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, day, 7 * day, 366 * day, 90 * time.Second}),
				rapid.Map(rapid.Int64Range(int64(time.Second), int64(366*day)), func(ns int64) time.Duration { return time.Duration(ns) }),
			).Draw(t, "period"),
			Burst: rapid.Int64Range(1, 1e15).Draw(t, "burst"),
		}
		l.RefillAmount = rapid.Int64Range(1, min(1e15, 9e9*int64(l.RefillPeriod/time.Second))).Draw(t, "amount")
		if rapid.Bool().Draw(t, "plain burst") {
			l.Burst = l.RefillAmount
		}
		l.Capacity = rapid.Int64Range(1, l.Burst).Draw(t, "capacity")
		if rapid.Bool().Draw(t, "plain capacity") {
			l.Capacity = min(l.RefillAmount, l.Burst)
		}
		return l
	})
}

func TestLimitTextRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := validLimits().Draw(t, "limit")
		if err := l.Validate(); err != nil {
			t.Fatalf("generated %+v: %v", l, err)
		}
		got, err := zael.ParseLimit(l.String())
		if err != nil || got != l {
			t.Fatalf("%q: got %+v, %v, want %+v", l, got, err, l)
		}
	})
}

// Whatever the text, it is a valid limit that survives being written, or a
// *ValidationError.
func TestParseLimitTakesAnyText(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a-z]{0,3}=?[0-9]{0,17}/?[0-9]{0,3}(s|min|h|d|ms|m)?( burst [0-9]{0,17})?( capacity [0-9]{0,3})?`),
	)
	rapid.Check(t, func(t *rapid.T) {
		s := text.Draw(t, "text")
		l, err := zael.ParseLimit(s)
		if err != nil {
			if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
				t.Fatalf("%q: got %v, want a *ValidationError", s, err)
			}
			return
		}
		if err := l.Validate(); err != nil {
			t.Fatalf("%q: got the limit %+v, which is invalid: %v", s, l, err)
		}
		if again, err := zael.ParseLimit(l.String()); err != nil || again != l {
			t.Fatalf("%q: written as %q and read as %+v, %v, want %+v", s, l, again, err, l)
		}
	})
}
