package serve

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/problem"
)

// ServeHTTP implements http.Handler. Paths are not cleaned: names in them may have any characters,
// escaped.
func (d *Daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz":
		d.serveRequest(w, r, "health", http.HandlerFunc(serveAlive))
	case r.URL.Path == "/readyz":
		d.serveRequest(w, r, "health", http.HandlerFunc(d.serveReady))
	case r.URL.Path == "/metrics" && d.metricsServer == nil:
		d.serveRequest(w, r, "metrics", d.guard.Handler(http.HandlerFunc(d.serveMetrics)))
	case strings.HasPrefix(r.URL.Path, "/v1/") && d.api != nil:
		d.serveRequest(w, r, "api", d.api)
	case r.URL.Path == "/json" && d.rls != nil:
		d.serveRequest(w, r, "rls", d.guard.Handler(d.bounded(http.HandlerFunc(d.serveRLS))))
	case d.gateway != nil && d.gateway.Covers(r.URL.Path):
		d.serveRequest(w, r, "gateway", d.gateway)
	case d.page != nil && d.page.Covers(r.URL.Path):
		d.serveRequest(w, r, "page", d.guard.Public(d.page))
	default:
		d.serveRequest(w, r, "none", d.guard.Handler(http.HandlerFunc(serveNotFound)))
	}
}

// serveRLS answers for the rate limit service, to those who may acquire for anybody.
func (d *Daemon) serveRLS(w http.ResponseWriter, r *http.Request) {
	if !access.From(r.Context()).MayAcquire("") {
		problem.Write(w, problem.Forbidden, "rate limits of Envoy need a token with the role acquire and no prefix")
		return
	}
	d.rls.ServeHTTP(w, r)
}

// metricsHandler serves metrics and health.
func (d *Daemon) metricsHandler(guard *access.Guard) http.Handler {
	guarded := guard.Handler(http.HandlerFunc(d.serveMetrics))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			d.serveRequest(w, r, "health", http.HandlerFunc(serveAlive))
		case "/readyz":
			d.serveRequest(w, r, "health", http.HandlerFunc(d.serveReady))
		case "/metrics":
			d.serveRequest(w, r, "metrics", guarded)
		default:
			d.serveRequest(w, r, "none", guard.Handler(http.HandlerFunc(serveNotFound)))
		}
	})
}

func serveNotFound(w http.ResponseWriter, _ *http.Request) {
	problem.Write(w, problem.NotFound, "there is nothing here: the API is below /v1/")
}

// serveRequest serves a request by a handler. It counts and logs the request, bounds the time for
// its body, and recovers from a panic.
func (d *Daemon) serveRequest(w http.ResponseWriter, r *http.Request, route string, h http.Handler) {
	if !d.requests.begin() {
		problem.Write(w, problem.Draining, ErrDraining.Error())
		return
	}
	defer d.requests.end()
	begun := time.Now()
	rec := &recorder{ResponseWriter: w}
	if r.ContentLength != 0 {
		// Until somebody reads it: the server reads the rest of a body that nobody wants.
		_ = http.NewResponseController(w).SetReadDeadline(begun.Add(d.config.Load().Max.HeaderTime))
	}
	defer func() { // of answers that are cut too
		d.metrics.served(route, rec.status, time.Since(begun))
		d.log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "took", time.Since(begun), "principal", rec.principal)
	}()
	defer func() {
		if p := recover(); p != nil {
			d.panicked(rec, r, p)
		}
	}()
	h.ServeHTTP(rec, r)
}

// panicked answers for a handler that panicked. http.ErrAbortHandler goes on: it cuts the
// connection.
func (d *Daemon) panicked(rec *recorder, r *http.Request, p any) {
	if p == http.ErrAbortHandler { //nolint:errorlint // it is passed as it is
		panic(p)
	}
	d.log.ErrorContext(r.Context(), "a handler panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if rec.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	problem.Write(rec, problem.Internal, "the request could not be served; the log of the server says why")
}

// bounded bounds the size of the body of a request that access has let in, and the time for it.
func (d *Daemon) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		SetPrincipal(w, access.From(r.Context()).Name)
		if r.ContentLength != 0 {
			m := d.config.Load().Max
			if r.ContentLength > m.Body {
				problem.Write(w, problem.TooLarge, fmt.Sprintf("the body has more than %d bytes", m.Body))
				return
			}
			// The server lifts the deadline when all has been read, and watches the connection.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(m.Idle))
			r.Body = http.MaxBytesReader(ServerWriter(w), r.Body, m.Body)
		}
		next.ServeHTTP(w, r)
	})
}

// A recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter

	status    int
	principal string
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// SetPrincipal notes for the log who sends the request that w answers.
func SetPrincipal(w http.ResponseWriter, name string) {
	if r, ok := recorderOf(w); ok {
		r.principal = name
	}
}

// ServerWriter returns the server's own writer for http.MaxBytesReader, which tells it to
// close the connection.
func ServerWriter(w http.ResponseWriter) http.ResponseWriter {
	if r, ok := recorderOf(w); ok {
		return r.ResponseWriter
	}
	return w
}

func recorderOf(w http.ResponseWriter) (*recorder, bool) {
	for {
		switch t := w.(type) {
		case *recorder:
			return t, true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return nil, false
		}
	}
}

// Unwrap lets http.ResponseController find what the server's writer can do besides.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
