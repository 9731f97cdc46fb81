package serve_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/access"
)

// whoami is an API that says whose request it is.
func whoami(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, access.From(r.Context()).Name) }

// tokens returns the YAML of a token of each role, and their texts.
func tokens() (yaml string, texts map[string]string) {
	texts = map[string]string{}
	yaml = "tokens:\n"
	for _, t := range []struct{ name, rest string }{
		{"acquire", "role: acquire"},
		{"gateway", "role: gateway"},
		{"read", "role: read"},
		{"admin", "role: admin"},
		{"bound", "role: read, prefix: a/"},
	} {
		texts[t.name] = access.NewToken()
		yaml += fmt.Sprintf("- {name: %s, %s, hash: '%s'}\n", t.name, t.rest, access.HashOf(texts[t.name]))
	}
	return yaml, texts
}

func TestServes(t *testing.T) {
	t.Parallel()
	r := start(t, "", whoami)
	for path, want := range map[string]string{
		"/healthz": `{"ok":true}`, "/readyz": `{"ready":true,`, "/v1/x": "local", "/v1/a%2Fb/..": "local",
	} {
		if status, body := r.get(path, ""); status != 200 || !strings.HasPrefix(body, want) {
			t.Errorf("%s: got %d and %s, want %s", path, status, body, want)
		}
	}
	for _, path := range []string{"/", "/v1", "/v2/x", "/metrics/", "//v1/x", "/debug/pprof/"} {
		if status, body := r.get(path, ""); status != 404 || !strings.Contains(body, `"error":"not_found"`) {
			t.Errorf("%s: got %d and %s, want 404", path, status, body)
		}
	}
	for metric, want := range map[string]string{
		`zael_serve_request_seconds_count{route="api",status="200"}`: "2", "zael_serve_config_current": "1", "zael_breaker_open": "0",
	} {
		if got := r.metric("", metric); got != want {
			t.Errorf("%s: got %s, want %s", metric, got, want)
		}
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// TestRoles checks which tokens see what the daemon itself serves.
func TestRoles(t *testing.T) {
	t.Parallel()
	yaml, texts := tokens()
	r := start(t, yaml, whoami)
	for name, text := range texts {
		if status, body := r.get("/v1/x", text); status != 200 || body != name {
			t.Errorf("%s: got %d and %s from the API, want it to know the token", name, status, body)
		}
		want := 403
		if name == "read" || name == "admin" {
			want = 200
		}
		if status, _ := r.get("/metrics", text); status != want {
			t.Errorf("%s: got %d from /metrics, want %d", name, status, want)
		}
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 401, "/v1/x": 401, "/none": 401} {
		if status, _ := r.get(path, ""); status != want {
			t.Errorf("%s without a token: got %d, want %d", path, status, want)
		}
	}
	if got := r.metric(texts["read"], `zael_serve_access_refused_total{reason="no_token"}`); got != "3" {
		t.Errorf("got %s refused without a token, want 3", got)
	}
	for name, text := range texts {
		if strings.Contains(r.log.String(), text) {
			t.Errorf("the log has the token %s", name)
		}
	}
}

// TestPage checks that files are served without a token, and by links of other sites, but not
// to a page that has its own name lead here or asks for them itself.
func TestPage(t *testing.T) {
	t.Parallel()
	yaml, _ := tokens()
	for name, text := range map[string]string{"tokens": yaml, "no tokens": ""} {
		r := start(t, text, whoami)
		for _, c := range []struct {
			host          string
			headers       map[string]string
			tokens, local int // the status, with tokens and without
		}{
			{"", nil, 200, 200},
			{"evil.example.com", nil, 200, 403},
			{"", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200, 200},
			{"", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 200, 403},
			{"", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Mode": "navigate"}, 200, 403},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/page", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			for header, value := range c.headers {
				req.Header.Set(header, value)
			}
			resp, err := r.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			want := c.local
			if name == "tokens" {
				want = c.tokens
			}
			if resp.StatusCode != want {
				t.Errorf("%s: host %q with %v: got %d, want %d", name, c.host, c.headers, resp.StatusCode, want)
			}
		}
		if status, _ := r.get("/pages", ""); status == 200 {
			t.Errorf("%s: /pages: got 200, want it refused", name)
		}
	}
}

// TestMetricsListen checks that metrics have an address of their own, and no other.
func TestMetricsListen(t *testing.T) {
	t.Parallel()
	yaml, texts := tokens()
	r := start(t, yaml+"metrics_listen: 127.0.0.1:0\n", whoami)
	if status, _ := r.get("/metrics", texts["admin"]); status != 404 {
		t.Errorf("on the address of the API: got %d, want 404", status)
	}
	r.base = "http://" + r.MetricsAddr().String()
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/readyz": 200, "/v1/x": 404, "/": 404} {
		if status, body := r.get(path, ""); status != want {
			t.Errorf("%s: got %d and %s, want %d", path, status, body, want)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example.com"
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("under a foreign name: got %d, want 403", resp.StatusCode)
	}
}

// TestBodies checks the bounds of bodies: of their size, and of the time that they take.
func TestBodies(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	r := start(t, "max: {body: 1KiB, idle: 1s, header_time: 1s}", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
		fmt.Fprint(w, "read")
	})
	post := func(body io.Reader) int {
		t.Helper()
		resp, err := r.client.Post(r.base+"/v1/x", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if status := post(strings.NewReader(strings.Repeat("x", 1024))); status != 200 || <-read != nil {
		t.Errorf("a body of 1 KiB: got %d, want it read", status)
	}
	if status := post(strings.NewReader(strings.Repeat("x", 1025))); status != 413 {
		t.Errorf("a larger body: got %d, want 413", status)
	}
	post(io.MultiReader(strings.NewReader(strings.Repeat("x", 1025)))) // without Content-Length
	if _, ok := errors.AsType[*http.MaxBytesError](<-read); !ok {
		t.Error("a larger body of unknown length was read")
	}
	// One byte, and then nothing.
	stuck := map[string]net.Conn{}
	for name, host := range map[string]string{"the API's": "localhost", "a refused request's": "evil.example.com"} {
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1/x HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", host)
		stuck[name] = conn
	}
	for name, conn := range stuck {
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s body that does not come: got %v, want the connection closed", name, err)
		}
	}
	if err := <-read; !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(fmt.Sprint(err), "timeout") {
		t.Errorf("a body that does not come: got %v, want a timeout", err)
	}
}

// TestLongAnswer checks that a request may take longer than its body may.
func TestLongAnswer(t *testing.T) {
	t.Parallel()
	r := start(t, "max: {idle: 500ms, header_time: 500ms}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-time.After(2 * time.Second): // four times as long
			fmt.Fprint(w, "done")
		}
	})
	resp, err := r.client.Post(r.base+"/v1/x", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
		t.Errorf("got %q (%v), want the answer", body, err)
	}
}

// TestSlowHeader checks that connections without a request are closed, and headers bounded.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	r := start(t, "max: {header_time: 500ms, header: 1KiB}", whoami)
	slow := map[string]net.Conn{}
	for _, sent := range []string{"", "G", "GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-Slow: "} {
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, sent)
		slow[sent] = conn
	}
	for sent, conn := range slow {
		if answer, err := io.ReadAll(conn); err != nil || strings.Contains(string(answer), "200 OK") {
			t.Errorf("%q: got %q (%v), want the connection closed", sent, answer, err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/v1/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 16<<10))
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a large header: got %d, want 431", resp.StatusCode)
	}
}

