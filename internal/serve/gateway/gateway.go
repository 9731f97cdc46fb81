// Package gateway is the part of the daemon that holds calls to LLM providers to limits, for
// clients in any language: they use it by the base URL of their SDK. Package llm has the limits;
// here are routes, access, what passes in either direction, and what does not.
//
// Neither bodies nor keys are logged, and of entities only what the configuration names them by.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/internal/recent"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/problem"
)

// Bounds bound how long a call may stand still. A zero field is its default.
type Bounds struct {
	Header time.Duration // until the upstream answers; 10 minutes
	Idle   time.Duration // between parts of the upstream's answer; 5 minutes
	Client time.Duration // until the client reads what was written; 30 seconds
	Known  time.Duration // that an entity which was found is not looked up again; 10 seconds

	Decoded int64 // bytes of a compressed answer that are decoded; 32 MiB
	Bodies  int64 // bytes of the bodies of all calls under way; 1 GiB
}

// A Gateway serves the routes of the configuration. It may be used concurrently.
type Gateway struct {
	env     *serve.Env
	bounds  Bounds
	metrics *metrics
	base    http.RoundTripper
	proxy   *httputil.ReverseProxy
	guarded http.Handler
	open    atomic.Int64 // calls
	bodies  atomic.Int64 // bytes of theirs that were read

	routes   atomic.Pointer[routes]
	changing sync.Mutex
	retired  []*limits

	mu       sync.Mutex
	entities *recent.Map[string, time.Time] // that exist, and when that was seen
	stored   *recent.Map[string, *storedPolicy]
}

// New returns the gateway of a daemon.
func New(env *serve.Env) (serve.Gateway, error) { return NewWith(env, Bounds{}) }

// remembered is how many entities and policies are remembered.
const remembered = 10_000

// NewWith is New with other bounds.
func NewWith(env *serve.Env, bounds Bounds) (*Gateway, error) {
	bounds.Header = cmp.Or(bounds.Header, 10*time.Minute)
	bounds.Idle = cmp.Or(bounds.Idle, 5*time.Minute)
	bounds.Client = cmp.Or(bounds.Client, 30*time.Second)
	bounds.Known = cmp.Or(bounds.Known, 10*time.Second)
	bounds.Decoded = cmp.Or(bounds.Decoded, 32<<20)
	bounds.Bodies = cmp.Or(bounds.Bodies, 1<<30)
	g := &Gateway{
		env: env, bounds: bounds, base: newUpstream(),
		entities: recent.New[string, time.Time](remembered), stored: recent.New[string, *storedPolicy](remembered),
	}
	var err error
	if g.metrics, err = newMetrics(env, &g.open); err != nil {
		return nil, err
	}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: rewriteRequest, Transport: roundTripper{g}, ModifyResponse: modifyResponse, ErrorHandler: fail, BufferPool: newBuffers(),
		ErrorLog: slog.NewLogLogger(env.Log.Handler(), slog.LevelDebug),
	}
	g.guarded = env.Guard.HandlerWith(g.gate(), http.HandlerFunc(g.serve))
	_, err = g.current()
	return g, err
}

// gate is how callers come in.
func (g *Gateway) gate() access.Gate {
	return access.Gate{
		Token: access.AnyKey, Hint: "send a token" + inWhat,
		Authenticates: func(r *http.Request) bool { return flightOf(r.Context()).route.Auth != config.AuthTokens },
		Refuse: func(w http.ResponseWriter, r *http.Request, code problem.Code, detail string) {
			f := flightOf(r.Context())
			f.outcome = "denied"
			f.fail(w, r, code.Status(), detail)
		},
	}
}

// Covers reports whether a path is that of a route.
func (g *Gateway) Covers(path string) bool {
	all, err := g.current()
	return err == nil && all.find(path) != nil
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	all, err := g.current()
	if err != nil {
		problem.Write(w, problem.Internal, "the routes of the gateway cannot be used; the log of the server says why")
		g.env.Log.ErrorContext(r.Context(), "the routes of the gateway cannot be used", "error", err)
		return
	}
	route := all.find(r.URL.Path)
	if route == nil { // a reload has removed it since
		problem.Write(w, problem.NotFound, "there is no such route any more")
		return
	}
	f := &flight{gateway: g, route: route, config: all.config, rest: strings.TrimPrefix(r.URL.Path, route.Prefix), outcome: "failed"}
	f.recognize(r)
	defer f.end()
	if g.open.Add(1) > int64(all.config.Max.Streams) {
		f.outcome = "busy"
		f.fail(w, r, http.StatusServiceUnavailable, "too many calls are under way (max.streams): try again in a second")
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), flightKey{}, f))
	defer cancel(nil)
	f.cancel = cancel
	f.watch.start(g.bounds, f, w)
	defer f.watch.stop()
	g.guarded.ServeHTTP(&watched{w, &f.watch}, r.WithContext(ctx))
}

// serve serves a call that access has let in.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	f := flightOf(r.Context())
	serve.SetPrincipal(w, access.From(r.Context()).Name)
	if reason := wrongRequest(r, f.rest); reason != "" {
		f.fail(w, r, http.StatusBadRequest, reason)
		return
	}
	if !f.identify(w, r) {
		return
	}
	if !f.listed {
		f.outcome = "unlisted"
		f.fail(w, r, http.StatusNotFound, "the gateway does not pass "+r.Method+" "+f.rest+": calls that infer are limited, and others have to be listed in also of the route "+f.route.Prefix)
		return
	}
	if f.api != other && r.Header.Get("Content-Encoding") != "" {
		f.fail(w, r, http.StatusUnsupportedMediaType, "send the body as it is: one with a Content-Encoding cannot be counted")
		return
	}
	if !f.limitClient(w, r) {
		return
	}
	if r.ContentLength != 0 {
		if r.ContentLength > f.config.Max.Call {
			f.fail(w, r, http.StatusRequestEntityTooLarge, tooLarge(f.config))
			return
		}
		c := http.NewResponseController(w)
		_ = c.SetReadDeadline(time.Now().Add(f.config.Max.Idle))
		// The upstream may answer before it has read all of a body that passes unread, which
		// the server would close then.
		_ = c.EnableFullDuplex()
		// The server reads what is left of a body when it has stopped to watch the connection, and
		// cannot use it any more then: it has to be read before.
		defer r.Body.Close()
		r.Body = &countedBody{http.MaxBytesReader(serve.ServerWriter(w), r.Body, f.config.Max.Call), f}
	}
	g.proxy.ServeHTTP(w, r)
}

// Shutdown waits until all calls have settled, or ctx is done.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.changing.Lock()
	all := append([]*limits(nil), g.retired...)
	if now := g.routes.Load(); now != nil {
		for _, r := range now.all {
			all = append(all, r.limits)
		}
	}
	g.changing.Unlock()
	var errs []error
	for _, l := range all {
		errs = append(errs, l.Shutdown(ctx))
	}
	if c, ok := g.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return errors.Join(errs...)
}
