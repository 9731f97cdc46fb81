package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/yamlfile"
)

// minKeyLength is the least length of a key that signs leases.
const minKeyLength = 32

// A parser walks the nodes of a document, rather than decoding it, so that every error has a
// line.
type parser struct {
	config    *Config
	lookupEnv func(string) (string, bool)
	lines     map[string]int // of listen, metrics_listen and tls
	routes    []*routeParser
	limits    map[string][]zael.Limit // of policies
}

// noAliases refuses aliases: a short file of them can stand for a very long one.
func noAliases(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		return yamlfile.Errorf(n.Line, "*%s: aliases are not allowed here: write the value out", n.Value)
	}
	for _, child := range n.Content {
		if err := noAliases(child); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) document(n *yaml.Node) error {
	c, version := p.config, false
	err := yamlfile.Mapping(n, "the file", yamlfile.Fields{
		"version": func(name string, _, n *yaml.Node) error {
			version = true
			if text, err := yamlfile.Text(name, n); err != nil || text != "1" {
				return yamlfile.Errorf(n.Line, "version: not 1, the only one that this zael reads")
			}
			return nil
		},
		"listen":          p.address(&c.Listen),
		"metrics_listen":  p.address(&c.MetricsListen),
		"store":           p.text(&c.Store),
		"hosts":           p.hosts,
		"trusted_proxies": p.proxies,
		"tls":             p.tls,
		"timeout":         p.duration(&c.Timeout, time.Millisecond, time.Minute),
		"failure_mode": func(name string, _, n *yaml.Node) error {
			mode, err := yamlfile.Word(name, n, "closed", "open")
			c.FailureMode = map[string]zael.FailureMode{"closed": zael.FailClosed, "open": zael.FailOpen}[mode]
			return err
		},
		"log":              p.log,
		"shutdown_timeout": p.duration(&c.ShutdownTimeout, 0, time.Hour),
		"shutdown_delay":   p.duration(&c.ShutdownDelay, 0, time.Hour),
		"max":              p.max,
		"leases":           p.leases,
		"tokens":           p.tokens,
		"policies":         p.policies,
		"prices":           p.prices,
		"gateway":          p.gateway,
		"rls":              p.rls,
	})
	if !version && n.Kind == yaml.MappingNode {
		err = errors.Join(yamlfile.Errorf(n.Line, "version: missing: write version: 1"), err)
	}
	return err
}

func (p *parser) tls(name string, key, n *yaml.Node) error {
	t := new(TLS)
	err := yamlfile.Mapping(n, name, yamlfile.Fields{"cert": p.text(&t.Cert), "key": p.text(&t.Key), "client_ca": p.text(&t.ClientCA)})
	if err == nil && (t.Cert == "" || t.Key == "") {
		err = yamlfile.Errorf(key.Line, "tls: needs both cert and key")
	}
	p.config.TLS, p.lines[name] = t, key.Line
	return err
}

func (p *parser) log(name string, _, n *yaml.Node) error {
	l := &p.config.Log
	return yamlfile.Mapping(n, name, yamlfile.Fields{
		"level": func(_ string, _, n *yaml.Node) error {
			level, err := yamlfile.Word("log.level", n, "debug", "info", "warn", "error")
			l.Level = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[level]
			return err
		},
		"format": func(_ string, _, n *yaml.Node) error {
			format, err := yamlfile.Word("log.format", n, "text", "json")
			l.JSON = format == "json"
			return err
		},
	})
}

func (p *parser) max(name string, _, n *yaml.Node) error {
	m := &p.config.Max
	return yamlfile.Mapping(n, name, yamlfile.Fields{
		"body":        size(&m.Body, 1<<10, 1<<30),
		"header":      size(&m.Header, 1<<10, 1<<20),
		"header_time": p.duration(&m.HeaderTime, 10*time.Millisecond, 10*time.Minute),
		"idle":        p.duration(&m.Idle, 10*time.Millisecond, time.Hour),
		"connections": whole(&m.Connections, 1, 1_000_000),
		"waits":       whole(&m.Waits, 0, 1_000_000),
		"wait":        p.duration(&m.Wait, 0, time.Hour),
		"call":        size(&m.Call, 1<<10, 1<<30),
		"streams":     whole(&m.Streams, 1, 1_000_000),
	})
}

func (p *parser) leases(name string, _, n *yaml.Node) error {
	l := &p.config.Leases
	return yamlfile.Mapping(n, name, yamlfile.Fields{
		"keys": each(func(n *yaml.Node) error {
			if n.Kind == yaml.ScalarNode && !strings.HasPrefix(n.Value, "${") {
				return yamlfile.Errorf(n.Line, "leases.keys: a secret is not written into the file: name an environment variable as ${NAME}")
			}
			text, err := p.expand("leases.keys", n)
			if err == nil && len(text) < minKeyLength {
				err = yamlfile.Errorf(n.Line, "leases.keys: %s has %d characters: a key has %d or more", n.Value, len(text), minKeyLength)
			}
			l.Keys = append(l.Keys, text)
			return err
		}),
		"max_age": p.duration(&l.MaxAge, time.Minute, 30*24*time.Hour),
	})
}

