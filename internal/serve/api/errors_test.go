package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/memstore"
)

// Bodies that are not what they should be are answered with the field, and admit nobody.
func TestInvalidAcquires(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok(s.limiter.SetLimits(t.Context(), zael.Scope{}, []zael.Limit{zael.PerMinute("n", 5)}))
	for body, field := range map[string]string{
		``:                                      "body",
		`null`:                                  "body",
		`[]`:                                    "body",
		`{"entity":"e","resource":"r"} x`:       "body",
		`{"entity":"e","resource":"r"}{}`:       "body",
		`{"resource":"r"}`:                      "entity",
		`{"entity":"","resource":"r"}`:          "entity",
		`{"entity":1,"resource":"r"}`:           "entity",
		`{"entity":null,"resource":"r"}`:        "entity",
		`{"entity":" e","resource":"r"}`:        "entity",
		`{"entity":"e"}`:                        "resource",
		`{"entity":"e","resource":"\u0000"}`:    "resource",
		`{"entity":"e","resource":"_default_"}`: "resource",
		`{"entity":"e","resource":"r","limit":["n=1/min"]}`:                                 "limit",
		`{"entity":"e","resource":"r","Limits":["n=1/min"]}`:                                "Limits",
		`{"entity":"e","resource":"r","entity":"f"}`:                                        "entity",
		`{"entity":"e","resource":"r","limits":[]}`:                                         "limits",
		`{"entity":"e","resource":"r","limits":null}`:                                       "limits",
		`{"entity":"e","resource":"r","limits":["n=1/min",1]}`:                              "limits[1]",
		`{"entity":"e","resource":"r","limits":["n=1/min","n=often"]}`:                      "limits[1]",
		`{"entity":"e","resource":"r","limits":["n=1/min","n=2/min"]}`:                      "limits",
		`{"entity":"e","resource":"r","limits":["n=1/min"],"parent_limits":[]}`:             "parent_limits",
		`{"entity":"e","resource":"r","limits":["n=1/min"],"parent_limits":["n"]}`:          "parent_limits[0]",
		`{"entity":"e","resource":"r","parent_limits":["n=1/min"]}`:                         "parent_limits",
		`{"entity":"e","resource":"r","consume":{"n":-1}}`:                                  "consume.n",
		`{"entity":"e","resource":"r","consume":{"n":1.5}}`:                                 "consume.n",
		`{"entity":"e","resource":"r","consume":{"n":1e15,"n":1}}`:                          "consume.n",
		`{"entity":"e","resource":"r","consume":{"n":1000000000000001}}`:                    "consume.n",
		`{"entity":"e","resource":"r","consume":{"n":"1"}}`:                                 "consume.n",
		`{"entity":"e","resource":"r","consume":{"tpm":1}}`:                                 "consume",
		`{"entity":"e","resource":"r","limits":["n=1/min"],"consume":{"n":1,"m":1}}`:        "consume",
		`{"entity":"e","resource":"r","max_wait":-1}`:                                       "max_wait",
		`{"entity":"e","resource":"r","max_wait":"61s"}`:                                    "max_wait",
		`{"entity":"e","resource":"r","max_wait":"1"}`:                                      "max_wait",
		`{"entity":"e","resource":"r","cascade":1}`:                                         "cascade",
		`{"entity":"e","resource":"r","stored":false}`:                                      "stored",
		`{"entity":"e","resource":"r","failure_mode":"ajar"}`:                               "failure_mode",
		`{"entity":"e","policy":"none"}`:                                                    "policy",
		`{"entity":"e","policy":"chat","limits":["n=1/min"]}`:                               "policy",
		`{"entity":"e","policy":"chat","stored":true}`:                                      "policy",
		`{"entity":"e","policy":"chat","resource":"r"}`:                                     "resource",
		`{"entity":"e","resource":"r","limits":["p=2 at once"],"consume":{"p":1}}`:          "lease",
		`{"entity":"` + strings.Repeat("e", 257) + `","resource":"r","limits":["n=1/min"]}`: "entity",
	} {
		s.wantError(400, "invalid", field, admin, "POST", "/v1/acquire", body)
	}
	s.wantError(400, "invalid", "query", admin, "POST", "/v1/acquire?entity=e", `{"entity":"e","resource":"r"}`)
	s.wantError(413, "too_large", "", admin, "POST", "/v1/acquire", `{"entity":"e","resource":"r"`+strings.Repeat(" ", 8192)+`}`)
	got := s.want(200, admin, "GET", "/v1/entities/e/available?resource=r", "")
	if !strings.Contains(got.text, `"available":{"n":5}`) {
		t.Errorf("got %s, want nothing taken", got.text)
	}
	got = s.want(200, admin, "GET", "/v1/entities/e/available?resource=r&limits=p=2%20at%20once", "")
	if !strings.Contains(got.text, `"available":{"p":2}`) {
		t.Errorf("got %s, want no slot held", got.text)
	}
}

