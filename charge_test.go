package zael_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

func TestCharge(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := new(handClock)
	l := limiterOn(t, memstore.New(&memstore.Config{Usage: true}), &zael.Config{Clock: clock.now})
	policy := zael.MustPolicy("gpt-4", zael.PerMinute("tpm", 60), zael.EachDay("tpd", 100))

	for _, c := range []struct {
		at       time.Duration
		tpm, tpd int64 // charged
		left     [2]int64
	}{
		{0, 50, 50, [2]int64{10, 50}},
		{0, 40, 40, [2]int64{-30, 10}}, // what does not fit is debt
		{30 * time.Second, 0, 0, [2]int64{0, 10}},
		{30 * time.Second, 0, 30, [2]int64{0, -20}},
		{24 * time.Hour, 1, 1, [2]int64{59, 99}}, // the quota's period has ended
	} {
		clock.set(c.at)
		d, err := l.Charge(ctx, policy.For("alice", c.tpm, c.tpd))
		if err != nil || !d.Admitted || d.Len() != 2 {
			t.Fatalf("%v: got %+v (%v)", c.at, d, err)
		}
		if got := [2]int64{d.Status(0).Available, d.Status(1).Available}; got != c.left || d.Status(0).Requested != c.tpm {
			t.Errorf("%v: got %v left of %d, want %v", c.at, got, d.Status(0).Requested, c.left)
		}
	}
	u, err := l.Usage(ctx, zael.UsageQuery{Entity: "alice"})
	if err != nil || u.Amounts["tpm"] != 91 || u.Amounts["tpd"] != 121 {
		t.Errorf("got usage %v (%v), want all that was charged", u.Amounts, err)
	}
}

// Debt that was charged refuses what asks.
func TestChargeRefusesOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := new(handClock)
	l := limiterOn(t, memstore.New(nil), &zael.Config{Clock: clock.now})
	policy := zael.MustPolicy("gpt-4", zael.PerMinute("tpm", 60))
	if _, err := l.Charge(ctx, policy.For("alice", 90)); err != nil {
		t.Fatal(err)
	}
	if d, err := l.Decide(ctx, policy.For("alice", 0)); err != nil || d.Admitted {
		t.Errorf("in debt: got %+v (%v), want a refusal", d, err)
	}
	clock.set(30 * time.Second)
	if d, err := l.Decide(ctx, policy.For("alice", 0)); err != nil || !d.Admitted {
		t.Errorf("after the debt: got %+v (%v)", d, err)
	}
}

// Several buckets, and a parent, are charged by one call of the store.
func TestChargeOfSeveralBuckets(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := &fake{Store: memstore.New(nil)}
	l := limiterOn(t, f, nil)
	if _, err := l.CreateEntity(ctx, zael.Entity{ID: "alice", ParentID: "team"}); err != nil {
		t.Fatal(err)
	}
	chat, tools := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 10)), zael.MustPolicy("tools", zael.PerDay("calls", 5))
	req := chat.For("alice", 12)
	req.Cascade, req.Also = true, []zael.Part{tools.PartFor("bob", 1)}
	d, err := l.Charge(ctx, req)
	if err != nil || d.Len() != 3 {
		t.Fatalf("got %+v (%v)", d, err)
	}
	for i, want := range []struct {
		entity string
		left   int64
	}{{"alice", -2}, {"team", -2}, {"bob", 4}} {
		if s := d.Status(i); s.Entity != want.entity || s.Available != want.left {
			t.Errorf("status %d: got %d of %s, want %d of %s", i, s.Available, s.Entity, want.left, want.entity)
		}
	}
	if n := f.adjusts.Load() + f.takes.Load(); n != 1 {
		t.Errorf("got %d calls of the store, want 1", n)
	}
}

