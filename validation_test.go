package zael_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// badEntities cannot name an entity.
func badEntities() []string {
	return []string{
		"", strings.Repeat("a", 257), strings.Repeat("ä", 129), " ", " a", "a ", "a\u00a0", "\u3000a", "a\x00", "a\nb", "\ta", "a\x7f", "a\u0085b",
		"a\u2028b", "a\u2029b", "a\xff", "\xc3",
	}
}

// badResources cannot name a resource.
func badResources() []string { return append(badEntities(), zael.DefaultResource) }

// goodKeys can name an entity and a resource.
func goodKeys() []string {
	return []string{
		"a", strings.Repeat("a", 256), strings.Repeat("ä", 128), "::1", "fe80::1%eth0", "auth0|abc", "/v1/chat", "GET /v1/chat",
		"anthropic.claude-3-v1:0", "llama3:8b", "4o-mini", "Müller", "日本", "#", "a#b", "-a", "_a", "a\u00a0b", "\ufeffa", "\U0001f600",
	}
}

func badNames() []string {
	return []string{
		"", strings.Repeat("a", 65), strings.Repeat("a", 2048), "#", "a#b", "1a", "-a", ".a", "/a", "_a",
		"a b", "a:b", "a@b", "a\x00", "a\n", "ä", "日本", "a\xff", zael.DefaultResource,
	}
}

// callsOf are the calls that take a Request, or as much of it as a Query has.
func callsOf(l *zael.Limiter) map[string]func(context.Context, zael.Request) error {
	return map[string]func(context.Context, zael.Request) error{
		"Allow":   l.Allow,
		"Reserve": func(ctx context.Context, req zael.Request) error { _, err := l.Reserve(ctx, req); return err },
		"Acquire": func(ctx context.Context, req zael.Request) error { _, err := l.Acquire(ctx, req); return err },
		"Do": func(ctx context.Context, req zael.Request) error {
			return l.Do(ctx, req, func(context.Context, *zael.Lease) error { return nil })
		},
		"Available": func(ctx context.Context, req zael.Request) error {
			_, err := l.Available(ctx, queryOf(req))
			return err
		},
		"TimeUntilAvailable": func(ctx context.Context, req zael.Request) error {
			_, err := l.TimeUntilAvailable(ctx, queryOf(req), req.Consume)
			return err
		},
	}
}

type badRequest struct {
	name   string
	field  string
	change func(*zael.Request)
	skip   []string // calls that do not have the field
}

// fieldIn is how a call names the field.
func (b *badRequest) fieldIn(call string) string {
	query := slices.Contains(queries(), call)
	switch amount, consume := strings.CutPrefix(b.field, "Consume"); {
	case strings.HasPrefix(b.field, "Limit.") || strings.HasPrefix(b.field, "Limit "):
		return b.field
	case query && consume:
		return "amounts" + amount
	case query:
		return "Query." + b.field
	}
	return "Request." + b.field
}

func queries() []string { return []string{"Available", "TimeUntilAvailable"} }

