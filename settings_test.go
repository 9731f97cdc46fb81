package zael_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A remote is memstore as if it were elsewhere: it answers nothing from memory, and
// nothing at all while it is down.
type remote struct {
	*memstore.Store

	down          atomic.Bool
	states, reads atomic.Int64
}

var errDown = fmt.Errorf("down: %w", zael.ErrUnavailable)

func (r *remote) TakeLocal(now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

func (r *remote) AdjustLocal(now time.Time, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

func (r *remote) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if r.down.Load() {
		return now, errDown
	}
	return r.Store.Take(ctx, now, maxWait, debits)
}

func (r *remote) State(ctx context.Context) (zael.StoreState, error) {
	r.states.Add(1)
	if r.down.Load() {
		return zael.StoreState{}, errDown
	}
	return r.Store.State(ctx)
}

func (r *remote) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	r.reads.Add(1)
	if r.down.Load() {
		return nil, errDown
	}
	return r.Store.Settings(ctx, scopes)
}

// plainRemote hides TakeValues, which a store elsewhere does not have.
type plainRemote struct {
	zael.BucketStore
	zael.AdminStore
	zael.LocalStore
}

func newRemote() (*remote, zael.Store) {
	r := &remote{Store: memstore.New(nil)}
	return r, plainRemote{r, r, r}
}

// TestSettingsAreRemembered checks that settings are read once in ConfigTTL, and none where
// nobody has stored any.
func TestSettingsAreRemembered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r, store := newRemote()
	clock := new(handClock)
	l := limiterOn(t, store, &zael.Config{Clock: clock.now})
	policy := zael.MustPolicy("gpt-4", zael.PerSecond("rps", 1000))
	ask := func(what string, states, reads int64) {
		t.Helper()
		r.states.Store(0)
		r.reads.Store(0)
		for i := range 20 {
			if err := l.Allow(ctx, policy.For(fmt.Sprint("e", i%2))); err != nil {
				t.Fatal(err)
			}
		}
		if r.states.Load() != states || r.reads.Load() != reads {
			t.Errorf("%s: got %d and %d reads, want %d of the state and %d of settings", what, r.states.Load(), r.reads.Load(), states, reads)
		}
	}
	ask("at first", 1, 0)
	ask("within ConfigTTL", 0, 0)
	clock.forward(time.Minute)
	ask("after it", 1, 0)
	if err := l.SetSwitch(ctx, zael.Scope{Entity: "other"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	ask("once there are settings", 1, 2)
	ask("within ConfigTTL", 0, 0)
	clock.forward(time.Minute)
	ask("after it", 1, 2)
}

// TestDisabledWhileUnavailable checks that what is known to be disabled is refused while
// the store cannot be asked, also if the failure mode is open, and after ConfigTTL.
func TestDisabledWhileUnavailable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r, store := newRemote()
	clock := new(handClock)
	l := limiterOn(t, store, &zael.Config{Clock: clock.now, FailureMode: zael.FailOpen})
	policy := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100))
	if err := l.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"alice", "bob"} {
		_ = l.Allow(ctx, policy.For(who))
	}
	r.down.Store(true)
	for _, later := range []time.Duration{0, 2 * time.Second, time.Hour} {
		clock.forward(later)
		for range 10 { // until the breaker is open, too
			if err := l.Allow(ctx, policy.For("alice")); !errors.Is(err, zael.ErrDisabled) {
				t.Errorf("alice %s later: got %v, want ErrDisabled", later, err)
			}
			if d, err := l.Decide(ctx, policy.For("bob")); err != nil || !d.Degraded {
				t.Errorf("bob %s later: got %+v (%v), want it admitted uncharged", later, d, err)
			}
		}
	}
}

