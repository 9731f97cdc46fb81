package sqlitestore_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

// quick opens a store that does not wait for the disk.
func quick(t *testing.T, path string) *sqlitestore.Store {
	t.Helper()
	return open(t, path, &sqlitestore.Config{Synchronous: sqlitestore.SyncNormal})
}

// each takes one token for each of n entities.
func each(t *testing.T, s zael.Store, now time.Time, prefix string, n int) {
	t.Helper()
	err := together(n, func(i int) error {
		_, err := s.Take(t.Context(), now, 0, askOf(fmt.Sprint(prefix, i), thousand, 1))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// traffic takes from one bucket until the query question returns want.
func traffic(t *testing.T, s zael.Store, now time.Time, path, question, want string) {
	t.Helper()
	got := ""
	for range 200 {
		err := together(64, func(int) error {
			_, err := s.Take(t.Context(), now, 0, askOf("hot", plenty, 1))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got = query(t, path, question); got == want {
			return
		}
	}
	t.Fatalf("%s after 12,800 calls: got %s, want %s", question, got, want)
}

// Full buckets are deleted as others are used; buckets in use are not. No usage is lost.
func TestSweepForgetsFullBucketsOnly(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := quick(t, path)
	each(t, s, t0, "idle-", 500) // full again after 3.6 s
	for i := range 50 {
		mustTake(t, s, t0, askOf(fmt.Sprint("busy-", i), plenty, 4e9)) // full again after 4 h
	}
	later := t0.Add(time.Hour + 2*time.Second)
	// Of all buckets, the 50 in use remain; each has been swept and waits to be full.
	traffic(t, s, later, path, "SELECT count(*) || ' ' || count(CASE WHEN hour IS NULL THEN full_at END) FROM buckets", "51 50")
	for i := range 50 {
		if n := taken(t, s, fmt.Sprint("busy-", i), t0.Add(time.Hour)); n != 3e9 {
			t.Errorf("bucket %d in use: got %d taken an hour later, want 3e9", i, n)
		}
	}
	day := zael.UsageQuery{Window: zael.Hourly, To: t0.Add(time.Hour)}
	if tokens, events := usage(t, s, day); tokens != 500+50*4e9 || events != 550 {
		t.Errorf("usage of the first hour: got %d tokens and %d acquires, want %d and 550", tokens, events, int64(500+50*4e9))
	}
	// Usage of a bucket that comes back is added to what was counted before.
	mustTake(t, s, later, askOf("busy-0", plenty, 5))
	traffic(t, s, t0.Add(5*time.Hour), path, "SELECT count(*) FROM buckets", "1")
	tokens, events := usage(t, s, zael.UsageQuery{Entity: "busy-0", Window: zael.Daily})
	if tokens != 4e9+5 || events != 2 {
		t.Errorf("usage of a bucket that was forgotten: got %d tokens and %d acquires, want %d and 2", tokens, events, int64(4e9+5))
	}
	if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
		t.Errorf("integrity check: got %q, want ok", got)
	}
}

// A forgotten bucket counts as full from then on, not before. A caller whose clock is
// behind gains nothing from it, in this process, another one, or after a restart.
func TestForgottenBucketGivesNothingToAnOlderClock(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := quick(t, path)
	mustTake(t, s, t0, ask(thousand, 1000)) // full again after an hour
	traffic(t, s, t0.Add(2*time.Hour), path, "SELECT count(*) FROM buckets", "1")
	other := quick(t, path)
	for name, store := range map[string]zael.Store{"the same store": s, "another": other} {
		_, err := store.Take(t.Context(), t0.Add(30*time.Minute), 0, ask(thousand, 1))
		if !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("%s, at an instant when 500 had refilled and all were taken by a clock ahead: got %v, want zael.ErrExceeded", name, err)
		}
	}
	mustTake(t, other, t0.Add(2*time.Hour), ask(thousand, 1000))
}

// A bucket is not forgotten in the hour of its use, nor within a second after it.
func TestSweepWaitsForTheHour(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := quick(t, path)
	each(t, s, t0, "idle-", 100)
	for _, later := range []time.Duration{time.Minute, time.Hour - 1, time.Hour + time.Second - 1} {
		err := together(64, func(int) error {
			for range 16 {
				if _, err := s.Take(t.Context(), t0.Add(later), 0, askOf("hot", plenty, 1)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := query(t, path, "SELECT count(*) FROM buckets"); got != "101" {
			t.Errorf("buckets %v later: got %s, want 101", later, got)
		}
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, &sqlitestore.Config{Synchronous: sqlitestore.SyncNormal, Retention: 48 * time.Hour})
	for day := range 3 { // usage of two hours on each
		each(t, s, t0.AddDate(0, 0, day), "a-", 20)
		each(t, s, t0.AddDate(0, 0, day).Add(2*time.Hour), "a-", 20)
	}
	now := t0.AddDate(0, 0, 3).Add(-time.Hour) // 48 h back: the second day's first hour
	traffic(t, s, now, path, "SELECT (SELECT count(*) FROM usage WHERE entity <> 'hot') || ' ' || (SELECT count(*) FROM buckets)", "80 1")
	if tokens, _ := usage(t, s, zael.UsageQuery{To: t0.AddDate(0, 0, 1)}); tokens != 0 {
		t.Errorf("usage of the first day: got %d tokens, want none", tokens)
	}
	if tokens, events := usage(t, s, zael.UsageQuery{To: now.Add(-time.Hour)}); tokens != 80 || events != 80 {
		t.Errorf("usage of the other days: got %d tokens and %d acquires, want 80 of both", tokens, events)
	}

	for i := range 100 {
		event := zael.AuditEvent{Time: t0.Add(time.Duration(i) * time.Hour), Principal: fmt.Sprint(i)}
		if err := s.CreateEntity(t.Context(), zael.Entity{ID: fmt.Sprint(i), CreatedAt: t0}, event); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for event, err := range s.Audit(t.Context(), zael.AuditQuery{Max: 1000}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(99 - kept); event.Principal != want {
			t.Errorf("event %d: got %s, want %s", kept, event.Principal, want)
		}
		kept++
	}
	if kept != 49 {
		t.Errorf("events of 100 hours, kept for 48: got %d, want 49", kept)
	}
}

// Reading usage while it is counted and moved sees each token once.
func TestUsageIsNeverCountedTwice(t *testing.T) {
	t.Parallel()
	s := quick(t, newPath(t))
	var asked, answered atomic.Int64
	done := make(chan error)
	go func() {
		done <- together(8, func(i int) error {
			for n := range 150 {
				now := t0.Add(time.Duration(n) * 10 * time.Minute) // 25 h
				asked.Add(1)
				if _, err := s.Take(t.Context(), now, 0, askOf(fmt.Sprint(i%3), plenty, 1)); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}()
	for {
		least := answered.Load()
		tokens, events := usage(t, s, zael.UsageQuery{Window: zael.Monthly})
		if most := asked.Load(); tokens < least || tokens > most || events != tokens {
			t.Fatalf("usage: got %d tokens and %d acquires, want %d to %d of both", tokens, events, least, most)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if tokens, _ := usage(t, s, zael.UsageQuery{Window: zael.Daily}); tokens != 1200 {
				t.Errorf("usage in the end: got %d, want 1200", tokens)
			}
			return
		default:
		}
	}
}
