package sqlitestore_test

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
	"github.com/zeroae/zael/storetest"
)

// open opens a store at path and closes it at the end of the test.
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

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) zael.Store {
		t.Helper()
		return open(t, newPath(t), nil)
	}, storetest.EntityStore, storetest.LimitStore, storetest.CapacityReader, storetest.UsageStore, storetest.AuditStore)
}

// query asks the engine itself for one value.
func query(t *testing.T, path, text string) string {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var value string
	if err := db.QueryRowContext(t.Context(), text).Scan(&value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}