func TestChargeErrors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := &fake{Store: memstore.New(nil)}
	l := limiterOn(t, f, nil)
	policy := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 10), zael.AtOnce("calls", 5))
	waits := policy.For("alice", 1, 0)
	waits.MaxWait = time.Second
	for name, req := range map[string]zael.Request{
		"a wait": waits, "slots": policy.For("alice", 1, 1), "less than none": policy.For("alice", -1, 0), "no entity": policy.For("", 1, 0),
	} {
		if _, err := l.Charge(ctx, req); !isInvalid(err) {
			t.Errorf("%s: got %v, want a *ValidationError", name, err)
		}
	}
	if n := f.adjusts.Load() + f.takes.Load(); n != 0 {
		t.Errorf("got %d calls of the store, want none", n)
	}
	if d, err := l.Charge(ctx, policy.For("alice", 1, 0)); err != nil || d.Status(1).Available != 5 {
		t.Errorf("slots that are not named: got %+v (%v)", d, err)
	}

	// What was used is charged though the caller has left, and the failure mode decides what
	// an outage means.
	canceled, cancel := context.WithCancel(ctx)
	f.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
		cancel()
		if ctx.Err() != nil {
			t.Error("the charge is cancelled with its caller")
		}
		return f.Store.Adjust(ctx, now, debits)
	}
	if _, err := l.Charge(canceled, policy.For("alice", 1, 0)); err != nil {
		t.Errorf("a caller who leaves: got %v", err)
	}
	if _, err := l.Charge(canceled, policy.For("alice", 1, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has left: got %v, want that nothing is charged", err)
	}
	f.adjust = func(context.Context, time.Time, []zael.Debit) (time.Time, error) {
		return time.Time{}, zael.ErrUnavailable
	}
	if _, err := l.Charge(ctx, policy.For("alice", 1, 0)); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("an outage: got %v, want ErrUnavailable", err)
	}
	open := policy.For("alice", 1, 0)
	open.FailureMode = zael.FailOpen
	if d, err := l.Charge(ctx, open); err != nil || !d.Degraded {
		t.Errorf("an outage, open: got %+v (%v)", d, err)
	}
}

func TestCredit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := new(handClock)
	l := limiterOn(t, memstore.New(&memstore.Config{Usage: true}), &zael.Config{Clock: clock.now})
	policy := zael.MustPolicy("gpt-4", zael.PerMinute("tpm", 60), zael.EachDay("tpd", 100))
	for _, c := range []struct {
		name     string
		at       time.Duration
		charged  int64
		credited int64
		left     [2]int64
	}{
		{"nothing is used", 0, 0, 10, [2]int64{60, 100}},
		{"a part of it", 0, 50, 20, [2]int64{30, 70}},
		{"more than was used", 0, 0, 1000, [2]int64{60, 100}},
		{"debt", 0, 150, 30, [2]int64{-60, -20}},
		{"what has refilled is not given back", 90 * time.Second, 0, 1000, [2]int64{60, 100}},
		{"nor what was used in another period", 24 * time.Hour, 0, 10, [2]int64{60, 100}},
	} {
		clock.set(c.at)
		if _, err := l.Charge(ctx, policy.For("alice", c.charged, c.charged)); err != nil {
			t.Fatal(err)
		}
		d, err := l.Credit(ctx, policy.For("alice", c.credited, c.credited))
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]int64{d.Status(0).Available, d.Status(1).Available}; got != c.left || d.Status(0).Requested != c.credited {
			t.Errorf("%s: the decision has %v left of %d, want %v", c.name, got, d.Status(0).Requested, c.left)
		}
		now, err := l.Available(ctx, zael.Query{Entity: "alice", Policy: policy})
		if got := [2]int64{now["tpm"], now["tpd"]}; err != nil || got != c.left {
			t.Errorf("%s: got %v left (%v), want %v", c.name, got, err, c.left)
		}
	}
	u, err := l.Usage(ctx, zael.UsageQuery{Entity: "alice"})
	if err != nil || u.Amounts["tpd"] != 0 {
		t.Errorf("got usage %v (%v), want that what was given back is not counted", u.Amounts, err)
	}
	if _, err := l.Credit(ctx, policy.For("alice", -1, 0)); !isInvalid(err) {
		t.Errorf("less than none: got %v, want a *ValidationError", err)
	}
}

// Of two credits at once that find the same tokens used, the limit is full afterwards, and no more.
func TestCreditsAtOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := &fake{Store: memstore.New(nil)}
	l := limiterOn(t, f, &zael.Config{Clock: new(handClock).now})
	policy := zael.MustPolicy("gpt-4", zael.PerHour("tph", 60), zael.EachDay("tpd", 100))
	if _, err := l.Charge(ctx, policy.For("alice", 30, 30)); err != nil {
		t.Fatal(err)
	}
	f.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
		f.adjust = nil // the other credit comes between the two calls of this one
		if _, err := l.Credit(ctx, policy.For("alice", 20, 20)); err != nil {
			t.Error(err)
		}
		return f.Store.Adjust(ctx, now, debits)
	}
	d, err := l.Credit(ctx, policy.For("alice", 25, 25))
	if err != nil || d.Status(0).Available != 60 || d.Status(1).Available != 100 {
		t.Errorf("got %d and %d left (%v), want full ones", d.Status(0).Available, d.Status(1).Available, err)
	}
	if now, err := l.Available(ctx, zael.Query{Entity: "alice", Policy: policy}); err != nil || now["tph"] != 60 || now["tpd"] != 100 {
		t.Errorf("got %v left (%v), want full ones", now, err)
	}
}