func badRequests() []badRequest {
	var all []badRequest
	for _, s := range badEntities() {
		all = append(all, badRequest{fmt.Sprintf("entity %.9q", s), "Entity", func(r *zael.Request) { r.Entity = s }, nil})
	}
	for _, s := range badResources() {
		all = append(all, badRequest{fmt.Sprintf("resource %.9q", s), "Resource", func(r *zael.Request) { r.Resource = s }, nil})
	}
	for _, s := range badNames() {
		all = append(all,
			badRequest{fmt.Sprintf("limit %.9q", s), "Limit.Name", func(r *zael.Request) {
				r.Limits = append(slices.Clone(r.Limits), zael.PerMinute(s, 1))
			}, nil},
			badRequest{fmt.Sprintf("parent's limit %.9q", s), "Limit.Name", func(r *zael.Request) {
				r.ParentLimits = []zael.Limit{zael.PerMinute(s, 1)}
			}, nil},
		)
	}
	many := make([]zael.Limit, 101)
	for i := range many {
		many[i] = zael.PerMinute(fmt.Sprintf("l%d", i), 1)
	}
	many[100].Name = "rpm"
	twice := []zael.Limit{zael.PerMinute("rpm", 1), zael.PerMinute("tpm", 1), zael.PerMinute("rpm", 2)}
	return append(all,
		badRequest{"zero limit", "Limit.Name", func(r *zael.Request) { r.Limits = append(slices.Clone(r.Limits), zael.Limit{}) }, nil},
		badRequest{"bad burst", "Limit rpm", func(r *zael.Request) { r.Limits = []zael.Limit{zael.PerMinute("rpm", 1).WithBurst(-1)} }, nil},
		badRequest{"limits twice", "Limits", func(r *zael.Request) { r.Limits = twice }, nil},
		badRequest{"101 limits", "Limits", func(r *zael.Request) { r.Limits = many }, nil},
		badRequest{"bad burst of the parent", "Limit tpm", func(r *zael.Request) { r.ParentLimits = []zael.Limit{zael.PerMinute("tpm", 1e15+1)} }, nil},
		badRequest{"parent's limits twice", "ParentLimits", func(r *zael.Request) { r.ParentLimits = twice }, nil},
		badRequest{"parent's 101 limits", "ParentLimits", func(r *zael.Request) { r.ParentLimits = many }, nil},
		badRequest{"negative amount", "Consume rpm", func(r *zael.Request) { r.Consume = zael.Amounts{"rpm": -1} }, queries()[:1]},
		badRequest{"least amount", "Consume rpm", func(r *zael.Request) { r.Consume = zael.Amounts{"rpm": math.MinInt64} }, queries()[:1]},
		badRequest{"large amount", "Consume rpm", func(r *zael.Request) { r.Consume = zael.Amounts{"rpm": 1e15 + 1} }, queries()[:1]},
		badRequest{"largest amount", "Consume rpm", func(r *zael.Request) { r.Consume = zael.Amounts{"rpm": math.MaxInt64} }, queries()[:1]},
		badRequest{"negative MaxWait", "MaxWait", func(r *zael.Request) { r.MaxWait = -1 }, queries()},
		badRequest{"failure mode", "FailureMode", func(r *zael.Request) { r.FailureMode = 3 }, queries()},
	)
}

// A bad request is a *ValidationError that names the field: whatever the kind of
// call, before the store is asked, and so with a store that is down, too.
func TestBadRequestsAreRefusedByEveryCall(t *testing.T) {
	t.Parallel()
	ways := map[string]func(*zael.Request){
		"plain":            func(*zael.Request) {},
		"cascade":          func(r *zael.Request) { r.Cascade = true },
		"stored":           func(r *zael.Request) { r.UseStoredLimits = true },
		"stored, cascade":  func(r *zael.Request) { r.UseStoredLimits, r.Cascade = true, true },
		"with MaxWait":     func(r *zael.Request) { r.MaxWait = time.Second },
		"with FailOpen":    func(r *zael.Request) { r.FailureMode = zael.FailOpen },
		"of a known limit": func(*zael.Request) {},
	}
	r, f := setupFake(t, &zael.Config{FailureMode: zael.FailOpen})
	good := ask(zael.Amounts{"rpm": 1}, zael.PerMinute("rpm", 1e9))
	for _, bad := range badRequests() {
		for way, prepare := range ways {
			for call, do := range callsOf(r.l) {
				if slices.Contains(bad.skip, call) {
					continue
				}
				if way == "of a known limit" { // the call's memory has the limits of the last one
					r.allow(good)
				}
				asked := f.asked()
				req := good
				prepare(&req)
				bad.change(&req)
				err := do(r.ctx, req)
				want := bad.fieldIn(call)
				var v *zael.ValidationError
				if !errors.As(err, &v) || v.Field != want {
					t.Errorf("%s: %s (%s): got %v, want a *ValidationError about %s", call, bad.name, way, err, want)
				}
				if n := f.asked() - asked; n != 0 {
					t.Errorf("%s: %s (%s): the store was asked %d times, want 0", call, bad.name, way, n)
				}
			}
		}
	}
}

func TestBadRequestsAreRefusedDuringAnOutage(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, &zael.Config{FailureMode: zael.FailOpen})
	f.down()
	for _, req := range []zael.Request{
		{Entity: "key-1", Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"rpm": -1}},
		{Entity: "key-1", Resource: "gpt-4", Cascade: true, Limits: []zael.Limit{zael.PerMinute("a#b", 1)}},
		{Entity: "key-1", Resource: "gpt-4", Cascade: true, Limits: []zael.Limit{zael.PerMinute("rpm", 1)}, Consume: zael.Amounts{"tpm": 1}},
	} {
		lease, err := r.l.Reserve(r.ctx, req)
		var v *zael.ValidationError
		if lease != nil || !errors.As(err, &v) {
			t.Errorf("%v: got a lease %v, %v, want a *ValidationError", req, lease != nil, err)
		}
	}
	if err := r.l.Allow(r.ctx, zael.Request{Entity: "key-1", Resource: "gpt-4", Cascade: true}); !errors.Is(err, zael.ErrNoLimits) {
		t.Errorf("no limits: got %v, want ErrNoLimits", err)
	}
	if err := r.l.Allow(r.ctx, askStored(zael.Amounts{"rpm": 1})); err != nil {
		t.Errorf("a good request: got %v, want it admitted uncharged", err)
	}
}

