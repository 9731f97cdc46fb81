package aggregator_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A lambda runs the bootstrap and serves its Runtime API.
type lambda struct {
	t       *testing.T
	events  chan []byte // to the function
	answers chan answer // from it
	timeout time.Duration
	n       int
	stderr  string // file with its log
}

type answer struct {
	route string // response, error or init
	body  []byte
}

// An invocation is the outcome of a batch.
type invocation struct {
	failed bool   // the function returned an error
	first  string // record that was not counted
}

// newLambda starts the bootstrap for a table at an endpoint.
func newLambda(t *testing.T, path, endpoint, table string) *lambda {
	t.Helper()
	l := &lambda{t: t, events: make(chan []byte), answers: make(chan answer), timeout: 20 * time.Second}
	mux := http.NewServeMux()
	const api = "/2018-06-01/runtime/"
	mux.HandleFunc("GET "+api+"invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case event := <-l.events:
			l.n++
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprintf("request-%d", l.n))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(l.timeout).UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:ZAEL-test")
			_, _ = w.Write(event)
		case <-r.Context().Done():
		}
	})
	took := func(route string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.WriteHeader(http.StatusAccepted)
			select {
			case l.answers <- answer{route, body}:
			case <-t.Context().Done():
			}
		}
	}
	mux.HandleFunc("POST "+api+"invocation/{id}/response", took("response"))
	mux.HandleFunc("POST "+api+"invocation/{id}/error", took("error"))
	mux.HandleFunc("POST "+api+"init/error", took("init"))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("Runtime API: got %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	l.stderr = filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(l.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(server.URL, "http://"),
		"AWS_ENDPOINT_URL_DYNAMODB="+endpoint, "ZAEL_TABLE="+table, "ZAEL_WINDOWS=hourly,daily", "ZAEL_RETENTION_DAYS=30")
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		server.CloseClientConnections()
		if t.Failed() {
			t.Logf("the log of the function:\n%s", l.logs())
		}
	})
	return l
}

func (l *lambda) logs() string {
	l.t.Helper()
	data, err := os.ReadFile(l.stderr)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(data)
}

// hangs is how long a function that does nothing is waited for.
const hangs = 20 * time.Minute

// invoke sends a batch to the function.
func (l *lambda) invoke(batch []json.RawMessage) invocation {
	l.t.Helper()
	event, err := json.Marshal(map[string]any{"Records": batch})
	if err != nil {
		l.t.Fatal(err)
	}
	select {
	case l.events <- event:
	case <-time.After(hangs):
		l.t.Fatal("the function does not ask for an event")
	}
	var got answer
	select {
	case got = <-l.answers:
	case <-time.After(hangs):
		l.t.Fatal("the function does not answer")
	}
	if got.route != "response" {
		return invocation{failed: true}
	}
	var out struct {
		Failures *[]struct {
			ID string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(got.body, &out); err != nil || out.Failures == nil {
		l.t.Fatalf("got the answer %s (%v), want a list of failures, not null", got.body, err)
	}
	if len(*out.Failures) == 0 {
		return invocation{}
	}
	return invocation{first: (*out.Failures)[0].ID}
}
