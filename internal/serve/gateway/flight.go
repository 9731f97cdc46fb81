package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/llm"
)

// A flight is one call on its way through the gateway.
type flight struct {
	gateway *Gateway
	route   *route
	config  *config.Config
	rest    string // of the path, after the prefix

	api    llm.API
	model  string // if the path names it
	listed bool   // the path is one that passes
	also   bool   // it is listed

	entity   string
	resource string // set when the call is admitted or refused
	outcome  string // for metrics
	cancel   context.CancelCauseFunc
	watch    watch
	body     atomic.Int64 // bytes that were read of it
}

const other = llm.Other

type flightKey struct{}

// flightOf returns the flight of a request's context. All contexts here have one.
func flightOf(ctx context.Context) *flight {
	f, _ := ctx.Value(flightKey{}).(*flight)
	return f
}

// end counts the call.
func (f *flight) end() {
	f.gateway.open.Add(-1)
	f.gateway.bodies.Add(-f.body.Load())
	f.gateway.metrics.calls.WithLabelValues(f.route.Prefix, f.resource, f.outcome).Inc()
}

// settled counts the tokens of a call that was sent.
func (f *flight) settled(u llm.Usage) {
	reported := "estimated"
	if u.Reported {
		reported = "reported"
	}
	m := f.gateway.metrics
	for kind, n := range map[string]int64{"input": u.Input - u.CachedInput, "cached": u.CachedInput, "output": u.Output} {
		if n > 0 {
			m.tokens.WithLabelValues(f.route.Prefix, f.resource, kind, reported).Add(float64(n))
		}
	}
}

// unsettled counts and logs that what a call used was not told to the store.
func (f *flight) unsettled(err error) {
	f.gateway.metrics.unsettled.Inc()
	f.gateway.env.Log.Warn("a call through the gateway was not settled", "route", f.route.Prefix, "resource", f.resource, "error", err)
}

// parent returns the entity that the call takes from too, or "".
func (f *flight) parent() string {
	if f.route.Parent == f.entity {
		return ""
	}
	return f.route.Parent
}

func entityOf(r *http.Request) (string, error) { return flightOf(r.Context()).entity, nil }

// acquire takes the lease of a call. One that does not fit at once waits in line, if the
// route lets it.
func acquire(ctx context.Context, call *llm.Call, req zael.Request) (*zael.Lease, error) {
	f := flightOf(call.Request.Context())
	limiter := f.gateway.env.Limiter
	req.Parent, req.MaxWait = f.parent(), 0
	lease, err := limiter.Acquire(ctx, req)
	exceeded, ok := errors.AsType[*zael.ExceededError](err)
	if !ok || f.route.MaxWait == 0 || exceeded.RetryAfter() == zael.Never {
		return lease, err
	}
	req.MaxWait = f.route.MaxWait
	return serve.AcquireWaiting(ctx, f.gateway.env, func(ctx context.Context) (*zael.Lease, error) { return limiter.Acquire(ctx, req) })
}

// limitClient takes from the limits of the client's address, and reports whether the call may
// go on. It does not wait.
func (f *flight) limitClient(w http.ResponseWriter, r *http.Request) bool {
	if f.route.Clients == nil {
		return true
	}
	ctx := r.Context()
	err := f.gateway.env.Limiter.Allow(ctx, f.route.Clients.For("client-"+f.gateway.env.Guard.Client(r)))
	if err == nil {
		return true
	}
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		f.outcome = "refused"
		respond(w, llm.Refuse(r, f.form(), exceeded)) //nolint:bodyclose // respond does
		return false
	}
	fail(w, r, err)
	return false
}

// identify finds out which entity calls, and reports whether the call may go on.
func (f *flight) identify(w http.ResponseWriter, r *http.Request) bool {
	entity, err := f.identity(r)
	if denied, ok := errors.AsType[*deniedError](err); ok {
		f.outcome = "denied"
		if denied.status == http.StatusUnauthorized {
			f.gateway.env.Guard.RefuseKey(f.gateway.gate(), w, r, denied.reason)
		} else {
			f.fail(w, r, denied.status, denied.reason)
		}
		return false
	}
	if err != nil {
		fail(w, r, err)
		return false
	}
	f.entity = entity
	return true
}

// entityExists reports whether an entity exists in the store. One that was found is not looked up
// again for Bounds.Known.
func (g *Gateway) entityExists(ctx context.Context, id string, c *config.Config) (bool, error) {
	g.mu.Lock()
	seen, ok := g.entities.Get(id)
	g.mu.Unlock()
	if ok && time.Since(seen) < g.bounds.Known {
		return true, nil
	}
	bounded, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	_, err := g.env.Limiter.Entity(bounded, id)
	switch {
	case errors.Is(err, zael.ErrEntityNotFound):
		return false, nil
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		return false, errStore
	case err != nil:
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entities.Put(id, time.Now())
	return true, nil
}
