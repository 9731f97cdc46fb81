package zael_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

func left(t *testing.T, l *zael.Limiter, entity string, p *zael.Policy) int64 {
	t.Helper()
	n, err := l.Available(t.Context(), zael.Query{Entity: entity, Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return n[p.Names()[0]]
}

func TestSeveralResources(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := new(handClock)
	l := limiterOn(t, memstore.New(&memstore.Config{Usage: true}), &zael.Config{Clock: clock.now})
	chat, tools, search := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100)), zael.MustPolicy("tools", zael.PerDay("calls", 5)), zael.MustPolicy("search", zael.PerDay("q", 3))
	req := chat.For("alice", 40)
	req.Also = []zael.Part{tools.PartFor("alice", 2), search.PartFor("team", 1)}

	lease, err := l.Acquire(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if d := lease.Decision(); d.Len() != 3 || d.Status(0).Available != 60 || d.Status(1).Resource != "tools" || d.Status(2).Entity != "team" || d.Status(2).Available != 2 {
		t.Errorf("got %d statuses, want those of all parts", d.Len())
	}
	if lease.On("alice", "gpt-4") != lease || lease.On("alice", "search") != nil || lease.On("bob", "tools") != nil {
		t.Error("On: got another part, want the lease itself, and none for what it does not have")
	}
	part := lease.On("alice", "tools")
	if err := errors.Join(
		lease.Settle(zael.Amounts{"tpd": 70}),
		part.Consume(ctx, zael.Amounts{"calls": 2}),
		lease.On("team", "search").Settle(zael.Amounts{"q": 0}),
	); err != nil {
		t.Fatal(err)
	}
	if err := part.Settle(zael.Amounts{"tpd": 1}); err == nil {
		t.Error("got no error of a name that another part has")
	}
	if got := part.Consumed(); !maps.Equal(got, zael.Amounts{"calls": 4}) {
		t.Errorf("got %v consumed, want those of the part alone", got)
	}
	if err := lease.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"again": lease.Commit(ctx), "a part": part.Commit(ctx), "settling": part.Settle(zael.Amounts{"calls": 1})} {
		if !errors.Is(err, zael.ErrLeaseClosed) {
			t.Errorf("%s: got %v, want ErrLeaseClosed", name, err)
		}
	}
	for _, c := range []struct {
		entity string
		policy *zael.Policy
		want   int64
	}{{"alice", chat, 30}, {"alice", tools, 1}, {"team", search, 3}} {
		if got := left(t, l, c.entity, c.policy); got != c.want {
			t.Errorf("%s: got %d left, want %d", c.policy.Resource(), got, c.want)
		}
	}

	// Ending a part ends all; a rollback gives everything back.
	if err := l.Allow(ctx, tools.For("alice", 1)); err != nil {
		t.Fatal(err)
	}
	req = chat.For("alice", 30)
	req.Also = []zael.Part{search.PartFor("team", 3)}
	if lease, err = l.Reserve(ctx, req); err != nil {
		t.Fatal(err)
	}
	if err := lease.On("team", "search").Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if a, b := left(t, l, "alice", chat), left(t, l, "team", search); a != 30 || b != 3 {
		t.Errorf("got %d and %d left after a rollback, want 30 and 3", a, b)
	}
	u, err := l.Usage(ctx, zael.UsageQuery{Entity: "alice"})
	if err != nil || u.Amounts["tpd"] != 70 || u.Amounts["calls"] != 5 {
		t.Errorf("got usage %v (%v), want 70 tpd and 5 calls", u.Amounts, err)
	}
}

