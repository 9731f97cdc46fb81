package config

import (
	"errors"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/keyset"
	"github.com/zeroae/zael/internal/yamlfile"
	"github.com/zeroae/zael/llm"
)

// A routeParser reads one route. What other sections decide is checked when the whole file has
// been read.
type routeParser struct {
	*parser
	Route

	line     int            // of the route
	lines    map[string]int // of its keys
	limits   string         // "stored", "policies" or "policy"
	policy   string         // the name of "policy"
	patterns []string       // of models
	errs     []error
}

func (p *parser) gateway(name string, key, n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return yamlfile.Errorf(key.Line, "gateway: has no route: leave the key out, or add one")
	}
	return each(func(n *yaml.Node) error {
		r := &routeParser{parser: p, line: n.Line, lines: map[string]int{}}
		r.Provider = Auto
		err := yamlfile.Mapping(n, "gateway", r.marked(yamlfile.Fields{
			"prefix":           p.text(&r.Prefix),
			"upstream":         r.upstream,
			"provider":         r.provider,
			"upstream_key":     r.upstreamKey,
			"auth":             r.auth,
			"entity":           r.entity,
			"parent":           p.text(&r.Parent),
			"client_limits":    r.clientLimits,
			"limits":           r.readLimits,
			"models":           r.models,
			"default_resource": p.text(&r.Default),
			"max_wait":         p.duration(&r.MaxWait, 0, time.Hour),
			"media_tokens":     whole64(&r.MediaTokens, 1, 1_000_000),
			"also":             each(r.also),
		}))
		if err == nil {
			p.routes = append(p.routes, r)
		}
		return err
	})(name, key, n)
}

// marked returns fields that note where each key is.
func (r *routeParser) marked(fields yamlfile.Fields) yamlfile.Fields {
	all := yamlfile.Fields{}
	for name, read := range fields {
		all[name] = func(name string, key, n *yaml.Node) error {
			r.lines[name] = key.Line
			return read(name, key, n)
		}
	}
	return all
}

func (r *routeParser) upstream(name string, _, n *yaml.Node) error {
	text, err := r.expand(name, n)
	if err != nil {
		return err
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || cleanPath(u.Path) != strings.TrimSuffix(u.Path, "/") {
		return yamlfile.Errorf(n.Line, "upstream: is not a URL such as https://api.openai.com, without credentials and a query")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && ForbiddenUpstream(a) {
		return yamlfile.Errorf(n.Line, "upstream: %s is link-local, or a cloud's metadata service: no call goes there", a)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	r.Upstream = u
	return nil
}

// cleanPath returns a path without dots and double slashes, and without one at its end; "" of
// one that is none.
func cleanPath(p string) string {
	if p == "" || p[0] != '/' {
		return ""
	}
	return strings.TrimSuffix(path.Clean(p), "/")
}

func (r *routeParser) provider(name string, _, n *yaml.Node) error {
	word, err := yamlfile.Word(name, n, string(Auto), string(OpenAI), string(Anthropic), string(Gemini), string(Bedrock))
	r.Provider = Provider(word)
	return err
}

func (r *routeParser) upstreamKey(name string, _, n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && !strings.HasPrefix(n.Value, "${") {
		return yamlfile.Errorf(n.Line, "upstream_key: a secret is not written into the file: name an environment variable as ${NAME}")
	}
	text, err := r.expand(name, n)
	if err == nil && strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		err = yamlfile.Errorf(n.Line, "upstream_key: %s has a space or another character that no key has", n.Value)
	}
	r.UpstreamKey = text
	return err
}

func (r *routeParser) auth(name string, key, n *yaml.Node) error {
	ways := 0
	way := func(a Auth) yamlfile.Reader {
		return func(name string, _, n *yaml.Node) error {
			ways++
			yes, err := yamlfile.Bool("auth."+name, n)
			if err == nil && !yes {
				err = yamlfile.Errorf(n.Line, "auth.%s: is false: leave it out", name)
			}
			r.Auth = a
			return err
		}
	}
	err := yamlfile.Mapping(n, name, yamlfile.Fields{
		"tokens": way(AuthTokens), "entities": way(AuthEntities),
		"jwt": func(_ string, key, n *yaml.Node) error {
			ways++
			r.Auth = AuthJWT
			return r.jwt(key, n)
		},
	})
	if err == nil && ways != 1 {
		err = yamlfile.Errorf(key.Line, "auth: is not one of {tokens: true}, {entities: true} and {jwt: …}")
	}
	return err
}

func (r *routeParser) jwt(key, n *yaml.Node) error {
	set, file := &keyset.Set{Claim: "sub"}, ""
	err := yamlfile.Mapping(n, "auth.jwt", yamlfile.Fields{
		"jwks": r.text(&file), "issuer": r.text(&set.Issuer), "audience": r.text(&set.Audience), "claim": r.text(&set.Claim),
	})
	switch {
	case err != nil:
		return err
	case file == "" || set.Issuer == "" || set.Audience == "" || set.Claim == "":
		return yamlfile.Errorf(key.Line, "auth.jwt: needs jwks, a file, and issuer and audience: without them tokens that were made for others would do")
	}
	if err := set.Load(file); err != nil {
		return yamlfile.Errorf(key.Line, "auth.jwt: jwks: %w", err)
	}
	r.JWT, r.JWKS = set, file
	return nil
}

func (r *routeParser) entity(name string, _, n *yaml.Node) error {
	text, err := r.expand(name, n)
	if err != nil {
		return err
	}
	r.Entity = map[string]EntityFrom{"token": EntityToken, "key_hash": EntityKeyHash, "claim": EntityClaim}[text]
	if header, ok := strings.CutPrefix(text, "header:"); ok {
		switch strings.ToLower(header) {
		case "authorization", "proxy-authorization", "cookie", "x-api-key", "x-goog-api-key", "api-key":
			return yamlfile.Errorf(n.Line, "entity: %s holds a key, which must not be stored: use key_hash", header)
		}
		if !validHost(header) || strings.Contains(header, ".") {
			return yamlfile.Errorf(n.Line, "entity: %q is not the name of a header", header)
		}
		r.Entity, r.Header = EntityHeader, header
	}
	if r.Entity == 0 {
		return yamlfile.Errorf(n.Line, "entity: %q is not token, key_hash, claim or header:NAME", text)
	}
	return nil
}

func (r *routeParser) clientLimits(name string, key, n *yaml.Node) error {
	var limits []zael.Limit
	if err := r.limitList(&limits, name)(name, key, n); err != nil {
		return err
	}
	for _, l := range limits {
		if l.Kind() == zael.KindSlots {
			return yamlfile.Errorf(key.Line, "client_limits: %s are slots: only rates and quotas of requests can be had", l.Name)
		}
	}
	policy, err := zael.NewPolicy("gateway-clients", limits...)
	r.Clients = policy
	return invalid(key.Line, name, err)
}

func (r *routeParser) readLimits(name string, key, n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		var err error
		r.limits, err = yamlfile.Word(name, n, "stored", "policies")
		return err
	}
	r.limits = "policy"
	err := yamlfile.Mapping(n, name, yamlfile.Fields{"policy": r.text(&r.policy)})
	if err == nil && r.policy == "" {
		err = yamlfile.Errorf(key.Line, "limits: is not stored, policies or {policy: NAME}")
	}
	return err
}

func (r *routeParser) models(name string, key, n *yaml.Node) error {
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		return nil
	}
	return yamlfile.Mapping(n, name, yamlfile.Fields{yamlfile.AnyKey: func(pattern string, key, n *yaml.Node) error {
		resource, err := r.expand(name, n)
		if err != nil {
			return err
		}
		if err := checkPattern(pattern); err != nil {
			return yamlfile.Errorf(key.Line, "models: %q %w", pattern, err)
		}
		if _, err := zael.StoredPolicy(resource); err != nil {
			return invalid(n.Line, name, err)
		}
		r.Models.Set(pattern, resource)
		r.patterns = append(r.patterns, pattern)
		if r.Shared == "" {
			r.Shared = resource
		}
		return nil
	}})
}

