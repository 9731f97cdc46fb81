package postgresstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/postgresstore"
	"github.com/zeroae/zael/storetest"
)

var engine pgtest.Engine

// shared is the database of tests that keep to a namespace of their own.
var shared struct {
	sync.Once
	url        string
	namespaces atomic.Int64
}

// sharedURL returns the URL of the shared database, which has the tables.
func sharedURL(tb testing.TB) string {
	tb.Helper()
	needs.Engine(tb) // a test that is skipped in Do would leave the others without
	shared.Do(func() {
		url := engine.Database(tb)
		createTables(tb, url)
		shared.url = url
	})
	if shared.url == "" {
		tb.Fatal("the shared database could not be made")
	}
	return shared.url
}

func createTables(tb testing.TB, url string) {
	tb.Helper()
	s := open(tb, url, nil)
	if err := s.CreateTables(tb.Context(), postgresstore.CreateOptions{}); err != nil {
		tb.Fatal(err)
	}
}

// open opens a store in which instants are the caller's, and closes it with the test.
func open(tb testing.TB, url string, config *postgresstore.Config) *postgresstore.Store {
	tb.Helper()
	return openTrial(tb, url, config, trial.Options{VirtualTime: true})
}

// openTrial opens a store, and closes it with the test.
func openTrial(tb testing.TB, url string, config *postgresstore.Config, options trial.Options) *postgresstore.Store {
	tb.Helper()
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := postgresstore.NewTrial(pool, config, options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return s
}

// newNamespace returns the name of a namespace that no other test uses.
func newNamespace() string { return fmt.Sprintf("n%d", shared.namespaces.Add(1)) }

func TestStore(t *testing.T) {
	t.Parallel()
	url := sharedURL(t)
	owner := open(t, url, &postgresstore.Config{Pool: 16}) // of connections, which take longer to make than most checks
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t *testing.T) zael.Store {
		t.Helper()
		s, err := postgresstore.NewTrial(pool, &postgresstore.Config{Namespace: newNamespace(), Usage: true, Pool: 3}, trial.Options{VirtualTime: true})
		if err != nil {
			t.Fatal(err)
		}
		closing := s.Borrow(owner)
		t.Cleanup(func() {
			if err := closing(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return s
	}, storetest.Kinds, storetest.LocalStore, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore, storetest.OnceStore, storetest.SlotStore, storetest.Applier, storetest.CapacityReader, storetest.ListStore, storetest.UsageStore, storetest.AuditStore)
}
