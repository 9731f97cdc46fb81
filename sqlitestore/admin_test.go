package sqlitestore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

// TestSwitchInAnotherProcess checks that a switch which another opener of the file has set
// binds at the next take, in buckets that are cached too.
func TestSwitchInAnotherProcess(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := newPath(t)
	open := func() *sqlitestore.Store {
		s, err := sqlitestore.Open(ctx, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close(t.Context()) })
		return s
	}
	limiter := func(s *sqlitestore.Store) *zael.Limiter {
		l, err := zael.New(s, &zael.Config{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	here, there := limiter(open()), limiter(open())
	policy := zael.MustPolicy("gpt-4", zael.PerSecond("rps", 1000))
	allow := func(want error) {
		t.Helper()
		if err := here.Allow(ctx, policy.For("alice")); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	for range 3 {
		allow(nil)
	}
	for _, scope := range []zael.Scope{{Resource: "gpt-4"}, {Entity: "alice"}} {
		if err := there.SetSwitch(ctx, scope, zael.Bypass, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
		allow(nil)
		if d, err := here.Decide(ctx, policy.For("alice")); err != nil || !d.Bypassed {
			t.Errorf("after %s: got bypassed %t (%v), want it at once", scope, d.Bypassed, err)
		}
		if err := there.SetSwitch(ctx, scope, zael.Enabled, zael.AdminOptions{}); err != nil {
			t.Fatal(err)
		}
		if d, err := here.Decide(ctx, policy.For("alice")); err != nil || d.Bypassed {
			t.Errorf("after %s: got bypassed %t (%v), want it lifted at once", scope, d.Bypassed, err)
		}
	}
	if err := there.SetSwitch(ctx, zael.Scope{Entity: "alice"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	allow(zael.ErrDisabled)
}

// TestOlderFile checks that a file from before administration gets its tables, and keeps
// what it has.
func TestOlderFile(t *testing.T) {
	t.Parallel()
	path := made(t)
	run(t, path, "DROP TABLE settings; DROP TABLE once; ALTER TABLE usage DROP COLUMN overdrawn; PRAGMA user_version = 2")
	s, err := sqlitestore.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	l, err := zael.New(s, &zael.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetSwitch(t.Context(), zael.Scope{Entity: "entity-1"}, zael.Disabled, zael.AdminOptions{IdempotencyKey: "k"}); err != nil {
		t.Fatal(err)
	}
	_, buckets, err := s.Buckets(t.Context(), t0, []zael.Key{{Entity: "entity-1", Resource: "gpt-4"}})
	if err != nil || len(buckets[0].Limits) != 1 {
		t.Errorf("got %+v (%v), want the bucket from before", buckets, err)
	}
}