// TestConnections checks that connections above the most are closed at once, and that others
// come in when there is room again.
func TestConnections(t *testing.T) {
	t.Parallel()
	r := start(t, "max: {connections: 2}", whoami)
	dial := func() (net.Conn, bool) {
		t.Helper()
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			_ = conn.Close()
			return nil, false
		}
		_ = resp.Body.Close()
		return conn, true
	}
	first, ok1 := dial()
	second, ok2 := dial()
	if !ok1 || !ok2 {
		t.Fatal("a connection was refused while there was room")
	}
	if _, ok := dial(); ok {
		t.Error("a third connection was served")
	}
	_ = first.Close()
	third, ok := dial()
	for !ok { // until the server has seen that the first is closed
		third, ok = dial()
	}
	_, _ = second.Close(), third.Close()
}

// TestWaits checks the bound of requests that wait.
func TestWaits(t *testing.T) {
	t.Parallel()
	r := start(t, "max: {waits: 2}", whoami)
	first, ok1 := r.env.Wait()
	_, ok2 := r.env.Wait()
	if _, ok := r.env.Wait(); !ok1 || !ok2 || ok {
		t.Errorf("got %v, %v and %v, want two to wait and no third", ok1, ok2, ok)
	}
	first()
	if _, ok := r.env.Wait(); !ok {
		t.Error("nobody may wait after one has gone")
	}
	if got := r.metric("", "zael_serve_waits"); got != "2" {
		t.Errorf("got %s that wait, want 2", got)
	}
}

