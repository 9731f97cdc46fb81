package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
)

// Whatever is sent, the answer is JSON, is never a failure of the server, and admits nobody
// unless the body is a request with an entity.
func FuzzAcquire(f *testing.F) {
	for _, seed := range []string{
		`{"entity":"e","resource":"r","limits":["n=1/min"],"consume":{"n":1},"cascade":true,"max_wait":0,"lease":false}`,
		`{"entity":"e","policy":"chat","consume":{"rpm":1.0}}`, `{"entity":"e","resource":"r"}`, `{"entity":"e","entity":"f"}`, `{}`, "\xff", `{"entity":"\ud800"}`,
		`{"entity":"e","resource":"r","limits":["p=2 at once"],"consume":{"p":1},"lease":true}`,
		`{"entity":"e","resource":"r","limits":["p=2 at once","q=5 each day Europe/Berlin","u=unlimited","b=0/min","s=1 per 1h from first use soft"]}`,
		`{"entity":"e","resource":"r","limits":["n=1/min"],"also":[{"entity":"f","resource":"r","limits":["p=2 at once"],"consume":{"p":1}},{"policy":"chat"}],"lease":true}`,
		`{"entity":"e","resource":"r","also":[{"resource":"q"}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s := setup(t)
		s.config.Max.Wait = 0 // nobody waits
		got := s.do(admin, http.MethodPost, "/v1/acquire", body)
		if got.status >= 500 {
			t.Errorf("%q: got %d %s", body, got.status, got.text)
		}
		if got.status != http.StatusOK {
			return
		}
		var sent struct {
			Entity   string `json:"entity"`
			Resource string `json:"resource"`
			Policy   string `json:"policy"`
		}
		if err := json.Unmarshal([]byte(body), &sent); err != nil || sent.Entity == "" || sent.Resource+sent.Policy == "" || got.body["entity_id"] != sent.Entity {
			t.Errorf("%q: got %s, want nobody admitted (%v)", body, got.text, err)
		}
	})
}

func FuzzRequests(f *testing.F) {
	for _, seed := range [][4]string{
		{"GET", "/v1/entities/a%2Fb/available", "resource=r&limits=n=1/min&consume=n=1", ""},
		{"PUT", "/v1/entities/%2e%2e/limits", "resource=r", `{"limits":["n=1/min"]}`},
		{"POST", "/v1/changes", "dry_run=true", `{"changes":[{"create":{"id":"x"}},{"system":true,"delete":true}]}`},
		{"POST", "/v1/entities/e/top-up", "", `{"resource":"r","amounts":{"n":1}}`},
		{"GET", "/v1/audit", "limit=1&cursor=MTc2ODMxMjgwMDAwMDAwMDAwMCAw&from=2026-01-01", ""},
		{"GET", "/v1/usage", "entity=e&cursor=AA&window=daily", ""},
		{"POST", "/v1/leases/settle", "", `{"lease":"ATyFCvcBawybSlB7prsgq3rLgandpPf2yKPcsAaAwN3uwQIFbG9jYWw","used":{"n":1}}`},
		{"POST", "/v1/leases/release", "", `{"lease":"ATyFCvcBawybSlB7prsgq3rLgandpPf2yKPcsAaAwN3uwQIFbG9jYWw","also":[{"entity":"e","resource":"r","amounts":{"n":1}}]}`},
		{"POST", "/v1/leases/renew", "", `{"lease":""}`},
		{"DELETE", "/v1/entities/%", "", ""},
		{"GET", "/v1/resources/r/capacity", "limit_name=n&parents_only=true", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		s := setup(t)
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return // net/http refuses it before
		}
		r.Method, r.URL = method, u
		r.URL.RawQuery = query
		reads := s.send(r.WithContext(access.With(r.Context(), reader)))
		if events, err := s.limiter.Audit(t.Context(), zael.AuditQuery{}); err != nil || len(events) > 0 {
			t.Errorf("%s %q ? %q %q: got %d and %v by a reader, want nothing changed", method, path, query, body, reads.status, events)
		}
		again := r.Clone(access.With(r.Context(), admin))
		again.Body = io.NopCloser(strings.NewReader(body))
		got := s.send(again)
		if reads.status == 500 || got.status == 500 {
			t.Errorf("%s %q ? %q %q: got %d %s", method, path, query, body, got.status, got.text)
		}
	})
}