// A body whose length is not announced is bounded as well.
func TestChunkedBody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	r := httptest.NewRequest(http.MethodPost, "/v1/acquire", struct{ *strings.Reader }{strings.NewReader(strings.Repeat(" ", 10_000))})
	got := s.send(r.WithContext(access.With(r.Context(), admin)))
	if got.status != 413 || got.body["error"] != "too_large" {
		t.Errorf("got %d %s, want 413", got.status, got.text)
	}
}

// What is misspelt is answered with where the right names are.
func TestMisspeltNamesHaveARemedy(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, c := range []struct {
		tried

		remedy string
	}{
		{tried{"POST", "/v1/acquire", `{"entity":"e","resource":"r","limit":[]}`}, "/v1/openapi.json"},
		{tried{"GET", "/v1/entities/a/limits?resorce=r", ""}, "use resource"},
		{tried{"GET", "/v1/entities/a/available?limit=n", ""}, "limits, parent_limits"},
		{tried{"GET", "/v1/ping?x=y", ""}, "has none"},
		{tried{"DELETE", "/v1/acquire", ""}, "takes POST, not DELETE"},
		{tried{"GET", "/v1/entitys", ""}, "/v1/openapi.json"},
	} {
		got := s.do(admin, c.method, c.path, c.body)
		if got.status < 400 || !strings.Contains(fmt.Sprint(got.body["detail"]), c.remedy) {
			t.Errorf("%s %s: got %d %s, want %q in the detail", c.method, c.path, got.status, got.text, c.remedy)
		}
	}
	off := access.Principal{Name: "a", Role: access.Acquire}
	for _, p := range []access.Principal{off, {Name: "r", Role: access.Read, Prefix: "team-a/"}} {
		got := s.do(p, "GET", "/v1/audit", "")
		if named := strings.Contains(got.text, "name an entity"); got.status != 403 || named == (p.Role == access.Acquire) {
			t.Errorf("audit by the role %s: got %d %s, want a remedy only where it helps", p.Role, got.status, got.text)
		}
	}
}

