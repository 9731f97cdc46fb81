package stores_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/postgresstore"
	"github.com/zeroae/zael/stores"
)

// TestLedgerModel makes random requests of several kinds of limits, with parents, parts and leases
// that stay or leave, by two Limiters on one store. Next to nothing refills meanwhile, so each bucket
// must show what was taken less what was given back, and a request must fit if the sums say so.
func TestLedgerModel(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]struct {
		seeds     int
		remembers bool // refusals, so that room which another process makes is seen later
		open      func(*testing.T) [2]zael.Store
	}{
		"memory": {50, false, func(*testing.T) [2]zael.Store {
			s := memstore.New(nil)
			return [2]zael.Store{s, s}
		}},
		"SQLite": {5, false, func(t *testing.T) [2]zael.Store {
			t.Helper()
			return twice(t, "sqlite:"+filepath.Join(t.TempDir(), "zael.db"))
		}},
		"DynamoDB": {20, true, func(t *testing.T) [2]zael.Store {
			t.Helper()
			n := &dynamofake.Network{Table: dynamofake.New()}
			return [2]zael.Store{onFake(t, n), onFake(t, n)}
		}},
		"Valkey": {10, true, func(t *testing.T) [2]zael.Store {
			t.Helper()
			return twice(t, "redis://"+redistest.Start(t, redistest.Options{Kind: redistest.Valkey}).Address())
		}},
		"PostgreSQL": {5, true, func(t *testing.T) [2]zael.Store {
			t.Helper()
			return twice(t, pgtest.Start(t, pgtest.Options{}).URL("postgres"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := twoLimiters(t, engine.open(t))
			for seed := range schedules.Seeds(t, engine.seeds) {
				m := newLedgerModel(t, seed, l)
				m.remembers = engine.remembers
				m.mustPlay(60)
			}
		})
	}
}

// twice opens a store twice, as two processes do.
func twice(t *testing.T, address string) (both [2]zael.Store) {
	t.Helper()
	for i := range both {
		s, err := stores.Open(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close(context.Background()) })
		if p, ok := s.(*postgresstore.Store); ok && i == 0 {
			if err := p.CreateTables(t.Context(), postgresstore.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		both[i] = s
	}
	return both
}

// onFake opens a store on a table in memory, behind a network.
func onFake(t *testing.T, n *dynamofake.Network) zael.Store {
	t.Helper()
	s, err := dynamostore.New(n, "fake", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// twoLimiters returns a Limiter on each of two stores.
func twoLimiters(t *testing.T, s [2]zael.Store) (l [2]*zael.Limiter) {
	t.Helper()
	for i := range l {
		var err error
		if l[i], err = zael.New(s[i], &zael.Config{Timeout: time.Minute, ConfigTTL: 1}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l[i].Close(context.Background()) })
	}
	return l
}
