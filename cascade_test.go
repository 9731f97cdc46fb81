package zael_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// family makes key-1, whose parent is org, whose parent is root. It gives a
// request on key-1 and one on org under the same limits.
func family(r *rig, cascade bool) (child, parent zael.Request) {
	r.Helper()
	for _, e := range []zael.Entity{
		{ID: "org", ParentID: "root"}, {ID: "key-1", ParentID: "org", Cascade: cascade}, {ID: "key-2", ParentID: "org", Cascade: cascade},
	} {
		if _, err := r.l.CreateEntity(r.ctx, e); err != nil {
			r.Fatal(err)
		}
	}
	child = ask(zael.Amounts{"rpm": 4, "tpm": 30}, zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 100))
	parent = child
	parent.Entity = "org"
	return child, parent
}

func on(entity string, req zael.Request) zael.Request {
	req.Entity, req.Cascade = entity, false
	return req
}

func TestCascadePerCall(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, false)
	r.allow(child)
	r.left(parent, zael.Amounts{"rpm": 10, "tpm": 100})
	child.Cascade = true
	r.allow(child)
	r.left(on("key-1", child), zael.Amounts{"rpm": 2, "tpm": 40})
	r.left(parent, zael.Amounts{"rpm": 6, "tpm": 70})
	r.left(on("root", child), zael.Amounts{"rpm": 10, "tpm": 100}) // one level up only
}

// The entity's own flag counts with stored limits, and not without.
func TestCascadeByTheEntitysFlag(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, true)
	r.allow(child)
	r.left(parent, zael.Amounts{"rpm": 10, "tpm": 100})
	child.UseStoredLimits = true
	r.allow(child)
	r.left(parent, zael.Amounts{"rpm": 6, "tpm": 70})
	parent.UseStoredLimits = true
	r.allow(parent) // org has no such flag
	r.left(on("root", child), zael.Amounts{"rpm": 10, "tpm": 100})
}

func TestParentLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		limits []zael.Limit
		bound  zael.Amounts // what org has left of these
	}{
		{"nil: those of the entity", nil, zael.Amounts{"rpm": 6, "tpm": 70}},
		{"empty: none", []zael.Limit{}, zael.Amounts{"rpm": 10, "tpm": 100}},
		{"of its own", []zael.Limit{zael.PerMinute("tpm", 1000)}, zael.Amounts{"tpm": 970}},
		{"another name, which takes 1", []zael.Limit{zael.PerMinute("tph", 1000)}, zael.Amounts{"tph": 999}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, f := setupFake(t, nil)
			f.take = func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
				for _, d := range debits {
					if len(d.Charges) == 0 {
						t.Errorf("got a debit of %v without charges, want none", d.Key)
					}
				}
				return f.Store.Take(ctx, now, maxWait, debits)
			}
			child, parent := family(r, false)
			child.Cascade, child.ParentLimits = true, c.limits
			r.allow(child)
			r.left(on("key-1", child), zael.Amounts{"rpm": 6, "tpm": 70})
			if len(c.limits) > 0 {
				parent.Limits = c.limits
			}
			r.left(parent, c.bound)
		})
	}
}

// A name that only the parent has a limit for is taken there.
func TestLimitOfTheParentOnly(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, _ := family(r, false)
	child.Cascade, child.ParentLimits = true, []zael.Limit{zael.PerDay("tpd", 1000)}
	child.Consume["tpd"] = 600
	lease := r.lease(child)
	if got := lease.Consumed(); len(got) != 2 || got["rpm"] != 4 || got["tpm"] != 30 {
		t.Errorf("Consumed: got %v, want the entity's own, rpm=4 tpm=30", got)
	}
	r.left(child, zael.Amounts{"rpm": 6, "tpm": 70, "tpd": 400})
	e := r.refused(child)
	if v := e.Violations(); len(v) != 1 || v[0].Entity != "org" || v[0].Limit.Name != "tpd" {
		t.Errorf("violations: got %v, want tpd of org", v)
	}
	r.ok(lease.Settle(zael.Amounts{"tpd": 100, "rpm": 1}))
	r.ok(lease.Commit(r.ctx))
	r.left(child, zael.Amounts{"rpm": 9, "tpm": 70, "tpd": 900})

	// An entity without a parent is bound by none; the same call is right for both.
	child.Entity = "alone"
	r.allow(child)
	if got := r.l.Stats().UnknownNames; got != 0 {
		t.Errorf("UnknownNames: got %d, want 0 of names that the call knows", got)
	}
	child.Cascade = false
	if err := r.l.Allow(r.ctx, child); err == nil {
		t.Error("tpd without a cascade: got it admitted, want an error, as nothing would limit it")
	}
}

