package dynamostore_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// Stored limits that change while two processes use the bucket: each order of
// raising, lowering, adding and removing, with tokens left, without, and in debt.
// One process makes the change; the other knows nothing of it and is bound by it
// at its next acquire, or for a resource and the system within ConfigTTL.

const changesTTL = 10 * time.Second

// A changing is one order of changes, and what is to come of it.
type changing struct {
	*testing.T
	scope    zael.Scope
	ns       atomic.Int64 // time after t0
	limiters [2]*zael.Limiter
	burst    map[string]int64 // of the stored limits
	level    map[string]int64 // taken of each limit there ever was
}

func newChanging(t *testing.T, open func(namespace string) (*dynamostore.Store, error), scope zael.Scope) *changing {
	t.Helper()
	_, namespace, _ := strings.Cut(t.Name(), "/")
	w := &changing{T: t, scope: scope, burst: map[string]int64{"rpd": 10, "tpd": 10}, level: map[string]int64{}}
	for i := range w.limiters {
		s, err := open(namespace)
		opened(t, s, err)
		w.limiters[i], err = zael.New(s, &zael.Config{Timeout: time.Minute, ConfigTTL: changesTTL, Clock: func() time.Time { return t0.Add(time.Duration(w.ns.Load())) }})
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *changing) request(n int64) zael.Request {
	consume := zael.Amounts{"rpd": n}
	for name := range w.burst {
		consume[name] += 0
	}
	return zael.Request{Entity: "key-1", Resource: "gpt-4", UseStoredLimits: true, Consume: consume}
}

// set stores the limits by one of the limiters. What was taken stays taken; a
// lowered burst is not turned into debt.
func (w *changing) set(by int, burst map[string]int64) {
	w.Helper()
	var limits []zael.Limit
	for _, name := range slices.Sorted(maps.Keys(burst)) {
		limits = append(limits, zael.PerDay(name, burst[name]))
		if old, ok := w.burst[name]; ok {
			l := w.level[name]
			w.level[name] = min(l, burst[name]) + max(0, l-max(old, burst[name]))
		}
	}
	w.burst = burst
	if err := w.limiters[by].SetLimits(w.Context(), w.scope, limits); err != nil {
		w.Fatalf("SetLimits: got %v, want nil", err)
	}
}

// acquire asks for tokens of rpd, and compares the answer.
func (w *changing) acquire(by int, n int64, when string) {
	w.Helper()
	want := error(nil)
	if w.burst["rpd"]-w.level["rpd"] < n {
		want = zael.ErrExceeded
	}
	if err := w.limiters[by].Allow(w.Context(), w.request(n)); !errors.Is(err, want) {
		w.Fatalf("%s: %d tokens by %d: got %v, want %v (bursts %v, taken %v)", when, n, by, err, want, w.burst, w.level)
	}
	if want == nil {
		w.level["rpd"] += n
	}
}

// left compares what both see.
func (w *changing) left(when string) {
	w.Helper()
	want := zael.Amounts{}
	for name, burst := range w.burst {
		want[name] = burst - w.level[name]
	}
	for i, l := range w.limiters {
		got, err := l.Available(w.Context(), zael.Query{Entity: "key-1", Resource: "gpt-4", UseStoredLimits: true})
		if err != nil || !maps.Equal(got, want) {
			w.Errorf("%s: available to %d: got %v and %v, want %v", when, i, got, err, want)
		}
	}
}

// orders are all orders of n things.
func orders(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, rest := range orders(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(rest), i, n-1))
		}
	}
	return all
}

func TestOrdersOfChange(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	ordersOfChange(t, 15, func(namespace string) (*dynamostore.Store, error) {
		return dynamostore.NewTrial(c, table, &dynamostore.Config{Namespace: namespace, CallTimeout: time.Minute}, changesTrial())
	})
}

func TestOrdersOfChangeOnFake(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	oneIn := 1
	if testing.Short() {
		oneIn = 5
	}
	ordersOfChange(t, oneIn, func(namespace string) (*dynamostore.Store, error) {
		return dynamostore.NewTrial(table, "fake", &dynamostore.Config{Namespace: namespace, CallTimeout: time.Minute}, changesTrial())
	})
}

// changesTrial has virtual time, and remembers no refusal, which would hide a change for up
// to a second.
func changesTrial() trial.Options { return trial.Options{VirtualTime: true, Direct: true} }

// ordersOfChange tries one in so many of the orders.
func ordersOfChange(t *testing.T, oneIn int, open func(namespace string) (*dynamostore.Store, error)) {
	t.Helper()
	changes := []struct {
		name string
		make func(burst map[string]int64)
	}{
		{"raise", func(b map[string]int64) { b["rpd"] = 20 }},
		{"lower", func(b map[string]int64) { b["rpd"] = 4 }},
		{"add", func(b map[string]int64) { b["cpd"] = 5 }},
		{"remove", func(b map[string]int64) { delete(b, "tpd") }},
	}
	entity := []zael.Scope{{Entity: "key-1", Resource: "gpt-4"}, {Entity: "key-1"}}
	wide := []zael.Scope{{Resource: "gpt-4"}, {}}
	for state, taken := range map[string]int64{"used": 3, "exhausted": 10, "debt": 15} {
		for i, order := range orders(len(changes)) {
			if i%oneIn != 0 {
				continue
			}
			scopes := []zael.Scope{entity[i%2], wide[i/2%2]}
			if state == "debt" {
				// A refusal leaves a bucket under the limits that it has, so that of
				// two changes by which nobody acquired the first never was.
				scopes = scopes[:1]
			}
			for _, scope := range scopes {
				name := fmt.Sprintf("%s-%d-%t-%t", state, i, scope.Entity != "", scope.Resource != "")
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					w := newChanging(t, open, scope)
					w.set(0, w.burst)
					lease, err := w.limiters[0].Acquire(t.Context(), w.request(0))
					if err != nil {
						t.Fatal(err)
					}
					if err := errors.Join(lease.Settle(zael.Amounts{"rpd": taken, "tpd": 4}), lease.Commit(t.Context())); err != nil {
						t.Fatal(err)
					}
					w.level = map[string]int64{"rpd": taken, "tpd": 4}
					w.acquire(1, 0, "before") // knows the limits and the bucket
					for step, n := range order {
						when := changes[n].name
						w.ns.Add(int64(2 * time.Second)) // what was read a second ago may be read anew
						by := (i + step) % 2
						burst := maps.Clone(w.burst)
						changes[n].make(burst)
						w.set(by, burst)
						if scope.Entity == "" {
							w.ns.Add(int64(changesTTL))
						}
						if state != "debt" {
							w.acquire(1-by, 0, when)
						}
						w.acquire(1-by, max(1, w.burst["rpd"]-w.level["rpd"]+1), when) // one too many
						w.acquire(1-by, 1, when)
						w.left(when)
					}
					w.ns.Add(int64(300 * 24 * time.Hour)) // not stuck
					clear(w.level)
					w.left("when all has refilled")
				})
			}
		}
	}
}
