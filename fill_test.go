package zael_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

func TestResetAndTopUp(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := new(handClock)
	l := limiterOn(t, memstore.New(nil), &zael.Config{Clock: clock.now, Principal: "ann"})
	policy := zael.MustPolicy("gpt-4", zael.PerDay("rpd", 10), zael.PerMinute("tpm", 600))
	lease, err := l.Reserve(ctx, policy.For("alice", 8, 600))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got zael.Amounts, err error, want zael.Amounts) {
		t.Helper()
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: got %v (%v), want %v", what, got, err, want)
		}
	}
	got, err := l.TopUp(ctx, "alice", "gpt-4", zael.Amounts{"rpd": 3}, zael.AdminOptions{})
	check("a top-up", got, err, zael.Amounts{"rpd": 5})
	clock.forward(30 * time.Second)
	got, err = l.TopUp(ctx, "alice", "gpt-4", zael.Amounts{"rpd": 1000, "tpm": 100}, zael.AdminOptions{})
	check("a top-up of more than is missing", got, err, zael.Amounts{"rpd": 10, "tpm": 400})
	got, err = l.Reset(ctx, "alice", "gpt-4", []string{"tpm"}, zael.AdminOptions{})
	check("a reset of one limit", got, err, zael.Amounts{"tpm": 600})
	if err := l.Allow(ctx, policy.For("alice", 10, 600)); err != nil {
		t.Errorf("got %v, want all of it to be there", err)
	}
	if err := lease.Rollback(ctx); err != nil { // from before
		t.Fatal(err)
	}
	got, err = l.Available(ctx, zael.Query{Entity: "alice", Policy: policy})
	check("after the rollback of a lease from before", got, err, zael.Amounts{"rpd": 7, "tpm": 0})
	got, err = l.Reset(ctx, "alice", "gpt-4", nil, zael.AdminOptions{})
	check("a reset of all", got, err, zael.Amounts{"rpd": 10, "tpm": 600})
	events, err := l.Audit(ctx, zael.AuditQuery{Entity: "alice"})
	if err != nil || len(events) != 4 || events[0].Action != zael.BucketReset || events[3].Action != zael.BucketToppedUp ||
		events[3].Details["amounts"] != "rpd=3" || events[1].Details["limits"] != "tpm" || events[0].Resource != "gpt-4" {
		t.Errorf("got %+v (%v), want four events with what was changed", events, err)
	}
}

// TestFillOfStoredLimits checks that limits which no bucket has yet are known from the
// store, and that none are an error.
func TestFillOfStoredLimits(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	for name, call := range map[string]func() (zael.Amounts, error){
		"Reset": func() (zael.Amounts, error) { return l.Reset(ctx, "alice", "gpt-4", nil, zael.AdminOptions{}) },
		"Reset of a name": func() (zael.Amounts, error) {
			return l.Reset(ctx, "alice", "gpt-4", []string{"rpm"}, zael.AdminOptions{})
		},
		"TopUp": func() (zael.Amounts, error) {
			return l.TopUp(ctx, "alice", "gpt-4", zael.Amounts{"rpm": 1}, zael.AdminOptions{})
		},
	} {
		if _, err := call(); !errors.Is(err, zael.ErrNoLimits) {
			t.Errorf("%s without limits: got %v, want ErrNoLimits", name, err)
		}
		if err := l.SetLimits(ctx, zael.Scope{Resource: "gpt-4"}, []zael.Limit{zael.PerMinute("rpm", 7)}); err != nil {
			t.Fatal(err)
		}
		if got, err := call(); err != nil || got["rpm"] != 7 {
			t.Errorf("%s with stored limits: got %v (%v), want 7", name, got, err)
		}
		if err := l.DeleteLimits(ctx, zael.Scope{Resource: "gpt-4"}); err != nil {
			t.Fatal(err)
		}
	}
	for name, call := range map[string]func() (zael.Amounts, error){
		"no amounts": func() (zael.Amounts, error) { return l.TopUp(ctx, "alice", "gpt-4", nil, zael.AdminOptions{}) },
		"0 tokens": func() (zael.Amounts, error) {
			return l.TopUp(ctx, "alice", "gpt-4", zael.Amounts{"rpm": 0}, zael.AdminOptions{})
		},
		"a name": func() (zael.Amounts, error) {
			return l.Reset(ctx, "alice", "gpt-4", []string{"1"}, zael.AdminOptions{})
		},
		"no resource": func() (zael.Amounts, error) { return l.Reset(ctx, "alice", "", nil, zael.AdminOptions{}) },
		"its defaults": func() (zael.Amounts, error) {
			return l.Reset(ctx, "alice", zael.DefaultResource, nil, zael.AdminOptions{})
		},
	} {
		_, err := call()
		if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
			t.Errorf("%s: got %v, want a ValidationError", name, err)
		}
	}
}

// Trap of zae-limiter 0.17: the same key with other amounts silently returns the first
// result.
func TestTrapKeyWithOtherAmounts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	policy := zael.MustPolicy("gpt-4", zael.PerDay("rpd", 10))
	if err := l.Allow(ctx, policy.For("alice", 10)); err != nil {
		t.Fatal(err)
	}
	key := zael.AdminOptions{IdempotencyKey: "order-17"}
	for range 3 {
		if got, err := l.TopUp(ctx, "alice", "gpt-4", zael.Amounts{"rpd": 2}, key); err != nil || got["rpd"] != 2 {
			t.Errorf("got %v (%v), want the first result, 2", got, err)
		}
	}
	if _, err := l.TopUp(ctx, "alice", "gpt-4", zael.Amounts{"rpd": 3}, key); !errors.Is(err, zael.ErrKeyUsed) {
		t.Errorf("other amounts: got %v, want ErrKeyUsed", err)
	}
	if err := l.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Disabled, key); !errors.Is(err, zael.ErrKeyUsed) {
		t.Errorf("another action: got %v, want ErrKeyUsed", err)
	}
	if got, err := l.Available(ctx, zael.Query{Entity: "alice", Policy: policy}); err != nil || got["rpd"] != 2 {
		t.Errorf("got %v (%v) available, want 2", got, err)
	}
}
