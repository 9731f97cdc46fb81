package zael_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

func (r *rig) set(scope zael.Scope, limits ...zael.Limit) {
	r.Helper()
	if err := r.l.SetLimits(r.ctx, scope, limits); err != nil {
		r.Fatalf("SetLimits %v: got %v, want no error", scope, err)
	}
}

func (r *rig) unset(scope zael.Scope) {
	r.Helper()
	if err := r.l.DeleteLimits(r.ctx, scope); err != nil {
		r.Fatalf("DeleteLimits %v: got %v, want no error", scope, err)
	}
}

// The scopes that bind key-1 on gpt-4, the first that has limits first.
func scopes() []zael.Scope {
	return []zael.Scope{{Entity: "key-1", Resource: "gpt-4"}, {Entity: "key-1"}, {Resource: "gpt-4"}, {}}
}

// For each subset of the four levels: the first that has limits wins, the call's
// come last.
func TestLevelsOfStoredLimits(t *testing.T) {
	t.Parallel()
	for subset := range 1 << len(scopes()) {
		r := setup(t)
		want := int64(50)
		for i := len(scopes()) - 1; i >= 0; i-- {
			if subset&(1<<i) != 0 {
				want = int64(10 + i)
				r.set(scopes()[i], zael.PerMinute("rpm", want))
			}
		}
		// None of these binds it.
		r.set(zael.Scope{Entity: "key-2", Resource: "gpt-4"}, zael.PerMinute("rpm", 1))
		r.set(zael.Scope{Entity: "key-1", Resource: "gpt-5"}, zael.PerMinute("rpm", 2))
		r.set(zael.Scope{Entity: "gpt-4"}, zael.PerMinute("rpm", 3))
		r.set(zael.Scope{Resource: "gpt-5"}, zael.PerMinute("rpm", 4))
		req := askStored(zael.Amounts{"rpm": 1})
		req.Limits = []zael.Limit{zael.PerMinute("rpm", 50)}
		r.allow(req)
		r.left(req, zael.Amounts{"rpm": want - 1})
		// Without UseStoredLimits the call alone decides.
		r.left(ask(nil, zael.PerMinute("rps", 7)), zael.Amounts{"rps": 7})
	}
}

func TestFirstLevelWinsWhole(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.set(zael.Scope{}, zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 100))
	r.left(askStored(nil), zael.Amounts{"rpm": 10, "tpm": 100})
	r.set(zael.Scope{Entity: "key-1"}, zael.PerMinute("tpm", 50))
	r.left(askStored(nil), zael.Amounts{"tpm": 50})
}

// Names unknown among stored limits are ignored, and counted once a request.
func TestUnknownNamesAmongStoredLimits(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.set(zael.Scope{}, zael.PerMinute("rpm", 10))
	r.allow(askStored(zael.Amounts{"rpm": 1, "tpm": 5, "tpd": 5}))
	if got := r.l.Stats().UnknownNames; got != 1 {
		t.Errorf("got %d counted, want 1", got)
	}
	for range 10 {
		r.allow(ask(zael.Amounts{"rps": 1}, zael.PerMinute("rps", 10)))
		r.allow(askStored(zael.Amounts{"rpm": 0}))
	}
	lease := r.lease(askStored(zael.Amounts{"rpm": 1}))
	if got := r.l.Stats().UnknownNames; got != 1 {
		t.Errorf("known names: got %d counted, want still 1", got)
	}
	r.ok(lease.Adjust(zael.Amounts{"tpm": 5, "rpm": 1}))
	r.ok(lease.Consume(r.ctx, zael.Amounts{"tpm": 5, "rpm": 1}))
	r.consumed(lease, zael.Amounts{"rpm": 3})
	r.ok(lease.Commit(r.ctx))
	if got := r.l.Stats().UnknownNames; got != 3 {
		t.Errorf("by a lease: got %d counted, want 3", got)
	}
	invalidField(t, r.l.Allow(r.ctx, askStored(zael.Amounts{"tpm": -1})), "Request.Consume tpm")
	for range 2 {
		if wait, err := r.l.TimeUntilAvailable(r.ctx, queryOf(askStored(nil)), zael.Amounts{"tpm": 99, "rpm": 0}); err != nil || wait != 0 {
			t.Errorf("TimeUntilAvailable: got %v, %v, want 0, as nothing limits tpm", wait, err)
		}
	}
	r.left(askStored(nil), zael.Amounts{"rpm": 6})

	// Also when the limits are read twice because they had changed.
	other := r.another(nil)
	r.clock.forward(2 * time.Second)
	r.ok(other.SetLimits(r.ctx, zael.Scope{Entity: "key-1"}, []zael.Limit{zael.PerMinute("rpm", 20)}))
	r.allow(askStored(zael.Amounts{"tpm": 5, "rpm": 0}))
	if got := r.l.Stats(); got.UnknownNames != 6 || got.StaleLimits != 1 {
		t.Errorf("after the limits were read again: got %+v, want 6 unknown names and 1 reading", got)
	}
}

