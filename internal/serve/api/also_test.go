package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zeroae/zael"
)

// An acquire takes from several buckets or from none, and one lease ends all of it.
func TestAlso(t *testing.T) {
	t.Parallel()
	s := setup(t)
	left := func(entity, resource string) string {
		got := s.want(200, admin, "GET", "/v1/entities/"+entity+"/available?resource="+resource+"&limits=n=10/min", "")
		return fmt.Sprint(got.body["available"])
	}
	const both = `{"entity":"e","resource":"a","limits":["n=10/min"],"consume":{"n":4},
		"also":[{"resource":"b","limits":["n=10/min"],"consume":{"n":5}},{"entity":"team","resource":"a","limits":["n=10/min"],"consume":{"n":%d}}],"lease":true}`
	got := s.wantError(429, "never", "", admin, "POST", "/v1/acquire", fmt.Sprintf(both, 11))
	if len(got.body["limits"].([]any)) != 3 || left("e", "a")+left("e", "b") != "map[n:10]map[n:10]" { //nolint:forcetypeassert // the document says so
		t.Errorf("got %s and %s, want three limits and nothing taken", got.text, left("e", "a"))
	}
	got = s.want(200, admin, "POST", "/v1/acquire", fmt.Sprintf(both, 6))
	lease, _ := got.body["lease"].(string)
	if all := left("e", "a") + left("e", "b") + left("team", "a"); all != "map[n:6]map[n:5]map[n:4]" {
		t.Errorf("got %s left, want all three taken", all)
	}
	s.wantError(400, "invalid", "also", admin, "POST", "/v1/leases/settle", `{"lease":"`+lease+`","also":[{"entity":"e","resource":"c","used":{"n":1}}]}`)
	s.wantError(400, "invalid", "also[0]", admin, "POST", "/v1/leases/settle", `{"lease":"`+lease+`","also":[{"entity":"e","resource":"b"}]}`)
	s.wantError(400, "invalid", "also", admin, "POST", "/v1/leases/commit", `{"lease":"`+lease+`","also":[]}`)
	got = s.want(200, admin, "POST", "/v1/leases/settle", `{"lease":"`+lease+`","used":{"n":1},"also":[{"entity":"team","resource":"a","used":{"n":2}}]}`)
	if !strings.Contains(got.text, `"used":{"n":1},"also":[{"entity_id":"e","resource":"b","used":{"n":5}},{"entity_id":"team","resource":"a","used":{"n":2}}],"repeated":false`) {
		t.Errorf("got %s, want what stays of each", got.text)
	}
	got = s.want(200, admin, "POST", "/v1/leases/rollback", `{"lease":"`+lease+`"}`)
	if !strings.Contains(got.text, `"entity_id":"team","resource":"a","used":{"n":2}}],"repeated":true`) {
		t.Errorf("got %s, want the first answer", got.text)
	}
	if all := left("e", "a") + left("e", "b") + left("team", "a"); all != "map[n:9]map[n:5]map[n:8]" {
		t.Errorf("got %s left, want what was used", all)
	}
	got = s.want(200, admin, "POST", "/v1/acquire", fmt.Sprintf(both, 1))
	lease, _ = got.body["lease"].(string)
	s.want(200, admin, "POST", "/v1/leases/release", `{"lease":"`+lease+`","also":[{"entity":"e","resource":"b","amounts":{"n":3}}]}`)
	if all := left("e", "a") + left("e", "b") + left("team", "a"); all != "map[n:5]map[n:3]map[n:7]" {
		t.Errorf("got %s left, want 3 given back", all)
	}
}

