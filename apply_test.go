package zael_test

import (
	"errors"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// stepwise is a store that is no Applier.
type stepwise struct {
	zael.BucketStore
	zael.EntityStore
	zael.LimitStore
}

func TestApply(t *testing.T) {
	t.Parallel()
	limit := zael.PerMinute("rpm", 10)
	changes := []zael.Change{
		{Scope: zael.Scope{Entity: "a"}, Limits: []zael.Limit{limit}},
		{Create: &zael.Entity{ID: "a", ParentID: "p"}},
		{Create: &zael.Entity{ID: "p"}},
		{Scope: zael.Scope{Entity: "a", Resource: zael.DefaultResource}, Limits: []zael.Limit{zael.PerMinute("rpm", 20)}},
	}
	mem := memstore.New(nil)
	for name, c := range map[string]struct {
		store zael.Store
		made  int // before one that exists is the third
	}{"at once": {memstore.New(nil), 0}, "one by one": {&stepwise{mem, mem, mem}, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setupOn(t, c.store, nil)
			if made, err := r.l.Apply(r.ctx, changes); made != len(changes) || err != nil {
				t.Fatalf("got %d made, %v, want %d", made, err, len(changes))
			}
			e, err := r.l.Entity(r.ctx, "a")
			if err != nil || e.Name != "a" || e.ParentID != "p" || !e.CreatedAt.Equal(r.clock.now()) {
				t.Errorf("got %+v, %v, want the entity as CreateEntity makes it", e, err)
			}
			limits, err := r.l.Limits(r.ctx, zael.Scope{Entity: "a"})
			if err != nil || len(limits) != 1 || limits[0].Burst != 20 {
				t.Errorf("got %v, %v, want the later limits", limits, err)
			}
			again := []zael.Change{
				{Scope: zael.Scope{Entity: "a"}, Delete: true},
				{Create: &zael.Entity{ID: "b"}},
				{Create: &zael.Entity{ID: "p"}},
				{Create: &zael.Entity{ID: "c"}},
			}
			made, err := r.l.Apply(r.ctx, again)
			if made != c.made || !errors.Is(err, zael.ErrEntityExists) {
				t.Errorf("got %d made, %v, want %d and ErrEntityExists", made, err, c.made)
			}
			for i, bad := range []zael.Change{
				{Create: &zael.Entity{ID: " "}},
				{Scope: zael.Scope{Entity: " "}, Delete: true},
				{Limits: []zael.Limit{{Name: "rpm"}}},
				{},
				{Scope: zael.Scope{Entity: "a"}},
				{Delete: true, Limits: []zael.Limit{limit}},
				{Create: &zael.Entity{ID: "x"}, Delete: true},
				{Create: &zael.Entity{ID: "x"}, Scope: zael.Scope{Entity: "a"}},
			} {
				made, err := r.l.Apply(r.ctx, []zael.Change{{Create: &zael.Entity{ID: "d"}}, bad})
				if _, ok := errors.AsType[*zael.ValidationError](err); made != 0 || !ok {
					t.Errorf("bad change %d: got %d made, %v, want none and a *ValidationError", i, made, err)
				}
			}
			if _, err := r.l.Entity(r.ctx, "d"); !errors.Is(err, zael.ErrEntityNotFound) {
				t.Errorf("got %v, want nothing made beside a bad change", err)
			}
		})
	}
}

// Buckets in use follow, as after SetLimits.
func TestApplyBindsBucketsInUse(t *testing.T) {
	t.Parallel()
	r := setup(t)
	apply := func(n int64) {
		t.Helper()
		_, err := r.l.Apply(r.ctx, []zael.Change{{Scope: zael.Scope{Entity: "a"}, Limits: []zael.Limit{zael.PerMinute("rpm", n)}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	other := r.another(nil)
	apply(10)
	req := zael.Request{Entity: "a", Resource: "r", UseStoredLimits: true, Consume: zael.Amounts{"rpm": 4}}
	if err := other.Allow(r.ctx, req); err != nil {
		t.Fatal(err)
	}
	apply(5)
	if err := other.Allow(r.ctx, req); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("the other process: got %v, want ErrExceeded: 1 of 5 is left", err)
	}
}