func TestInvalidRequests(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, c := range []struct {
		tried

		field string
	}{
		{tried{"GET", "/v1/entities/../limits", ""}, "id"},
		{tried{"DELETE", "/v1/entities/.", ""}, "id"},
		{tried{"GET", "/v1/entities/a/limits?resorce=r", ""}, "resorce"},
		{tried{"DELETE", "/v1/entities/a/limits?resource=", ""}, "resource"},
		{tried{"DELETE", "/v1/entities/a/limits?resource=r&resource=s", ""}, "resource"},
		{tried{"DELETE", "/v1/entities/a/limits?resource=%zz", ""}, "query"},
		{tried{"DELETE", "/v1/entities/a?x;y", ""}, "query"},
		{tried{"GET", "/v1/entities/%20a/limits", ""}, "entity"},
		{tried{"GET", "/v1/entities/%ff", ""}, "id"},
		{tried{"PUT", "/v1/entities/a/limits", `{"limits":[]}`}, "limits"},
		{tried{"PUT", "/v1/entities/a/limits", `{}`}, "limits"},
		{tried{"PUT", "/v1/entities/a/limits", `{"limits":["n=1/min"],"x":1}`}, "x"},
		{tried{"PUT", "/v1/entities/a/switch", `{}`}, "switch"},
		{tried{"PUT", "/v1/entities/a/switch", `{"switch":"off"}`}, "switch"},
		{tried{"PUT", "/v1/entities/a/failure-mode", `{}`}, "failure_mode"},
		{tried{"PUT", "/v1/entities/a/parent", `{}`}, "parent_id"},
		{tried{"POST", "/v1/entities", `{}`}, "id"},
		{tried{"POST", "/v1/entities", `{"id":"a","parent_id":"a"}`}, "parent_id"},
		{tried{"POST", "/v1/entities", `{"id":"a","metadata":{"k":1}}`}, "metadata.k"},
		{tried{"POST", "/v1/entities/a/reset", `{}`}, "resource"},
		{tried{"POST", "/v1/entities/a/reset", `{"resource":"r","limit_names":[]}`}, "limit_names"},
		{tried{"POST", "/v1/entities/a/reset", `{"resource":"r"}`}, "limits"},
		{tried{"POST", "/v1/entities/a/top-up", `{"resource":"r"}`}, "amounts"},
		{tried{"POST", "/v1/entities/a/top-up", `{"resource":"r","amounts":{"n":0}}`}, "amounts.n"},
		{tried{"GET", "/v1/entities/a/available", ""}, "resource"},
		{tried{"GET", "/v1/entities/a/available?policy=none", ""}, "policy"},
		{tried{"GET", "/v1/entities/a/available?resource=r&limits=n", ""}, "limits[0]"},
		{tried{"GET", "/v1/entities/a/available?resource=r&limits=n=1/min&consume=n", ""}, "consume[0]"},
		{tried{"GET", "/v1/entities/a/available?resource=r&limits=n=1/min&cascade=1", ""}, "cascade"},
		{tried{"GET", "/v1/resources/r/capacity", ""}, "limit_name"},
		{tried{"GET", "/v1/usage", ""}, ""},
		{tried{"GET", "/v1/usage?entity=a&window=weekly", ""}, "window"},
		{tried{"GET", "/v1/usage?entity=a&from=now", ""}, "from"},
		{tried{"GET", "/v1/usage?entity=a&from=2026-01-02&to=2026-01-01", ""}, "to"},
		{tried{"GET", "/v1/audit?limit=0", ""}, "limit"},
		{tried{"GET", "/v1/audit?limit=1001", ""}, "limit"},
		{tried{"GET", "/v1/audit?cursor=!", ""}, "cursor"},
		{tried{"GET", "/v1/audit?cursor=YQ", ""}, "cursor"},
		{tried{"POST", "/v1/changes", `{}`}, "changes"},
		{tried{"POST", "/v1/changes", `{"changes":[{"limits":["n=1/min"]}]}`}, "changes[0]"},
		{tried{"POST", "/v1/changes", `{"changes":[{"system":true,"entity":"a","limits":["n=1/min"]}]}`}, "changes[0]"},
		{tried{"POST", "/v1/changes", `{"changes":[{"entity":"","limits":["n=1/min"]}]}`}, "changes[0].entity"},
	} {
		got := s.want(400, admin, c.method, c.path, c.body)
		if field, _ := got.body["field"].(string); got.body["error"] != "invalid" || field != c.field && c.field != "" {
			t.Errorf("%s %s %s: got %s, want the field %q", c.method, c.path, c.body, got.text, c.field)
		}
		if reason, _ := got.body["reason"].(string); reason == "" {
			t.Errorf("%s %s %s: got %s, want a reason", c.method, c.path, c.body, got.text)
		}
	}
	s.wantError(404, "not_found", "", admin, "GET", "/v1/", "")
	s.wantError(404, "not_found", "", admin, "GET", "/v1/entities/", "")
	s.wantError(404, "not_found", "", admin, "GET", "/v1/entities//limits", "")
	s.wantError(404, "not_found", "", admin, "GET", "/v1/entities/a/b/limits", "")
	s.wantError(404, "not_found", "", admin, "GET", "/v1/entities/"+strings.Repeat("a", 5000), "")
	got := s.wantError(405, "method_not_allowed", "", admin, "PATCH", "/v1/entities/a", "")
	if got.header.Get("Allow") != "GET, DELETE" {
		t.Errorf("got Allow %q, want GET, DELETE", got.header.Get("Allow"))
	}
	if got = s.want(405, admin, "GET", "/v1/acquire", ""); got.header.Get("Allow") != "POST" {
		t.Errorf("got Allow %q, want POST", got.header.Get("Allow"))
	}
	if events, err := s.limiter.Audit(t.Context(), zael.AuditQuery{}); err != nil || len(events) != 0 {
		t.Errorf("got %v (%v), want nothing changed", events, err)
	}
}