// The parent refuses: the child is not charged; statuses are of the entity, then
// of the parent, each in the order of its limits.
func TestParentRefuses(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, false)
	for _, n := range []int64{4, 4} {
		parent.Consume = zael.Amounts{"rpm": n, "tpm": 0}
		r.allow(parent)
	}
	child.Cascade = true
	child.ParentLimits = []zael.Limit{zael.PerMinute("tpm", 100), zael.PerMinute("rpm", 10)}
	for range 3 {
		e := r.refused(child)
		want := []zael.Status{
			{Entity: "key-1", Resource: "gpt-4", Limit: child.Limits[0], Available: 10, Requested: 4},
			{Entity: "key-1", Resource: "gpt-4", Limit: child.Limits[1], Available: 100, Requested: 30},
			{Entity: "org", Resource: "gpt-4", Limit: child.ParentLimits[0], Available: 100, Requested: 30},
			{Entity: "org", Resource: "gpt-4", Limit: child.ParentLimits[1], Available: 2, Requested: 4, Exceeded: true, RetryAfter: 12 * time.Second, FullAfter: 48 * time.Second},
		}
		if fmt.Sprint(e.Statuses()) != fmt.Sprint(want) {
			t.Fatalf("statuses: got %+v\nwant %+v", e.Statuses(), want)
		}
	}
	r.left(on("key-1", child), zael.Amounts{"rpm": 10, "tpm": 100})
	r.left(parent, zael.Amounts{"rpm": 2, "tpm": 100})
}

func TestChildRefuses(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, false)
	child.Cascade = true
	child.Consume = zael.Amounts{"rpm": 11}
	if e := r.refused(child); !errors.Is(e, zael.ErrNever) || len(e.Violations()) != 2 || e.Primary().Entity != "key-1" {
		t.Errorf("got %v, want ErrNever by both, first by key-1", e)
	}
	child.Limits = []zael.Limit{zael.PerMinute("rpm", 10)}
	child.ParentLimits = []zael.Limit{zael.PerMinute("rpm", 1000)}
	r.refuses(child)
	parent.Limits = child.ParentLimits
	r.left(parent, zael.Amounts{"rpm": 1000})
}

// The entity, or its parent, need not exist.
func TestCascadeWithoutRecords(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, _ := family(r, true)
	orphan := child
	orphan.Entity, orphan.Cascade = "unknown", true
	r.allow(orphan)
	orphan.UseStoredLimits = true
	r.allow(orphan)
	r.left(orphan, zael.Amounts{"rpm": 2, "tpm": 40})

	org := on("org", child) // root was never created, and has a bucket all the same
	org.Cascade = true
	r.allow(org)
	r.left(on("root", child), zael.Amounts{"rpm": 6, "tpm": 70})
}

// Trap: the parent was never read.
func TestTrapAvailableReadsTheParent(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, false)
	parent.Consume = zael.Amounts{"rpm": 9, "tpm": 10}
	r.allow(parent)
	child.Consume = zael.Amounts{"rpm": 1, "tpm": 50}
	r.allow(child)
	r.left(child, zael.Amounts{"rpm": 9, "tpm": 50})
	child.Cascade = true
	r.left(child, zael.Amounts{"rpm": 1, "tpm": 50}) // the lesser, limit by limit

	for _, c := range []struct {
		cascade bool
		need    zael.Amounts
		want    time.Duration
	}{
		{false, zael.Amounts{"rpm": 4}, 0},
		{true, zael.Amounts{"rpm": 4}, 18 * time.Second},
		{true, zael.Amounts{"tpm": 60}, 6 * time.Second},            // of the child
		{true, zael.Amounts{"rpm": 4, "tpm": 60}, 18 * time.Second}, // the longer of both
	} {
		child.Cascade = c.cascade
		if wait, err := r.l.TimeUntilAvailable(r.ctx, queryOf(child), c.need); err != nil || wait != c.want {
			t.Errorf("cascade %v, %v: got %v, %v, want %v", c.cascade, c.need, wait, err, c.want)
		}
	}
	child.ParentLimits = []zael.Limit{zael.PerMinute("rpm", 3)}
	if _, err := r.l.TimeUntilAvailable(r.ctx, queryOf(child), zael.Amounts{"rpm": 4}); !errors.Is(err, zael.ErrNever) {
		t.Errorf("more than the parent's burst: got %v, want ErrNever", err)
	}
}

// The entity's flag counts for reading as well.
func TestAvailableByTheEntitysFlag(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, true)
	r.allow(parent)
	r.left(child, zael.Amounts{"rpm": 10, "tpm": 100})
	child.UseStoredLimits = true
	r.left(child, zael.Amounts{"rpm": 6, "tpm": 70})
}