// A name in Consume that no limit of the call has would never be limited.
func TestUnknownNamesAmongExplicitLimits(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 1, "tmp": 1}, zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 10))
	for call, do := range callsOf(r.l) {
		if call == "Available" {
			continue
		}
		for _, amount := range []int64{0, 1} {
			req.Consume["tmp"] = amount
			err := do(r.ctx, req)
			var v *zael.ValidationError
			if !errors.As(err, &v) || v.Value != "tmp" {
				t.Errorf("%s: got %v, want a *ValidationError about tmp", call, err)
			}
		}
	}
	r.left(req, zael.Amounts{"rpm": 10, "tpm": 10})
}

// Names that people have are names here, of entities and of resources, each for
// itself.
func TestNamesThatPeopleHave(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limit := zael.PerDay("n", 1000)
	take := func(entity, resource string, n int64) zael.Request {
		return zael.Request{Entity: entity, Resource: resource, Limits: []zael.Limit{limit}, Consume: zael.Amounts{"n": n}}
	}
	for i, name := range goodKeys() {
		r.allow(take(name, "r", int64(i)))
		r.allow(take("e", name, int64(100+i)))
		r.ok(r.l.SetLimits(r.ctx, zael.Scope{Entity: name}, []zael.Limit{zael.PerDay("m", int64(i+1))}))
		r.ok(r.l.SetLimits(r.ctx, zael.Scope{Resource: name}, []zael.Limit{zael.PerDay("m", int64(i+100))}))
	}
	for i, name := range goodKeys() {
		r.left(take(name, "r", 0), zael.Amounts{"n": int64(1000 - i)})
		r.left(take("e", name, 0), zael.Amounts{"n": int64(900 - i)})
		for scope, want := range map[zael.Scope]int64{{Entity: name}: int64(i + 1), {Resource: name}: int64(i + 100)} {
			if limits, err := r.l.Limits(r.ctx, scope); err != nil || len(limits) != 1 || limits[0].Burst != want {
				t.Errorf("limits of %v: got %v, %v, want a burst of %d", scope, limits, err, want)
			}
		}
	}
}

// The ends of the ranges are inside.
func TestGoodRequestsAtTheEdges(t *testing.T) {
	t.Parallel()
	r := setup(t)
	hundred := make([]zael.Limit, 100)
	for i := range hundred {
		hundred[i] = zael.PerMinute(fmt.Sprintf("l%d", i), 1)
	}
	large := zael.PerMinute("rpm", 1e11).WithBurst(1e15)
	for _, req := range []zael.Request{
		{Entity: strings.Repeat("a", 256), Resource: strings.Repeat("r", 256), Limits: []zael.Limit{large}},
		{Entity: "0:._-@", Resource: "a0._-/", Limits: []zael.Limit{zael.PerMinute(strings.Repeat("l", 64), 1)}},
		{Entity: "Z", Resource: "Z", Limits: hundred, Consume: zael.Amounts{"l0": 1, "l99": 1}},
		{Entity: "a", Resource: "b", Limits: []zael.Limit{large}, Consume: zael.Amounts{"rpm": 1e15}},
	} {
		for call, do := range callsOf(r.l) {
			r.clock.forward(200 * time.Hour)
			if err := do(r.ctx, req); err != nil {
				t.Errorf("%s on %.9q: got %v, want no error", call, req.Entity, err)
			}
		}
	}
}