func TestLimitsOfAScope(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for i, scope := range scopes() {
		if got, err := r.l.Limits(r.ctx, scope); err != nil || len(got) != 0 {
			t.Errorf("%v: got %v, %v, want none", scope, got, err)
		}
		r.set(scope, zael.PerMinute("rpm", int64(10+i)), zael.PerMinute("tpm", 1))
	}
	for i, scope := range scopes() {
		got, err := r.l.Limits(r.ctx, scope)
		if err != nil || len(got) != 2 || got[0] != zael.PerMinute("rpm", int64(10+i)) || got[1] != zael.PerMinute("tpm", 1) {
			t.Errorf("%v: got %v, %v, want its own", scope, got, err)
		}
	}
	r.set(scopes()[1], zael.PerMinute("rps", 1)) // replaces as a whole
	if got, err := r.l.Limits(r.ctx, scopes()[1]); err != nil || len(got) != 1 || got[0].Name != "rps" {
		t.Errorf("replaced: got %v, %v, want rps alone", got, err)
	}
	r.unset(scopes()[1])
	if got, err := r.l.Limits(r.ctx, scopes()[1]); err != nil || len(got) != 0 {
		t.Errorf("deleted: got %v, %v, want none", got, err)
	}
}

// The caller's slice stays the caller's.
func TestStoredLimitsAreCopies(t *testing.T) {
	t.Parallel()
	r := setup(t)
	limits := []zael.Limit{zael.PerMinute("rpm", 10)}
	r.set(zael.Scope{}, limits...)
	limits[0].Burst = 99
	got, err := r.l.Limits(r.ctx, zael.Scope{})
	r.ok(err)
	got[0].Burst = 98
	if again, err := r.l.Limits(r.ctx, zael.Scope{}); err != nil || again[0].Burst != 10 {
		t.Errorf("got a burst of %d, %v, want 10", again[0].Burst, err)
	}
}

func TestDefaultResource(t *testing.T) {
	t.Parallel()
	r := setup(t)
	byName, plain := zael.Scope{Entity: "key-1", Resource: zael.DefaultResource}, zael.Scope{Entity: "key-1"}
	r.set(byName, zael.PerMinute("rpm", 10))
	for _, scope := range []zael.Scope{byName, plain} {
		if got, err := r.l.Limits(r.ctx, scope); err != nil || len(got) != 1 {
			t.Errorf("%v: got %v, %v, want one limit", scope, got, err)
		}
	}
	r.left(askStored(nil), zael.Amounts{"rpm": 10})
	r.unset(byName)
	if got, err := r.l.Limits(r.ctx, plain); err != nil || len(got) != 0 {
		t.Errorf("after DeleteLimits: got %v, %v, want none", got, err)
	}
}

func TestDeleteLimitsTwice(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, scope := range scopes() {
		r.unset(scope)
		r.set(scope, zael.PerMinute("rpm", 1))
		r.unset(scope)
		r.unset(scope)
	}
	events, err := r.l.Audit(r.ctx, zael.AuditQuery{})
	if err != nil || len(events) != 2*len(scopes()) {
		t.Errorf("got %d events, %v, want one for each set and each delete that changed anything", len(events), err)
	}
}

// What is stored is read once in ConfigTTL, also that there is nothing.
func TestConfigTTL(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{0, 10 * time.Second} {
		for _, stored := range []bool{true, false} {
			r, f := setupFake(t, &zael.Config{ConfigTTL: ttl})
			want := zael.Amounts{"rpm": 999}
			if stored {
				r.set(zael.Scope{}, zael.PerDay("rpm", 100))
				want = zael.Amounts{"rpm": 99}
			}
			req := askStored(zael.Amounts{"rpm": 0})
			req.Limits = []zael.Limit{zael.PerDay("rpm", 1000)}
			first := req
			first.Consume = zael.Amounts{"rpm": 1}
			r.allow(first)
			age := ttl
			if ttl == 0 {
				age = time.Minute
			}
			for _, after := range []time.Duration{0, 1, age / 2, age - 1} {
				r.clock.set(after)
				for range 20 {
					r.allow(req)
				}
				r.left(req, want)
			}
			if l, e := f.limitReads.Load(), f.entityReads.Load(); l != 1 || e != 1 {
				t.Errorf("TTL %v, stored %v: got %d and %d readings of limits and entity, want 1 each", ttl, stored, l, e)
			}
			r.clock.set(age)
			r.allow(req)
			if l, e := f.limitReads.Load(), f.entityReads.Load(); l != 2 || e != 2 {
				t.Errorf("TTL %v, stored %v, after it: got %d and %d readings, want 2 each", ttl, stored, l, e)
			}
			r.clock.set(-time.Hour) // far back: what was read then is not known to hold
			r.allow(req)
			if l := f.limitReads.Load(); l != 3 {
				t.Errorf("TTL %v, an hour before: got %d readings, want 3", ttl, l)
			}
		}
	}
}

