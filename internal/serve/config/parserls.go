package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"

	"go.yaml.in/yaml/v3"

	"github.com/zeroae/zael/internal/yamlfile"
)

func (p *parser) rls(name string, key, n *yaml.Node) error {
	r := new(RLS)
	err := yamlfile.Mapping(n, name, yamlfile.Fields{
		"listen": func(_ string, _, n *yaml.Node) (err error) {
			if r.Listen, err = p.expand("rls.listen", n); err == nil {
				if err = checkAddress(r.Listen); err != nil {
					err = yamlfile.Errorf(n.Line, "rls.listen: %q %s", r.Listen, err)
				}
			}
			return err
		},
		"config":               p.text(&r.Folder),
		"xds":                  func(_ string, key, n *yaml.Node) error { return p.xds(key, n, r) },
		"insecure":             flag(&r.Insecure),
		"merge_domain_configs": flag(&r.Merge),
		"charge_on_refusal":    flag(&r.ChargeOnRefusal),
		"compat_metrics":       flag(&r.CompatMetrics),
		"quota_mode": func(name string, _, n *yaml.Node) error {
			mode, err := yamlfile.Word("rls."+name, n, "any_left", "never_refuse")
			r.NeverRefuse = mode == "never_refuse"
			return err
		},
		"headers": func(_ string, _, n *yaml.Node) error {
			return yamlfile.Mapping(n, "rls.headers", yamlfile.Fields{
				"limit": p.text(&r.Headers.Limit), "remaining": p.text(&r.Headers.Remaining), "reset": p.text(&r.Headers.Reset),
			})
		},
	})
	if err == nil && (r.Listen == "" || (r.Folder == "") == (r.XDS == nil)) {
		err = yamlfile.Errorf(key.Line, "rls: needs listen, an address of its own, and either config, a folder of rules, or xds, a control plane")
	}
	p.config.RLS, p.lines[name] = r, key.Line
	return err
}

func (p *parser) xds(key, n *yaml.Node, r *RLS) error {
	x, t := new(XDS), new(TLS)
	plain := false
	err := yamlfile.Mapping(n, "rls.xds", yamlfile.Fields{
		"server": p.text(&x.Server), "node_id": p.text(&x.NodeID), "server_name": p.text(&x.ServerName),
		"cert": p.text(&t.Cert), "key": p.text(&t.Key), "ca": p.text(&t.ClientCA), "insecure": flag(&plain),
	})
	_, _, invalid := net.SplitHostPort(x.Server)
	switch {
	case err != nil:
	case invalid != nil:
		err = yamlfile.Errorf(key.Line, "rls.xds: server: %q is not a host and port, such as envoy-gateway:18001", x.Server)
	case (t.Cert == "") != (t.Key == ""):
		err = yamlfile.Errorf(key.Line, "rls.xds: cert and key belong together")
	case plain && *t != TLS{}:
		err = yamlfile.Errorf(key.Line, "rls.xds: insecure does not encrypt: leave cert, key and ca out")
	case !plain:
		x.TLS = t
	}
	r.XDS = x
	return err
}

func flag(to *bool) yamlfile.Reader {
	return func(name string, _, n *yaml.Node) (err error) {
		*to, err = yamlfile.Bool(name, n)
		return err
	}
}

// setRLS has the command line prevail.
func (s *Source) setRLS(c *Config, lines map[string]int) error {
	if s.RLSListen == "" && s.RLSFolder == "" {
		return nil
	}
	r := RLS{}
	if c.RLS != nil {
		r = *c.RLS
	}
	if s.RLSListen != "" {
		if err := checkAddress(s.RLSListen); err != nil {
			return fmt.Errorf("--rls-listen %q %w", s.RLSListen, err)
		}
		delete(lines, "rls")
	}
	r.Listen, r.Folder = cmp.Or(s.RLSListen, r.Listen), cmp.Or(s.RLSFolder, r.Folder)
	if r.Listen == "" || r.Folder == "" && r.XDS == nil {
		return errors.New("--rls-listen and --rls-config belong together: give both")
	}
	if s.RLSFolder != "" {
		r.XDS = nil
	}
	c.RLS = &r
	return nil
}

// checkRLS returns an error if other machines could call the rate limit service and nobody has
// said that they may: Envoy has no token to show.
func (s *Source) checkRLS(c *Config, lines map[string]int) error {
	if c.RLS == nil || Loopback(c.RLS.Listen) || c.RLS.Insecure || c.Insecure || c.TLS != nil && c.TLS.ClientCA != "" {
		return nil
	}
	reason := c.RLS.Listen + " would let other machines charge any limit: set tls.client_ca, so that clients need a certificate, " +
		"listen on 127.0.0.1, or write insecure: true where the network lets in nobody else"
	if line, ok := lines["rls"]; ok {
		return yamlfile.Named(s.File, "\n", yamlfile.Errorf(line, "rls: %s", reason))
	}
	return errors.New("--rls-listen " + reason)
}