// TestPanic checks that a handler that panics is answered for, and half an answer is cut off.
func TestPanic(t *testing.T) {
	t.Parallel()
	r := start(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/half" {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		panic("the secret of the handler")
	})
	if status, body := r.get("/v1/x", ""); status != 500 || !strings.Contains(body, `"error":"internal"`) || strings.Contains(body, "secret") {
		t.Errorf("got %d and %s, want 500 without details", status, body)
	}
	r.log.Await(0, "the secret of the handler")
	resp, err := r.client.Get(r.base + "/v1/half")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("got %q as a whole answer, want it cut off", body)
	}
}

// TestEnd checks that a request that is under way gets its answer, and waits are told to end.
func TestEnd(t *testing.T) {
	t.Parallel()
	begun, drained := make(chan struct{}), make(chan struct{})
	var r *rig
	r = start(t, "", func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-r.env.Draining
		close(drained)
		fmt.Fprint(w, "answered")
	})
	type answer struct {
		status int
		body   string
	}
	got := make(chan answer)
	go func() {
		status, body := r.get("/v1/x", "")
		got <- answer{status, body}
	}()
	<-begun
	r.stop()
	<-drained
	if a := <-got; a.status != 200 || a.body != "answered" {
		t.Errorf("got %+v, want the request answered", a)
	}
	if err := r.end(); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if conn, err := net.Dial("tcp", r.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the address is still open")
	}
	if err := r.env.Limiter.Ping(t.Context()); err == nil {
		t.Error("the limiter is still open")
	}
}

// TestEndInTime checks that requests that do not end are told to, and then cut off.
func TestEndInTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		deaf  bool
		wants string
	}{{"told to", false, ""}, {"deaf", true, "1 requests were cut off"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			begun, release := make(chan struct{}), make(chan struct{})
			var cause error
			r := start(t, "shutdown_timeout: 500ms", func(_ http.ResponseWriter, r *http.Request) {
				close(begun)
				if c.deaf {
					<-release
					return
				}
				<-r.Context().Done()
				cause = context.Cause(r.Context())
			})
			left := make(chan struct{})
			go func() {
				defer close(left)
				if resp, err := r.client.Get(r.base + "/v1/x"); err == nil {
					_ = resp.Body.Close()
				}
			}()
			<-begun
			err := r.end()
			if c.wants == "" && err != nil || c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants)) {
				t.Errorf("got %v, want %q", err, c.wants)
			}
			if !c.deaf && (cause == nil || !strings.Contains(cause.Error(), "the server is shutting down")) {
				t.Errorf("got the cause %v, want the end", cause)
			}
			close(release)
			<-left
		})
	}
}

// TestAnnounce checks that a daemon that is about to end serves on, and says that it is not ready.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	r := start(t, "", whoami)
	r.Announce()
	if status, body := r.get("/readyz", ""); status != 503 || !strings.Contains(body, `"ready":false,"reason":"the server is shutting down"`) {
		t.Errorf("got %d and %s, want it not ready", status, body)
	}
	if status, _ := r.get("/v1/x", ""); status != 200 {
		t.Errorf("got %d, want requests served", status)
	}
	if status, _ := r.get("/healthz", ""); status != 200 {
		t.Errorf("got %d, want it alive", status)
	}
}

// TestHealth checks how often the store is asked, and what is remembered of its answers.
func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fails error
		asked := 0
		check := serve.NewHealth(func(context.Context) error {
			asked++
			return fails
		})
		begin := time.Now()
		gone := errors.New("gone")
		for _, step := range []struct {
			after, answered time.Duration // since the begin
			fails, want     error
			asked           int
		}{
			{0, 0, nil, nil, 1},
			{900 * time.Millisecond, 0, gone, nil, 1},
			{1100 * time.Millisecond, 0, gone, gone, 2},
			{2000 * time.Millisecond, 0, nil, gone, 2},
			{2200 * time.Millisecond, 2200 * time.Millisecond, nil, nil, 3},
		} {
			<-time.After(time.Until(begin.Add(step.after)))
			fails = step.fails
			cancelled, cancel := context.WithCancel(t.Context())
			cancel() // the caller may leave
			answered, err := check(cancelled)
			if !errors.Is(err, step.want) || answered.Sub(begin) != step.answered || asked != step.asked {
				t.Errorf("after %v: got an answer at %v, %v and %d pings, want %v, %v and %d", step.after, answered.Sub(begin), err, asked, step.answered, step.want, step.asked)
			}
		}
	})
}
