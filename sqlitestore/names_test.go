package sqlitestore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

// named takes from a limit of the shared bucket that is full again after 3.6 s.
func named(name string, n int64) []zael.Debit {
	d := ask(thousand, n)
	d[0].Charges[0].Name = name
	return d
}

func limitsOf(t *testing.T, s *sqlitestore.Store) []zael.LimitState {
	t.Helper()
	_, b, err := s.Buckets(t.Context(), t0, []zael.Key{sharedKey})
	if err != nil {
		t.Fatal(err)
	}
	return b[0].Limits
}

// Names of limits that are used once do not add up in a bucket that stays in use,
// and their usage stays.
func TestNamesUsedOnceAreForgotten(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := quick(t, path)
	mustTake(t, s, t0, ask(plenty, 4e9)) // full again after 4 h
	now := t0
	const n = 600
	for i := range n {
		now = now.Add(time.Second)
		mustTake(t, s, now, named(fmt.Sprint("once-", i), 1))
	}
	if got := len(limitsOf(t, s)); got > 40 {
		t.Errorf("after %d names, one a second: got %d limits kept, want 40 at most", n, got)
	}
	// In the next hour the sweep has the rest.
	traffic(t, s, t0.Add(2*time.Hour), path, "SELECT count(*) FROM buckets WHERE hour IS NULL", "1")
	if got := limitsOf(t, s); len(got) != 1 || got[0].Name != "rpm" {
		t.Errorf("when no more names come: got %d limits, want rpm", len(got))
	}
	amounts, tokens, events := map[string]int64{}, int64(0), int64(0)
	for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: sharedKey.Entity}) {
		if err != nil {
			t.Fatal(err)
		}
		events += r.Events
		for name, amount := range r.Amounts {
			amounts[name] += amount
			tokens += amount
		}
	}
	if len(amounts) != n+1 || tokens != 4e9+n || events != n+1 {
		t.Errorf("usage: got %d tokens of %d limits in %d acquires, want %d of %d in %d", tokens, len(amounts), events, int64(4e9+n), n+1, n+1)
	}
	if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
		t.Errorf("integrity check: got %q, want ok", got)
	}
}

// A limit that was forgotten was full then, and not before: a clock that is behind
// gets nothing out of it, in another process neither.
func TestForgottenLimitMintsNothing(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := quick(t, path)
	mustTake(t, s, t0, ask(plenty, 4e9))
	mustTake(t, s, t0, named("a", 1000)) // full again after an hour
	later := t0.Add(2 * time.Hour)
	for i := range 100 {
		mustTake(t, s, later.Add(time.Duration(i)*time.Second), named(fmt.Sprint("once-", i), 1))
	}
	for _, l := range limitsOf(t, s) {
		if l.Name == "a" {
			t.Fatal("the limit is not forgotten")
		}
	}
	for name, store := range map[string]zael.Store{"the same store": s, "another": quick(t, path)} {
		if _, err := store.Take(t.Context(), t0.Add(30*time.Minute), 0, named("a", 501)); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("%s, at an instant when 500 had refilled and all were taken by a clock ahead: got %v, want zael.ErrExceeded", name, err)
		}
	}
	mustTake(t, s, later.Add(100*time.Second), named("a", 1000))
}
