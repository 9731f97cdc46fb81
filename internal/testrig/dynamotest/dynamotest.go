// Package dynamotest gives tests a DynamoDB Local, and keeps them away from AWS.
// A test that needs the engine fails where there is none, and is skipped with -short.
//
//	var engine dynamotest.Engine
//
//	func TestMain(m *testing.M) { engine.Main(m) }
//
//	func TestStore(t *testing.T) {
//		t.Parallel()
//		endpoint := engine.Endpoint(t)
//		…
package dynamotest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/testrig/relay"
)

// EndpointVariable is the environment variable with the URL of a DynamoDB Local
// that runs already, on this machine: tests use it, through a relay that ends with them, and
// start none.
const EndpointVariable = "ZAEL_DYNAMODB_ENDPOINT"

// An Engine is the one of a test process: a variable of the test package, whose
// zero value is ready. Safe for concurrent use.
type Engine struct {
	Options dynamolocal.Options // of the engine; the zero value will do

	isolated bool
	once     sync.Once
	engine   io.Closer // an engine of this process, or the relay to EndpointVariable's
	endpoint string
	err      error
}

// Main is what TestMain calls: it runs the tests, ends the engine, looks for leaked
// goroutines and exits. The tests, and what they start, see no AWS settings of the user
// but dummy ones, whose endpoint nothing listens at.
func (e *Engine) Main(m goleak.TestingM, opts ...goleak.Option) {
	if err := isolate(); err != nil {
		fmt.Fprintln(os.Stderr, "dynamotest:", err)
		os.Exit(1)
	}
	e.isolated = true
	goleak.VerifyTestMain(tests{m, e}, opts...)
}

// tests are those of a process and the end of its engine.
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
	if e.engine != nil {
		_ = e.engine.Close()
	}
}

// Endpoint returns the engine's URL. The first call starts the engine. All tests of the
// process share it: each makes tables of its own. Where the engine is missing tb fails.
func (e *Engine) Endpoint(tb testing.TB) string {
	tb.Helper()
	if !e.isolated {
		tb.Fatal("dynamotest: TestMain does not call Engine.Main")
	}
	needs.Engine(tb)
	e.once.Do(e.start)
	needs.Check(tb, e.err, dynamolocal.ErrMissing)
	return e.endpoint
}

func (e *Engine) start() {
	ctx := context.Background() // not that of the test which is the first
	if endpoint := os.Getenv(EndpointVariable); endpoint != "" {
		if e.err = Loopback(EndpointVariable, endpoint); e.err != nil {
			return
		}
		var r *relay.Relay
		if r, e.err = relay.Start(endpoint); e.err == nil {
			e.engine, e.endpoint = r, r.Endpoint()
		}
		return
	}
	o := e.Options
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	var s *dynamolocal.Server
	if s, e.err = dynamolocal.Start(ctx, o); e.err == nil {
		e.engine, e.endpoint = s, s.Endpoint()
	}
}

// Start starts an engine for tb alone, and ends it with tb: for tests that end it
// themselves or measure. Where the engine is missing tb fails.
func Start(tb testing.TB, o dynamolocal.Options) *dynamolocal.Server {
	tb.Helper()
	needs.Engine(tb)
	s, err := dynamolocal.Start(tb.Context(), o)
	needs.Check(tb, err, dynamolocal.ErrMissing)
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// Loopback is an error unless endpoint, which this variable of the environment has, is
// on this machine.
func Loopback(variable, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "http" || u.Hostname() != "localhost" && !ip.IsLoopback() {
		return fmt.Errorf("%s=%s: want http://127.0.0.1:PORT or another address of this machine: tests never leave it", variable, endpoint)
	}
	return nil
}

// isolate replaces all AWS settings of this process.
func isolate() error {
	var errs []error
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "AWS_") {
			errs = append(errs, os.Unsetenv(name))
		}
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":           "zael",
		"AWS_SECRET_ACCESS_KEY":       "zael",
		"AWS_REGION":                  "us-east-1",
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_ENDPOINT_URL":            "http://127.0.0.1:1", // for who forgets an endpoint
	} {
		errs = append(errs, os.Setenv(name, value))
	}
	return errors.Join(errs...)
}