// checkPattern returns what is wrong with the name of a model, which may end with "*".
func checkPattern(pattern string) error {
	switch name := strings.TrimSuffix(pattern, "*"); {
	case pattern == "" || len(pattern) > 256 || strings.ContainsFunc(pattern, unicode.IsControl):
		return errors.New("is not the name of a model")
	case pattern == "*":
		return errors.New("would be all models: set default_resource")
	case strings.Contains(name, "*"):
		return errors.New("has a * that is not its end")
	}
	return nil
}

func (r *routeParser) also(n *yaml.Node) error {
	text, err := r.expand("also", n)
	if err != nil {
		return err
	}
	method, prefix, ok := strings.Cut(text, " ")
	if !ok || !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, method) || cleanPath(prefix) != prefix || prefix == "" {
		return yamlfile.Errorf(n.Line, "also: %q is not a method and a path, such as POST /v1/rerank", text)
	}
	r.Route.Also = append(r.Route.Also, Also{method, prefix})
	return nil
}

func whole64(to *int64, least, most int) yamlfile.Reader {
	return func(name string, key, n *yaml.Node) error {
		var i int
		err := whole(&i, least, most)(name, key, n)
		*to = int64(i)
		return err
	}
}

func (p *parser) prices(name string, _, n *yaml.Node) error {
	return yamlfile.Mapping(n, name, yamlfile.Fields{yamlfile.AnyKey: func(pattern string, key, n *yaml.Node) error {
		if err := checkPattern(pattern); err != nil {
			return yamlfile.Errorf(key.Line, "prices: %q %w", pattern, err)
		}
		var price llm.Price
		given := map[string]bool{}
		dollars := func(to *int64, least int64) yamlfile.Reader {
			return func(name string, _, n *yaml.Node) error {
				given[name] = true
				text, err := p.expand("prices", n)
				if err != nil {
					return err
				}
				micro, ok := microDollars(text)
				if !ok || micro < least {
					return yamlfile.Errorf(n.Line, "prices: %s: %q is not a number of dollars a million tokens, such as 2.50, with at most six decimals", name, text)
				}
				*to = micro
				return nil
			}
		}
		err := yamlfile.Mapping(n, "prices", yamlfile.Fields{
			"input": dollars(&price.Input, 0), "output": dollars(&price.Output, 0), "cached": dollars(&price.CachedInput, 1), "cache_write": dollars(&price.CacheWrite, 1),
		})
		if err == nil && (!given["input"] || !given["output"]) {
			err = yamlfile.Errorf(key.Line, "prices: %s needs input and output; write 0 if one is free", pattern)
		}
		p.config.Prices.Set(pattern, price)
		return err
	}})
}

// microDollars reads an amount of dollars, at most a million.
func microDollars(text string) (int64, bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	if whole == "" || len(whole) > 7 || len(fraction) > 6 {
		return 0, false
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", 6-len(fraction)), 10, 63)
	return int64(n), err == nil && n <= 1_000_000*llm.Dollar //nolint:gosec // it has 63 bits
}
