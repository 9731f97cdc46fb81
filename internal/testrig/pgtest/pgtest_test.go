package pgtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael/internal/testrig/pgtest"
)

var engine pgtest.Engine

func TestMain(m *testing.M) { engine.Main(m) }

func TestDatabase(t *testing.T) {
	t.Parallel()
	if got := ask[int](t, engine.Database(t), "SELECT 40 + 2"); got != 42 {
		t.Errorf("got %d, want 42", got)
	}
}

// What a durable server has committed is there when it is killed and started again.
func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Options{Durable: true})
	url := s.URL("postgres")
	ask[int](t, url, "WITH made AS (SELECT 1) SELECT 1 FROM made")
	exec(t, url, "CREATE TABLE t AS SELECT 7 AS v")
	s.Kill()
	if c, err := pgx.Connect(t.Context(), url); err == nil {
		c.Close(t.Context())
		t.Error("it still listens")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask[int](t, url, "SELECT v FROM t"); got != 7 {
		t.Errorf("after the restart: got %d, want 7", got)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func exec(t *testing.T, url, statement string) {
	t.Helper()
	if _, err := connect(t, url).Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func ask[T any](t *testing.T, url, query string) (v T) {
	t.Helper()
	if err := connect(t, url).QueryRow(t.Context(), query).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