func (p *parser) hosts(name string, key, n *yaml.Node) error {
	return each(func(n *yaml.Node) error {
		host, err := p.expand(name, n)
		if err == nil && !validHost(host) {
			err = yamlfile.Errorf(n.Line, "hosts: %q is not a name without a port, such as limits.example.com", host)
		}
		p.config.Hosts = append(p.config.Hosts, strings.ToLower(host))
		return err
	})(name, key, n)
}

func validHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return host != "" && len(host) <= 253 && (err == nil || !strings.ContainsFunc(host, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_'
	}))
}

func (p *parser) proxies(name string, key, n *yaml.Node) error {
	return each(func(n *yaml.Node) error {
		text, err := p.expand(name, n)
		if err != nil {
			return err
		}
		prefix, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return yamlfile.Errorf(n.Line, "trusted_proxies: %q is not a network such as 10.0.0.0/8", text)
		}
		p.config.TrustedProxies = append(p.config.TrustedProxies, prefix.Masked())
		return nil
	})(name, key, n)
}

func (p *parser) policies(name string, _, n *yaml.Node) error {
	p.config.Policies = map[string]*zael.Policy{}
	return yamlfile.Mapping(n, name, yamlfile.Fields{yamlfile.AnyKey: func(resource string, key, n *yaml.Node) error {
		var limits []zael.Limit
		what := "policy " + resource
		p.config.Policies[resource] = nil // known, though it may be wrong
		err := yamlfile.Mapping(n, what, yamlfile.Fields{"limits": p.limitList(&limits, what)})
		if err != nil {
			return err
		}
		policy, err := zael.NewPolicy(resource, limits...)
		p.config.Policies[resource], p.limits[resource] = policy, limits
		return invalid(key.Line, what, err)
	}})
}

// limitList reads a list of limits. what is what has them.
func (p *parser) limitList(to *[]zael.Limit, what string) yamlfile.Reader {
	return each(func(n *yaml.Node) error {
		text, err := p.expand(what, n)
		if err != nil {
			return err
		}
		l, err := zael.ParseLimit(text)
		*to = append(*to, l)
		return invalid(n.Line, what, err)
	})
}

// invalid returns an *yamlfile.Error for a *zael.ValidationError, without the API's field.
func invalid(line int, what string, err error) error {
	var v *zael.ValidationError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &v):
		return yamlfile.Errorf(line, "%s: %s", what, err)
	case v.Value == nil:
		return yamlfile.Errorf(line, "%s: %s", what, v.Reason)
	}
	return yamlfile.Errorf(line, "%s: %q %s", what, fmt.Sprint(v.Value), v.Reason)
}

func (p *parser) tokens(name string, key, n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return yamlfile.Errorf(key.Line, "tokens: none: leave the key out to let in whoever is on this machine, or add one ('zael token new')")
	}
	return each(p.token)(name, key, n)
}

func (p *parser) token(n *yaml.Node) error {
	var t access.Token
	err := yamlfile.Mapping(n, "tokens", yamlfile.Fields{
		"name":   p.text(&t.Name),
		"role":   unmarshal(&t.Role),
		"prefix": p.text(&t.Prefix),
		"hash":   unmarshal(&t.Hash),
		"may_set_limits": func(name string, _, n *yaml.Node) (err error) {
			t.MaySetLimits, err = yamlfile.Bool(name, n)
			return err
		},
	})
	if err != nil {
		return err
	}
	if wrong := p.wrongToken(t); wrong != "" {
		return yamlfile.Errorf(n.Line, "tokens: %s: %s", cmp.Or(t.Name, "one without a name"), wrong)
	}
	p.config.Tokens = append(p.config.Tokens, t)
	return nil
}

// wrongToken says what is wrong with a token, if anything is.
func (p *parser) wrongToken(t access.Token) string {
	switch {
	case !validTokenName(t.Name):
		return "name is not 1 to 64 characters of A-Z a-z 0-9 . _ -"
	case t.Name == access.Local || t.Name == access.Anyone:
		return "name is taken: callers without a token have it in the audit log"
	case t.Role == 0:
		return "role is missing: acquire, gateway, read or admin"
	case t.Hash == access.Hash{}:
		return "hash is missing: 'zael token new' prints a token and its hash"
	case t.MaySetLimits && t.Role != access.Acquire:
		return "may_set_limits is for the role acquire"
	}
	for _, other := range p.config.Tokens {
		switch {
		case other.Name == t.Name:
			return "name is there twice"
		case other.Hash == t.Hash:
			return "hash is that of " + other.Name
		}
	}
	return ""
}

func validTokenName(name string) bool {
	return name != "" && len(name) <= 64 && !slices.ContainsFunc([]byte(name), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_'
	})
}