// Stored limits and policies hold for parts too; the parts go together, and a token needs the right
// to all.
func TestAlsoChecks(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, r := range []string{"a", "b"} {
		s.ok(s.limiter.SetLimits(t.Context(), zael.Scope{Resource: r}, []zael.Limit{zael.PerMinute("n", 2)}))
	}
	const stored = `{"entity":"a/1","resource":"a","also":[{"resource":"b"}]}`
	for i, want := range []int{200, 200, 429} {
		if got := s.want(want, teamA, "POST", "/v1/acquire", stored); !strings.Contains(got.text, `"resource":"b"`) {
			t.Errorf("acquire %d: got %s, want the limits of b", i, got.text)
		}
	}
	s.want(200, teamA, "POST", "/v1/acquire", `{"entity":"a/1","policy":"chat","also":[{"entity":"a/2","policy":"chat"}]}`)
	s.wantError(403, "forbidden", "", teamA, "POST", "/v1/acquire", `{"entity":"a/1","resource":"a","also":[{"entity":"b/1","resource":"b"}]}`)
	s.wantError(403, "forbidden", "", teamA, "POST", "/v1/acquire", `{"entity":"a/1","policy":"chat","also":[{"resource":"b","limits":["n=1/min"]}]}`)
	sixteen := strings.Repeat(`{"resource":"b"},`, 15) + `{"resource":"b"}`
	for body, field := range map[string]string{
		`{"entity":"e","resource":"a","also":[{"resource":"b","limits":["n=1/min"]}]}`:                          "also[0]",
		`{"entity":"e","resource":"a","limits":["n=1/min"],"also":[{"resource":"b"}]}`:                          "also",
		`{"entity":"e","resource":"a","also":[{"resource":"a"}]}`:                                               "also",
		`{"entity":"e","resource":"a","also":[{"resource":"b"}],"max_wait":1}`:                                  "max_wait",
		`{"entity":"e","resource":"a","also":[{}]}`:                                                             "also[0].resource",
		`{"entity":"e","resource":"a","also":[{"resource":"b"},{"resource":"c","limits":[]}]}`:                  "also[1].limits",
		`{"entity":"e","resource":"a","limits":["n=1/min"],"also":[{"resource":"b","limits":["n=1/min","x"]}]}`: "also[0].limits[1]",
		`{"entity":"e","resource":"a","also":[{"policy":"nope"}]}`:                                              "also[0].policy",
		`{"entity":"e","resource":"a","also":[{"resource":"b","cascade":true}]}`:                                "also[0].cascade",
		`{"entity":"e","resource":"a","also":[` + sixteen + `]}`:                                                "also[15]",
		`{"entity":"e","resource":"a","limits":["n=1/min"],"also":[{"policy":"chat","limits":["n=1/min"]}]}`:    "also[0].policy",
	} {
		s.wantError(400, "invalid", field, admin, "POST", "/v1/acquire", body)
	}
}

// A consume with a key takes once; the repetition has the first answer.
func TestConsumeOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	lease := s.lease()
	body := `{"lease":"` + lease + `","amounts":{"n":20}}`
	first := s.want(200, admin, "POST", "/v1/leases/consume", body, "Idempotency-Key", "k")
	again := s.want(200, admin, "POST", "/v1/leases/consume", body, "Idempotency-Key", "k")
	s.wantLevels("after a repetition", `{"n":70,"p":1}`)
	s.want(422, admin, "POST", "/v1/leases/consume", `{"lease":"`+lease+`","amounts":{"n":21}}`, "Idempotency-Key", "k")
	if got := s.want(400, admin, "POST", "/v1/leases/consume", body, "Idempotency-Key", "é"); got.body["field"] != "Idempotency-Key" {
		t.Errorf("got %s, want the header named", got.text)
	}
	if first.body["lease"] == lease || again.body["lease"] == lease {
		t.Errorf("got %s and %s, want a new lease", first.text, again.text)
	}
	text, _ := again.body["lease"].(string)
	s.want(200, admin, "POST", "/v1/leases/rollback", `{"lease":"`+text+`"}`)
	s.wantLevels("rolled back", `{"n":100,"p":2}`)
}