// Trap of zae-limiter 0.17: the refused error shows what is left after the charge that was
// undone, and others see the tokens taken until then.
func TestTrapRefusedPartTakesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	chat, tools := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100)), zael.MustPolicy("tools", zael.PerDay("calls", 5))
	if err := l.Allow(ctx, tools.For("alice", 5)); err != nil {
		t.Fatal(err)
	}
	req := chat.For("alice", 91)
	req.Also = []zael.Part{tools.PartFor("alice", 1)}
	for name, call := range map[string]func() error{
		"Allow":   func() error { return l.Allow(ctx, req) },
		"Reserve": func() error { _, err := l.Reserve(ctx, req); return err },
		"Acquire": func() error { _, err := l.Acquire(ctx, req); return err },
		"Do": func() error {
			return l.Do(ctx, req, func(context.Context, *zael.Lease) error { return errors.New("called") })
		},
		"Decide": func() error {
			d, err := l.Decide(ctx, req)
			return errors.Join(err, d.Err())
		},
	} {
		err := call()
		exceeded, ok := errors.AsType[*zael.ExceededError](err)
		if !ok {
			t.Errorf("%s: got %v, want an ExceededError", name, err)
			continue
		}
		s := exceeded.Statuses()
		if len(s) != 2 || s[0].Available != 100 || s[0].Exceeded || !s[1].Exceeded || s[1].Available != 0 || exceeded.Primary().Resource != "tools" {
			t.Errorf("%s: got %+v, want 100 left of tpd, and calls to refuse", name, s)
		}
	}
	// Others never see half of it.
	var all sync.WaitGroup
	stop := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if n := left(t, l, "alice", chat); n != 100 {
					t.Errorf("got %d left while others are refused, want 100", n)
					return
				}
			}
		}
	})
	for range 1000 {
		_ = l.Allow(ctx, req)
	}
	close(stop)
	all.Wait()
}

func TestSeveralResourcesValidation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	p := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100))
	part := func(resource string) zael.Part {
		return zael.Part{Resource: resource, Limits: []zael.Limit{zael.PerDay("n", 10)}}
	}
	with := func(change func(*zael.Request), parts ...zael.Part) zael.Request {
		req := p.For("alice", 1)
		req.Also = parts
		if change != nil {
			change(&req)
		}
		return req
	}
	var many []zael.Part
	for i := range 16 {
		many = append(many, part(fmt.Sprint("r", i)))
	}
	for name, req := range map[string]zael.Request{
		"17 parts":             with(nil, many...),
		"MaxWait":              with(func(r *zael.Request) { r.MaxWait = time.Second }, part("a")),
		"twice":                with(nil, part("a"), part("a")),
		"its own":              with(nil, zael.Part{Policy: p}),
		"stored beside others": with(nil, zael.Part{Policy: zael.Must(zael.StoredPolicy("a"))}),
		"limits beside stored": with(func(r *zael.Request) { r.UseStoredLimits = true }, part("a")),
		"no resource":          with(nil, zael.Part{Limits: []zael.Limit{zael.PerDay("n", 10)}}),
		"a name":               with(nil, zael.Part{Entity: " a", Policy: p}),
		"amounts":              with(nil, zael.Part{Resource: "a", Limits: []zael.Limit{zael.PerDay("n", 10)}, Consume: zael.Amounts{"m": 1}}),
	} {
		for method, call := range map[string]func() error{
			"Allow":   func() error { return l.Allow(ctx, req) },
			"Acquire": func() error { _, err := l.Acquire(ctx, req); return err },
		} {
			err := call()
			if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
				t.Errorf("%s with %s: got %v, want a ValidationError", method, name, err)
			}
		}
	}
	if err := l.Allow(ctx, with(nil, zael.Part{Resource: "a"})); !errors.Is(err, zael.ErrNoLimits) {
		t.Errorf("a part without limits: got %v, want ErrNoLimits", err)
	}
	if err := l.Allow(ctx, with(nil, many[:15]...)); err != nil {
		t.Errorf("16 parts: got %v, want them admitted", err)
	}
}