func TestBadArgumentsOfTheOtherCalls(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	l, ctx := r.l, r.ctx
	type bad struct {
		field string
		err   func() error
	}
	one := []zael.Limit{zael.PerMinute("rpm", 1)}
	scopes := func(s zael.Scope, field string) []bad {
		return []bad{
			{field, func() error { return l.SetLimits(ctx, s, one) }},
			{field, func() error { return l.DeleteLimits(ctx, s) }},
			{field, func() error { _, err := l.Limits(ctx, s); return err }},
		}
	}
	set := func(field string, limits ...zael.Limit) bad {
		return bad{field, func() error { return l.SetLimits(ctx, zael.Scope{Entity: "key-1"}, limits) }}
	}
	create := func(field string, e zael.Entity) bad {
		return bad{field, func() error { _, err := l.CreateEntity(ctx, e); return err }}
	}
	usage := func(field string, q zael.UsageQuery) bad {
		return bad{field, func() error { _, err := l.Usage(ctx, q); return err }}
	}
	audit := func(field string, q zael.AuditQuery) bad {
		return bad{field, func() error { _, err := l.Audit(ctx, q); return err }}
	}
	var all []bad
	for _, s := range badEntities() {
		all = append(
			all,
			create("Entity.ID", zael.Entity{ID: s}),
			bad{"Entity.ID", func() error { _, err := l.Entity(ctx, s); return err }},
			bad{"Entity.ID", func() error { _, err := l.Children(ctx, s); return err }},
			bad{"Entity.ID", func() error { return l.DeleteEntity(ctx, s) }},
		)
		if s != "" {
			all = append(
				all,
				create("Entity.ParentID", zael.Entity{ID: "key-1", ParentID: s}),
				usage("UsageQuery.Entity", zael.UsageQuery{Entity: s}),
				audit("AuditQuery.Entity", zael.AuditQuery{Entity: s}),
			)
			all = append(all, scopes(zael.Scope{Entity: s}, "Scope.Entity")...)
			all = append(all, scopes(zael.Scope{Entity: s, Resource: "gpt-4"}, "Scope.Entity")...)
		}
	}
	for _, s := range badNames() {
		all = append(
			all,
			bad{"limit", func() error { _, err := l.ResourceCapacity(ctx, "gpt-4", s, zael.CapacityOptions{}); return err }},
			set("Limit.Name", one[0], zael.PerMinute(s, 1)),
		)
	}
	for _, s := range badResources() {
		all = append(all, bad{"resource", func() error { _, err := l.ResourceCapacity(ctx, s, "rpm", zael.CapacityOptions{}); return err }})
		if s != "" {
			all = append(all, scopes(zael.Scope{Resource: s}, "Scope.Resource")...)
			all = append(all, usage("UsageQuery.Resource", zael.UsageQuery{Resource: s}))
			if s != zael.DefaultResource {
				all = append(all, scopes(zael.Scope{Entity: "key-1", Resource: s}, "Scope.Resource")...)
			}
		}
	}
	meta := func(k, v string) zael.Entity {
		return zael.Entity{ID: "key-1", Metadata: map[string]string{"ok": "ok", k: v}}
	}
	now := t0()
	all = append(
		all,
		set("limits"),
		set("limits", slices.Repeat(one, 2)...),
		set("limits", slices.Repeat(one, 101)...),
		set("Limit rpm", zael.PerSecond("rpm", 9e9+1)),
		create("Entity.ParentID", zael.Entity{ID: "key-1", ParentID: "key-1"}),
		create("Entity.Name", zael.Entity{ID: "key-1", Name: strings.Repeat("n", 257)}),
		create("Entity.Name", zael.Entity{ID: "key-1", Name: "\xff"}),
		create("Entity.Metadata", meta("", "v")),
		create("Entity.Metadata", meta("\xff", "v")),
		create("Entity.Metadata", meta("k", "\xff")),
		create("Entity.Metadata", meta("k", strings.Repeat("v", 16<<10))),
		usage("UsageQuery", zael.UsageQuery{}),
		usage("UsageQuery.Window", zael.UsageQuery{Entity: "key-1", Window: "yearly"}),
		usage("UsageQuery.To", zael.UsageQuery{Entity: "key-1", From: now, To: now.Add(-1)}),
		audit("AuditQuery.Max", zael.AuditQuery{Max: -1}),
		audit("AuditQuery.To", zael.AuditQuery{From: now, To: now.Add(-1)}),
	)
	for _, b := range all {
		invalidField(t, b.err(), b.field)
	}
	if events, err := l.Audit(ctx, zael.AuditQuery{}); err != nil || len(events) != 0 || f.asked() != 0 {
		t.Errorf("got %d changes, %v and %d calls of the store, want none", len(events), err, f.asked())
	}
}