// Each error of the limiter has its code, and says nothing of the store.
func TestCodes(t *testing.T) {
	t.Parallel()
	const body = `{"entity":"e","resource":"r","limits":["n=1/min"]}`
	for code, store := range map[string]struct {
		zael.Store
		status int
	}{
		"unavailable": {limiters.Dead(), 503},
		"internal":    {limiters.Denied(), 500},
		"contention":  {contended{memstore.New(nil)}, 503},
	} {
		s := setupOn(t, store.Store)
		got := s.wantError(store.status, code, "", admin, "POST", "/v1/acquire", body)
		if retry := got.header.Get("Retry-After"); (retry == "1") != (store.status == 503) {
			t.Errorf("%s: got Retry-After %q", code, retry)
		}
		for _, secret := range []string{"cable", "denied", "memstore"} {
			if strings.Contains(got.text, secret) {
				t.Errorf("%s: got %s, want nothing of the store", code, got.text)
			}
		}
		if log := s.log.String(); !strings.Contains(log, "code="+code) || !strings.Contains(log, "principal=ops") || strings.Contains(log, "n=1/min") {
			t.Errorf("%s: got the log %q, want the code, the principal, and no body", code, log)
		}
	}
	s := setupOn(t, limiters.Dead())
	begun := time.Now()
	for range 100 {
		s.wantError(503, "unavailable", "", admin, "POST", "/v1/acquire", body)
	}
	if lines := strings.Count(s.log.String(), "\n"); lines == 0 || lines > 1+int(time.Since(begun)/time.Second) {
		t.Errorf("got %d lines of 100 failures, want one a second", lines)
	}
	got := s.want(200, admin, "POST", "/v1/acquire", `{"entity":"e","resource":"r","limits":["n=1/min"],"failure_mode":"open"}`)
	if !strings.Contains(got.text, `"degraded":true`) || !strings.Contains(got.text, `"limits":[]`) {
		t.Errorf("failure mode open: got %s, want it admitted without a charge", got.text)
	}

	s = setupOn(t, struct{ zael.Store }{memstore.New(nil)})
	s.wantError(501, "unsupported", "", admin, "GET", "/v1/entities/e", "")
	s.wantError(501, "unsupported", "", admin, "GET", "/v1/audit", "")

	s = setup(t)
	s.wantError(501, "unsupported", "", admin, "GET", "/v1/namespaces", "")
	s.want(200, admin, "PUT", "/v1/entities/e/switch", `{"switch":"disabled"}`)
	got = s.wantError(403, "disabled", "", admin, "POST", "/v1/acquire", body)
	if !strings.Contains(got.text, `"entity_id":"e","resource":"r","scope_entity_id":"e"`) {
		t.Errorf("disabled: got %s, want the bucket and the scope of the switch", got.text)
	}
	got = s.wantError(400, "invalid", "entity", admin, "POST", "/v1/acquire", `{"entity":" e","resource":"r","limits":["n=1/min"]}`)
	if got.body["value"] != " e" {
		t.Errorf("got %s, want what was sent", got.text)
	}
	s.wantError(404, "not_found", "", admin, "GET", "/v1/entities/e", "")
	s.want(201, admin, "POST", "/v1/entities", `{"id":"e"}`)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"child","parent_id":"e"}`)
	s.wantError(409, "exists", "", admin, "POST", "/v1/entities", `{"id":"e"}`)
	s.wantError(409, "exists", "", admin, "PUT", "/v1/entities/e/parent", `{"parent_id":"child"}`)
	s.wantError(404, "not_found", "", admin, "PUT", "/v1/entities/e/parent", `{"parent_id":"nobody"}`)
	s.want(200, admin, "PUT", "/v1/entities/e/switch", `{"switch":"bypass"}`, "Idempotency-Key", "k")
	got = s.want(422, admin, "PUT", "/v1/entities/e/switch", `{"switch":"enabled"}`, "Idempotency-Key", "k")
	if got.body["error"] != "key_reused" {
		t.Errorf("got %s, want key_reused", got.text)
	}
	got = s.want(400, admin, "PUT", "/v1/entities/e/switch", `{"switch":"enabled"}`, "Idempotency-Key", "a b")
	if got.body["field"] != "Idempotency-Key" {
		t.Errorf("got %s, want the header named", got.text)
	}
	s.want(400, admin, "PUT", "/v1/entities/e/switch", `{"switch":"enabled"}`, "Idempotency-Key", "a", "Idempotency-Key", "b")
	got = s.want(200, admin, "POST", "/v1/acquire", body)
	if !strings.Contains(got.text, `"bypassed":true`) {
		t.Errorf("got %s, want it bypassed", got.text)
	}
	s.ok(s.limiter.Close(t.Context()))
	s.wantError(503, "draining", "", admin, "POST", "/v1/acquire", body)
}

// A contended store has too many writers.
type contended struct{ *memstore.Store }

func (contended) Take(context.Context, time.Time, time.Duration, []zael.Debit) (time.Time, error) {
	return time.Time{}, fmt.Errorf("%w: 7 tries", zael.ErrContention)
}

func (contended) TakeLocal(now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

func (contended) TakeValues(bucket.Instant, string, *zael.PolicyLimits, [4]int64) (v zael.Values, outcome bucket.Outcome, ok bool) {
	return v, outcome, false
}
