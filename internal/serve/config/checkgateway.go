package config

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/yamlfile"
	"github.com/zeroae/zael/llm"
)

// checkRoutes finishes the routes when all sections have been read.
func (p *parser) checkRoutes() error {
	var errs []error
	for _, r := range p.routes {
		r.check()
		for i := range p.config.Gateway {
			if p.config.Gateway[i].Prefix == r.Prefix {
				r.wrong("prefix", "%s is the prefix of two routes", r.Prefix)
			}
		}
		errs = append(errs, r.errs...)
		p.config.Gateway = append(p.config.Gateway, r.Route)
	}
	return errors.Join(errs...)
}

// wrong notes a mistake about a key, or about the route if it lacks the key.
func (r *routeParser) wrong(key, format string, args ...any) {
	line, ok := r.lines[key]
	if !ok {
		line = r.line
	}
	r.errs = append(r.errs, yamlfile.Errorf(line, key+": "+format, args...))
}

func (r *routeParser) check() {
	if reserved(r.Prefix) {
		r.wrong("prefix", "%q is not a path of its own such as /openai: it begins with /, has no escapes and no slash at its end, no dot in its first part, and is none of the server's (/v1, /metrics, /healthz, /readyz, /json)", r.Prefix)
	}
	if r.Upstream == nil {
		r.wrong("upstream", "missing: write the URL that calls go to, such as https://api.openai.com")
	}
	r.checkAuth()
	r.checkEntity()
	r.checkLimits()
	if r.Default != "" {
		r.Shared = r.Default
		if _, err := zael.StoredPolicy(r.Default); err != nil {
			r.errs = append(r.errs, invalid(r.lines["default_resource"], "default_resource", err))
		}
	}
	if r.Shared == "" {
		r.wrong("models", "names no model, and there is no default_resource: every call would be refused")
	}
}

// reserved reports whether a prefix cannot be had.
func reserved(prefix string) bool {
	if cleanPath(prefix) != prefix || prefix == "" || len(prefix) > 256 || strings.ContainsFunc(prefix, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("/-._~", c)
	}) {
		return true
	}
	first, _, _ := strings.Cut(prefix[1:], "/")
	return strings.Contains(first, ".") || slices.Contains([]string{"v1", "metrics", "healthz", "readyz", "json"}, first)
}

func (r *routeParser) checkAuth() {
	switch {
	case r.UpstreamKey != "" && r.Auth == AuthNone:
		r.wrong("upstream_key", "a route with a key of yours needs auth: without it every invented key would be another entity with limits of its own")
	case r.UpstreamKey != "" && r.Upstream != nil && r.Upstream.Scheme == "http" && !privateHost(r.Upstream.Hostname()):
		r.wrong("upstream", "the key would be sent unencrypted: use https")
	}
}

// privateHost reports whether a host is of this machine or a private network, by its address.
func privateHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (a.IsLoopback() || a.IsPrivate())
}

func (r *routeParser) checkEntity() {
	if r.Entity == 0 {
		r.Entity = map[Auth]EntityFrom{AuthNone: EntityKeyHash, AuthTokens: EntityToken, AuthEntities: EntityKeyHash, AuthJWT: EntityClaim}[r.Auth]
	}
	switch {
	case r.Entity == EntityToken && r.Auth != AuthTokens:
		r.wrong("entity", "token needs auth: {tokens: true}")
	case r.Entity == EntityClaim && r.Auth != AuthJWT:
		r.wrong("entity", "claim needs auth: {jwt: …}")
	case r.Entity == EntityKeyHash && (r.Auth == AuthTokens || r.Auth == AuthJWT):
		r.wrong("entity", "key_hash is for auth: {entities: true} and for routes without auth: use token or claim")
	case r.Entity != EntityKeyHash && r.Auth == AuthEntities:
		r.wrong("entity", "is key_hash with auth: {entities: true}")
	case r.Entity == EntityKeyHash && r.Auth == AuthNone && r.Parent == "" && r.Clients == nil:
		r.wrong("entity", "key_hash without auth needs a parent or client_limits, which every call takes from: each invented key would have limits of its own")
	case r.Entity == EntityHeader && len(r.config.TrustedProxies) == 0:
		r.wrong("entity", "a header needs trusted_proxies: anybody else can send it")
	}
	if r.Parent != "" && !validEntity(r.Parent) {
		r.wrong("parent", "%q is not an entity: 1 to 256 bytes without control characters", r.Parent)
	}
}

func validEntity(id string) bool {
	return id != "" && len(id) <= 256 && utf8.ValidString(id) && strings.TrimSpace(id) == id && !strings.ContainsFunc(id, unicode.IsControl)
}

// checkLimits makes the policies of the resources.
func (r *routeParser) checkLimits() {
	resources := map[string][]string{} // the patterns of models that have them
	for _, pattern := range r.patterns {
		resource, _ := r.Models.Get(pattern)
		resources[resource] = append(resources[resource], pattern)
	}
	if r.Default != "" {
		resources[r.Default] = append(resources[r.Default], "")
	}
	switch r.limits {
	case "":
		r.wrong("limits", "missing: stored, policies, or {policy: NAME}")
		return
	case "stored":
		return
	}
	r.Policies = map[string]*zael.Policy{}
	for _, resource := range slices.Sorted(maps.Keys(resources)) {
		name := r.policy
		if r.limits == "policies" {
			name = resource
		}
		limits, ok := r.parser.limits[name]
		if !ok {
			if _, known := r.config.Policies[name]; !known { // else the policy is wrong itself
				r.wrong("limits", "there is no policy %s", name)
			}
			continue
		}
		r.checkUnits(name, limits, resource, resources[resource])
		policy, err := zael.NewPolicy(resource, limits...)
		if err != nil {
			r.wrong("limits", "policy %s: %s", name, err)
		}
		r.Policies[resource] = policy
	}
}

// checkUnits checks that all limits count what the gateway can tell.
func (r *routeParser) checkUnits(name string, limits []zael.Limit, resource string, patterns []string) {
	for _, l := range limits {
		switch unit, ok := llm.UnitOf(l.Name); {
		case !ok:
			r.wrong("limits", "policy %s: the name %s does not tell what it counts: use rpm, tpm, itpm, otpm, usd, inflight or one of their kin", name, l.Name)
		case unit == llm.MicroDollars:
			if _, ok := r.config.Prices.Get(resource); ok {
				continue
			}
			for _, pattern := range patterns {
				if pattern == "" || !r.config.Prices.Covers(pattern) {
					r.wrong("limits", "policy %s: %s counts money, and prices has none for %s", name, l.Name, modelName(pattern, resource))
				}
			}
		}
	}
}

func modelName(pattern, resource string) string {
	if pattern == "" {
		return "the default_resource " + resource
	}
	return "the model " + pattern
}
