//go:build unix

package main_test

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// onDynamoDB is the program with a table of its own, on the engine of the tests.
func onDynamoDB(t *testing.T) shop {
	t.Helper()
	s := shop{t: t, store: "dynamodb://e2e-" + rand.Text()[:8] + "?endpoint=" + engine.Endpoint(t)}
	s.run(0, "table", "create")
	return s
}

// TestDynamoDB: every command that works on a store, on a table.
func TestDynamoDB(t *testing.T) {
	t.Parallel()
	s := onDynamoDB(t)
	says := func(code int, want string, args ...string) {
		t.Helper()
		if out, errs := s.run(code, args...); !strings.Contains(out+errs, want) {
			t.Errorf("zael %s: got %q and %q, want %q", strings.Join(args, " "), out, errs, want)
		}
	}
	limits := filepath.Join(t.TempDir(), "limits.yaml")
	if err := os.WriteFile(limits, []byte("system:\n  limits: [rpm=10/d]\nentities:\n  key-1: {parent: project-1, cascade: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(0, "applied: 2 created", "limits", "apply", "-f", limits)
	says(0, "plan: nothing to do", "limits", "plan", "-f", limits)
	says(0, "left rpm=6", "acquire", "-e", "key-1", "-r", "gpt-4", "--stored", "-c", "rpm=4")
	says(3, "7 requested, 6 available", "acquire", "-e", "key-1", "-r", "gpt-4", "--stored", "-c", "rpm=7")
	says(0, "rpm            6\n", "available", "-e", "project-1", "-r", "gpt-4", "--stored")
	says(0, "", "limits", "set", "--entity", "key-1", "--limit", "rpm=5/d")
	says(0, "left rpm=0", "acquire", "-e", "key-1", "-r", "gpt-4", "--stored", "-c", "rpm=1") // 4 of the 5 are gone
	says(0, "project-1        10          5   50.0 %", "capacity", "-r", "gpt-4", "--limit-name", "rpm")
	says(0, "key-1", "entity", "children", "project-1")
	says(0, "limits_set", "audit")
	says(0, "deleted", "entity", "delete", "key-1")
	says(1, "entity not found", "entity", "show", "key-1")
	says(1, "table exists", "table", "create")
	says(1, "Add usage=true to the store's URL", "usage", "-e", "key-1")
	says(2, "is not in DynamoDB", "table", "create", "--store", "memory:")
	s.store = strings.Replace(s.store, "//e2e-", "//none-", 1)
	for _, command := range []string{"acquire -e a -r r -l n=1/s", "aggregate --once", "redrive", "usage -e a --store " + s.store + "&usage=true"} {
		_, errs := s.run(1, strings.Fields(command)...)
		if !strings.Contains(errs, "there is no such table: ZAEL-none-") || !strings.Contains(errs, " in us-east-1 at http://127.0.0.1:") || !strings.Contains(errs, "zael table create") || strings.Count(errs, "\n") != 2 {
			t.Errorf("zael %s: got %q, want two lines that name table, region and endpoint and the remedy", command, errs)
		}
	}
}

// TestNamespaceCommands: a namespace from its registration until it is purged, as an operator and a
// tenant see it.
func TestNamespaceCommands(t *testing.T) {
	t.Parallel()
	s := onDynamoDB(t)
	says := func(store string, code int, want string, args ...string) {
		t.Helper()
		if out, errs := (shop{t: t, store: store}).run(code, args...); !strings.Contains(out+errs, want) {
			t.Errorf("zael %s: got %q and %q, want %q", strings.Join(args, " "), out, errs, want)
		}
	}
	acquire := []string{"acquire", "-e", "key-1", "-r", "gpt-4", "-l", "rpd=3/d", "-c"}
	a, b := s.store+"&namespace=team-a", s.store+"&namespace=team-b"
	says(s.store, 0, "", "namespace", "register", "team-a")
	says(s.store, 0, "", "namespace", "register", "team-a")
	says(a, 0, "left rpd=1", append(acquire, "rpd=2")...)
	says(b, 0, "", "limits", "set", "--resource", "gpt-4", "--limit", "rpd=5/d") // registers it
	says(b, 0, "left rpd=0", append(acquire, "rpd=3")...)
	says(s.store, 0, "team-b", "namespace", "list")
	says(s.store, 0, `"name": "team-a"`, "namespace", "list", "--json")
	says(a, 0, "active", "namespace", "show", "team-a")
	says(s.store, 1, "active", "namespace", "purge", "team-a", "--yes")
	says(s.store, 0, "", "namespace", "delete", "team-a")
	says(s.store, 0, "deleted", "namespace", "show", "team-a")
	says(a, 3, "namespace", append(acquire, "rpd=1")...)
	says(a, 1, "namespace", "limits", "set", "--resource", "gpt-4", "--limit", "rpd=5/d")
	says(s.store, 0, "", "namespace", "recover", "team-a")
	says(a, 0, "left rpd=0", append(acquire, "rpd=1")...)
	says(a, 3, "1 requested, 0 available", append(acquire, "rpd=1")...)
	says(s.store, 0, "", "namespace", "delete", "team-a")
	says(s.store, 0, "record", "namespace", "purge", "team-a", "--yes")
	says(s.store, 1, "not", "namespace", "show", "team-a")
	says(a, 0, "left rpd=0", append(acquire, "rpd=3")...) // the name is free, and all of it new
	says(b, 3, "1 requested, 0 available", append(acquire, "rpd=1")...)
	says(s.store, 0, "namespace_purged", "audit")
	says(s.store, 2, "64 characters", "namespace", "register", "a/b")
	says("sqlite:"+filepath.Join(t.TempDir(), "a.db"), 1, "keep a SQLite file for each tenant", "namespace", "list")
}

// Without credentials every command says so in one line, and nothing else is written.
func TestNoCredentials(t *testing.T) { //nolint:paralleltest // it changes the environment
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(refuses.Close)
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	for name, value := range map[string]string{
		"AWS_REGION": "eu-central-1", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": refuses.URL, "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	s := shop{t: t, store: "dynamodb://demo?region=eu-central-1&usage=true"}
	for _, command := range []string{
		"acquire -e a -r r -l n=1/s", "usage -e a", "audit", "table create", "aggregate --once", "redrive", "deploy --no-aggregator", "check", "list", "status --name demo",
	} {
		out, errs := s.run(1, strings.Fields(command)...)
		if text := out + errs; !strings.Contains(text, "there are no AWS credentials: set AWS_PROFILE") || strings.Count(text, "\n") != 1 {
			t.Errorf("zael %s: got %q, want one line that says what to set", command, text)
		}
	}
}

// TestBenchDynamoDB: several processes on a table, and what it cost is told. The
// limit does not refuse: who is refused asks again at once, and what runs on the same
// machine as the engine then leaves it no time.
func TestBenchDynamoDB(t *testing.T) {
	t.Parallel()
	s := onDynamoDB(t)
	s.run(0, "acquire", "-e", "e", "-r", "r", "-l", "n=1/s") // the first one takes a cold engine long
	out, errs := s.run(0, "bench", "--json", "--processes", "2", "--callers", "2", "--duration", "1s", "--timeout", "30s", "--limit", "n=100000/s")
	var r struct {
		Admitted int64    `json:"admitted"`
		Ideal    int64    `json:"ideal"`
		Errors   int64    `json:"errors"`
		Calls    *float64 `json:"calls_per_acquire"`
		Writes   *float64 `json:"write_units_per_acquire"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || errs != "" || r.Errors != 0 || r.Admitted == 0 || r.Admitted > r.Ideal {
		t.Errorf("got %s and %q (%v), want some, no more than the ideal, and no error", out, errs, err)
	}
	if r.Calls == nil || r.Writes == nil || *r.Calls <= 0 || *r.Writes <= 0 || *r.Writes > *r.Calls+1 { // first uses cost 2
		t.Errorf("got %s, want calls and write units of each acquire", out)
	}
}