// TestPartsOutrank checks which error counts if parts have different ones, and that the
// failure mode is open only if it is for all parts.
func TestPartsOutrank(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r, store := newRemote()
	clock := new(handClock)
	l := limiterOn(t, store, &zael.Config{Clock: clock.now})
	a, b := zael.MustPolicy("a", zael.PerDay("n", 1)), zael.MustPolicy("b", zael.PerDay("n", 1))
	req := a.For("alice")
	req.Also = []zael.Part{b.PartFor("alice")}
	if err := l.Allow(ctx, req); err != nil {
		t.Fatal(err)
	}
	if err := l.SetSwitch(ctx, zael.Scope{Resource: "b"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := l.Allow(ctx, req); !errors.Is(err, zael.ErrDisabled) || errors.Is(err, zael.ErrExceeded) {
		t.Errorf("one refuses, one is disabled: got %v, want ErrDisabled", err)
	}
	if err := errors.Join(
		l.SetSwitch(ctx, zael.Scope{Resource: "b"}, zael.Bypass, zael.AdminOptions{}),
		l.SetFailureMode(ctx, zael.Scope{Resource: "b"}, zael.FailOpen, zael.AdminOptions{}),
	); err != nil {
		t.Fatal(err)
	}
	if err := l.Allow(ctx, req); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("one is bypassed: got %v, want the other to refuse", err)
	}
	r.down.Store(true)
	if err := l.Allow(ctx, req); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("open for one part: got %v, want ErrUnavailable", err)
	}
	req.FailureMode = zael.FailOpen
	lease, err := l.Acquire(ctx, req)
	if err != nil || !lease.Degraded() || !lease.On("alice", "b").Degraded() {
		t.Errorf("open for all: got %v, want a degraded lease of both parts", err)
	} else if err := lease.Commit(ctx); err != nil {
		t.Error(err)
	}
}

// TestPartsCascade checks that each part takes from its parent, and that parts that would
// meet in one bucket are an error.
func TestPartsCascade(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	for _, e := range []zael.Entity{{ID: "team"}, {ID: "alice", ParentID: "team"}, {ID: "bob", ParentID: "team"}} {
		if _, err := l.CreateEntity(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	a, b := zael.MustPolicy("a", zael.PerDay("n", 10)), zael.MustPolicy("b", zael.PerDay("n", 10))
	req := a.For("alice", 3)
	req.Cascade, req.Also = true, []zael.Part{b.PartFor("alice", 4)}
	lease, err := l.Acquire(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lease.On("alice", "b").Settle(zael.Amounts{"n": 6}), lease.Commit(ctx)); err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string][2]int64{"alice": {7, 4}, "team": {7, 4}} {
		if got := [2]int64{left(t, l, who, a), left(t, l, who, b)}; got != want {
			t.Errorf("%s: got %v left, want %v", who, got, want)
		}
	}
	req.Also = []zael.Part{a.PartFor("bob")}
	err = l.Allow(ctx, req)
	if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
		t.Errorf("two children of one parent on one resource: got %v, want a ValidationError", err)
	}
}

// TestPartsOfStoredLimits checks that stored limits that change bind parts as others.
func TestPartsOfStoredLimits(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := memstore.New(nil)
	clock := new(handClock)
	l, admin := limiterOn(t, store, &zael.Config{Clock: clock.now}), limiterOn(t, store, &zael.Config{Clock: clock.now})
	set := func(n int64) {
		t.Helper()
		clock.forward(time.Second)
		for _, r := range []string{"a", "b"} {
			if err := admin.SetLimits(ctx, zael.Scope{Entity: "alice", Resource: r}, []zael.Limit{zael.PerDay("n", n)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	set(10)
	req := zael.Request{Entity: "alice", Resource: "a", UseStoredLimits: true, Consume: zael.Amounts{"n": 4}, Also: []zael.Part{{Resource: "b", Consume: zael.Amounts{"n": 2}}}}
	if err := l.Allow(ctx, req); err != nil {
		t.Fatal(err)
	}
	set(5)
	clock.forward(time.Second)
	if err := l.Allow(ctx, req); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("got %v, want a refusal under the new limits", err)
	}
	set(20)
	clock.forward(time.Second)
	if err := l.Allow(ctx, req); err != nil {
		t.Errorf("got %v, want it admitted under the new limits", err)
	}
}

// TestRenewalsOfParts: slots of several resources are held from the take on, and renewed no sooner.
func TestRenewalsOfParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewedSlots(t)
		r.silence(true)
		req := r.p.For("key-1", 1, 1)
		req.Also = []zael.Part{r.p.PartFor("key-2", 1, 1)}
		lease, err := r.l.Acquire(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		r.wait(14 * time.Second)
		if part := lease.On("key-2", "gpt-4"); !lease.Held() || !part.Held() {
			t.Errorf("Held: got %v and %v, want true", lease.Held(), part.Held())
		}
		r.wait(16*time.Second, 15*time.Second, 15*time.Second)
		r.silence(false)
		r.close(lease)
	})
}
