package zael_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// The traps of zae-limiter 0.17 in administration, levels and leases, that have no test
// elsewhere.

func storedRequest(entity string, amounts zael.Amounts) zael.Request {
	return zael.Request{Entity: entity, Resource: "gpt-4", UseStoredLimits: true, Consume: amounts}
}

// A typo in a limit's name means no limit.
func TestTrapTypoInALimitName(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	if err := l.SetLimits(ctx, zael.Scope{}, []zael.Limit{zael.PerDay("rpd", 3)}); err != nil {
		t.Fatal(err)
	}
	if err := l.Allow(ctx, storedRequest("alice", zael.Amounts{"rdp": 1})); err == nil || errors.Is(err, zael.ErrExceeded) {
		t.Errorf("a name that is not stored, alone: got %v, want an error that names those stored", err)
	}
	req := storedRequest("alice", zael.Amounts{"rpd": 1, "rdp": 1})
	for i, want := range []error{nil, nil, nil, zael.ErrExceeded} {
		if err := l.Allow(ctx, req); !errors.Is(err, want) {
			t.Errorf("acquire %d: got %v, want %v: the other name binds", i+1, err, want)
		}
	}
	if got := l.Stats().UnknownNames; got != 4 {
		t.Errorf("got %d unknown names counted, want 4", got)
	}
}

// Work that is cancelled neither gives back nor settles.
func TestTrapCancelledWork(t *testing.T) {
	t.Parallel()
	l := limiterOn(t, memstore.New(nil), nil)
	policy := zael.MustPolicy("gpt-4", zael.PerDay("tpd", 100))
	for _, c := range []struct {
		settle int64 // below 0: nothing is recorded
		left   int64
	}{{-1, 100}, {30, 70}} {
		ctx, cancel := context.WithCancel(t.Context())
		err := l.Do(ctx, policy.For("alice", 60), func(ctx context.Context, lease *zael.Lease) error {
			if c.settle >= 0 {
				if err := lease.Settle(zael.Amounts{"tpd": c.settle}); err != nil {
					return err
				}
			}
			cancel()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the work's error", err)
		}
		if got := left(t, l, "alice", policy); got != c.left {
			t.Errorf("cancelled after a settle to %d: got %d left, want %d", c.settle, got, c.left)
		}
	}
}

// Deleting an entity's limits leaves its old tokens spendable: 50, deleted, default 2, and
// an ask of 9 is admitted. And changes of defaults never reach live buckets.
func TestTrapTokensOfDeletedLimits(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	clock := new(handClock)
	l := limiterOn(t, memstore.New(nil), &zael.Config{Clock: clock.now})
	own := zael.Scope{Entity: "alice", Resource: "gpt-4"}
	set := func(scope zael.Scope, n int64) {
		t.Helper()
		clock.forward(time.Second)
		if err := l.SetLimits(ctx, scope, []zael.Limit{zael.PerDay("rpd", n)}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(what string, n int64, want error) {
		t.Helper()
		if err := l.Allow(ctx, storedRequest("alice", zael.Amounts{"rpd": n})); !errors.Is(err, want) {
			t.Errorf("%s: got %v for %d, want %v", what, err, n, want)
		}
	}
	set(zael.Scope{}, 2)
	set(own, 50)
	ask("under its own limits", 1, nil)
	clock.forward(time.Second)
	if err := l.DeleteLimits(ctx, own); err != nil {
		t.Fatal(err)
	}
	ask("under the default of 2", 9, zael.ErrNever)
	set(zael.Scope{}, 10)
	ask("under a raised default", 9, nil)
	set(zael.Scope{Resource: "gpt-4"}, 3)
	ask("under a lowered one", 4, zael.ErrNever)
}

// set_limits checks neither names nor numbers, and of two limits of one name the last
// wins.
func TestTrapUncheckedLimits(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	rpm := zael.PerMinute("rpm", 1)
	for name, err := range map[string]error{
		"a blank entity":      l.SetLimits(ctx, zael.Scope{Entity: " "}, []zael.Limit{rpm}),
		"a long resource":     l.SetLimits(ctx, zael.Scope{Resource: string(make([]byte, 400))}, []zael.Limit{rpm}),
		"a name with a blank": l.SetLimits(ctx, zael.Scope{}, []zael.Limit{zael.PerMinute("x y", 1)}),
		"none":                l.SetLimits(ctx, zael.Scope{}, nil),
		"two of one name":     l.SetLimits(ctx, zael.Scope{}, []zael.Limit{rpm, zael.PerMinute("rpm", 2)}),
		"a burst below 0":     l.SetLimits(ctx, zael.Scope{}, []zael.Limit{rpm.WithBurst(-1)}),
	} {
		if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
			t.Errorf("%s: got %v, want a ValidationError", name, err)
		}
	}
}

// Retry-After is truncated plus one: 18000 s becomes 18001.
func TestTrapRetryAfterHeader(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{
		5 * time.Hour: "18000", 5*time.Hour + 1: "18001", time.Second: "1", 1: "1", 0: "1",
	} {
		e := zael.NewExceededError(zael.Status{Limit: zael.PerDay("rpd", 1), Exceeded: true, RetryAfter: wait})
		if got, ok := e.RetryAfterHeader(); got != want || !ok {
			t.Errorf("%v: got %q (%t), want %q", wait, got, ok, want)
		}
	}
}
