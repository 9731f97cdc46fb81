package api_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/serve/access"
)

// A request of a role test. ID in its path or body stands for an entity.
type tried struct{ method, path, body string }

// TestRoles has what each role may do with each route, for an entity that the prefix of
// prefixed tokens covers, and for another. A route that may not be used answers 403 and
// changes nothing; others answer with any other status.
func TestRoles(t *testing.T) {
	t.Parallel()
	all := map[string]access.Principal{
		"admin": admin, "acquire": acquire, "reader": reader, "gateway": gateway, "teamA": teamA, "adminA": adminA, "readerA": readerA,
	}
	const (
		acquires = "admin acquire" // and what of the same role has a prefix, for its own
		levels   = "admin acquire reader"
		reads    = "admin reader"
		changes  = "admin"
	)
	for _, c := range []struct {
		tried

		own    string // roles that may, of an entity that prefixes cover
		others string // of another one, and of what concerns all
	}{
		{tried{"POST", "/v1/acquire", `{"entity":"ID","resource":"r"}`}, "admin acquire adminA teamA", acquires},
		{tried{"POST", "/v1/acquire", `{"entity":"ID","resource":"r","limits":["n=1/min"]}`}, "admin adminA", "admin"},
		{tried{"POST", "/v1/acquire", `{"entity":"ID","resource":"r","failure_mode":"open"}`}, "admin adminA", "admin"},
		{tried{"GET", "/v1/entities/ID/available?resource=r", ""}, "admin acquire reader adminA teamA readerA", levels},
		{tried{"GET", "/v1/entities/ID/available?resource=r&limits=n=1/min", ""}, "admin adminA", "admin"},

		{tried{"GET", "/v1/entities?prefix=ID", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/scopes?prefix=ID", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/resources?prefix=ID", ""}, reads, reads},
		{tried{"GET", "/v1/entities/ID", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/entities/ID/overview", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/live?resource=ID", ""}, "admin reader adminA readerA", "admin reader adminA readerA"}, // of what each may see
		{tried{"GET", "/v1/entities/ID/children", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/entities/ID/limits?resource=r", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/entities/ID/settings", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/usage?entity=ID", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/audit?entity=ID", ""}, "admin reader adminA readerA", reads},
		{tried{"GET", "/v1/resources/ID/limits", ""}, reads, reads},
		{tried{"GET", "/v1/resources/ID/settings", ""}, reads, reads},
		{tried{"GET", "/v1/system/limits", ""}, reads, reads},
		{tried{"GET", "/v1/system/settings", ""}, reads, reads},
		{tried{"GET", "/v1/resources/ID/capacity?limit_name=n", ""}, reads, reads},
		{tried{"GET", "/v1/usage?resource=ID", ""}, reads, reads},
		{tried{"GET", "/v1/audit", ""}, reads, reads},
		{tried{"GET", "/v1/namespaces", ""}, reads, reads},
		{tried{"GET", "/v1/namespaces/x", ""}, reads, reads},

		{tried{"POST", "/v1/entities", `{"id":"ID"}`}, "admin adminA", changes},
		{tried{"PUT", "/v1/entities/ID/limits?resource=r", `{"limits":["n=1/min"]}`}, "admin adminA", changes},
		{tried{"DELETE", "/v1/entities/ID/limits", ""}, "admin adminA", changes},
		{tried{"PUT", "/v1/entities/ID/switch", `{"switch":"enabled"}`}, "admin adminA", changes},
		{tried{"PUT", "/v1/entities/ID/failure-mode", `{"failure_mode":"closed"}`}, "admin adminA", changes},
		{tried{"POST", "/v1/entities/ID/reset", `{"resource":"r"}`}, "admin adminA", changes},
		{tried{"POST", "/v1/entities/ID/top-up", `{"resource":"r","amounts":{"n":1}}`}, "admin adminA", changes},
		{tried{"DELETE", "/v1/entities/ID/parent", ""}, "admin adminA", changes},
		{tried{"PUT", "/v1/entities/ID/parent", `{"parent_id":"a/0"}`}, "admin adminA", changes},
		{tried{"DELETE", "/v1/entities/ID", ""}, "admin adminA", changes},
		{tried{"POST", "/v1/changes", `{"changes":[{"entity":"ID","limits":["n=1/min"]}]}`}, "admin adminA", changes},
		{tried{"POST", "/v1/changes", `{"changes":[{"create":{"id":"ID"}}]}`}, "admin adminA", changes},
		{tried{"POST", "/v1/changes", `{"changes":[{"entity":"a/1","limits":["n=1/min"]},{"resource":"ID","delete":true}]}`}, changes, changes},
		{tried{"PUT", "/v1/resources/ID/limits", `{"limits":["n=1/min"]}`}, changes, changes},
		{tried{"DELETE", "/v1/resources/ID/limits", ""}, changes, changes},
		{tried{"PUT", "/v1/resources/ID/switch", `{"switch":"enabled"}`}, changes, changes},
		{tried{"PUT", "/v1/resources/ID/failure-mode", `{"failure_mode":"closed"}`}, changes, changes},
		{tried{"PUT", "/v1/system/limits", `{"limits":["n=1/min"]}`}, changes, changes},
		{tried{"DELETE", "/v1/system/limits", ""}, changes, changes},
		{tried{"PUT", "/v1/system/failure-mode", `{"failure_mode":"closed"}`}, changes, changes},
		{tried{"POST", "/v1/namespaces", `{"name":"x"}`}, changes, changes},
		{tried{"DELETE", "/v1/namespaces/x", ""}, changes, changes},
		{tried{"POST", "/v1/namespaces/x/recover", ""}, changes, changes},
		{tried{"POST", "/v1/namespaces/x/purge", ""}, changes, changes},

		{tried{"GET", "/v1/ping", ""}, "admin acquire reader teamA adminA readerA", "admin acquire reader teamA adminA readerA"},
	} {
		s := setup(t)
		for name, p := range all {
			for id, may := range map[string]string{"a/1": c.own, "b": c.others} {
				path := strings.ReplaceAll(c.path, "ID", strings.ReplaceAll(id, "/", "%2F"))
				got := s.do(p, c.method, path, strings.ReplaceAll(c.body, "ID", id))
				want := contains(may, name)
				if (got.status != 403) != want || got.status == 401 || got.status == 500 {
					t.Errorf("%s %s %s by %s: got %d %s, want it allowed: %v", c.method, path, c.body, name, got.status, got.text, want)
				}
				if got.status == 403 && got.body["error"] != "forbidden" {
					t.Errorf("%s %s by %s: got %s, want the code forbidden", c.method, path, name, got.text)
				}
			}
		}
		s.wantError(401, "unauthenticated", "", access.Principal{}, c.method, strings.ReplaceAll(c.path, "ID", "a%2F1"), c.body)
	}
}

