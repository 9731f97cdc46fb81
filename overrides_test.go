package zael_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/zeroae/zael"
)

func TestOverridden(t *testing.T) {
	t.Parallel()
	r := setup(t)
	rpm, tpm, rpd := zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 1000), zael.PerDay("rpd", 100)
	system, gpt := zael.Scope{}, zael.Scope{Resource: "gpt-4"}
	entity, both := zael.Scope{Entity: "key-1"}, zael.Scope{Entity: "key-1", Resource: "gpt-4"}
	r.ok(r.l.SetLimits(r.ctx, system, []zael.Limit{rpm, rpd}))
	r.ok(r.l.SetLimits(r.ctx, gpt, []zael.Limit{rpm, tpm}))
	set := func(scope zael.Scope, limits ...zael.Limit) zael.Change {
		return zael.Change{Scope: scope, Limits: limits}
	}
	check := func(name string, changes []zael.Change, want ...string) {
		t.Helper()
		overrides, err := r.l.Overridden(r.ctx, changes)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, o := range overrides {
			got = append(got, fmt.Sprintf("%v: %v of %v", o.By, o.Limit.Name, o.Scope))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	hides := func(by, of zael.Scope, name string) string { return fmt.Sprintf("%v: %v of %v", by, name, of) }

	check("the system has no level below", []zael.Change{set(system, tpm)})
	check("a resource hides the system", []zael.Change{set(gpt, tpm)}, hides(gpt, system, "rpm"), hides(gpt, system, "rpd"))
	check("all are named", []zael.Change{set(gpt, rpm, rpd)})
	check("the next level alone", []zael.Change{set(both, zael.Unlimited("tpm"))}, hides(both, gpt, "rpm"))
	check("an entity that uses nothing", []zael.Change{set(entity, tpm)}, hides(entity, system, "rpm"), hides(entity, system, "rpd"))
	check("deleted", []zael.Change{{Scope: gpt, Delete: true}, set(both, tpm)}, hides(both, system, "rpm"), hides(both, system, "rpd"))
	check("set together", []zael.Change{set(gpt, rpd), set(both, tpm)},
		hides(gpt, system, "rpm"), hides(both, gpt, "rpd"))

	r.allow(zael.Request{Entity: "key-1", Resource: "gpt-4", UseStoredLimits: true})
	check("an entity in use", []zael.Change{set(entity, rpm)}, hides(entity, system, "rpd"), hides(entity, gpt, "tpm"))
	r.ok(r.l.SetLimits(r.ctx, both, []zael.Limit{tpm}))
	check("what is more specific decides", []zael.Change{set(entity, rpm)}, hides(entity, system, "rpd"))
	if got, err := r.l.Limits(r.ctx, gpt); err != nil || len(got) != 2 {
		t.Errorf("got limits %v, %v, want those from before", got, err)
	}
}
