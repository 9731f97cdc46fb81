// Package httplimit holds the requests of an HTTP server to limits. It works with
// net/http and every router that takes a func(http.Handler) http.Handler.
//
//	package main
//
//	import (
//		"log"
//		"net/http"
//
//		"github.com/zeroae/zael"
//		"github.com/zeroae/zael/httplimit"
//		"github.com/zeroae/zael/memstore"
//	)
//
//	func main() {
//		limiter, err := zael.New(memstore.New(nil), nil)
//		if err != nil {
//			log.Fatal(err)
//		}
//		mux := http.NewServeMux()
//		mux.Handle("GET /", http.FileServer(http.Dir("public")))
//
//		policy := zael.MustPolicy("api", zael.PerSecond("requests", 10))
//		limit := httplimit.Must(httplimit.New(limiter, policy, httplimit.Address(nil), nil))
//		log.Fatal(http.ListenAndServe(":8080", limit.Handler(mux)))
//	}
//
// A request that a limit refuses is answered with status 429, Retry-After and a body
// of problem details (RFC 9457). All answers have headers that tell what is left; see
// [Headers].
//
// # What a request really used
//
// A handler that learns only later what a request costs records it in the lease:
//
//	lease, _ := httplimit.LeaseFrom(r.Context())
//	err := lease.Settle(zael.Amounts{"tokens": used})
//
// Or Config.Settle works it out from the status and the size of the answer. The lease
// is committed when the handler returns, also if it panics or its client has left,
// and after [http.Hijacker] when the connection is closed.
package httplimit

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/edge"
	"github.com/zeroae/zael/internal/httpedge"
)

// A KeyFunc returns the entity whose limits a request is held to. An error is answered
// with status 400: it must be fit for clients to see. An empty key without an error is
// an error as well. It is called concurrently.
type KeyFunc func(r *http.Request) (string, error)

// A Config tunes a Middleware. A nil *Config is the same as the zero Config. Its
// functions are called concurrently.
type Config struct {
	// Request returns what to acquire for an HTTP request, where the policy depends on
	// the request. The policy and the key that are passed to New are then nil, and
	// Cost must be. An error is answered with status 400.
	Request func(r *http.Request) (zael.Request, error)

	// Cost returns how many tokens a request takes, by limit name. A limit that it does
	// not name takes 1. Nil takes 1 of each. An error is answered with status 400.
	Cost func(r *http.Request) (zael.Amounts, error)

	// Settle returns what a request has really used, by limit name, after it was
	// answered; limits that it does not name keep what was taken. It is not called if
	// the handler has recorded something in the lease. It is called after a panic too.
	// Nil keeps what was taken.
	Settle func(r *http.Request, answer Answer) zael.Amounts

	// Cascade takes from the entity's parent too; see zael.Request.
	Cascade bool

	// MaxWait lets a request wait in line; see zael.Request. 0 does not wait.
	MaxWait time.Duration

	// FailureMode decides what happens while the store cannot answer. Zero is that of
	// the Limiter. With zael.FailOpen requests pass, uncharged.
	FailureMode zael.FailureMode

	// Headers are the headers that tell what is left. Zero is XRateLimit.
	Headers Headers

	// Refused answers a request that a limit refuses, instead of status 429. The
	// headers have been set before, Retry-After among them.
	Refused func(w http.ResponseWriter, r *http.Request, err *zael.ExceededError)

	// Failed answers a request that could not be decided, instead of status 503 if
	// err matches zael.ErrUnavailable or zael.ErrContention, 403 if it matches
	// zael.ErrDisabled, 400 for the errors of KeyFunc, Request and Cost, which are a
	// [*RequestError], and 500 for others. It must not serve the request.
	Failed func(w http.ResponseWriter, r *http.Request, err error)

	// Report is called with what a client is not told: why a request could not be
	// decided, with an answer of status 500 or 503, or why a lease was not committed.
	// Nil ignores it.
	Report func(r *http.Request, err error)
}

// An Answer is how a request was answered.
type Answer struct {
	Status   int   // 500 after a panic before anything was written; 101 after a hijack, unless another was written
	Bytes    int64 // of the body, as the handler wrote it; after a hijack of all that it wrote to the connection
	Panicked bool  // the handler did
}

// A RequestError is the error of a request whose key, cost or limits cannot be determined.
type RequestError struct {
	Cause error
}

// Error returns the cause.
func (e *RequestError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *RequestError) Unwrap() error { return e.Cause }

