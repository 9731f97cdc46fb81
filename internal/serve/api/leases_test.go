package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/memstore"
)

const leased = `{"entity":"a/1","resource":"r","limits":["n=100/min","p=2 at once"],"consume":{"n":10,"p":1},"lease":true}`

// lease acquires and returns the lease.
func (s *rig) lease() string {
	s.Helper()
	got := s.want(200, admin, "POST", "/v1/acquire", leased)
	text, _ := got.body["lease"].(string)
	if text == "" {
		s.Fatalf("got %s, want a lease", got.text)
	}
	return text
}

// wantLevels compares what is left of n and p.
func (s *rig) wantLevels(what, want string) {
	s.Helper()
	got := s.want(200, admin, "GET", "/v1/entities/a%2F1/available?resource=r&limits=n=100/min&limits=p=2%20at%20once", "")
	if !strings.Contains(got.text, `"available":`+want) {
		s.Errorf("%s: got %s, want %s", what, got.text, want)
	}
}

// Each verb ends a lease once; a repeat, and another verb, get the first answer.
func TestLeases(t *testing.T) {
	t.Parallel()
	for verb, c := range map[string]struct{ more, used, left string }{
		"settle":   {`,"used":{"n":25}`, `{"n":25,"p":0}`, `{"n":75,"p":2}`},
		"commit":   {``, `{"n":10,"p":0}`, `{"n":90,"p":2}`},
		"rollback": {``, `{"n":0,"p":0}`, `{"n":100,"p":2}`},
		"release":  {`,"amounts":{"n":4}`, `{"n":6,"p":0}`, `{"n":94,"p":2}`},
	} {
		s := setup(t)
		lease := s.lease()
		s.wantLevels(verb+", before", `{"n":90,"p":1}`)
		want := `{"entity_id":"a/1","resource":"r","verb":"` + verb + `","used":` + c.used + `,"repeated":false}` + "\n"
		if got := s.want(200, teamA, "POST", "/v1/leases/"+verb, `{"lease":"`+lease+`"`+c.more+`}`); got.text != want {
			t.Errorf("%s: got %s, want %s", verb, got.text, want)
		}
		s.wantLevels(verb, c.left)
		again := strings.Replace(want, `"repeated":false`, `"repeated":true`, 1)
		for other, body := range map[string]string{"settle": `,"used":{"n":99}`, "commit": "", "rollback": "", "release": `,"amounts":{"n":1}`} {
			if got := s.want(200, acquire, "POST", "/v1/leases/"+other, `{"lease":"`+lease+`"`+body+`}`); got.text != again {
				t.Errorf("%s after %s: got %s, want %s", other, verb, got.text, again)
			}
		}
		s.wantLevels(verb+", repeated", c.left)
		s.wantError(409, "lease_ended", "", admin, "POST", "/v1/leases/consume", `{"lease":"`+lease+`","amounts":{"n":1}}`)
		s.wantError(409, "lease_ended", "", admin, "POST", "/v1/leases/renew", `{"lease":"`+lease+`"}`)
	}
}

func TestLeaseTakesMore(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first := s.lease()
	got := s.want(200, admin, "POST", "/v1/leases/consume", `{"lease":"`+first+`","amounts":{"n":20}}`)
	second, _ := got.body["lease"].(string)
	s.wantLevels("after both takes", `{"n":70,"p":1}`)
	s.wantError(429, "rate_limit_exceeded", "", admin, "POST", "/v1/leases/consume", `{"lease":"`+second+`","amounts":{"n":71}}`)
	s.wantError(429, "never", "", admin, "POST", "/v1/leases/consume", `{"lease":"`+second+`","amounts":{"n":101}}`)
	got = s.want(200, admin, "POST", "/v1/leases/renew", `{"lease":"`+second+`"}`)
	if deadline, _ := got.body["deadline"].(string); got.body["held"] != true || !strings.HasPrefix(deadline, "2026-01-13T14:01:00") || fmt.Sprint(got.body["renew_in_seconds"]) != "15" {
		t.Errorf("renew: got %s, want the slot held for a minute", got.text)
	}
	s.want(200, admin, "POST", "/v1/leases/rollback", `{"lease":"`+second+`"}`)
	s.wantLevels("rolled back", `{"n":100,"p":2}`)
	got = s.want(200, admin, "POST", "/v1/leases/commit", `{"lease":"`+first+`"}`)
	if got.body["repeated"] != true {
		t.Errorf("the first lease: got %s, want it ended with the second", got.text)
	}
}

// Any server of a store ends a lease, and answers as the first did.
func TestLeaseOnAnotherServer(t *testing.T) {
	t.Parallel()
	store := memstore.New(nil)
	one, two := setupOn(t, store), setupOn(t, store)
	lease := one.lease()
	two.want(200, admin, "POST", "/v1/leases/settle", `{"lease":"`+lease+`","used":{"n":3}}`)
	got := one.want(200, admin, "POST", "/v1/leases/rollback", `{"lease":"`+lease+`"}`)
	if !strings.Contains(got.text, `"verb":"settle","used":{"n":3,"p":0},"repeated":true`) {
		t.Errorf("got %s, want the first answer", got.text)
	}
	one.wantLevels("settled", `{"n":97,"p":2}`)
}

