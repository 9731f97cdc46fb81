package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
)

// Names travel in paths whatever is in them, over a real connection too.
func TestNames(t *testing.T) {
	t.Parallel()
	s := setup(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.ServeHTTP(w, r.WithContext(access.With(r.Context(), admin)))
	}))
	defer server.Close()
	send := func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		s.ok(err)
		resp, err := server.Client().Do(r)
		s.ok(err)
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		s.ok(err)
		return resp.StatusCode, string(text)
	}
	for _, id := range []string{
		"a/b", "::1", "%2f", "..", ".", "...", "a b", "a+b", "a?b#c", "a&b=c;d", "é😀", `"\`, "-", "_default", strings.Repeat("/", 256), "limits", "a%",
	} {
		at := url.PathEscape(id)
		if strings.Trim(id, ".") == "" {
			at = strings.ReplaceAll(id, ".", "%2E")
		}
		quoted, err := json.Marshal(id)
		s.ok(err)
		for _, c := range []struct {
			tried

			status int
			want   string
		}{
			{tried{"POST", "/v1/entities", `{"id":` + string(quoted) + `}`}, 201, ""},
			{tried{"GET", "/v1/entities/" + at, ""}, 200, ""},
			{tried{"PUT", "/v1/entities/" + at + "/limits?resource=" + url.QueryEscape(id), `{"limits":["n=7/min"]}`}, 200, `n=7/min`},
			{tried{"GET", "/v1/entities/" + at + "/limits?resource=" + url.QueryEscape(id), ""}, 200, `n=7/min`},
			{tried{"PUT", "/v1/resources/" + at + "/limits", `{"limits":["n=8/min"]}`}, 200, `n=8/min`},
			{tried{"POST", "/v1/acquire", `{"entity":` + string(quoted) + `,"resource":` + string(quoted) + `}`}, 200, `"available":6`},
			{tried{"GET", "/v1/entities/" + at + "/available?resource=" + url.QueryEscape(id), ""}, 200, `{"n":6}`},
			{tried{"GET", "/v1/audit?entity=" + url.QueryEscape(id), ""}, 200, `limits_set`},
			{tried{"DELETE", "/v1/entities/" + at, ""}, 204, ""},
		} {
			if status, text := send(c.method, c.path, c.body); status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("%q: %s %s: got %d %s, want %d with %s", id, c.method, c.path, status, text, c.status, c.want)
			}
		}
		limits, err := s.limiter.Limits(t.Context(), zael.Scope{Resource: id})
		if err != nil || len(limits) != 1 || limits[0].Burst != 8 {
			t.Errorf("%q: got the limits %v (%v) of the resource, want n=8/min", id, limits, err)
		}
	}
}

// Administration does what the methods of a Limiter do, in the name of the token.
func TestAdministration(t *testing.T) {
	t.Parallel()
	s := setup(t)
	got := s.want(201, admin, "POST", "/v1/entities", `{"id":"key-1","name":"One","parent_id":"team","cascade":true,"metadata":{"a":"b"}}`)
	const entity = `{"id":"key-1","name":"One","parent_id":"team","cascade":true,"metadata":{"a":"b"},"created_at":"2026-01-13T14:00:00Z"}` + "\n"
	if got.text != entity || got.header.Get("Location") != "/v1/entities/key-1" {
		t.Errorf("created: got %s at %s", got.text, got.header.Get("Location"))
	}
	for _, c := range []struct {
		tried

		status int
		want   string // of the body
	}{
		{tried{"GET", "/v1/entities/key-1", ""}, 200, entity},
		{tried{"PUT", "/v1/resources/r/limits", `{"limits":["n=5/min","m=9/min"]}`}, 200, `{"resource":"r","limits":[{`},
		{tried{"PUT", "/v1/entities/key-1/limits?resource=r", `{"limits":["n=10/min"]}`}, 200, `"overrides":[{"by":{"entity_id":"key-1","resource":"r"},"scope":{"resource":"r"},"limit":{"limit_name":"m"`},
		{tried{"GET", "/v1/entities/key-1/limits?resource=r", ""}, 200, `{"entity_id":"key-1","resource":"r","limits":[{"limit_name":"n","kind":"rate","limit":"n=10/min"`},
		{tried{"GET", "/v1/entities/key-1/limits", ""}, 200, `{"entity_id":"key-1","limits":[]}`},
		{tried{"PUT", "/v1/entities/key-1/limits?resource=r", `{"limits":["x=unlimited"]}`}, 400, `replace=true`},
		{tried{"PUT", "/v1/entities/key-1/limits?resource=r&replace=true", `{"limits":["x=unlimited"]}`}, 200, `"unlimited"`},
		{tried{"DELETE", "/v1/entities/key-1/limits?resource=r", ""}, 204, ""},
		{tried{"POST", "/v1/entities/key-1/top-up", `{"resource":"r","amounts":{"n":2}}`}, 200, `{"entity_id":"key-1","resource":"r","available":{"n":5}}`},
		{tried{"POST", "/v1/entities/key-1/reset", `{"resource":"r","limit_names":["n"]}`}, 200, `"available":{"n":5}`},
		{tried{"PUT", "/v1/resources/r/switch", `{"switch":"disabled"}`}, 200, `{"resource":"r","switch":"disabled","failure_mode":"inherit"}`},
		{tried{"PUT", "/v1/system/failure-mode", `{"failure_mode":"open"}`}, 200, `{"switch":"inherit","failure_mode":"open"}`},
		{tried{"GET", "/v1/system/settings", ""}, 200, `{"switch":"inherit","failure_mode":"open"}`},
		{tried{"PUT", "/v1/entities/key-1/switch", `{"switch":"enabled"}`}, 200, `"switch":"enabled"`},
		{tried{"PUT", "/v1/resources/r/switch", `{"switch":"inherit"}`}, 200, `"switch":"inherit"`},
		{tried{"POST", "/v1/entities", `{"id":"team"}`}, 201, ""},
		{tried{"PUT", "/v1/entities/key-1/parent", `{"parent_id":"team"}`}, 204, ""},
		{tried{"GET", "/v1/entities/team/children", ""}, 200, `"next":null`},
		{tried{"GET", "/v1/entities/key-1/available?resource=r&consume=n=6&consume=m=9", ""}, 200, `{"entity_id":"key-1","resource":"r","available":{"m":9,"n":5},"retry_after_seconds":null,"never":"6 of n is more than its burst of 5"}`},
		{tried{"GET", "/v1/entities/key-1/available?resource=x&limits=n=2/min&limits=m=1/min&consume=n=2", ""}, 200, `"retry_after_seconds":0}`},
		{tried{"GET", "/v1/entities/key-1/available?policy=chat", ""}, 200, `{"entity_id":"key-1","resource":"chat","available":{"rpm":2},"retry_after_seconds":null}`},
		{tried{"DELETE", "/v1/entities/key-1/parent", ""}, 204, ""},
		{tried{"POST", "/v1/changes?dry_run=true", `{"changes":[{"entity":"key-1","limits":["n=1/min"]}]}`}, 200, `{"made":0,"overrides":[`},
		{tried{"POST", "/v1/changes", `{"changes":[{"create":{"id":"x"}},{"entity":"x","limits":["n=1/min"]},{"resource":"y","switch":"bypass"},{"system":true,"failure_mode":"closed"},{"resource":"r","delete":true}]}`}, 200, `{"made":5,"overrides":[]}`},
		{tried{"DELETE", "/v1/entities/x", ""}, 204, ""},
		{tried{"GET", "/v1/ping", ""}, 204, ""},
	} {
		if got := s.want(c.status, admin, c.method, c.path, c.body); !strings.Contains(got.text, c.want) {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, got.text, c.want)
		}
	}
	events, err := s.limiter.Audit(t.Context(), zael.AuditQuery{})
	if err != nil || len(events) != 20 {
		t.Errorf("got %d events (%v), want 20", len(events), err)
	}
	for _, e := range events {
		if e.Principal != "ops" {
			t.Errorf("%s: got the principal %q, want that of the token", e.Action, e.Principal)
		}
	}
}

// pages reads all pages of a list and returns the elements, as JSON.
func (s *rig) pages(path, list string) []string {
	s.Helper()
	var all []string
	for cursor := ""; ; {
		got := s.want(200, admin, "GET", path+cursor, "")
		elements, _ := got.body[list].([]any)
		for _, e := range elements {
			text, err := json.Marshal(e)
			s.ok(err)
			all = append(all, string(text))
		}
		next, _ := got.body["next"].(string)
		if next == "" || len(elements) == 0 {
			return all
		}
		cursor = "&cursor=" + url.QueryEscape(next)
	}
}

// Pages have each element once, in the order of the whole.
func TestPages(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 7 {
		id := fmt.Sprintf("e%d", i)
		s.want(201, admin, "POST", "/v1/entities", `{"id":"`+id+`","parent_id":"team"}`)
		s.want(200, admin, "PUT", "/v1/entities/"+id+"/limits?resource=r", `{"limits":["n=5/min"]}`)
		for _, resource := range []string{"r", "q"} {
			s.want(200, admin, "POST", "/v1/acquire", `{"entity":"`+id+`","resource":"`+resource+`","limits":["n=5/min"]}`)
		}
	}
	for path, list := range map[string]string{
		"/v1/entities/team/children?":           "entities",
		"/v1/entities?":                         "entities",
		"/v1/entities?prefix=e":                 "entities",
		"/v1/resources?":                        "resources",
		"/v1/scopes?":                           "scopes",
		"/v1/resources/r/capacity?limit_name=n": "entities",
		"/v1/usage?resource=r":                  "records",
		"/v1/audit?":                            "events", // all of one instant
		"/v1/usage?entity=e1":                   "records",
	} {
		want := s.pages(path+"&limit=1000", list)
		if n := map[string]int{"/v1/usage?entity=e1": 2, "/v1/resources?": 2, "/v1/audit?": 14}[path]; len(want) != max(n, 2) && len(want) != 7 {
			t.Errorf("%s: got %d, want 7", path, len(want))
		}
		for _, limit := range []string{"1", "2", "3", "7"} {
			if got := s.pages(path+"&limit="+limit, list); !slices.Equal(got, want) {
				t.Errorf("%s: got pages of %s with %d elements, want the %d there are:\n%v\n%v", path, limit, len(got), len(want), got, want)
			}
		}
	}
	got := s.want(200, admin, "GET", "/v1/usage?resource=r&limit=1", "")
	if !strings.Contains(got.text, `"amounts":{"n":7},"events":7`) {
		t.Errorf("got %s, want the totals of all", got.text)
	}
}

// Lists have what begins with a prefix, and for a token with a prefix its own alone.
func TestListsOfPrefix(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"a/1", "a/2", "b", "a"} {
		s.want(201, admin, "POST", "/v1/entities", `{"id":"`+id+`"}`)
		s.want(200, admin, "PUT", "/v1/entities/"+strings.ReplaceAll(id, "/", "%2F")+"/limits?resource=r", `{"limits":["n=5/min"]}`)
	}
	s.want(200, admin, "PUT", "/v1/resources/r/limits", `{"limits":["n=5/min"]}`)
	s.want(200, admin, "PUT", "/v1/system/limits", `{"limits":["n=6/min"]}`)
	for _, c := range []struct {
		p          access.Principal
		path, want string
	}{
		{admin, "/v1/entities", "a a/1 a/2 b"},
		{admin, "/v1/entities?prefix=a", "a a/1 a/2"},
		{readerA, "/v1/entities", "a/1 a/2"},
		{readerA, "/v1/entities?prefix=a", "a/1 a/2"},
		{readerA, "/v1/entities?prefix=a%2F2", "a/2"},
		{admin, "/v1/scopes", " -r a-r a/1-r a/2-r b-r"},
		{readerA, "/v1/scopes", "a/1-r a/2-r"},
		{admin, "/v1/scopes?prefix=b", "b-r"},
	} {
		got := s.want(200, c.p, "GET", c.path, "")
		var names []string
		for _, list := range []string{"entities", "scopes"} {
			elements, _ := got.body[list].([]any)
			for _, e := range elements {
				of, _ := e.(map[string]any)
				text := func(member string) string { v, _ := of[member].(string); return v }
				name := text("id") + text("entity_id")
				if text("resource") != "" {
					name += "-" + text("resource")
				}
				names = append(names, name)
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s by %s: got %q, want %q", c.path, c.p.Name, got, c.want)
		}
	}
	for _, path := range []string{"/v1/entities", "/v1/scopes", "/v1/resources"} {
		for _, cursor := range []string{"!", "_w", "AAE", "IA"} {
			if got := s.do(admin, "GET", path+"?cursor="+cursor, ""); got.status != 200 && (got.status != 400 || got.body["field"] != "cursor") {
				t.Errorf("%s after %s: got %d %s, want 400 of the cursor, or a page", path, cursor, got.status, got.text)
			}
		}
		s.wantError(400, "invalid", "limit", admin, "GET", path+"?limit=1001", "")
	}
}
