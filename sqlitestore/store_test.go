package sqlitestore_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/sqlitestore"
	"github.com/zeroae/zael/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) zael.Store {
		t.Helper()
		if testing.Short() {
			return quick(t, newEmpty(t))
		}
		return open(t, newEmpty(t), nil)
	}, storetest.Kinds, storetest.InstantStore, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore, storetest.OnceStore, storetest.SlotStore, storetest.Applier, storetest.CapacityReader, storetest.ListStore, storetest.UsageStore, storetest.AuditStore)
}

var (
	// t0 is the instant at which the timelines begin.
	t0 = time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)

	thousand  = bucket.Definition{Burst: 1000, Amount: 1000, Period: time.Hour, Capacity: 1000}
	plenty    = bucket.Definition{Burst: 1e12, Amount: 1e9, Period: time.Hour, Capacity: 1e9}
	sharedKey = zael.Key{Entity: "alice", Resource: "gpt-4"}
)

// open opens a store, which the end of the test closes.
func open(tb testing.TB, path string, config *sqlitestore.Config) *sqlitestore.Store {
	tb.Helper()
	s, err := sqlitestore.Open(tb.Context(), path, config)
	if err != nil {
		tb.Fatalf("Open(%q): %v", path, err)
	}
	tb.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return s
}

func newPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "zael.db")
}

// emptyFile is a file of a store in which there is nothing.
var emptyFile = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "zael.db")
	s, err := sqlitestore.Open(context.Background(), path, nil)
	if err != nil {
		return nil, err
	}
	if err := s.Close(context.Background()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// newEmpty is newPath of a file that is a store already: to make its tables takes most of the time
// of a short check.
func newEmpty(t *testing.T) string {
	t.Helper()
	path := newPath(t)
	data, err := emptyFile()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ask takes n of the limit rpm of the shared bucket.
func ask(d bucket.Definition, n int64) []zael.Debit { return askOf(sharedKey.Entity, d, n) }

func askOf(entity string, d bucket.Definition, n int64) []zael.Debit {
	key := zael.Key{Entity: entity, Resource: sharedKey.Resource}
	return []zael.Debit{{Key: key, Charges: []zael.Charge{{Name: "rpm", Definition: d, Amount: n}}}}
}

func mustTake(t *testing.T, s zael.Store, now time.Time, debits []zael.Debit) {
	t.Helper()
	if _, err := s.Take(t.Context(), now, 0, debits); err != nil {
		t.Fatalf("Take of %v at %v: got %v, want nil", debits[0].Key, now.Sub(t0), err)
	}
}

// taken returns how many tokens of an entity's bucket are taken.
func taken(t *testing.T, s zael.Store, entity string, now time.Time) int64 {
	t.Helper()
	_, got, err := s.Buckets(t.Context(), now, []zael.Key{{Entity: entity, Resource: sharedKey.Resource}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got[0].Limits) == 0 {
		return 0
	}
	at, err := bucket.At(now)
	if err != nil {
		t.Fatal(err)
	}
	state := got[0].Limits[0].State
	return state.Definition.Burst - state.Available(at)
}

// usage returns the total usage that q selects, by default of the shared resource.
func usage(t *testing.T, s zael.UsageStore, q zael.UsageQuery) (tokens, events int64) {
	t.Helper()
	q.Resource = cmp.Or(q.Resource, sharedKey.Resource)
	for r, err := range s.Usage(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		tokens, events = tokens+r.Amounts["rpm"], events+r.Events
	}
	return tokens, events
}

// database opens the file with the engine, without a store.
func database(tb testing.TB, path string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db
}

// query returns the single value of a query.
func query(tb testing.TB, path, text string) string {
	tb.Helper()
	var value string
	db := database(tb, path)
	defer db.Close()
	if err := db.QueryRowContext(tb.Context(), text).Scan(&value); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return value
}

// run runs statements with the engine.
func run(tb testing.TB, path, statements string) {
	tb.Helper()
	db := database(tb, path)
	defer db.Close()
	if _, err := db.ExecContext(tb.Context(), statements); err != nil {
		tb.Fatalf("%s: %v", statements, err)
	}
}

// together calls f from n goroutines and returns its first error.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Two stores of one process see each other's charges as two processes do.
func TestTwoStoresOnOneFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	stores := []*sqlitestore.Store{open(t, path, nil), open(t, path, &sqlitestore.Config{Synchronous: sqlitestore.SyncNormal})}
	var admitted atomic.Int64
	err := together(64, func(i int) error {
		for range 25 {
			_, err := stores[i%2].Take(t.Context(), t0, 0, ask(thousand, 1))
			switch {
			case err == nil:
				admitted.Add(1)
			case !errors.Is(err, zael.ErrExceeded):
				return err
			}
		}
		return nil
	})
	if err != nil || admitted.Load() != 1000 {
		t.Errorf("1600 takes through two stores: got %d and %v, want 1000", admitted.Load(), err)
	}
	for i, s := range stores {
		if n := taken(t, s, "alice", t0); n != 1000 {
			t.Errorf("store %d: got %d taken, want 1000", i, n)
		}
	}
}

// A store that is closed and opened again behaves like one that stayed open.
func TestReopen(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	whole := open(t, newPath(t), nil)
	var leases []zael.Debit // of the store that is reopened, and of the other
	for step := range 12 {
		s, err := sqlitestore.Open(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		now := t0.Add(time.Duration(step) * 7 * time.Minute)
		for i := range 10 {
			var answers []string
			for which, store := range []zael.Store{s, whole} {
				debits := askOf(fmt.Sprint("entity-", i%3), thousand, int64(50+10*i))
				if step%3 == 2 { // give half back of what was taken before
					debits = []zael.Debit{leases[2*i+which]}
					ch := debits[0].Charges[0]
					debits[0].Charges = []zael.Charge{{Name: ch.Name, Definition: ch.Definition, Amount: -ch.Amount / 2, Receipt: ch.Receipt}}
					_, err = store.Adjust(t.Context(), now, debits)
				} else {
					_, err = store.Take(t.Context(), now, 0, debits)
				}
				if step%3 == 1 {
					leases = append(leases, debits[0])
				}
				state := debits[0].Charges[0].State
				answers = append(answers, fmt.Sprint(err, state.Mark, state.Definition))
			}
			if answers[0] != answers[1] {
				t.Fatalf("step %d, call %d: got %s, want %s as without a restart", step, i, answers[0], answers[1])
			}
		}
		if step%3 == 2 {
			leases = leases[:0]
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := fmt.Sprint(usage(t, open(t, path, nil), zael.UsageQuery{}))
	if want := fmt.Sprint(usage(t, whole, zael.UsageQuery{})); got != want {
		t.Errorf("usage: got %s, want %s as without a restart", got, want)
	}
}

// A change is not made if its audit event cannot be recorded.
func TestChangesAndEventsAreOne(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	ctx := t.Context()
	event := zael.AuditEvent{Time: t0, Principal: "test"}
	limits := []zael.Limit{zael.PerMinute("rpm", 100)}
	for _, err := range []error{
		s.CreateEntity(ctx, zael.Entity{ID: "alice", CreatedAt: t0}, event),
		second(s.SetLimits(ctx, zael.Scope{Entity: "alice"}, limits, event)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	mustTake(t, s, t0, ask(thousand, 3))
	run(t, path, "ALTER TABLE audit RENAME TO away")
	for name, err := range map[string]error{
		"CreateEntity": s.CreateEntity(ctx, zael.Entity{ID: "bob", CreatedAt: t0}, event),
		"DeleteEntity": s.DeleteEntity(ctx, "alice", event),
		"SetLimits":    second(s.SetLimits(ctx, zael.Scope{Resource: "gpt-4"}, limits, event)),
		"DeleteLimits": second(s.DeleteLimits(ctx, zael.Scope{Entity: "alice"}, event)),
	} {
		if err == nil || errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("%s without a table for its event: got %v, want an error that is not ErrUnavailable", name, err)
		}
	}
	run(t, path, "ALTER TABLE away RENAME TO audit")
	entities, err := s.Entities(ctx, []string{"alice", "bob"})
	if err != nil || entities[0].ID != "alice" || entities[1].ID != "" {
		t.Errorf("entities: got %+v and %v, want alice and none", entities, err)
	}
	sets, err := s.Limits(ctx, []zael.Scope{{Entity: "alice"}, {Resource: "gpt-4"}})
	if err != nil || len(sets[0].Limits) != 1 || sets[1].Rev != 0 {
		t.Errorf("limits: got %+v and %v, want alice's alone", sets, err)
	}
	if n := taken(t, s, "alice", t0); n != 3 {
		t.Errorf("alice's bucket: got %d taken, want 3", n)
	}
	if got := query(t, path, "SELECT count(*) FROM audit"); got != "2" {
		t.Errorf("events: got %s, want 2", got)
	}
}

func second[T any](_ T, err error) error { return err }