func TestInvalidLeases(t *testing.T) {
	t.Parallel()
	s := setup(t)
	lease := s.lease()
	for body, field := range map[string]string{
		`{}`:                              "lease",
		`{"lease":""}`:                    "lease",
		`{"lease":"AAAA","used":{"n":1}}`: "lease",
		`{"lease":"` + lease[:len(lease)-1] + `","used":{"n":1}}`:   "lease",
		`{"lease":"` + lease + `A","used":{"n":1}}`:                 "lease",
		`{"lease":"` + strings.ToUpper(lease) + `","used":{"n":1}}`: "lease",
		`{"lease":"` + lease + `","used":{}}`:                       "used",
		`{"lease":"` + lease + `","used":{"x":1}}`:                  "used",
		`{"lease":"` + lease + `","used":{"n":-1}}`:                 "used",
		`{"lease":"` + lease + `","used":{"p":1}}`:                  "used",
		`{"lease":"` + lease + `","amounts":{"n":1}}`:               "amounts",
	} {
		s.wantError(400, "invalid", field, admin, "POST", "/v1/leases/settle", body)
	}
	s.wantError(404, "not_found", "", admin, "POST", "/v1/leases/end", `{"lease":"`+lease+`"}`)
	s.wantError(403, "forbidden", "", access.Principal{Name: "b", Role: access.Acquire, Prefix: "b/"}, "POST", "/v1/leases/rollback", `{"lease":"`+lease+`"}`)
	s.wantError(403, "forbidden", "", reader, "POST", "/v1/leases/rollback", `{"lease":"`+lease+`"}`)
	s.wantError(403, "forbidden", "", gateway, "POST", "/v1/leases/renew", `{"lease":"`+lease+`"}`)
	s.wantLevels("nothing ended", `{"n":90,"p":1}`)

	// Another server with other keys does not know the lease; one of the same store does.
	s.config.Leases.Keys = []string{"another key, of 16 bytes at least"}
	s.wantError(400, "invalid", "lease", admin, "POST", "/v1/leases/commit", `{"lease":"`+lease+`"}`)
	second := s.lease()
	s.config.Leases.Keys = []string{"a new key, of 16 bytes at least", "another key, of 16 bytes at least"}
	s.want(200, admin, "POST", "/v1/leases/commit", `{"lease":"`+second+`"}`)

	none := setupOn(t, struct{ zael.Store }{memstore.New(nil)})
	none.wantError(501, "unsupported", "", admin, "POST", "/v1/acquire", leased)
}

// A lease that was not ended in time is gone, and what it took stands.
func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.config.Leases.MaxAge = time.Second
	lease := s.lease()
	s.forward(2 * time.Second)
	for _, verb := range []string{"commit", "rollback", "renew"} {
		s.wantError(410, "lease_expired", "", admin, "POST", "/v1/leases/"+verb, `{"lease":"`+lease+`"}`)
	}
}

// With a key an acquire takes once, and a repetition has the first answer.
func TestAcquireOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first := s.want(200, admin, "POST", "/v1/acquire", leased, "Idempotency-Key", "job 7")
	again := s.want(200, admin, "POST", "/v1/acquire", leased, "Idempotency-Key", "job 7")
	if first.text != again.text {
		t.Errorf("got  %s\nwant %s", again.text, first.text)
	}
	s.wantLevels("once", `{"n":90,"p":1}`)
	got := s.want(422, admin, "POST", "/v1/acquire", strings.Replace(leased, `"n":10`, `"n":11`, 1), "Idempotency-Key", "job 7")
	if got.body["error"] != "key_reused" {
		t.Errorf("got %s, want key_reused", got.text)
	}
	got = s.want(400, admin, "POST", "/v1/acquire", leased, "Idempotency-Key", "é")
	if got.body["field"] != "Idempotency-Key" {
		t.Errorf("got %s, want the header named", got.text)
	}
	other := admin
	other.Name = "other"
	s.want(200, other, "POST", "/v1/acquire", leased, "Idempotency-Key", "job 7")
	s.wantLevels("the same key of another token", `{"n":80,"p":0}`)
}

// What a lost answer was about is given back, unless a key lets the client ask again.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, c := range []struct{ key, left string }{{"", `{"n":100,"p":2}`}, {"k", `{"n":90,"p":1}`}} {
		r := httptest.NewRequestWithContext(access.With(t.Context(), admin), http.MethodPost, "/v1/acquire", strings.NewReader(leased))
		if c.key != "" {
			r.Header.Set("Idempotency-Key", c.key)
		}
		s.handler.ServeHTTP(&leaver{ResponseWriter: httptest.NewRecorder(), failFlush: true}, r)
		s.wantLevels("lost with the key "+c.key, c.left)
	}
	s.want(200, admin, "POST", "/v1/acquire", leased, "Idempotency-Key", "k")
	s.wantLevels("asked again", `{"n":90,"p":1}`)
}
