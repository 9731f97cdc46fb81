package zael_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

func TestLists(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	rpm := []zael.Limit{zael.PerMinute("rpm", 100)}
	for i := range 120 {
		if _, err := l.CreateEntity(ctx, zael.Entity{ID: fmt.Sprintf("key-%03d", i)}); err != nil {
			t.Fatal(err)
		}
		for _, scope := range []zael.Scope{{Entity: fmt.Sprintf("key-%03d", i)}, {Resource: fmt.Sprintf("model-%03d", i)}} {
			if err := l.SetLimits(ctx, scope, rpm); err != nil {
				t.Fatal(err)
			}
		}
	}
	entities, err := l.Entities(ctx, zael.ListQuery{})
	if err != nil || len(entities) != 100 || entities[99].ID != "key-099" || entities[0].Name != "key-000" {
		t.Errorf("the first page of entities: got %d (%v), want key-000 to key-099", len(entities), err)
	}
	entities, err = l.Entities(ctx, zael.ListQuery{Prefix: "key-1", After: "key-117"})
	if err != nil || len(entities) != 2 {
		t.Errorf("entities after key-117: got %d (%v), want 2", len(entities), err)
	}
	resources, err := l.Resources(ctx, zael.ListQuery{After: "model-116", Max: 2})
	if want := []string{"model-117", "model-118"}; err != nil || !reflect.DeepEqual(resources, want) {
		t.Errorf("resources: got %v (%v), want %v", resources, err, want)
	}
	after := zael.Scope{Entity: "key-117", Resource: zael.DefaultResource}
	scopes, err := l.Scopes(ctx, zael.ScopeQuery{After: &after})
	want := []zael.ScopeLimits{{Scope: zael.Scope{Entity: "key-118"}, Limits: rpm}, {Scope: zael.Scope{Entity: "key-119"}, Limits: rpm}}
	if err != nil || !reflect.DeepEqual(scopes, want) {
		t.Errorf("scopes: got %v (%v), want %v", scopes, err, want)
	}

	for what, err := range map[string]error{
		"ListQuery.Max":  last(l.Entities(ctx, zael.ListQuery{Max: -1})),
		"ScopeQuery.Max": last(l.Scopes(ctx, zael.ScopeQuery{Max: -1})),
		"Scope.Resource": last(l.Scopes(ctx, zael.ScopeQuery{After: &zael.Scope{Resource: zael.DefaultResource}})),
		"most":           last(l.EntityBuckets(ctx, "key-1", -1)),
		"entity":         last(l.EntityBuckets(ctx, "", 0)),
	} {
		if invalid, ok := errors.AsType[*zael.ValidationError](err); !ok || invalid.Field != what {
			t.Errorf("%s: got %v, want a *ValidationError of it", what, err)
		}
	}
	bare, err := zael.New(struct{ zael.BucketStore }{memstore.New(nil)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Entities": last(bare.Entities(ctx, zael.ListQuery{})), "Resources": last(bare.Resources(ctx, zael.ListQuery{})),
		"Scopes": last(bare.Scopes(ctx, zael.ScopeQuery{})), "EntityBuckets": last(bare.EntityBuckets(ctx, "key-1", 0)),
	} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s of a store without lists: got %v, want it unsupported", what, err)
		}
	}
}

func last[T any](_ T, err error) error { return err }

func TestEntityBuckets(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := new(handClock)
	l, err := zael.New(memstore.New(nil), &zael.Config{Clock: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	stored := []zael.Limit{zael.PerMinute("rpm", 100)}
	if err := l.SetLimits(ctx, zael.Scope{Resource: "gpt-4"}, stored); err != nil {
		t.Fatal(err)
	}
	lease, err := l.Acquire(ctx, zael.Request{
		Entity: "key-1", Resource: "other", Limits: []zael.Limit{zael.AtOnce("parallel", 3), zael.EachDay("rpd", 50)}, Consume: zael.Amounts{"parallel": 2, "rpd": 40},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Rollback(ctx)
	if err := l.Allow(ctx, zael.Request{Entity: "key-1", Resource: "gpt-4", UseStoredLimits: true, Consume: zael.Amounts{"rpm": 30}}); err != nil {
		t.Fatal(err)
	}
	got, err := l.EntityBuckets(ctx, "key-1", 0)
	if err != nil || len(got) != 2 {
		t.Fatalf("buckets: got %d (%v), want 2", len(got), err)
	}
	gpt, other := got[0], got[1]
	if gpt.Resource != "gpt-4" || len(gpt.Statuses) != 1 || gpt.Statuses[0].Available != 70 || gpt.Statuses[0].Entity != "key-1" || gpt.Statuses[0].FullAfter == 0 {
		t.Errorf("the bucket on gpt-4: got %+v, want 70 left", gpt)
	}
	if want := (zael.ScopeLimits{Scope: zael.Scope{Resource: "gpt-4"}, Limits: stored}); !reflect.DeepEqual(gpt.Stored, want) {
		t.Errorf("the stored limits: got %+v, want %+v", gpt.Stored, want)
	}
	if len(other.Statuses) != 2 || other.Statuses[0].Available != 1 || other.Statuses[1].Available != 10 || other.Statuses[1].ResetsAt.IsZero() || len(other.Stored.Limits) > 0 {
		t.Errorf("the other bucket: got %+v, want 1 slot and 10 left, and no stored limits", other)
	}
	if got, err := l.EntityBuckets(ctx, "key-1", 1); err != nil || len(got) != 1 || got[0].Resource != "gpt-4" {
		t.Errorf("one bucket: got %v (%v), want the first", got, err)
	}
	if got, err := l.EntityBuckets(ctx, "nobody", 0); err != nil || len(got) != 0 {
		t.Errorf("buckets of nobody: got %v (%v), want none", got, err)
	}
}
