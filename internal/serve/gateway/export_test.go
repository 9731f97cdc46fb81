package gateway

import (
	"net/http"

	"github.com/zeroae/zael/internal/serve/config"
)

// Passes returns what of a request's path goes upstream, by a route with a prefix, and whether
// any of it does.
func Passes(r *http.Request, prefix string) (rest string, ok bool) {
	all := &routes{all: []*route{{Route: &config.Route{Prefix: prefix, Provider: config.Auto}}}}
	found := all.find(r.URL.Path)
	if found == nil {
		return "", false
	}
	f := &flight{route: found, rest: r.URL.Path[len(prefix):]}
	f.recognize(r)
	return f.rest, f.listed && wrongRequest(r, f.rest) == ""
}

// Upstream is the transport to upstreams.
func Upstream() *http.Transport { return newUpstream() }
