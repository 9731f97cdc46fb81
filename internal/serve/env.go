// Package serve is the daemon around a limiter: listeners, TLS, access, health, metrics, reload and
// shutdown. What is served is passed in as [Handlers].
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/live"
)

// Handlers make what a daemon serves beside health and metrics, before it listens. A request
// that reaches a handler has passed the checks of access: access.From tells whose it is, its
// context ends when its token is removed, and its body is bounded. An error ends the start.
type Handlers struct {
	API func(*Env) (http.Handler, error) // of paths that begin with /v1/

	// Gateway is asked for calls that it covers, and lets them in by Env.Guard itself.
	Gateway func(*Env) (Gateway, error)

	// RateLimits is asked for if the configuration has a rate limit service. As a handler it
	// answers /json.
	RateLimits func(*Env) (RateLimits, error)

	// Page is asked for files that it covers and the gateway does not. They hold no data, and
	// are served without a token.
	Page Page
}

// A Page serves static files.
type Page interface {
	http.Handler
	// Covers reports whether a path is one of the files.
	Covers(path string) bool
}

// RateLimits serve Envoy's rate limit service.
type RateLimits interface {
	http.Handler
	// Serve answers RPCs of a listener's connections until Shutdown, which is no error.
	Serve(l net.Listener) error
	// Announce says to health checks that the end is near.
	Announce()
	// Shutdown finishes what is under way. What is left when ctx is done is cut off.
	Shutdown(ctx context.Context)
}

// A Gateway passes calls on to LLM providers.
type Gateway interface {
	http.Handler
	// Covers reports whether a path is the gateway's.
	Covers(path string) bool
	// Shutdown returns when all calls have settled, or ctx is done.
	Shutdown(ctx context.Context) error
}

// An Env has what handlers need of the daemon.
type Env struct {
	Limiter   *zael.Limiter
	Store     zael.Store // of the limiter, for its roles
	Live      *live.Recorder
	Log       *slog.Logger
	Guard     *access.Guard
	Metrics   prometheus.Registerer // of /metrics; may be nil
	LookEvery time.Duration         // how often files are looked at whether they have changed; 0: each second
	TLS       *tls.Config           // of connections that the daemon does not encrypt itself; nil: they are not encrypted

	// Config returns the current configuration. A request calls it once, so that a reload in
	// between does not affect it.
	Config func() *config.Config

	// Wait counts a request that is about to wait for its limits. If ok is false, as many wait as
	// may (Max.Waits), and it is refused; otherwise it calls done when it waits no longer. See
	// AcquireWaiting.
	Wait func() (done func(), ok bool)

	// Draining is closed when the daemon begins to shut down: requests that wait for their limits
	// are then refused.
	Draining <-chan struct{}
}

// ErrTooManyWaits is the error of a request that would wait for its limits while as many wait as
// may. ErrDraining is that of one that waits when the daemon begins to shut down.
var (
	ErrTooManyWaits = errors.New("too many requests wait on this server (max.waits): try again in a second")
	ErrDraining     = errors.New("this server is shutting down: ask another, or again")
)

// AcquireWaiting calls acquire for a request that may wait for its limits. The context that it
// passes ends with ctx and when the daemon begins to shut down. The error is that of acquire,
// ErrTooManyWaits or ErrDraining.
func AcquireWaiting[L any](ctx context.Context, e *Env, acquire func(context.Context) (L, error)) (none L, err error) {
	done, ok := e.Wait()
	if !ok {
		return none, ErrTooManyWaits
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-e.Draining:
			cancel(ErrDraining)
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer cancel(nil)
	lease, err := acquire(ctx)
	if err != nil && errors.Is(context.Cause(ctx), ErrDraining) {
		return none, ErrDraining
	}
	return lease, err
}
