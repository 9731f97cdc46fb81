package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/problem"
)

// A route is a method of a path. A segment {id} or {name} of the path stands for a name, in
// which / and so on are escaped.
type route struct {
	method, path string
	query        []string // parameters that are known; * after the name: it may be repeated
	serve        func(*call) error
	time         time.Duration

	segments []string
}

// routes returns all routes except acquirePath, which is matched before them.
func routes() []route {
	list := []route{
		{method: http.MethodGet, path: "/v1/openapi.json", serve: (*call).document},
		{method: http.MethodGet, path: "/v1/ping", serve: (*call).ping},
		{method: http.MethodGet, path: "/v1/whoami", serve: (*call).whoami},

		{method: http.MethodPost, path: "/v1/leases/settle", serve: endLease(zael.LeaseSettle, "used")},
		{method: http.MethodPost, path: "/v1/leases/commit", serve: endLease(zael.LeaseCommit, "")},
		{method: http.MethodPost, path: "/v1/leases/rollback", serve: endLease(zael.LeaseRollback, "")},
		{method: http.MethodPost, path: "/v1/leases/release", serve: endLease(zael.LeaseRelease, "amounts")},
		{method: http.MethodPost, path: "/v1/leases/consume", serve: (*call).consume},
		{method: http.MethodPost, path: "/v1/leases/renew", serve: (*call).renew},

		{method: http.MethodGet, path: "/v1/entities", query: []string{"prefix", "limit", "cursor"}, serve: (*call).entities},
		{method: http.MethodGet, path: "/v1/scopes", query: []string{"prefix", "limit", "cursor"}, serve: (*call).scopes},
		{method: http.MethodGet, path: "/v1/resources", query: []string{"prefix", "limit", "cursor"}, serve: (*call).resources},
		{method: http.MethodPost, path: "/v1/entities", serve: (*call).createEntity},
		{method: http.MethodGet, path: "/v1/entities/{id}", serve: (*call).entity},
		{method: http.MethodDelete, path: "/v1/entities/{id}", serve: (*call).deleteEntity},
		{method: http.MethodGet, path: "/v1/entities/{id}/children", query: []string{"limit", "cursor"}, serve: (*call).children},
		{method: http.MethodPut, path: "/v1/entities/{id}/parent", serve: (*call).setParent},
		{method: http.MethodDelete, path: "/v1/entities/{id}/parent", serve: (*call).removeParent},
		{method: http.MethodGet, path: "/v1/entities/{id}/overview", serve: (*call).overview},
		{method: http.MethodGet, path: "/v1/entities/{id}/available", query: availableQuery(), serve: (*call).available},
		{method: http.MethodPost, path: "/v1/entities/{id}/reset", serve: (*call).reset},
		{method: http.MethodPost, path: "/v1/entities/{id}/top-up", serve: (*call).topUp},

		{method: http.MethodGet, path: "/v1/resources/{name}/capacity", query: []string{"limit_name", "parents_only", "limit", "cursor"}, serve: (*call).capacity},
		{method: http.MethodGet, path: "/v1/live", query: []string{"resource", "limit"}, serve: (*call).live},
		{method: http.MethodGet, path: "/v1/usage", query: []string{"entity", "resource", "window", "from", "to", "limit", "cursor"}, serve: (*call).usage},
		{method: http.MethodGet, path: "/v1/audit", query: []string{"entity", "from", "to", "limit", "cursor"}, serve: (*call).audit},
		{method: http.MethodPost, path: "/v1/changes", query: []string{"dry_run", "replace"}, serve: (*call).changes},

		{method: http.MethodGet, path: "/v1/namespaces", query: []string{"limit", "cursor"}, serve: (*call).namespaces},
		{method: http.MethodPost, path: "/v1/namespaces", serve: (*call).registerNamespace},
		{method: http.MethodGet, path: "/v1/namespaces/{name}", serve: (*call).namespace},
		{method: http.MethodDelete, path: "/v1/namespaces/{name}", serve: (*call).deleteNamespace},
		{method: http.MethodPost, path: "/v1/namespaces/{name}/recover", serve: (*call).recoverNamespace},
		{method: http.MethodPost, path: "/v1/namespaces/{name}/purge", serve: (*call).purgeNamespace, time: purgeTime},
	}
	for _, scope := range []struct {
		path  string
		query []string
	}{{"/v1/entities/{id}", []string{"resource"}}, {"/v1/resources/{name}", nil}, {"/v1/system", nil}} {
		list = append(list,
			route{method: http.MethodGet, path: scope.path + "/limits", query: scope.query, serve: (*call).limits},
			route{method: http.MethodPut, path: scope.path + "/limits", query: append([]string{"replace"}, scope.query...), serve: (*call).setLimits},
			route{method: http.MethodDelete, path: scope.path + "/limits", query: scope.query, serve: (*call).deleteLimits},
			route{method: http.MethodGet, path: scope.path + "/settings", query: scope.query, serve: (*call).settings},
			route{method: http.MethodPut, path: scope.path + "/failure-mode", query: scope.query, serve: (*call).setFailureMode},
		)
		if scope.path != "/v1/system" {
			list = append(list, route{method: http.MethodPut, path: scope.path + "/switch", query: scope.query, serve: (*call).setSwitch})
		}
	}
	for i := range list {
		list[i].segments = strings.Split(list[i].path, "/")[1:]
		if list[i].time == 0 {
			list[i].time = storeTime
		}
	}
	return list
}

// route returns the route of a request, with its names in c.
func (h *handler) route(c *call) (*route, error) {
	path := c.r.URL.EscapedPath()
	if len(path) > maxPath {
		return nil, notFound()
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	var allowed []string
	for i := range h.routes {
		to := &h.routes[i]
		if !to.matches(segments) {
			continue
		}
		if to.method != c.r.Method {
			allowed = append(allowed, to.method)
			continue
		}
		if err := c.unescape(to, segments); err != nil {
			return nil, err
		}
		return to, nil
	}
	if path == acquirePath {
		allowed = []string{http.MethodPost}
	}
	if len(allowed) == 0 {
		return nil, notFound()
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return nil, &failure{code: problem.NoMethod, detail: "the path takes " + strings.Join(allowed, ", ") + ", not " + c.r.Method}
}

func notFound() error {
	return &failure{code: problem.NotFound, detail: "there is no such path: /v1/openapi.json lists all of them"}
}

// matches reports whether a path, escaped and without the first /, is one of the route.
func (t *route) matches(segments []string) bool {
	if len(segments) != len(t.segments) {
		return false
	}
	for i, want := range t.segments {
		if segments[i] == "" || !isName(want) && segments[i] != want {
			return false
		}
	}
	return true
}

func isName(segment string) bool { return segment[0] == '{' }

// unescape sets the name in the path.
func (c *call) unescape(to *route, segments []string) error {
	for i, want := range to.segments {
		if !isName(want) {
			continue
		}
		field := strings.Trim(want, "{}")
		if s := segments[i]; s == "." || s == ".." {
			return invalid(field, "is a dot in a path, which has another meaning: write it as %2E")
		}
		name, err := url.PathUnescape(segments[i])
		if err != nil {
			return invalid(field, "has a % without two hex digits after it")
		}
		c.name = name
	}
	return nil
}

// index returns the name of an element of an array.
func index(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }
