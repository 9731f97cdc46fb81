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

// allowsHost reports whether a request may be sent to a host. Where no token is asked for, a web
// page could otherwise have its own name lead to this machine and call as if from here (DNS
// rebinding). A token is no such danger, as pages have none: names are then checked only if
// there are any. An address in digits is nobody's name.
func (c *compiled) allowsHost(host string) bool {
	tokens := len(c.Tokens) > 0
	if tokens && len(c.Hosts) == 0 {
		return true
	}
	name := hostName(host)
	if name == "localhost" || slices.Contains(c.Hosts, name) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && (c.Open || tokens || addr.IsLoopback())
}

// hostName returns a host in lower case, without port and brackets.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return strings.ToLower(name)
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}

// foreign returns why a request may have been sent by a web page of others, of which a browser
// says so, or "".
func foreign(r *http.Request) (reason, detail string) {
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

// sameOrigin reports whether a page of an origin is of the host that it calls. Its scheme may
// differ, as a proxy may have undone the encryption.
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