// With stored limits each of the two is bound by its own.
func TestStoredLimitsOfBoth(t *testing.T) {
	t.Parallel()
	r := setup(t)
	family(r, true)
	store := func(scope zael.Scope, limits ...zael.Limit) { r.ok(r.l.SetLimits(r.ctx, scope, limits)) }
	store(zael.Scope{Resource: "gpt-4"}, zael.PerMinute("rpm", 50))
	store(zael.Scope{Entity: "org"}, zael.PerMinute("rpm", 20), zael.PerMinute("tpm", 100))

	req := askStored(zael.Amounts{"rpm": 15, "tpm": 60})
	req.ParentLimits = []zael.Limit{zael.PerMinute("rpm", 1)} // the last resort, not needed
	r.allow(req)
	r.left(askStored(nil), zael.Amounts{"rpm": 5, "tpm": 40})
	e := r.refused(req)
	if v := e.Violations(); len(v) != 2 || v[0].Entity != "org" || v[1].Entity != "org" {
		t.Errorf("violations: got %v, want both limits of org", v)
	}
	if len(e.Statuses()) != 3 || e.Statuses()[0].Entity != "key-1" || e.Statuses()[0].Available != 35 {
		t.Errorf("statuses: got %+v, want rpm of key-1 with 35, then those of org", e.Statuses())
	}
	if got := r.l.Stats().UnknownNames; got != 0 {
		t.Errorf("UnknownNames: got %d, want 0, as org has a limit tpm", got)
	}

	// The parent without stored limits is bound by the call's.
	r.ok(r.l.DeleteLimits(r.ctx, zael.Scope{Entity: "org"}))
	r.ok(r.l.DeleteLimits(r.ctx, zael.Scope{Resource: "gpt-4"}))
	store(zael.Scope{Entity: "key-2"}, zael.PerMinute("rpm", 10))
	req = askStored(zael.Amounts{"rpm": 2})
	req.Entity, req.Resource = "key-2", "gpt-5"
	req.ParentLimits = []zael.Limit{zael.PerMinute("rpm", 1)}
	if e := r.refused(req); e.Primary().Entity != "org" || e.Primary().Limit.Burst != 1 {
		t.Errorf("got %v, want org to refuse by ParentLimits", e)
	}
}

// The parent is the bottleneck that all its children share.
func TestChildrenShareTheParent(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, _ := family(r, false)
	child.Cascade = true
	admitted := 0
	for i := range 10 {
		child.Entity = fmt.Sprintf("key-%d", 1+i%2)
		child.Consume = zael.Amounts{"rpm": 2}
		if r.l.Allow(r.ctx, child) == nil {
			admitted++
		}
	}
	if admitted != 5 {
		t.Errorf("got %d admitted, want 5: the 10 of org", admitted)
	}
}

// A request may name the parent, in place of the stored one.
func TestParentOfTheRequest(t *testing.T) {
	t.Parallel()
	r := setup(t)
	child, parent := family(r, true)
	child.Parent = "team"
	r.allow(child)
	r.left(on("team", parent), zael.Amounts{"rpm": 6, "tpm": 70})
	r.left(parent, zael.Amounts{"rpm": 10, "tpm": 100})
	other := child
	other.Entity = "key-2"
	r.allow(other)
	other.Entity = "key-3"
	if err := r.l.Allow(r.ctx, other); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("the third of a parent of 10 with 4 each: %v", err)
	}
	r.left(on("key-3", parent), zael.Amounts{"rpm": 10, "tpm": 100})
	stored := zael.Must(zael.StoredPolicy("gpt-4", "rpm"))
	for scope, limits := range map[zael.Scope][]zael.Limit{
		{Entity: "key-1"}: {zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 10)}, {Entity: "team"}: {zael.PerMinute("usd", 10), zael.PerMinute("tpm", 10)},
	} {
		if err := r.l.SetLimits(r.ctx, scope, limits); err != nil {
			t.Fatal(err)
		}
	}
	names, err := r.l.LimitNames(r.ctx, zael.Query{Entity: "key-1", Policy: stored, Parent: "team"})
	if err != nil || fmt.Sprint(names) != "[rpm tpm usd]" {
		t.Errorf("limits of a child and its parent: %v, error %v", names, err)
	}
	if _, err := r.l.LimitNames(r.ctx, zael.Query{Entity: "key-2", Policy: stored}); !errors.Is(err, zael.ErrNoLimits) {
		t.Errorf("limits of an entity without: error %v", err)
	}
	for _, wrong := range []string{"key-1", " ", "a\nb"} {
		child.Parent = wrong
		if err := r.l.Allow(r.ctx, child); !isValidation(err, "Request.Parent") {
			t.Errorf("parent %q: error %v", wrong, err)
		}
	}
	child.Parent = "team"
	if _, err := r.l.AcquireDetached(r.ctx, child, zael.DetachOptions{MaxAge: time.Hour}); !isValidation(err, "Request.Parent") {
		t.Errorf("a detached lease with a parent of the request: error %v", err)
	}
}
