package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/llm"
)

// A route is one of the configuration, with its limits.
type route struct {
	*config.Route
	limits *limits
}

// limits are those of a route. What they have learned of answers outlives a reload.
type limits struct {
	*llm.Limits
	prefix string
	media  int64
}

// routes are those of a configuration, those with the longest prefixes first.
type routes struct {
	config *config.Config
	all    []*route
}

// find returns the route of a path, or nil.
func (rs *routes) find(path string) *route {
	for _, r := range rs.all {
		if rest, ok := strings.CutPrefix(path, r.Prefix); ok && (rest == "" || rest[0] == '/') {
			return r
		}
	}
	return nil
}

// current returns the routes of the configuration that holds.
func (g *Gateway) current() (*routes, error) {
	c := g.env.Config()
	if now := g.routes.Load(); now != nil && now.config == c {
		return now, nil
	}
	g.changing.Lock()
	defer g.changing.Unlock()
	before := g.routes.Load()
	if c = g.env.Config(); before != nil && before.config == c {
		return before, nil
	}
	next := &routes{config: c}
	for i := range c.Gateway {
		r := &route{Route: &c.Gateway[i]}
		var err error
		if r.limits, err = g.limitsOf(before, r.Route); err != nil {
			return nil, err
		}
		next.all = append(next.all, r)
	}
	slices.SortFunc(next.all, func(a, b *route) int { return len(b.Prefix) - len(a.Prefix) })
	g.retire(before, next)
	g.routes.Store(next)
	return next, nil
}

// limitsOf returns the limits of a route: those that it had before, if they are the same.
func (g *Gateway) limitsOf(before *routes, r *config.Route) (*limits, error) {
	if before != nil {
		for _, old := range before.all {
			if old.limits.prefix == r.Prefix && old.limits.media == r.MediaTokens {
				return old.limits, nil
			}
		}
	}
	// The policy that every call must have one of its own before.
	none, err := zael.NewPolicy("gateway", zael.Block("requests"))
	if err != nil {
		return nil, err
	}
	l, err := llm.New(g.env.Limiter, none, entityOf, &llm.Config{
		Recognize: func(r *http.Request) (llm.API, string) {
			f := flightOf(r.Context())
			return f.api, f.model
		},
		Policy: policyOf, Price: priceOf, Acquire: acquire, MediaTokens: r.MediaTokens,
		Settled: func(call *llm.Call, u llm.Usage) { flightOf(call.Request.Context()).settled(u) },
		Report:  func(call *llm.Call, err error) { flightOf(call.Request.Context()).unsettled(err) },
	})
	return &limits{l, r.Prefix, r.MediaTokens}, err
}

// retire keeps the limits that no route has any more until their calls have ended.
func (g *Gateway) retire(before, next *routes) {
	if before == nil {
		return
	}
	for _, old := range before.all {
		if !slices.ContainsFunc(next.all, func(r *route) bool { return r.limits == old.limits }) {
			g.retired = append(g.retired, old.limits)
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	g.retired = slices.DeleteFunc(g.retired, func(l *limits) bool { return l.Shutdown(over) == nil })
}

// A storedPolicy is a policy of stored limits with certain names.
type storedPolicy struct {
	policy *zael.Policy
	err    error // of a name that does not tell what it counts
}

// policyOf returns the policy of a call.
func policyOf(call *llm.Call) (*zael.Policy, error) {
	ctx := call.Request.Context()
	f := flightOf(ctx)
	if call.Background && !f.also {
		return nil, errBackground
	}
	if err := f.chooseResource(call); err != nil {
		return nil, err
	}
	if f.route.Policies != nil {
		if p := f.route.Policies[f.resource]; p != nil {
			return p, nil
		}
		return nil, errors.New("the resource has no policy") // the configuration has been checked
	}
	return f.gateway.storedPolicy(ctx, f)
}

// chooseResource sets which resource a call is taken from.
func (f *flight) chooseResource(call *llm.Call) error {
	resource, ok := f.route.Models.Get(call.Model)
	switch {
	case call.API == llm.Listing, call.API == llm.Other && call.Model == "":
		resource = f.route.Shared
	case ok && call.Model != "":
	case f.route.Default != "" && (call.Model != "" || call.API == llm.OpenAIMedia):
		resource = f.route.Default
	case call.Model == "" && call.API == llm.OpenAIMedia:
		return errForm
	case call.Model == "":
		return errNoModel
	default:
		return &unknownModelError{call.Model}
	}
	f.resource = resource
	return nil
}

// storedPolicy returns the policy of the limits that are stored for a call.
func (g *Gateway) storedPolicy(ctx context.Context, f *flight) (*zael.Policy, error) {
	nameless, err := zael.StoredPolicy(f.resource)
	if err != nil {
		return nil, err
	}
	names, err := g.env.Limiter.LimitNames(ctx, zael.Query{Entity: f.entity, Policy: nameless, Parent: f.parent()})
	if err != nil {
		return nil, err
	}
	key := f.resource + "\x00" + strings.Join(names, "\x00")
	g.mu.Lock()
	defer g.mu.Unlock()
	if known, ok := g.stored.Get(key); ok {
		return known.policy, known.err
	}
	known := new(storedPolicy)
	for _, name := range names {
		if _, ok := llm.UnitOf(name); !ok {
			known.err = &limitNameError{f.resource, name}
		}
	}
	if known.err == nil {
		known.policy, known.err = zael.StoredPolicy(f.resource, names...)
	}
	g.stored.Put(key, known)
	return known.policy, known.err
}

// priceOf returns the price of a call.
func priceOf(call *llm.Call) (llm.Price, error) {
	f := flightOf(call.Request.Context())
	if p, ok := f.config.Price(call.Model, f.resource); ok {
		return p, nil
	}
	return llm.Price{}, &unpricedError{call.Model}
}
