package access

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

const reasonMediaType = "media_type"

// allowsHost reports whether a request may be sent to a host. Without tokens, a web page could
// otherwise make its own name resolve to this machine and call as if from here (DNS rebinding).
// With tokens there is no such danger, as pages have none: names are checked only if Rules.Hosts
// has any. An address in digits cannot be rebound.
func (c *ruleSet) allowsHost(host string) bool {
	tokens := len(c.Tokens) > 0
	if tokens && len(c.Hosts) == 0 {
		return true
	}
	name := hostName(host)
	if name == "localhost" || slices.Contains(c.Hosts, name) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && (c.AllowRemote || tokens || addr.IsLoopback())
}

// hostName returns a host in lower case, without port and brackets.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return strings.ToLower(name)
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}

// crossSite returns why a request may come from a web page of another site, or "". Browsers say so
// in headers; a page cannot send application/json without asking first.
func crossSite(r *http.Request) (reason, detail string) {
	for _, origin := range r.Header["Origin"] {
		if !sameOrigin(origin, r.Host) {
			return "origin", "the request comes from a web page of another origin"
		}
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" {
			return "site", "the request comes from a web page of another site"
		}
	}
	if r.ContentLength == 0 {
		return "", ""
	}
	if types := r.Header["Content-Type"]; len(types) == 1 {
		if mediaType, _, err := mime.ParseMediaType(types[0]); err == nil && mediaType == "application/json" {
			return "", ""
		}
	}
	return reasonMediaType, "send the body with Content-Type: application/json"
}

// sameOrigin reports whether an origin is the host that is called. Schemes may differ, as a proxy
// may have removed the encryption.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return false
	}
	return withPort(u.Host, u.Scheme) == withPort(host, u.Scheme)
}

func withPort(host, scheme string) string {
	if _, port, err := net.SplitHostPort(host); err == nil && port != "" {
		return strings.ToLower(host)
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(hostName(host), port)
}
