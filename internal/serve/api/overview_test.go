package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/memstore"
)

// What a server has decided is seen at once, and by a token with a prefix of its own alone.
func TestLive(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 3 {
		s.do(admin, "POST", "/v1/acquire", `{"entity":"a/1","resource":"r","limits":["n=2/min"]}`)
		s.do(admin, "POST", "/v1/acquire", fmt.Sprintf(`{"entity":"b/%d","resource":"q","limits":["n=1/min"]}`, i))
	}
	got := s.want(200, reader, "GET", "/v1/live", "")
	for _, want := range []string{
		`"since":"2026-01-13T14:00:00Z"`, `"sum_admitted":2,"sum_refused":1,"sum_tokens":2`, `"sum_admitted":3,"sum_refused":0`,
		`{"entity_id":"a/1","resource":"r","limit_name":"n","kind":"rate","limit":"n=2/min","soft":false,"capacity":2,"burst":2,"available":0,"requested":1,"exceeded":true`,
		`"seen_seconds_ago":0,"refused":1}`, `"more_limits":0`,
	} {
		if !strings.Contains(got.text, want) {
			t.Errorf("live: got %s, want %s in it", got.text, want)
		}
	}
	if got := s.want(200, reader, "GET", "/v1/live?limit=1", ""); !strings.Contains(got.text, `"more_limits":1`) || !strings.Contains(got.text, `"more_near":3`) {
		t.Errorf("one of each: got %s, want 1 and 3 more", got.text)
	}
	if got := s.want(200, readerA, "GET", "/v1/live", ""); strings.Contains(got.text, `"b/`) || !strings.Contains(got.text, `"a/1"`) || !strings.Contains(got.text, `"total":null,"limits":[]`) {
		t.Errorf("with a prefix: got %s, want a/1 alone and no sums", got.text)
	}
	s.want(200, admin, "POST", "/v1/entities/a%2F1/reset", `{"resource":"r"}`)
	if got := s.want(200, readerA, "GET", "/v1/live", ""); strings.Contains(got.text, `"a/1"`) {
		t.Errorf("after a reset: got %s, want a/1 near no limit", got.text)
	}
	s.wantError(400, "invalid", "limit", admin, "GET", "/v1/live?limit=0", "")
}

// An overview has all that is stored of an entity, and what holds for its buckets.
func TestOverview(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"a/1","parent_id":"team","metadata":{"plan":"gold"}}`)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"a/2","parent_id":"a/1"}`)
	s.want(201, admin, "POST", "/v1/entities", `{"id":"b","parent_id":"a/1"}`)
	s.want(200, admin, "PUT", "/v1/system/limits", `{"limits":["n=10/min"]}`)
	s.want(200, admin, "PUT", "/v1/resources/r/limits", `{"limits":["n=20/min"]}`)
	s.want(200, admin, "PUT", "/v1/entities/a%2F1/limits?resource=q", `{"limits":["n=30/min","d=5 each day"]}`)
	s.want(200, admin, "PUT", "/v1/entities/a%2F11/limits?resource=q", `{"limits":["n=7/min"]}`)
	s.want(200, admin, "PUT", "/v1/entities/a%2F1/switch", `{"switch":"enabled"}`)
	for _, resource := range []string{"q", "r", "s"} {
		s.want(200, admin, "POST", "/v1/acquire", `{"entity":"a/1","resource":"`+resource+`"}`)
	}
	got := s.want(200, admin, "GET", "/v1/entities/a%2F1/overview", "")
	for _, want := range []string{
		`"entity":{"id":"a/1","name":"a/1","parent_id":"team","cascade":false,"metadata":{"plan":"gold"}`, `"switch":"enabled","failure_mode":"inherit"`,
		`"scopes":[{"entity_id":"a/1","resource":"q","limits":[{"limit_name":"n","kind":"rate","limit":"n=30/min"`,
		`"stored":{"entity_id":"a/1","resource":"q","limits":[{`, `"stored":{"resource":"r","limits":[{"limit_name":"n","kind":"rate","limit":"n=20/min"`, `"stored":{"limits":[{"limit_name":"n","kind":"rate","limit":"n=10/min"`,
		`"limit":"d=5 each day","soft":false,"capacity":5,"burst":5,"available":4,"requested":0,"exceeded":false,"overdrawn":false,"period_start":"2026-01-13T00:00:00Z","resets_at":"2026-01-14T00:00:00Z"`,
		`"children":[{"id":"a/2"`, `{"id":"b"`,
	} {
		if !strings.Contains(got.text, want) {
			t.Errorf("overview: got %s, want %s in it", got.text, want)
		}
	}
	if strings.Contains(got.text, "a/11") {
		t.Errorf("overview: got %s, want no other entity's limits", got.text)
	}
	got = s.want(200, readerA, "GET", "/v1/entities/a%2F1/overview", "")
	if strings.Contains(got.text, `"id":"b"`) || !strings.Contains(got.text, `"id":"a/2"`) {
		t.Errorf("overview for a prefix: got %s, want its own child", got.text)
	}
	got = s.want(200, admin, "GET", "/v1/entities/nobody/overview", "")
	if !strings.Contains(got.text, `"entity":null,"switch":"inherit","failure_mode":"inherit","scopes":[],"buckets":[],"more_buckets":false,"children":[]`) {
		t.Errorf("overview of nobody: got %s, want nothing", got.text)
	}
}

// A token tells whose it is, whatever it is for.
func TestWhoami(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for p, want := range map[access.Principal]string{
		admin:   `{"name":"ops","role":"admin","prefix":"","may_set_limits":true}`,
		readerA: `{"name":"ra","role":"read","prefix":"a/","may_set_limits":false}`,
		gateway: `{"name":"llm","role":"gateway","prefix":"","may_set_limits":false}`,
	} {
		if got := s.want(200, p, "GET", "/v1/whoami", ""); got.text != want+"\n" {
			t.Errorf("%s: got %s, want %s", p.Name, got.text, want)
		}
	}
	s.wantError(401, "unauthenticated", "", access.Principal{}, "GET", "/v1/whoami", "")
}

// A counting is a store that counts how often buckets of an entity are read.
type counting struct {
	*memstore.Store

	reads atomic.Int64
}

func (s *counting) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	s.reads.Add(1)
	return s.Store.Entities(ctx, ids)
}

// The store is read once for all who look within five seconds, and again after a change.
func TestOverviewIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New(nil)}
		s := setupOn(t, store)
		look := func(want int64) {
			t.Helper()
			for range 3 {
				s.want(200, reader, "GET", "/v1/entities/e/overview", "")
			}
			if got := store.reads.Load(); got != want {
				t.Errorf("got %d reads, want %d", got, want)
			}
		}
		look(1)
		<-time.After(4 * time.Second)
		look(1)
		<-time.After(time.Second)
		look(2)
		s.want(200, admin, "PUT", "/v1/entities/e/limits", `{"limits":["n=1/min"]}`)
		look(3)
		s.ok(s.limiter.Close(t.Context()))
	})
}