func contains(list, name string) bool {
	for one := range strings.FieldsSeq(list) {
		if one == name {
			return true
		}
	}
	return false
}

// A prefix covers parents as well: entities cannot be put under another's parent, and what
// takes from a parent beyond the prefix is refused and given back.
func TestPrefixOfParents(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"b/0"}`)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"a/1","parent_id":"b/0","cascade":true}`)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"a/2","parent_id":"a/0"}`)
	s.want(200, admin, "PUT", "/v1/system/limits", `{"limits":["n=2/min"]}`)
	for _, c := range []tried{
		{"POST", "/v1/entities", `{"id":"a/3","parent_id":"b/0"}`},
		{"POST", "/v1/changes", `{"changes":[{"create":{"id":"a/3","parent_id":"b/0"}}]}`},
		{"PUT", "/v1/entities/a%2F2/parent", `{"parent_id":"b/0"}`},
		{"PUT", "/v1/entities/a%2F1/parent", `{"parent_id":"a/2"}`},
		{"DELETE", "/v1/entities/a%2F1/parent", ""},
		{"DELETE", "/v1/entities/a%2F1", ""},
		{"POST", "/v1/acquire", `{"entity":"a/1","resource":"r"}`},
		{"GET", "/v1/entities/a%2F1/available?resource=r", ""},
	} {
		s.wantError(403, "forbidden", "", adminA, c.method, c.path, c.body)
	}
	for _, id := range []string{"a%2F1", "b%2F0"} {
		got := s.want(200, admin, "GET", "/v1/entities/"+id+"/available?resource=r", "")
		if !strings.Contains(got.text, `"available":{"n":2}`) {
			t.Errorf("%s: got %s, want all of it left", id, got.text)
		}
	}
	s.want(204, adminA, "DELETE", "/v1/entities/a%2F2", "")
	s.want(200, admin, "POST", "/v1/acquire", `{"entity":"a/1","resource":"r"}`)
	for _, body := range []string{ // refused, by limits that the principal may not see
		`{"entity":"a/1","resource":"r","consume":{"n":2}}`, `{"entity":"a/1","resource":"r","consume":{"n":2},"lease":true}`,
		`{"entity":"a/0","resource":"r","also":[{"entity":"a/1","resource":"r","consume":{"n":2}}]}`,
	} {
		s.wantError(403, "forbidden", "", adminA, "POST", "/v1/acquire", body)
		s.wantError(429, "rate_limit_exceeded", "", admin, "POST", "/v1/acquire", body)
	}

	s.want(201, admin, "POST", "/v1/entities", `{"id":"b/9","parent_id":"a/0"}`)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"a/9","parent_id":"a/0"}`)
	got := s.want(200, readerA, "GET", "/v1/entities/a%2F0/children", "")
	if strings.Contains(got.text, "b/9") || !strings.Contains(got.text, "a/9") {
		t.Errorf("children: got %s, want those under the prefix", got.text)
	}
}
