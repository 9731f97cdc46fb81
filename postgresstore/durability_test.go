package postgresstore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/postgresstore"
)

// A server is killed with -9 and started again: with durability=on all that was told is there, with
// off all but the last moments, and unlogged tables are empty; limits and the usage of hours that
// have ended are always there.
func TestDurability(t *testing.T) {
	t.Parallel()
	// The log is flushed by commits that wait for it, and by itself every ten seconds.
	server := pgtest.Start(t, pgtest.Options{Durable: true, Settings: []string{"wal_writer_delay=10s"}})
	stores := func() map[string]*postgresstore.Store {
		m := map[string]*postgresstore.Store{}
		for _, durability := range []string{"on", "off", "unlogged"} {
			m[durability] = openURL(t, server.URL("postgres")+"?virtual_time=true&usage=true&schema=is_"+durability+"&durability="+durability)
		}
		return m
	}
	before := stores()
	take := func(s zael.Store, at time.Time, n int) {
		t.Helper()
		for range n {
			if _, err := s.Take(t.Context(), at, 0, askPlenty("a", 1, false)); err != nil {
				t.Fatal(err)
			}
		}
	}
	scope := zael.Scope{Entity: "a", Resource: "r"}
	for durability, s := range before {
		if err := s.CreateTables(t.Context(), postgresstore.CreateOptions{Unlogged: durability == "unlogged"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SetLimits(t.Context(), scope, []zael.Limit{zael.PerMinute("rpm", 7)}, zael.AuditEvent{Time: t0, Action: zael.LimitsSet, Entity: "a", Resource: "r"}); err != nil {
			t.Fatal(err)
		}
		take(s, t0.Add(-time.Hour), 3)
		take(s, t0, 4) // the hour of those before is written to its table
	}
	take(before["on"], t0, 1) // flushes what all have written
	take(before["off"], t0, 5)
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One token has refilled in the hour.
	for durability, want := range map[string]struct{ least, most, current int64 }{"on": {7, 7, 5}, "off": {6, 11, 4}, "unlogged": {0, 0, 0}} {
		s := stores()[durability]
		got := used(t, s, "a")
		t.Logf("%s: %d tokens are taken", durability, got)
		if got < want.least || got > want.most {
			t.Errorf("%s: %d tokens are taken, want %d to %d", durability, got, want.least, want.most)
		}
		if sets, err := s.Limits(t.Context(), []zael.Scope{scope}); err != nil || len(sets[0].Limits) != 1 {
			t.Errorf("%s: limits: got %v and %v, want those that were set", durability, sets, err)
		}
		usage := usageOf(t, s, "a")
		if ended := usage[t0.Add(-time.Hour)]; ended != 3 {
			t.Errorf("%s: usage of the hour that has ended: got %d, want 3", durability, ended)
		}
		if current := usage[t0]; current < want.current || current > want.current+want.most-want.least {
			t.Errorf("%s: usage of the current hour: got %d, want %d", durability, current, want.current)
		}
	}
}

// usageOf returns the tokens that an entity has used, by hours.
func usageOf(t *testing.T, s zael.UsageStore, entity string) map[time.Time]int64 {
	t.Helper()
	used := map[time.Time]int64{}
	for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: entity, Window: zael.Hourly}) {
		if err != nil {
			t.Fatal(err)
		}
		used[r.Start] += r.Amounts["rpm"]
	}
	return used
}