// TestStoredFailureMode checks whose failure mode counts: the request's, the most specific
// stored one, as last known, and at last the limiter's.
func TestStoredFailureMode(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r, store := newRemote()
	clock := new(handClock)
	l := limiterOn(t, store, &zael.Config{Clock: clock.now})
	for _, s := range []struct {
		scope zael.Scope
		mode  zael.FailureMode
	}{
		{zael.Scope{}, zael.FailOpen},
		{zael.Scope{Resource: "strict"}, zael.FailClosed},
		{zael.Scope{Entity: "vip"}, zael.FailOpen},
		{zael.Scope{Entity: "vip", Resource: "strictest"}, zael.FailClosed},
	} {
		if err := l.SetFailureMode(ctx, s.scope, s.mode, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		entity, resource string
		own              zael.FailureMode
		open             bool
	}{
		{"alice", "gpt-4", 0, true},
		{"alice", "gpt-4", zael.FailClosed, false},
		{"alice", "strict", 0, false},
		{"alice", "strict", zael.FailOpen, true},
		{"vip", "strict", 0, true},
		{"vip", "strictest", 0, false},
	}
	ask := func(i int) (zael.Decision, error) {
		c := cases[i]
		return l.Decide(ctx, zael.Request{
			Entity: c.entity, Resource: c.resource, FailureMode: c.own, Limits: []zael.Limit{zael.PerMinute("rpm", 1000)},
		})
	}
	for i := range cases {
		if _, err := ask(i); err != nil {
			t.Fatal(err)
		}
	}
	r.down.Store(true)
	for _, later := range []time.Duration{0, time.Hour} {
		clock.forward(later)
		for i, c := range cases {
			d, err := ask(i)
			if c.open != (err == nil && d.Degraded) || !c.open && !errors.Is(err, zael.ErrUnavailable) {
				t.Errorf("%+v %s later: got degraded %t (%v)", c, later, d.Degraded, err)
			}
		}
	}
	if _, err := l.Decide(ctx, zael.Request{Entity: "new", Resource: "gpt-4", Limits: []zael.Limit{zael.PerMinute("rpm", 1)}}); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("got %v, want a bucket of which nothing is known to be closed, as Config says", err)
	}
}

// Trap of zae-limiter 0.17: setting default limits erases the stored failure mode.
func TestTrapLimitsKeepFailureMode(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := limiterOn(t, memstore.New(nil), nil)
	scope := zael.Scope{Resource: "gpt-4"}
	if err := errors.Join(
		l.SetFailureMode(ctx, scope, zael.FailOpen, zael.AdminOptions{}),
		l.SetSwitch(ctx, scope, zael.Bypass, zael.AdminOptions{}),
		l.SetLimits(ctx, scope, []zael.Limit{zael.PerMinute("rpm", 1)}),
		l.DeleteLimits(ctx, scope),
	); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Settings(ctx, scope); err != nil || s.FailureMode != zael.FailOpen || s.Switch != zael.Bypass {
		t.Errorf("got %+v (%v), want the settings to stay", s, err)
	}
}

// An outcomes is an observer of outcomes.
type outcomes struct{ all []zael.Outcome }

func (o *outcomes) Decision(d *zael.Observed)                  { o.all = append(o.all, d.Outcome) }
func (*outcomes) Settled(*zael.Observed)                       {}
func (*outcomes) StoreCall(zael.StoreOp, time.Duration, error) {}
func (*outcomes) Breaker(bool)                                 {}

func TestDisabledIsAnOutcome(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := new(outcomes)
	l := limiterOn(t, memstore.New(nil), &zael.Config{Observer: o})
	policy := zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100))
	if err := l.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	_, _ = l.Acquire(ctx, policy.For("alice"))
	_ = l.Allow(ctx, policy.For("bob"))
	if len(o.all) != 2 || o.all[0] != zael.OutcomeDisabled || o.all[1] != zael.OutcomeAdmitted {
		t.Errorf("got %v, want disabled and admitted", o.all)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r, store := newRemote()
	l := limiterOn(t, store, nil)
	if err := l.Ping(ctx); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	r.down.Store(true)
	for range 10 { // whatever the breaker says
		if _, ok := errors.AsType[*zael.UnavailableError](l.Ping(ctx)); !ok {
			t.Error("got no UnavailableError of a store that is down")
		}
	}
	r.down.Store(false)
	if err := l.Ping(ctx); err != nil {
		t.Errorf("got %v, want nil as soon as it is back", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	plain := limiterOn(t, struct{ zael.Store }{memstore.New(nil)}, nil)
	if err := plain.Ping(ctx); err != nil {
		t.Errorf("a store without the role: got %v, want nil", err)
	}
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Ping(cancelled); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}
