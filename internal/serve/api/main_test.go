package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/serve/api"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/live"
	"github.com/zeroae/zael/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The principals of the tests.
var (
	admin   = access.Principal{Name: "ops", Role: access.Admin}
	acquire = access.Principal{Name: "web", Role: access.Acquire}
	reader  = access.Principal{Name: "eve", Role: access.Read}
	gateway = access.Principal{Name: "llm", Role: access.Gateway}
	teamA   = access.Principal{Name: "a", Role: access.Acquire, Prefix: "a/"}
	adminA  = access.Principal{Name: "aa", Role: access.Admin, Prefix: "a/"}
	readerA = access.Principal{Name: "ra", Role: access.Read, Prefix: "a/"}
)

// begin is when the clock of a rig begins.
func begin() time.Time { return time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC) }

// A rig is an API over a limiter whose clock stands until it is moved.
type rig struct {
	*testing.T

	limiter  *zael.Limiter
	handler  http.Handler
	config   config.Config
	log      *strings.Builder
	draining chan struct{}

	mu    sync.Mutex
	waits int // that may begin
	ahead time.Duration
}

// forward moves the clock.
func (s *rig) forward(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

func (s *rig) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return begin().Add(s.ahead)
}

// setup returns a rig over a store in memory.
func setup(t *testing.T) *rig {
	t.Helper()
	return setupOn(t, memstore.New(&memstore.Config{Usage: true}))
}

func setupOn(t *testing.T, store zael.Store) *rig {
	t.Helper()
	s := &rig{T: t, log: new(strings.Builder), draining: make(chan struct{}), waits: 100}
	var err error
	recorder := live.New(s.now)
	s.limiter, err = zael.New(store, &zael.Config{Clock: s.now, Principal: "server", Observer: recorder})
	s.ok(err)
	s.config.Max = config.Max{Body: 8192, Wait: time.Minute}
	s.config.Policies = map[string]*zael.Policy{"chat": zael.MustPolicy("chat", zael.PerMinute("rpm", 2))}
	s.handler, err = api.New(&serve.Env{
		Limiter: s.limiter, Store: store, Live: recorder, Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Config: func() *config.Config { return &s.config }, Wait: s.wait, Draining: s.draining,
	})
	s.ok(err)
	return s
}

func (s *rig) wait() (func(), bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits == 0 {
		return nil, false
	}
	s.waits--
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waits++
	}, true
}

func (s *rig) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// An answer is what came of a request.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// do sends a request. body may be empty.
func (s *rig) do(p access.Principal, method, target, body string, headers ...string) answer {
	s.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return s.send(r.WithContext(access.With(r.Context(), p)))
}

func (s *rig) send(r *http.Request) answer {
	s.Helper()
	w, body := httptest.NewRecorder(), new(bytes.Buffer)
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r.Body, body), r.Body}
	s.handler.ServeHTTP(w, r)
	openAPI().check(s.T, r, body.Bytes(), w)
	got := answer{status: w.Code, header: w.Header(), text: w.Body.String()}
	if got.text != "" {
		decoder := json.NewDecoder(strings.NewReader(got.text))
		decoder.UseNumber()
		if err := decoder.Decode(&got.body); err != nil {
			s.Errorf("%s %s: got the body %q, want JSON: %v", r.Method, r.URL, got.text, err)
		}
		if _, err := decoder.Token(); err != io.EOF {
			s.Errorf("%s %s: got more after the body %q", r.Method, r.URL, got.text)
		}
	}
	return got
}

// want sends a request, which must have a status, and returns the answer.
func (s *rig) want(status int, p access.Principal, method, target, body string, headers ...string) answer {
	s.Helper()
	got := s.do(p, method, target, body, headers...)
	if got.status != status {
		s.Errorf("%s %s %s by %s: got %d %s, want %d", method, target, body, p.Name, got.status, got.text, status)
	}
	return got
}

// wantError sends a request, which must fail with a code and, if it is invalid, a field.
func (s *rig) wantError(status int, code, field string, p access.Principal, method, target, body string) answer {
	s.Helper()
	got := s.want(status, p, method, target, body)
	gotField, _ := got.body["field"].(string)
	if got.body["error"] != code || gotField != field || got.header.Get("Content-Type") != "application/problem+json" {
		s.Errorf("%s %s %s by %s: got %s, want the code %s and the field %q", method, target, body, p.Name, got.text, code, field)
	}
	return got
}
