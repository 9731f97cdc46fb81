package zael_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// A notebook is an Observer that writes down what it is told.
type notebook struct {
	mu    sync.Mutex
	notes []string
}

func (n *notebook) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes = append(n.notes, fmt.Sprintf(format, args...))
}

func (n *notebook) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	notes := n.notes
	n.notes = nil
	return notes
}

func (n *notebook) Decision(o *zael.Observed) {
	var left []string
	if o.Decision != nil {
		for s := range o.Decision.All() {
			left = append(left, fmt.Sprintf("%s=%d", s.Limit.Name, s.Available))
		}
	}
	n.note("%s %s %s %v", o.Entity, o.Resource, o.Outcome, left)
	if (o.Err == nil) != (o.Outcome == zael.OutcomeAdmitted || o.Outcome == zael.OutcomeDegraded) || o.Context == nil {
		n.note("error %v of outcome %s", o.Err, o.Outcome)
	}
}

func (n *notebook) Settled(o *zael.Observed) {
	n.note("%s %s settled %v, rolled back: %v, %s, %v", o.Entity, o.Resource, o.Used, o.RolledBack, o.Outcome, o.Err)
}

func (n *notebook) StoreCall(op zael.StoreOp, took time.Duration, err error) {
	if took < 0 {
		n.note("took %v", took)
	}
	n.note("%s failed: %v", op, err != nil)
}

func (n *notebook) Breaker(open bool) { n.note("breaker open: %v", open) }

// observed returns a limiter with a notebook, on a store.
func observed(t *testing.T, store zael.Store, mode zael.FailureMode) (*zael.Limiter, *notebook) {
	t.Helper()
	n := new(notebook)
	l, err := zael.New(store, &zael.Config{Observer: n, Clock: t0, FailureMode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return l, n
}

func TestObserver(t *testing.T) {
	t.Parallel()
	l, n := observed(t, memstore.New(nil), 0)
	ctx := t.Context()
	policy := zael.MustPolicy("gpt", zael.PerMinute("rpm", 3), zael.PerMinute("tpm", 100))
	expect := func(what string, want ...string) {
		t.Helper()
		if got := n.take(); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}

	if err := l.Allow(ctx, policy.For("e", 1, 10)); err != nil {
		t.Fatal(err)
	}
	expect("Allow", "config failed: false", "e gpt admitted [rpm=2 tpm=90]")
	if d, err := l.Decide(ctx, policy.For("e", 1, 10)); err != nil || !d.Admitted {
		t.Fatalf("Decide: got %+v, %v", d, err)
	}
	expect("Decide", "e gpt admitted [rpm=1 tpm=80]")

	lease, err := l.Acquire(ctx, policy.For("e", 1, 10))
	if err != nil {
		t.Fatal(err)
	}
	expect("Acquire", "e gpt admitted [rpm=0 tpm=70]")
	if err := lease.Settle(zael.Amounts{"tpm": 25}); err != nil {
		t.Fatal(err)
	}
	if err := lease.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	expect("Commit", "e gpt settled [{rpm 1 1} {tpm 10 25}], rolled back: false, admitted, <nil>")
	if err := lease.Commit(ctx); !errors.Is(err, zael.ErrLeaseClosed) {
		t.Fatal(err)
	}
	expect("Commit again")

	if err := l.Allow(ctx, policy.For("e", 1, 10)); !errors.Is(err, zael.ErrExceeded) {
		t.Fatalf("got %v", err)
	}
	expect("refused", "e gpt refused [rpm=0 tpm=55]")
	if _, err := l.Reserve(ctx, policy.For("e", 4, 0)); !errors.Is(err, zael.ErrNever) {
		t.Fatalf("got %v", err)
	}
	expect("never", "e gpt never [rpm=0 tpm=55]")
	if _, err := l.Reserve(ctx, policy.For("", 1, 1)); err == nil {
		t.Fatal("an empty entity: got no error")
	}
	expect("invalid", " gpt failed []")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.Acquire(gone, policy.For("e", 1, 1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	expect("left", "e gpt canceled []")

	err = l.Do(ctx, policy.For("f", 1, 1), func(context.Context, *zael.Lease) error { return errors.New("no") })
	if err == nil {
		t.Fatal("Do: got no error")
	}
	expect("Do that fails", "f gpt admitted [rpm=2 tpm=99]", "f gpt settled [{rpm 1 0} {tpm 1 0}], rolled back: true, admitted, <nil>")
	if err := l.Allow(ctx, zael.Request{Entity: "g", Resource: "gpt", Limits: []zael.Limit{zael.PerMinute("rpm", 3)}}); err != nil {
		t.Fatal(err)
	}
	expect("without a policy", "g gpt admitted [rpm=2]")
}

func TestObserverOfADeadStore(t *testing.T) {
	t.Parallel()
	dead := func() *fake {
		return &fake{Store: memstore.New(nil), take: func(_ context.Context, now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, error) {
			return now, zael.ErrUnavailable
		}}
	}
	policy := zael.MustPolicy("gpt", zael.PerMinute("rpm", 3))

	l, n := observed(t, dead(), zael.FailClosed)
	for range 6 { // the breaker opens after five
		if err := l.Allow(t.Context(), policy.For("e")); !errors.Is(err, zael.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	once := []string{"take failed: true", "e gpt unavailable []"}
	want := slices.Concat([]string{"config failed: false"}, once, once, once, once, []string{"take failed: true", "breaker open: true", "e gpt unavailable []", "e gpt unavailable []"})
	if got := n.take(); !slices.Equal(got, want) {
		t.Errorf("closed: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	l, n = observed(t, dead(), zael.FailOpen)
	lease, err := l.Acquire(t.Context(), policy.For("e"))
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = []string{"config failed: false", "take failed: true", "e gpt degraded []", "e gpt settled [{rpm 1 1}], rolled back: false, degraded, <nil>"}
	if got := n.take(); !slices.Equal(got, want) {
		t.Errorf("open: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A caller that waits in line is observed once, with how long it waited.
func TestObserverOfWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &waits{}
		l, err := zael.New(memstore.New(nil), &zael.Config{Observer: w})
		if err != nil {
			t.Fatal(err)
		}
		policy := zael.MustPolicy("gpt", zael.Limit{Name: "rps", Burst: 1, RefillAmount: 100, RefillPeriod: time.Second})
		for range 2 {
			req := policy.For("e")
			req.MaxWait = time.Hour
			if _, err := l.Acquire(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		if want := []time.Duration{0, 10 * time.Millisecond}; !slices.Equal(w.waited, want) {
			t.Errorf("waited: got %v, want %v", w.waited, want)
		}
	})
}

type waits struct {
	notebook
	waited []time.Duration
}

func (w *waits) Decision(o *zael.Observed) { w.waited = append(w.waited, o.Waited) }