// An error is not remembered.
func TestFailedReadingIsTriedAgain(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	r.set(zael.Scope{}, zael.PerDay("rpm", 10))
	f.down()
	f.take = nil
	if err := r.l.Allow(r.ctx, askStored(nil)); !errors.Is(err, zael.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	f.ents = nil
	if err := r.l.Allow(r.ctx, askStored(nil)); !errors.Is(err, zael.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	f.limits = nil
	r.allow(askStored(nil))
}

// A reading that fails on the way is told by its own error, and takes nothing.
func TestReadingThatFailsOnTheWay(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied")
	fail := func(f *fake, when func(zael.Scope) bool) {
		f.limits = func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
			if when(scopes[0]) {
				return nil, denied
			}
			return f.Store.Limits(ctx, scopes)
		}
	}
	t.Run("the parent's limits", func(t *testing.T) {
		t.Parallel()
		r, f := setupFake(t, nil)
		family(r, true)
		r.set(zael.Scope{}, zael.PerDay("rpd", 10))
		fail(f, func(s zael.Scope) bool { return s.Entity == "org" })
		if err := r.l.Allow(r.ctx, askStored(zael.Amounts{"rpd": 1})); !errors.Is(err, denied) {
			t.Errorf("got %v, want the store's error", err)
		}
		if n := f.takes.Load(); n != 0 {
			t.Errorf("got %d takes, want none", n)
		}
	})
	t.Run("newer limits", func(t *testing.T) {
		t.Parallel()
		r, f := setupFake(t, nil)
		r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 10))
		other := r.another(nil)
		r.ok(other.Allow(r.ctx, askStored(zael.Amounts{"rpd": 1})))
		r.clock.forward(2 * time.Second)
		r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 20))
		fail(f, func(zael.Scope) bool { return true })
		if err := other.Allow(r.ctx, askStored(zael.Amounts{"rpd": 1})); !errors.Is(err, denied) {
			t.Errorf("got %v, want the store's error", err)
		}
		f.limits = nil
		r.left(askStored(nil), zael.Amounts{"rpd": 19})
	})
	t.Run("who has a parent", func(t *testing.T) {
		t.Parallel()
		r, f := setupFake(t, nil)
		r.allow(ask(zael.Amounts{"rpd": 1}, zael.PerDay("rpd", 10)))
		f.ents = func(context.Context, []string) ([]zael.Entity, error) { return nil, denied }
		if _, err := r.l.ResourceCapacity(r.ctx, "gpt-4", "rpd", zael.CapacityOptions{ParentsOnly: true}); !errors.Is(err, denied) {
			t.Errorf("got %v, want the store's error", err)
		}
	})
}

// Changes made through the Limiter itself count at once, at every level.
func TestOwnChangesCountAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := askStored(zael.Amounts{"rpm": 1})
	req.Limits = []zael.Limit{zael.PerDay("rpm", 1000)}
	r.allow(req)
	all := scopes()
	for i, scope := range slices.Backward(all) {
		r.set(scope, zael.PerDay("rpm", int64(100+i)))
		r.left(req, zael.Amounts{"rpm": int64(100+i) - 1})
	}
	for i := range all {
		r.unset(all[i])
		if i < len(all)-1 {
			r.left(req, zael.Amounts{"rpm": int64(100+i+1) - 1})
		}
	}
	r.left(req, zael.Amounts{"rpm": 999})

	// So do new and deleted entities.
	flagged := askStored(zael.Amounts{"rpm": 10})
	flagged.Limits, flagged.Entity = req.Limits, "key-9"
	r.allow(flagged)
	if _, err := r.l.CreateEntity(r.ctx, zael.Entity{ID: "key-9", ParentID: "org", Cascade: true}); err != nil {
		t.Fatal(err)
	}
	r.allow(flagged)
	r.left(on("org", flagged), zael.Amounts{"rpm": 990})
	r.ok(r.l.DeleteEntity(r.ctx, "key-9"))
	r.allow(flagged)
	r.left(on("org", flagged), zael.Amounts{"rpm": 990})
}

// A limit that a store has and that is not valid is an error, not a panic.
func TestInvalidStoredLimit(t *testing.T) {
	t.Parallel()
	r, f := setupFake(t, nil)
	_, err := f.SetLimits(r.ctx, zael.Scope{}, []zael.Limit{{Name: "rpm"}}, zael.AuditEvent{})
	r.ok(err)
	err = r.l.Allow(r.ctx, askStored(nil))
	if err == nil || !strings.Contains(err.Error(), "rpm") {
		t.Errorf("got %v, want an error that names rpm", err)
	}
}

func TestNoLimitsNamesTheRemedy(t *testing.T) {
	t.Parallel()
	r := setup(t)
	err := r.l.Allow(r.ctx, askStored(zael.Amounts{"rpm": 1}))
	if got, want := fmt.Sprint(err), "zael: no limits for key-1 on gpt-4: name them in the request, or store some with SetLimits"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
