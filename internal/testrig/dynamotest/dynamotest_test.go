package dynamotest_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

// endVariable says how TestEndpoint ends in a process of its own: "fail" or "panic".
const endVariable = "ZAEL_DYNAMOTEST_END"

var engine dynamotest.Engine

func TestMain(m *testing.M) { engine.Main(m) }

func TestEndpoint(t *testing.T) {
	t.Parallel()
	endpoint := engine.Endpoint(t)
	if !dynamolocal.Answers(t.Context(), endpoint) {
		t.Errorf("%s: got no answer", endpoint)
	}
	if got := engine.Endpoint(t); got != endpoint {
		t.Errorf("the second time: got %s, want %s", got, endpoint)
	}
	switch os.Getenv(endVariable) {
	case "fail":
		t.Fatal("on purpose, with", endpoint)
	case "panic":
		panic("on purpose, with " + endpoint)
	}
}

// The engine ends with the tests, also when one fails or panics.
func TestEndpointEnds(t *testing.T) {
	t.Parallel()
	engine.Endpoint(t) // skips with -short
	for end, code := range map[string]int{"fail": 1, "panic": 2} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEndpoint$")
			cmd.Env = append(os.Environ(), endVariable+"="+end, dynamotest.EndpointVariable+"=")
			out, _ := cmd.CombinedOutput() // the exit code says it
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("exit code: got %d, want %d", got, code)
			}
			found := regexp.MustCompile(`on purpose, with (http://127\.0\.0\.1:\d+)`).FindSubmatch(out)
			if found == nil {
				t.Fatalf("output: got %s, want its endpoint", out)
			}
			t.Logf("until %s does not answer", found[1])
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for dynamolocal.Answers(t.Context(), string(found[1])) {
				<-tick.C
			}
		})
	}
}

func TestIsolated(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "env").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); strings.HasPrefix(name, "AWS_") {
			got[name] = value
		}
	}
	want := map[string]string{
		"AWS_ACCESS_KEY_ID":           "zael",
		"AWS_SECRET_ACCESS_KEY":       "zael",
		"AWS_REGION":                  "us-east-1",
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_ENDPOINT_URL":            "http://127.0.0.1:1",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("AWS settings: got %v, want %v", got, want)
	}
}

// A double is a test that notes how it ends.
type double struct {
	testing.TB

	end, text string
}

func (d *double) Helper() {}

func (d *double) Skip(args ...any) { d.finish("skip", fmt.Sprint(args...)) }

func (d *double) Fatalf(format string, args ...any) { d.finish("fail", fmt.Sprintf(format, args...)) }

func (d *double) Fatal(args ...any) { d.finish("fail", fmt.Sprint(args...)) }

func (d *double) finish(end, text string) {
	d.end, d.text = end, text
	runtime.Goexit()
}

// endpointOf calls Endpoint as a test does.
func endpointOf(t *testing.T, e *dynamotest.Engine) (endpoint string, end *double) {
	t.Helper()
	end = &double{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		endpoint = e.Endpoint(end)
	}()
	<-done
	return endpoint, end
}

// A test that needs the engine does not pass unnoticed. Not parallel: it sets the
// environment.
func TestMissing(t *testing.T) {
	t.Setenv(dynamotest.EndpointVariable, "")
	t.Setenv("JAVA_HOME", "/nowhere")
	_, got := endpointOf(t, dynamotest.Isolated())
	if testing.Short() {
		if got.end != "skip" {
			t.Errorf("with -short: got %s, want skip", got.end)
		}
		return
	}
	if got.end != "fail" {
		t.Errorf("without Java: got %s, want fail", got.end)
	}
	for _, part := range []string{"/nowhere/bin/java", "openjdk-17-jre-headless", "-short"} {
		if !strings.Contains(got.text, part) {
			t.Errorf("message: got %q, want it to contain %q", got.text, part)
		}
	}
}

// An engine that is given is reached by an address of this process, which ends with its tests.
//
//nolint:paralleltest // it sets the environment
func TestEndpointGiven(t *testing.T) {
	if testing.Short() {
		t.Skip("the endpoint is not asked for with -short")
	}
	const port = ":8000"
	for _, test := range []struct{ endpoint, want string }{
		{"http://127.0.0.1" + port, ""},
		{"http://localhost" + port, ""},
		{"https://127.0.0.1" + port, "tests never leave"},
		{"https://dynamodb.us-east-1.amazonaws.com", "tests never leave"},
		{"http://127.0.0.1.example.com" + port, "tests never leave"},
		{"http://localhost@example.com", "tests never leave"},
		{"http://0.0.0.0" + port, "tests never leave"},
		{"127.0.0.1" + port, "first path segment"},
		{"localhost" + port, "tests never leave"},
	} {
		t.Setenv(dynamotest.EndpointVariable, test.endpoint)
		e := dynamotest.Isolated()
		got, end := endpointOf(t, e)
		e.Stop()
		if test.want == "" {
			if got == test.endpoint || !strings.HasPrefix(got, "http://127.0.0.1:") || end.end != "" {
				t.Errorf("%s: got %q, %s %s, want a relay on 127.0.0.1", test.endpoint, got, end.end, end.text)
			}
			continue
		}
		if end.end != "fail" || !strings.Contains(end.text, test.want) {
			t.Errorf("%s: got %s %q, want fail with %q", test.endpoint, end.end, end.text, test.want)
		}
	}
}

func TestEndpointWithoutMain(t *testing.T) {
	t.Parallel()
	_, end := endpointOf(t, new(dynamotest.Engine))
	if end.end != "fail" || !strings.Contains(end.text, "TestMain") {
		t.Errorf("got %s %q, want fail, about TestMain", end.end, end.text)
	}
}
