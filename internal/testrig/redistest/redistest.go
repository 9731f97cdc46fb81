// Package redistest gives tests a Valkey and a Redis. A test that needs one fails where it
// is missing, and is skipped with -short.
//
//	var engines redistest.Engines
//
//	func TestMain(m *testing.M) { engines.Main(m) }
//
//	func TestStore(t *testing.T) {
//		t.Parallel()
//		address := engines.Address(t, redistest.Valkey)
//		…
package redistest

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/zeroae/zael/internal/testrig/needs"

	"go.uber.org/goleak"
)

// A Kind is a kind of server.
type Kind string

// The kinds of servers.
const (
	Valkey Kind = "valkey"
	Redis  Kind = "redis"
)

// Engines are those of a test process, one of each kind: a variable of the test package,
// whose zero value is ready. Safe for concurrent use.
type Engines struct {
	mu      sync.Mutex
	ran     bool
	started map[Kind]*shared
}

// A shared is an engine that all tests of a process use.
type shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Main is what TestMain calls: it runs the tests, ends the engines, looks for leaked
// goroutines and exits.
func (e *Engines) Main(m goleak.TestingM, opts ...goleak.Option) {
	e.mu.Lock()
	e.ran = true
	e.mu.Unlock()
	goleak.VerifyTestMain(tests{m, e}, opts...)
}

// tests are those of a process and the end of its engines.
type tests struct {
	m goleak.TestingM
	e *Engines
}

// Run runs them and returns the exit code.
func (t tests) Run() int {
	defer t.e.stop()
	return t.m.Run()
}

func (e *Engines) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.started {
		s.once.Do(func() {}) // nobody starts it any more
		if s.server != nil {
			s.server.Close()
		}
	}
}

// Address returns host and port of the engine of a kind. The first call starts it. All tests
// of the process share it: each uses a namespace of its own. Where it is missing tb fails.
func (e *Engines) Address(tb testing.TB, kind Kind) string {
	tb.Helper()
	needs.Engine(tb)
	e.mu.Lock()
	if !e.ran {
		e.mu.Unlock()
		tb.Fatal("redistest: TestMain does not call Engines.Main")
	}
	if e.started == nil {
		e.started = map[Kind]*shared{}
	}
	s := e.started[kind]
	if s == nil {
		s = new(shared)
		e.started[kind] = s
	}
	e.mu.Unlock()
	s.once.Do(func() {
		s.server, s.err = Run(context.Background(), Options{Kind: kind}, os.Stderr) // not with the context of the test that is the first
	})
	needs.Check(tb, s.err, ErrMissing)
	return s.server.Address()
}

// Start starts a server for tb alone, and ends it with tb. Where it is missing tb fails.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	needs.Engine(tb)
	s, err := Run(tb.Context(), o, os.Stderr)
	needs.Check(tb, err, ErrMissing)
	tb.Cleanup(s.Close)
	return s
}
