package dynamolocal_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

func TestServer(t *testing.T) {
	t.Parallel()
	s := dynamotest.Start(t, dynamolocal.Options{})
	if got, want := call(t, s.Endpoint(), "ListTables", "{}"), `{"TableNames":[]}`; got != want {
		t.Errorf("tables: got %s, want %s", got, want)
	}
	call(t, s.Endpoint(), "CreateTable", createTable)
	if got, want := call(t, s.Endpoint(), "ListTables", "{}"), `{"TableNames":["Table"]}`; got != want {
		t.Errorf("tables: got %s, want %s", got, want)
	}
	contains(t, "log", s.Log(), "InMemory:\ttrue", "Version:\t"+dynamolocal.Version)

	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done after Close: got open, want closed")
	}
	if got := dynamolocal.CommandLine(s.PID()); got != "" {
		t.Errorf("the process after Close: got %q, want none", got)
	}
	if dynamolocal.Answers(t.Context(), s.Endpoint()) {
		t.Error("the endpoint after Close: got an answer, want none")
	}
}

// A port that was free can be another's a moment later. That one's answers must
// not be taken for the engine's.
func TestPortRace(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"TableNames":["other"]}`)
	}))
	t.Cleanup(other.Close)
	taken := other.Listener.Addr().(*net.TCPAddr).Port
	free, err := dynamolocal.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := dynamotest.Start(t, dynamolocal.OnPorts(dynamolocal.Options{}, taken, free))
	if got, want := s.Endpoint(), fmt.Sprintf("http://127.0.0.1:%d", free); got != want {
		t.Errorf("endpoint: got %s, want %s", got, want)
	}
	if got, want := call(t, s.Endpoint(), "ListTables", "{}"), `{"TableNames":[]}`; got != want {
		t.Errorf("tables: got %s, want %s", got, want)
	}

	if s, err = dynamolocal.Start(t.Context(), dynamolocal.Options{Port: taken}); err == nil {
		_ = s.Close()
		t.Fatal("the given port is taken: got no error")
	}
	contains(t, "error for a taken port", err.Error(), "the port is taken", fmt.Sprint(taken))
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	jars := need(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options dynamolocal.Options
		missing bool
		want    []string
	}{
		"it crashes": {
			dynamolocal.Options{Java: fakeJava(t, "echo cannot open libz; echo a second line >&2; exit 3")},
			false,
			[]string{"ended at its start", "exit status 3", "cannot open libz", "a second line"},
		},
		"it says nothing": {
			dynamolocal.Options{Java: fakeJava(t, "kill -ABRT $$")},
			false,
			[]string{"ended at its start", "signal: aborted", "it said nothing"},
		},
		"an old Java": {
			dynamolocal.Options{Java: fakeJava(t, "echo java.lang.UnsupportedClassVersionError: class file version 61.0; exit 1")},
			true,
			[]string{"too old", "Java 17", "openjdk-17-jre-headless"},
		},
		"no Java": {
			dynamolocal.Options{Java: "/nowhere/java"},
			false,
			[]string{"/nowhere/java"},
		},
		"no directory": {
			dynamolocal.Options{DataDir: filepath.Join(file, "sub")},
			false,
			[]string{"the directory for the data", file},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := test.options
			o.Dir = jars
			s, err := dynamolocal.Start(t.Context(), o)
			if err == nil {
				_ = s.Close()
				t.Fatal("got no error")
			}
			if got := errors.Is(err, dynamolocal.ErrMissing); got != test.missing {
				t.Errorf("%v is ErrMissing: got %v, want %v", err, got, test.missing)
			}
			contains(t, "error", err.Error(), test.want...)
		})
	}
}

// One that never answers ends with the context, and leaves no process.
func TestStartCancelled(t *testing.T) {
	t.Parallel()
	need(t)
	pid := filepath.Join(t.TempDir(), "pid")
	o := dynamolocal.Options{Java: fakeJava(t, "echo $$ >"+pid+".new; mv "+pid+".new "+pid+"; echo waiting; exec sleep 1000")}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := os.Stat(pid); err == nil || ctx.Err() != nil {
				cancel()
				return
			}
		}
	}()
	_, err := dynamolocal.Start(ctx, o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(string(text), &n); err != nil {
		t.Fatal(err)
	}
	if got := dynamolocal.CommandLine(n); got != "" {
		t.Errorf("the process afterwards: got %q, want none", got)
	}
}