// A Middleware limits the requests to handlers. Its methods may be called concurrently.
type Middleware struct {
	limiter *zael.Limiter
	source  edge.Source[*http.Request]
	config  Config
}

// New returns a Middleware that takes from the limits of a policy, for the entity that
// key returns. With Config.Request both are nil. The error is a [*zael.ValidationError].
func New(limiter *zael.Limiter, policy *zael.Policy, key KeyFunc, config *Config) (*Middleware, error) {
	m := &Middleware{limiter: limiter}
	if config != nil {
		m.config = *config
	}
	c := &m.config
	m.source = edge.Source[*http.Request]{
		Call: "request", Keys: "httplimit.Address(nil), or httplimit.Fixed", Policy: policy, Key: key,
		Request: c.Request, Cost: c.Cost, Cascade: c.Cascade, MaxWait: c.MaxWait, FailureMode: c.FailureMode,
	}
	if err := m.source.Validate(limiter); err != nil {
		return nil, err
	}
	if c.Headers >= headersEnd {
		return nil, edge.Invalid("Config.Headers", "is none of the constants")
	}
	return m, nil
}

// Must returns m and panics if err is not nil. It is for the start of a program.
func Must(m *Middleware, err error) *Middleware {
	if err != nil {
		panic(err)
	}
	return m
}

// Handler returns a handler that lets next serve the requests that are admitted.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
}

// Func is Handler for a function.
func (m *Middleware) Func(next http.HandlerFunc) http.Handler { return m.Handler(next) }

// LeaseFrom returns the lease of the request whose context, or a context made from it,
// is ctx. It reports false in a handler that no Middleware called.
func LeaseFrom(ctx context.Context) (*zael.Lease, bool) {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, false
	}
	return x.lease, true
}

func (m *Middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	req, err := m.source.Of(r)
	if err != nil {
		m.fail(w, r, &RequestError{err})
		return
	}
	lease, err := m.limiter.Acquire(r.Context(), req)
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		m.refuse(w, r, exceeded)
		return
	}
	if err != nil {
		m.fail(w, r, err)
		return
	}
	x := &exchange{Context: r.Context(), ResponseWriter: w, middleware: m, request: r, lease: lease}
	if m.config.Headers != NoHeaders && !lease.Degraded() {
		d := lease.Decision()
		m.config.Headers.set(w.Header(), &d, &x.values)
	}
	defer x.end()
	next.ServeHTTP(x, r.WithContext(x))
	x.returned = true
}

// refuse answers a request that a limit refuses.
func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err *zael.ExceededError) {
	h := w.Header()
	d := err.Decision()
	m.config.Headers.set(h, &d, new([3]string))
	retryAfter := httpedge.SetRetryAfter(h, err)
	if m.config.Refused != nil {
		m.config.Refused(w, r, err)
		return
	}
	writeRefusal(w, &d, retryAfter)
}

// fail answers a request that could not be decided.
func (m *Middleware) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	_, wrong := errors.AsType[*RequestError](err)
	invalid, isInvalid := errors.AsType[*zael.ValidationError](err)
	switch {
	case wrong:
		status = http.StatusBadRequest
	case isInvalid && invalid.Field == "Request.Entity": // the key is no name that an entity can have
		status = http.StatusBadRequest
	case errors.Is(err, zael.ErrDisabled):
		status = http.StatusForbidden
	case errors.Is(err, zael.ErrUnavailable), errors.Is(err, zael.ErrContention):
		status = http.StatusServiceUnavailable
	}
	gone := r.Context().Err() != nil && errors.Is(err, r.Context().Err()) // nobody reads the answer
	if m.config.Report != nil && status >= http.StatusInternalServerError && !gone {
		m.config.Report(r, err)
	}
	switch {
	case m.config.Failed != nil:
		m.config.Failed(w, r, err)
	case status == http.StatusBadRequest:
		httpedge.Problem{Title: "The request cannot be assigned to a limit", Status: status, Detail: err.Error()}.Write(w)
	case status == http.StatusForbidden: // no wait helps, and whose switch it is concerns the server
		httpedge.Problem{Title: "Access is disabled", Status: status}.Write(w)
	case status == http.StatusServiceUnavailable:
		httpedge.Problem{Title: "The limits cannot be checked now", Status: status, Detail: "try again in a second"}.Write(w)
	default:
		httpedge.Problem{Title: "The limits cannot be checked", Status: status}.Write(w)
	}
}
