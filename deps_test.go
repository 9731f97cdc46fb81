package zael_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies: users compile what they import, so the light packages import
// no engine, driver or command line, and nothing outside the standard library but
// what is listed here.
func TestDependencies(t *testing.T) {
	t.Parallel()
	const module = "github.com/zeroae/zael"
	breaker := "github.com/sony/gobreaker/v2"
	all := map[string][]string{
		"":           {"/bucket", "/internal/decimal", "/internal/line", "/internal/recent", "/internal/saturate", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker},
		"/bucket":    {"/internal/zoneinfo"},
		"/httplimit": {"", "/bucket", "/internal/clientkey", "/internal/decimal", "/internal/edge", "/internal/httpedge", "/internal/line", "/internal/recent", "/internal/saturate", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker},
		"/llm":       {"", "/bucket", "/internal/clientkey", "/internal/decimal", "/internal/line", "/internal/pause", "/internal/recent", "/internal/saturate", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker},
		"/grpclimit": {
			"", "/bucket", "/internal/clientkey", "/internal/decimal", "/internal/edge", "/internal/line", "/internal/recent", "/internal/saturate", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker,
			"google.golang.org/grpc/...", "google.golang.org/protobuf/...", "google.golang.org/genproto/googleapis/rpc/...", "golang.org/x/...",
		},
		"/telemetry": {
			"", "/bucket", "/internal/decimal", "/internal/line", "/internal/lograte", "/internal/recent", "/internal/saturate", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker,
			"go.opentelemetry.io/otel/...", "go.opentelemetry.io/auto/sdk/...", "github.com/go-logr/...", "github.com/cespare/xxhash/v2",
		},
		"/client": {"", "/bucket", "/internal/decimal", "/internal/line", "/internal/recent", "/internal/saturate", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker},
		"/postgresstore": {
			"", "/bucket", "/internal/decimal", "/internal/deftext", "/internal/edits", "/internal/enginecall", "/internal/engineclock", "/internal/hourly", "/internal/inflight", "/internal/line", "/internal/oncekey", "/internal/pages", "/internal/pause", "/internal/prefix", "/internal/recent", "/internal/redact",
			"/internal/rowusage", "/internal/saturate", "/internal/sqladmin", "/internal/stamp", "/internal/storearg", "/internal/storedlimits", "/internal/trial", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker, "github.com/jackc/...", "golang.org/x/text/...", "golang.org/x/sync/semaphore",
		},
		"/memstore":  {"", "/bucket", "/internal/decimal", "/internal/edits", "/internal/hourly", "/internal/line", "/internal/recent", "/internal/saturate", "/internal/storearg", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker},
		"/storetest": {"", "/bucket", "/internal/decimal", "/internal/line", "/internal/recent", "/internal/saturate", "/internal/varint", "/internal/within", "/internal/zoneinfo", breaker},
	}
	args := []string{"list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}} {{join .Deps " "}}{{end}}`}
	for pkg := range all {
		args = append(args, module+pkg)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go %q: %v", args, err)
	}
	deps := map[string][]string{} // of each package that is not of the standard library
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		deps[words[0]] = words[1:]
	}
	for pkg, allowed := range all {
		if len(deps[module+pkg]) == 0 {
			t.Errorf("go list says nothing of %s", module+pkg)
		}
		for _, path := range deps[module+pkg] {
			if _, ok := deps[path]; !ok {
				continue // of the standard library
			}
			short := strings.TrimPrefix(path, module)
			within := func(a string) bool {
				tree, ok := strings.CutSuffix(a, "/...")
				return ok && (path == tree || strings.HasPrefix(path, tree+"/"))
			}
			if slices.Contains(allowed, path) || short != path && slices.Contains(allowed, short) || slices.ContainsFunc(allowed, within) {
				continue
			}
			t.Errorf("%s imports %s, which is not one of %q", module+pkg, path, allowed)
		}
	}
}
