// Package pgtest gives tests a PostgreSQL server. A test that needs one fails where it is
// missing, and is skipped with -short.
//
//	var engine pgtest.Engine
//
//	func TestMain(m *testing.M) { engine.Main(m) }
//
//	func TestStore(t *testing.T) {
//		t.Parallel()
//		url := engine.Database(t)
//		…
package pgtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zeroae/zael/internal/testrig/needs"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// An Engine is the server of a test process: a variable of the test package, whose zero value
// is ready. It does not wait for the disk. Safe for concurrent use.
type Engine struct {
	ran       atomic.Bool
	once      sync.Once
	server    *Server
	err       error
	databases atomic.Int64
}

// Main is what TestMain calls: it runs the tests, ends the server, looks for leaked goroutines
// and exits.
func (e *Engine) Main(m goleak.TestingM, opts ...goleak.Option) {
	e.ran.Store(true)
	goleak.VerifyTestMain(tests{m, e}, opts...)
}

// tests are those of a process and the end of its server.
type tests struct {
	m goleak.TestingM
	e *Engine
}

// Run runs them and returns the exit code.
func (t tests) Run() int {
	defer t.e.stop()
	return t.m.Run()
}

func (e *Engine) stop() {
	e.once.Do(func() {}) // nobody starts it any more
	if e.server != nil {
		e.server.Close()
	}
}

// Server returns the server, which the first call starts. Where it is missing tb fails.
func (e *Engine) Server(tb testing.TB) *Server {
	tb.Helper()
	needs.Engine(tb)
	if !e.ran.Load() {
		tb.Fatal("pgtest: TestMain does not call Engine.Main")
	}
	e.once.Do(func() {
		e.server, e.err = start(context.Background(), Options{}, os.Stderr) // not with the context of the test that is the first
	})
	needs.Check(tb, e.err, ErrMissing)
	return e.server
}

// Database returns the URL of a new, empty database of the server, for its superuser.
func (e *Engine) Database(tb testing.TB) string {
	tb.Helper()
	s := e.Server(tb)
	name := fmt.Sprintf("test%d", e.databases.Add(1))
	c, err := pgx.Connect(tb.Context(), s.URL("postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(tb.Context()))
	if _, err := c.Exec(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	return s.URL(name)
}

// Start starts a server for tb alone, and ends it with tb. Where it is missing tb fails.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	needs.Engine(tb)
	s, err := start(tb.Context(), o, os.Stderr)
	needs.Check(tb, err, ErrMissing)
	tb.Cleanup(s.Close)
	return s
}

// Exec runs statements as the user postgres, in the database of that name.
func (s *Server) Exec(tb testing.TB, statements ...string) {
	tb.Helper()
	c, err := pgx.Connect(tb.Context(), s.URL("postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(tb.Context()))
	for _, statement := range statements {
		if _, err := c.Exec(tb.Context(), statement); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
}
