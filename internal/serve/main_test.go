package serve_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/testrig/journal"
	"github.com/zeroae/zael/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a daemon that runs, with a handler as its API.
type rig struct {
	*serve.Daemon

	t       *testing.T
	env     *serve.Env
	file    string
	log     *journal.Journal
	hangup  chan struct{}
	client  *http.Client
	stop    context.CancelFunc
	stopped chan error // what Run returned
	base    string     // of URLs
}

// start runs a daemon with a configuration. It has stopped when the test ends.
func start(t *testing.T, text string, api http.HandlerFunc) *rig {
	t.Helper()
	return startLooking(t, 20*time.Millisecond, text, api)
}

// startLooking is start with how often the daemon looks whether files have changed.
func startLooking(t *testing.T, every time.Duration, text string, api http.HandlerFunc) *rig {
	t.Helper()
	r := &rig{t: t, file: filepath.Join(t.TempDir(), "zael.yaml"), log: journal.New(), hangup: make(chan struct{}), stopped: make(chan error, 1)}
	r.write(text)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	var err error
	r.Daemon, err = serve.New(ctx, &serve.Options{
		Source: config.Source{File: r.file, LookupEnv: os.LookupEnv}, Log: r.log, Hangup: r.hangup, LookEvery: every,
		Open: func(context.Context, string) (serve.Store, error) { return memstore.New(nil), nil },
		Handlers: serve.Handlers{Page: page{}, API: func(env *serve.Env) (http.Handler, error) {
			r.env = env
			return api, nil
		}},
	})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	transport := &http.Transport{}
	r.client, r.base = &http.Client{Transport: transport}, "http://"+r.Addr().String()
	go func() { r.stopped <- r.Run(ctx) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		r.stopped <- <-r.stopped // it may have been read and put back
		if t.Failed() {
			t.Log(r.log)
		}
	})
	return r
}

// write replaces the configuration, at once, and adds the address.
func (r *rig) write(text string) {
	r.t.Helper()
	temporary := r.file + ".new"
	if err := errors.Join(os.WriteFile(temporary, []byte("version: 1\nlisten: 127.0.0.1:0\n"+text), 0o600), os.Rename(temporary, r.file)); err != nil {
		r.t.Fatal(err)
	}
}

// reload replaces the configuration and waits for what the log says of it.
func (r *rig) reload(text, says string) {
	r.t.Helper()
	before := r.log.Len()
	r.write(text)
	r.hangup <- struct{}{}
	r.log.Await(before, says)
}

// end stops the daemon and returns what Run returned.
func (r *rig) end() error {
	r.stop()
	err := <-r.stopped
	r.stopped <- err // for the cleanup
	return err
}

// get asks for a path, with a token unless that is empty.
func (r *rig) get(path, token string) (status int, body string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

// metric returns the line of a metric.
func (r *rig) metric(token, name string) string {
	r.t.Helper()
	status, body := r.get("/metrics", token)
	if status != http.StatusOK {
		r.t.Fatalf("metrics: got %d and %s", status, body)
	}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, name+" ") {
			return strings.TrimSpace(strings.TrimPrefix(line, name))
		}
	}
	return "none"
}

// A page is one file.
type page struct{}

// Covers implements serve.Page.
func (page) Covers(path string) bool { return path == "/page" }

// ServeHTTP implements http.Handler.
func (page) ServeHTTP(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the page") }
