package zael_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A store with buckets and no other role.
type bucketsOnly struct{ zael.BucketStore }

func TestRolesThatAStoreLacks(t *testing.T) {
	t.Parallel()
	for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
		r := setupOn(t, bucketsOnly{memstore.New(nil)}, &zael.Config{FailureMode: mode})
		for call, do := range otherCalls(r.l) {
			if err := do(r.ctx); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "zael_test.bucketsOnly") {
				t.Errorf("%s: got %v, want errors.ErrUnsupported that names the store", call, err)
			}
		}
		if _, err := r.l.ResourceCapacity(r.ctx, "r", "rpm", zael.CapacityOptions{ParentsOnly: true}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("ParentsOnly: got %v, want errors.ErrUnsupported", err)
		}
		req := ask(zael.Amounts{"rpm": 1}, zael.PerMinute("rpm", 10))
		stored, cascade := req, req
		stored.UseStoredLimits, cascade.Cascade = true, true
		for call, do := range callsOf(r.l) {
			if err := do(r.ctx, req); err != nil {
				t.Errorf("%s: got %v, want no error", call, err)
			}
			for _, other := range []zael.Request{stored, cascade} {
				if err := do(r.ctx, other); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s with stored %v, cascade %v: got %v, want errors.ErrUnsupported", call, other.UseStoredLimits, other.Cascade, err)
				}
			}
		}
		r.left(req, zael.Amounts{"rpm": 6}) // Allow, Reserve, Acquire and Do
	}
}

// Stored limits need no entities: a store without them has no cascade.
func TestStoredLimitsWithoutEntities(t *testing.T) {
	t.Parallel()
	inner := memstore.New(nil)
	r := setupOn(t, struct {
		zael.BucketStore
		zael.LimitStore
	}{inner, inner}, nil)
	r.set(zael.Scope{}, zael.PerDay("rpd", 10))
	r.allow(askStored(zael.Amounts{"rpd": 4}))
	r.left(askStored(nil), zael.Amounts{"rpd": 6})
	// The resource's buckets, but not which entities have a parent.
	r = setupOn(t, struct {
		zael.BucketStore
		zael.CapacityReader
	}{inner, inner}, nil)
	if _, err := r.l.ResourceCapacity(r.ctx, "gpt-4", "rpd", zael.CapacityOptions{}); err != nil {
		t.Errorf("ResourceCapacity: got %v, want no error", err)
	}
	if _, err := r.l.ResourceCapacity(r.ctx, "gpt-4", "rpd", zael.CapacityOptions{ParentsOnly: true}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("ParentsOnly: got %v, want errors.ErrUnsupported", err)
	}
}

// After Close everything fails but what ends a lease.
func TestClose(t *testing.T) {
	t.Parallel()
	r := setup(t)
	req := ask(zael.Amounts{"rpm": 2}, zael.PerMinute("rpm", 10))
	committed, rolledBack, kept := r.lease(req), r.lease(req), r.lease(req)
	other := r.another(nil)
	r.ok(r.l.Close(r.ctx))
	if err := r.l.Close(r.ctx); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("Close again: got %v, want ErrClosed", err)
	}
	for call, do := range callsOf(r.l) {
		if err := do(r.ctx, req); !errors.Is(err, zael.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", call, err)
		}
	}
	for call, do := range otherCalls(r.l) {
		if err := do(r.ctx); !errors.Is(err, zael.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", call, err)
		}
	}
	if err := kept.Consume(r.ctx, zael.Amounts{"rpm": 1}); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("Lease.Consume: got %v, want ErrClosed", err)
	}
	r.ok(committed.Settle(zael.Amounts{"rpm": 3}))
	r.ok(committed.Commit(r.ctx))
	r.ok(rolledBack.Rollback(r.ctx))
	r.l = other // the store stays open
	r.left(req, zael.Amounts{"rpm": 5})
}

// Close while others acquire is safe.
func TestCloseDuringCalls(t *testing.T) {
	t.Parallel()
	r := setup(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			err := r.l.Do(r.ctx, ask(zael.Amounts{"rpm": 1}, zael.PerMinute("rpm", 1e9)), func(context.Context, *zael.Lease) error { return nil })
			if err != nil && !errors.Is(err, zael.ErrClosed) {
				t.Errorf("got %v, want nil or ErrClosed", err)
			}
		}
	}()
	r.ok(r.l.Close(r.ctx))
	<-done
}

func TestStatsBeginAtZero(t *testing.T) {
	t.Parallel()
	r := setup(t)
	if got := r.l.Stats(); got != (zael.Stats{}) {
		t.Errorf("got %+v, want zeros", got)
	}
	r.allow(ask(zael.Amounts{"rpm": 1}, zael.PerMinute("rpm", 1)))
	r.refuses(ask(zael.Amounts{"rpm": 1}, zael.PerMinute("rpm", 1)))
	if got := r.l.Stats(); got != (zael.Stats{}) {
		t.Errorf("after what callers are told: got %+v, want zeros", got)
	}
}
