package zael_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// Programs that are wrong, each of which would limit nobody if it were let pass:
// each gets an error on its first call, or is held to what it has named.
func TestWrongProgramsAreNotUnlimited(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	limit := zael.PerSecond("rps", 2)
	policy := zael.MustPolicy("gpt-4", limit, zael.PerMinute("tpm", 100))
	stored, err := zael.StoredPolicy("gpt-4", "rps")
	if err != nil {
		t.Fatal(err)
	}
	mistyped, err := zael.StoredPolicy("gpt-4", "rsp")
	if err != nil {
		t.Fatal(err)
	}
	with := func(p *zael.Policy, consume zael.Amounts) zael.Request {
		req := p.For("key-1")
		req.Consume = consume
		return req
	}
	for name, req := range map[string]zael.Request{
		"the zero Request":                 {},
		"no limits":                        {Entity: "key-1", Resource: "gpt-4"},
		"no limits stored":                 stored.For("key-1"),
		"no entity":                        policy.For(""),
		"the zero Policy":                  new(zael.Policy).For("key-1", 1),
		"the zero Policy, without amounts": new(zael.Policy).For("key-1"),
		"a nil Policy":                     (*zael.Policy)(nil).For("key-1", 1),
		"too few amounts":                  policy.For("key-1", 1),
		"too many amounts":                 policy.For("key-1", 1, 1, 1),
		"far too many amounts":             policy.For("key-1", 1, 1, 1, 1, 1, 1),
		"amounts of a stored policy":       stored.For("key-1", 1, 1),
		"a negative amount":                policy.For("key-1", 1, -1),
		"an amount beyond range":           policy.For("key-1", 1, 1<<62),
		"a typo":                           with(policy, zael.Amounts{"rsp": 1}),
		"amounts twice":                    func() zael.Request { r := policy.For("key-1", 1, 1); r.Consume = zael.Amounts{}; return r }(),
		"limits beside a policy":           func() zael.Request { r := policy.For("key-1"); r.Limits = []zael.Limit{limit}; return r }(),
		"another resource than the policy": func() zael.Request { r := policy.For("key-1"); r.Resource = "gpt-5"; return r }(),
		"the zero Limit":                   {Entity: "key-1", Resource: "gpt-4", Limits: make([]zael.Limit, 1)},
		"a typo among the call's limits":   {Entity: "key-1", Resource: "gpt-4", Limits: []zael.Limit{limit}, Consume: zael.Amounts{"rsp": 1}},
	} {
		r := setup(t)
		calls := callsOf(r.l)
		calls["Decide"] = func(ctx context.Context, req zael.Request) error { _, err := r.l.Decide(ctx, req); return err }
		delete(calls, "Available") // takes no amounts
		delete(calls, "TimeUntilAvailable")
		for call, do := range calls {
			err := do(ctx, req)
			var invalid *zael.ValidationError
			if !errors.As(err, &invalid) && !errors.Is(err, zael.ErrNoLimits) {
				t.Errorf("%s, %s: got %v, want a *ValidationError or ErrNoLimits", name, call, err)
			}
		}
	}

	// With limits stored, an amount of which no name is known is a mistake, and
	// one that is missing is 1.
	r := setup(t)
	r.ok(r.l.SetLimits(ctx, zael.Scope{Resource: "gpt-4"}, []zael.Limit{limit}))
	for name, req := range map[string]zael.Request{
		"a policy": mistyped.For("key-1", 5),
		"a map":    with(stored, zael.Amounts{"rsp": 5}),
	} {
		invalidField(t, r.l.Allow(ctx, req), "Request.Consume")
		if _, err := r.l.Decide(ctx, req); err == nil {
			t.Errorf("Decide with %s: got no error, want one", name)
		}
	}
	for name, req := range map[string]zael.Request{
		"no amounts":           policy.For("key-2"),
		"no amounts, literal":  {Entity: "key-3", Resource: "gpt-4", Limits: []zael.Limit{limit}},
		"empty amounts":        with(policy, zael.Amounts{}),
		"no amounts, stored":   stored.For("key-4"),
		"an unnamed limit":     with(policy, zael.Amounts{"tpm": 1}),
		"no amounts, cascaded": func() zael.Request { r := policy.For("key-5"); r.Cascade = true; return r }(),
	} {
		admitted := 0
		r := setup(t)
		r.ok(r.l.SetLimits(ctx, zael.Scope{Resource: "gpt-4"}, []zael.Limit{limit}))
		for range 1000 {
			if err := r.l.Allow(ctx, req); err == nil {
				admitted++
			} else if !errors.Is(err, zael.ErrExceeded) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if admitted != 2 {
			t.Errorf("%s: got %d of 1000 admitted, want 2", name, admitted)
		}
	}

	if _, err := r.l.Apply(ctx, make([]zael.Change, 1)); err == nil {
		t.Error("the zero Change: got it applied, want an error")
	}
	if limits, err := r.l.Limits(ctx, zael.Scope{Resource: "gpt-4"}); err != nil || len(limits) != 1 {
		t.Errorf("after the zero Change: got %v, %v, want the limit as it was", limits, err)
	}
	l, err := zael.New(memstore.New(&memstore.Config{MaxBuckets: -1}), nil)
	if err != nil {
		t.Fatal(err)
	}
	invalidField(t, l.Allow(ctx, policy.For("key-1")), "Config.MaxBuckets")
	for name, c := range map[string]*zael.Config{
		"a negative Timeout": {Timeout: -time.Second}, "a negative ConfigTTL": {ConfigTTL: -1}, "no failure mode": {FailureMode: 3},
	} {
		if _, err := zael.New(memstore.New(nil), c); err == nil {
			t.Errorf("%s: got a Limiter, want an error", name)
		}
	}
	for name, f := range map[string]func() (*zael.Policy, error){
		"no limits":          func() (*zael.Policy, error) { return zael.NewPolicy("gpt-4") },
		"no resource":        func() (*zael.Policy, error) { return zael.NewPolicy("", limit) },
		"a limit twice":      func() (*zael.Policy, error) { return zael.NewPolicy("gpt-4", limit, limit) },
		"the zero limit":     func() (*zael.Policy, error) { return zael.NewPolicy("gpt-4", zael.Limit{}) },
		"a name twice":       func() (*zael.Policy, error) { return zael.StoredPolicy("gpt-4", "a", "a") },
		"a bad name":         func() (*zael.Policy, error) { return zael.StoredPolicy("gpt-4", "1") },
		"no parent's limits": func() (*zael.Policy, error) { return policy.WithParentLimits() },
		"a stored parent":    func() (*zael.Policy, error) { return stored.WithParentLimits(limit) },
		"a nil policy":       func() (*zael.Policy, error) { return (*zael.Policy)(nil).WithParentLimits(limit) },
	} {
		if p, err := f(); err == nil {
			t.Errorf("a policy with %s: got %v, want an error", name, p)
		}
	}
}
