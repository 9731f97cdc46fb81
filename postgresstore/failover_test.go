package postgresstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/postgresstore"
)

// bothURL returns the URL of a primary and its standby.
func bothURL(primary, standby *pgtest.Server) string {
	return strings.Replace(primary.URL("postgres"), primary.Address(), primary.Address()+","+standby.Address(), 1)
}

// The primary is killed under load and its standby takes over: a store whose URL names both goes on.
// Nothing that a caller was told is lost if the standby has to confirm each commit; otherwise
// nothing is that had arrived there.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	for name, synchronous := range map[string]bool{"asynchronous": false, "synchronous": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := pgtest.Start(t, pgtest.Options{Durable: true})
			createTables(t, primary.URL("postgres"))
			takeUnlogged(t, primary)
			standby := primary.StartStandby(t)
			if synchronous {
				primary.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
				primary.Await(t, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')")
			}
			s := openURL(t, bothURL(primary, standby)+"?virtual_time=true")
			l := startLoad(t, s, "a")
			safe := l.await(t, 100) // were told before the position at which the standby now arrives
			primary.Await(t, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn >= $1::text::pg_lsn)", lsn(t, primary))
			l.await(t, 100)

			before, killed := l.told.Load(), time.Now()
			primary.Kill()
			if synchronous {
				safe = l.told.Load()
			}
			if err := standby.Promote(t.Context()); err != nil {
				t.Fatal(err)
			}
			promoted := time.Now()
			l.await(t, 1)
			again := time.Since(promoted)
			l.await(t, 200)
			l.stop()
			told := l.told.Load()
			if err := s.Close(t.Context()); err != nil { // what nobody holds is given back
				t.Fatal(err)
			}
			kept := used(t, openURL(t, standby.URL("postgres")+"?virtual_time=true"), "a")
			if got := used(t, openUnlogged(t, standby), "a"); got != 0 {
				t.Errorf("unlogged: %d tokens are taken on what was a standby, want 0", got)
			}
			t.Logf("promoted %v after the kill, and a take was told %v later; of %d takes told before %d are lost",
				promoted.Sub(killed).Round(time.Millisecond), again.Round(time.Millisecond), before, max(0, told-kept))
			atRisk := before + loadCallers - safe // those of each caller may have been told just before the kill
			if synchronous {
				atRisk = 0
			}
			if most := told + loadCallers + int64(s.Stats().Stranded); kept < told-atRisk || kept > most {
				t.Errorf("%d tokens are taken, want %d at least and %d at most (%+v)", kept, told-atRisk, most, s.Stats())
			}
		})
	}
}

// openUnlogged opens a store whose tables are unlogged, in a schema of its own.
func openUnlogged(t *testing.T, s *pgtest.Server) *postgresstore.Store {
	t.Helper()
	return openURL(t, s.URL("postgres")+"?virtual_time=true&schema=fleeting&durability=unlogged")
}

// takeUnlogged takes 1 from a bucket in unlogged tables, which it makes, of a server that has a
// checkpoint since: a crash forgets the bucket all the same.
func takeUnlogged(t *testing.T, s *pgtest.Server) {
	t.Helper()
	u := openUnlogged(t, s)
	if err := u.CreateTables(t.Context(), postgresstore.CreateOptions{Unlogged: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Take(t.Context(), t0, 0, askPlenty("a", 1, false)); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "CHECKPOINT")
}

// lsn returns the position that a server has written.
func lsn(t *testing.T, s *pgtest.Server) (position string) {
	t.Helper()
	if err := connect(t, s.URL("postgres")).QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&position); err != nil {
		t.Fatal(err)
	}
	return position
}

// A store that came to a standby says so, reads there, and finds the primary as soon as its address
// leads there: it keeps no connection to a server that takes no writes.
func TestConnectedToStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, pgtest.Options{Durable: true}) // it is killed to be copied
	createTables(t, primary.URL("postgres"))
	standby := primary.StartStandby(t)
	w := newWire(t, standby.Address()) // as a name that leads to another server after a failover
	s := openURL(t, strings.Replace(primary.URL("postgres"), primary.Address(), w.address(), 1)+"?virtual_time=true")
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := s.Take(ctx, t0, 0, askPlenty("a", 1, false))
		if !errors.Is(err, zael.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a take from a standby: got %v, want ErrUnavailable", err)
		}
	}
	_, err := s.Take(t.Context(), t0, 0, askPlenty("a", 1, false))
	if !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "is read-only (a standby?): name the primary") {
		t.Errorf("a take from a standby: got %v, want ErrUnavailable, and that the primary is to be named", err)
	}
	if _, _, err := s.Buckets(t.Context(), t0, []zael.Key{{Entity: "a", Resource: "r"}}); err != nil {
		t.Errorf("reading from a standby: %v", err)
	}
	w.move(primary.Address())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Take(ctx, t0, 0, askPlenty("a", 1, false)); err != nil {
		t.Errorf("a take when the address leads to the primary: %v", err)
	}
	// A URL with both skips the standby, whichever comes first.
	for _, url := range []string{bothURL(standby, primary), bothURL(primary, standby)} {
		if _, err := openURL(t, url+"?virtual_time=true").Take(t.Context(), t0, 0, askPlenty("a", 1, false)); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