func TestBadAmountsOfALease(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 3, "tpm": 4}, zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 10))
	lease := r.lease(req)
	calls := map[string]func(zael.Amounts) error{
		"Consume": func(a zael.Amounts) error { return lease.Consume(r.ctx, a) },
		"Adjust":  lease.Adjust, "Release": lease.Release, "Settle": lease.Settle,
	}
	for name, call := range calls {
		for _, amount := range []int64{-1, math.MinInt64, 1e15 + 1, math.MaxInt64} {
			if name == "Adjust" && amount == -1 {
				continue // gives back
			}
			invalidField(t, call(zael.Amounts{"tpm": 1, "rpm": amount}), name+" rpm")
		}
		invalidField(t, call(zael.Amounts{"rpm": 1, "rps": 1}), name)
	}
	invalidField(t, lease.Adjust(zael.Amounts{"tpm": 1, "rpm": -1e15 - 1}), "Adjust rpm")
	// The message has the number that was passed, and the range of the call.
	for _, c := range []struct {
		err  error
		want string
	}{
		{lease.Adjust(zael.Amounts{"rpm": math.MinInt64}), "zael: Adjust rpm -9223372036854775808 is not in -1000000000000000 to 1000000000000000 tokens"},
		{lease.Adjust(zael.Amounts{"rpm": math.MaxInt64}), "zael: Adjust rpm 9223372036854775807 is not in -1000000000000000 to 1000000000000000 tokens"},
		{lease.Settle(zael.Amounts{"rpm": math.MinInt64}), "zael: Settle rpm -9223372036854775808 is not in 0 to 1000000000000000 tokens"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
	}
	// 3 were used: 10^15 more are more than can be counted.
	invalidField(t, lease.Adjust(zael.Amounts{"tpm": 1, "rpm": 1e15 - 2}), "Adjust rpm")
	invalidField(t, lease.Consume(r.ctx, zael.Amounts{"tpm": 1, "rpm": 1e15 - 2}), "Consume rpm")
	if got := lease.Consumed(); !maps.Equal(got, req.Consume) {
		t.Errorf("Consumed after bad calls: got %v, want %v", got, req.Consume)
	}
	r.left(req, zael.Amounts{"rpm": 7, "tpm": 6})
	r.ok(lease.Adjust(zael.Amounts{"rpm": 1e15 - 3}))
	if got := lease.Consumed()["rpm"]; got != 1e15 {
		t.Errorf("the most that can be counted: got %d, want 10^15", got)
	}
}

func TestBadConfigs(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	for _, c := range []struct {
		field  string
		config zael.Config
	}{
		{"Config.FailureMode", zael.Config{FailureMode: 3}},
		{"Config.Timeout", zael.Config{Timeout: -1}},
		{"Config.ConfigTTL", zael.Config{ConfigTTL: -1}},
	} {
		l, err := zael.New(store, &c.config)
		invalidField(t, err, c.field)
		if l != nil {
			t.Errorf("%s: got a Limiter, want none", c.field)
		}
	}
	_, err := zael.New(nil, nil)
	invalidField(t, err, "store")
	if err == nil || !strings.Contains(err.Error(), "memstore.New(nil)") {
		t.Errorf("nil store: got %v, want a message with a remedy", err)
	}
	if _, err := zael.New(store, &zael.Config{}); err != nil {
		t.Errorf("zero Config: got %v, want a Limiter", err)
	}
}

// A clock beyond the range of the arithmetic is an error, not a wrong answer.
func TestClockOutOfRange(t *testing.T) {
	t.Parallel()
	for _, now := range []time.Time{{}, t0().AddDate(30, 0, 0), t0().AddDate(-31, 0, 0), time.Unix(math.MaxInt64>>1, 0)} {
		l, err := zael.New(memstore.New(nil), &zael.Config{Clock: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		for call, do := range callsOf(l) {
			err := do(t.Context(), ask(zael.Amounts{"rpm": 1}, zael.PerMinute("rpm", 1)))
			if invalidField(t, err, "Config.Clock"); !strings.HasSuffix(fmt.Sprint(err), " is more than 29 years from 2025-01-01: set the clock right") {
				t.Errorf("%s at %v: got %v, want what is wrong and what helps", call, now, err)
			}
		}
		_, err = l.ResourceCapacity(t.Context(), "gpt-4", "rpm", zael.CapacityOptions{})
		invalidField(t, err, "Config.Clock")
		scope := zael.Scope{Entity: "key-1"}
		invalidField(t, l.SetLimits(t.Context(), scope, []zael.Limit{zael.PerMinute("rpm", 1)}), "Config.Clock")
		invalidField(t, l.DeleteLimits(t.Context(), scope), "Config.Clock")
		_, err = l.CreateEntity(t.Context(), zael.Entity{ID: "key-1"})
		invalidField(t, err, "Config.Clock")
		invalidField(t, l.DeleteEntity(t.Context(), "key-1"), "Config.Clock")
	}
}
