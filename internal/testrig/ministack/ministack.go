// Package ministack gives tests an emulator of AWS, ministack, that creates,
// updates and deletes CloudFormation stacks and runs functions, and the linter
// cfn-lint. What it does not do as AWS does is told in docs/operations.md. A test
// that needs them fails where they are missing, and is skipped with -short.
//
//	var (
//		table    dynamotest.Engine
//		emulator ministack.Engine
//	)
//
//	func TestMain(m *testing.M) { table.Main(emulator.Tests(m)) }
//
//	func TestStack(t *testing.T) {
//		t.Parallel()
//		endpoint := emulator.Endpoint(t)
//		…
package ministack

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/testrig/relay"
)

// EndpointVariable is the environment variable with the URL of a ministack that
// runs already, on this machine: tests use it, through a relay that ends with them, and start
// none.
const EndpointVariable = "ZAEL_MINISTACK_ENDPOINT"

// An Engine is the one of a test process: a variable of the test package, whose
// zero value is ready. Safe for concurrent use.
type Engine struct {
	run      bool
	once     sync.Once
	server   *Server      // nil: EndpointVariable's
	relay    *relay.Relay // to it
	endpoint string
	err      error
}

// Tests are the tests of a process and the end of its engine.
type Tests struct {
	m *testing.M
	e *Engine
}

// Tests is what TestMain hands to dynamotest.Engine.Main, which keeps the tests
// away from AWS: the engine ends after the tests, however they end.
func (e *Engine) Tests(m *testing.M) Tests {
	e.run = true
	return Tests{m, e}
}

// Run runs the tests and returns the exit code.
func (t Tests) Run() int {
	defer t.e.stop()
	return t.m.Run()
}

func (e *Engine) stop() {
	e.once.Do(func() {}) // nobody starts it any more
	if e.server != nil {
		_ = e.server.Close()
	}
	if e.relay != nil {
		_ = e.relay.Close()
	}
}

// Endpoint returns the engine's URL. The first call starts the engine. All tests of
// the process share it: each makes stacks of its own. Where the engine is missing tb
// fails.
func (e *Engine) Endpoint(tb testing.TB) string {
	tb.Helper()
	if !e.run {
		tb.Fatal("ministack: TestMain does not call Engine.Tests")
	}
	if err := dynamotest.Loopback("AWS_ENDPOINT_URL", os.Getenv("AWS_ENDPOINT_URL")); err != nil || os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" {
		tb.Fatal("ministack: TestMain does not call dynamotest.Engine.Main, which keeps tests away from AWS")
	}
	needs.Engine(tb)
	e.once.Do(e.start)
	needs.Check(tb, e.err, ErrMissing)
	return e.endpoint
}

// Log is the end of what the engine of this process wrote.
func (e *Engine) Log() string {
	if e.server == nil {
		return ""
	}
	return e.server.Log()
}

func (e *Engine) start() {
	ctx := context.Background() // not that of the test which is the first
	if endpoint := os.Getenv(EndpointVariable); endpoint != "" {
		if e.err = dynamotest.Loopback(EndpointVariable, endpoint); e.err != nil {
			return
		}
		if e.relay, e.err = relay.Start(endpoint); e.err == nil {
			e.endpoint = e.relay.Endpoint()
		}
		return
	}
	if e.server, e.err = Start(ctx, os.Stderr); e.err == nil {
		e.endpoint = e.server.Endpoint()
	}
}

// Program returns the path of a tool, such as cfn-lint. Where it is missing tb fails.
func Program(tb testing.TB, name string) string {
	tb.Helper()
	needs.Engine(tb)
	bin, err := Install(tb.Context(), os.Stderr)
	needs.Check(tb, err, ErrMissing)
	return bin + string(os.PathSeparator) + name
}
