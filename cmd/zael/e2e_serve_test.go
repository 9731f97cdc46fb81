//go:build unix

package main_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/zeroae/zael/internal/testrig/schedules"
)

// A server is zael serve as a process.
type server struct {
	shop

	cmd    *exec.Cmd
	file   string // its configuration
	base   string // of URLs
	client *http.Client
	lines  chan string // of its log
}

// serve starts zael serve with a configuration, on a free port.
func (s shop) serve(configuration string) *server {
	s.t.Helper()
	d := &server{shop: s, file: filepath.Join(s.t.TempDir(), "zael.yaml"), lines: make(chan string, 10_000)}
	d.write(configuration)
	d.cmd = s.command("serve", "--config", d.file)
	log, err := d.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(d.lines)
		for scanner := bufio.NewScanner(log); scanner.Scan(); {
			select {
			case d.lines <- scanner.Text():
			default: // nobody reads them, and the server must not wait
			}
		}
	}()
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(d.await("msg=serving"))
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	s.t.Cleanup(transport.CloseIdleConnections)
	d.base, d.client = "http://"+address[1], &http.Client{Transport: transport}
	return d
}

// write replaces the configuration.
func (d *server) write(configuration string) {
	d.t.Helper()
	text := "version: 1\nlisten: 127.0.0.1:0\n" + configuration
	if err := errors.Join(os.WriteFile(d.file+".new", []byte(text), 0o600), os.Rename(d.file+".new", d.file)); err != nil {
		d.t.Fatal(err)
	}
}

// await reads the log up to a line with a text, and returns it.
func (d *server) await(text string) string {
	d.t.Helper()
	var before []string
	for line := range d.lines {
		if strings.Contains(line, text) {
			return line
		}
		before = append(before, line)
	}
	d.t.Fatalf("the server ended before it said %q: %s", text, strings.Join(before, "\n"))
	return ""
}

func (d *server) signal(s os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// ended waits for the process, which must end with exit code 0, and returns the rest of its log.
func (d *server) ended() string {
	d.t.Helper()
	var rest []string
	for line := range d.lines {
		rest = append(rest, line)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("got %v, want exit code 0: %s", err, strings.Join(rest, "\n"))
	}
	return strings.Join(rest, "\n")
}

// acquire sends the body of an acquire, with a token unless that is empty. status is 0 if there was no answer.
func (d *server) acquire(token, body string) (status int, answer string) {
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.base+"/v1/acquire", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(all)
}

// TestServe drives the program from its start to its end: acquires, tokens, reloads by signal.
func TestServe(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	out, _ := s.run(0, "token", "new", "--json")
	var token struct {
		Token string `json:"token"`
		Hash  string `json:"hash"`
	}
	if err := json.Unmarshal([]byte(out), &token); err != nil {
		t.Fatal(err)
	}
	tokens := "tokens: [{name: web, role: acquire, prefix: a/, may_set_limits: true, hash: '" + token.Hash + "'}]\n"
	d := s.serve(tokens)
	const literal = `{"entity":"a/1","resource":"gpt-4","limits":["rpm=2 each day"],"lease":false}`
	for i, want := range []int{200, 200, 429} {
		if status, answer := d.acquire(token.Token, literal); status != want {
			t.Errorf("acquire %d: got %d and %s, want %d", i, status, answer, want)
		}
	}
	if status, answer := d.acquire("", literal); status != 401 {
		t.Errorf("without the token: got %d and %s, want 401", status, answer)
	}
	if status, answer := d.acquire(token.Token, strings.ReplaceAll(literal, "a/1", "b/1")); status != 403 {
		t.Errorf("another's entity: got %d and %s, want 403", status, answer)
	}
	status, headers, page := d.send("GET", "/", "", nil) // anybody gets the page, and nothing else
	if policy := headers.Get("Content-Security-Policy"); status != 200 || !strings.Contains(page, "<title>zael</title>") || !strings.HasPrefix(policy, "default-src 'none'") {
		t.Errorf("the page: got %d under %q and %s, want it", status, policy, page)
	}
	d.write(tokens + "policies: {video: {limits: [n=1 each day]}}\n")
	d.signal(syscall.SIGHUP)
	d.await("configuration reloaded")
	const named = `{"entity":"a/1","resource":"video","policy":"video","lease":false}`
	for i, want := range []int{200, 429} {
		if status, answer := d.acquire(token.Token, named); status != want {
			t.Errorf("acquire %d by the policy: got %d and %s, want %d", i, status, answer, want)
		}
	}
	d.write("bogus: 1\n")
	d.signal(syscall.SIGHUP)
	if line := d.await("the configuration stays as it was"); !strings.Contains(line, d.file+":3: the file: unknown key") {
		t.Errorf("got %s, want file, line and reason", line)
	}
	if status, answer := d.acquire(token.Token, named); status != 429 {
		t.Errorf("after a bad file: got %d and %s, want the policy to hold", status, answer)
	}
	_, errs := s.run(2, "serve", "--config", d.file, "--check")
	if !strings.HasPrefix(errs, "zael: "+d.file+":3: the file: unknown key") {
		t.Errorf("--check: got %q, want file, line and reason", errs)
	}
	d.signal(syscall.SIGTERM)
	if rest := d.ended(); strings.Contains(rest, token.Token) {
		t.Error("the log has the token")
	}
	if out, _ := s.run(0, "available", "--entity", "a/1", "--resource", "gpt-4", "--limit", "rpm=2 each day"); !strings.Contains(out, "rpm") || !strings.Contains(out, " 0") {
		t.Errorf("got %q, want what was taken in the store", out)
	}
}

func TestServeCheck(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if out, _ := s.run(0, "serve", "--check"); out != "the configuration is valid: 0 tokens, 0 policies, 0 routes\n" {
		t.Errorf("got %q", out)
	}
	if _, errs := s.run(2, "serve", "--listen", "0.0.0.0:0"); !strings.Contains(errs, "would let other machines in without a token") {
		t.Errorf("got %q, want it refused", errs)
	}
	s.run(0, "serve", "--listen", "0.0.0.0:0", "--insecure", "--check")
	s.run(2, "serve", "--config", filepath.Join(t.TempDir(), "none.yaml"))
	s.run(2, "serve", "--store", "nowhere", "--listen", "127.0.0.1:0")
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): "another program has the address " + taken.Addr().String() + ", perhaps another zael serve: end it, or choose another address with --listen",
		"192.0.2.1:8080":      "is not one of this machine",
	} {
		if _, errs := s.run(1, "serve", "--insecure", "--listen", address); !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("--listen %s: got %q, want one line with %q", address, errs, want)
		}
	}
	rules := t.TempDir()
	if err := os.WriteFile(filepath.Join(rules, "rules.yaml"), []byte("domain: d\ndescriptors: [{key: k, rate_limit: {unit: minute, requests_per_unit: 2}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs := s.run(1, "serve", "--listen", "127.0.0.1:0", "--rls-listen", taken.Addr().String(), "--rls-config", rules); !strings.Contains(errs, "choose another address with --rls-listen") {
		t.Errorf("--rls-listen: got %q, want the setting named", errs)
	}
}

// TestServeEndsUnderLoad sends SIGTERM while callers acquire: each answer that a caller got was
// charged, and no more than one of each caller was charged and lost.
func TestServeEndsUnderLoad(t *testing.T) {
	t.Parallel()
	const callers, quota = 16, 1_000_000
	s := newShop(t)
	d := s.serve("")
	body := fmt.Sprintf(`{"entity":"e","resource":"r","limits":["n=%d each day"],"lease":false}`, quota)
	var mu sync.Mutex
	told, others := 0, map[string]int{}
	enough := make(chan struct{})
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for {
				status, answer := d.acquire("", body)
				mu.Lock()
				if status == http.StatusOK {
					if told++; told == 5*callers {
						close(enough)
					}
				} else if status != 0 {
					others[fmt.Sprint(status, answer)]++
				}
				mu.Unlock()
				if status == 0 {
					return // the server has closed its address
				}
			}
		})
	}
	<-enough
	d.signal(syscall.SIGTERM)
	d.ended()
	group.Wait()
	if len(others) > 0 {
		t.Errorf("got other answers: %v", others)
	}
	out, _ := s.run(0, "available", "--json", "--entity", "e", "--resource", "r", "--limit", fmt.Sprintf("n=%d each day", quota))
	left := regexp.MustCompile(`"n": (\d+)`).FindStringSubmatch(out)
	if left == nil {
		t.Fatalf("got %s, want what is left", out)
	}
	var n int
	if _, err := fmt.Sscan(left[1], &n); err != nil {
		t.Fatal(err)
	}
	if charged := quota - n; charged < told || charged > told+callers {
		t.Errorf("charged %d, want the %d that were told, and at most %d more", charged, told, callers)
	}
}

// TestServeDroppedConnections opens and drops many connections, some of them in the middle of a
// request: the server goes on, and keeps nothing of them.
func TestServeDroppedConnections(t *testing.T) {
	t.Parallel()
	connections := schedules.Count(t, 2000)
	d := newShop(t).serve("max: {connections: 500, header_time: 1s}\n")
	address := strings.TrimPrefix(d.base, "http://")
	var group sync.WaitGroup
	for caller := range 20 {
		group.Go(func() {
			for i := range connections / 20 {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				sent := []string{"", "GET", "POST /v1/acquire HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"}
				fmt.Fprint(conn, sent[(caller+i)%len(sent)])
				_ = conn.Close()
			}
		})
	}
	group.Wait()
	status := 0
	for status != http.StatusOK { // those that it has yet to accept may fill its bound
		status, _ = d.acquire("", `{"entity":"e","resource":"r","limits":["n=1000/s"],"lease":false}`)
	}
	if runtime.GOOS == "linux" {
		for { // until all are closed
			files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			if len(files) < 50 {
				break
			}
			runtime.Gosched()
		}
		if used := mostMemory(t, d.cmd.Process.Pid); used > 256<<20 {
			t.Errorf("got %d MB at the most, want less than 256", used>>20)
		} else {
			t.Logf("%d connections, %d MB at the most", connections, used>>20)
		}
	}
	d.signal(syscall.SIGTERM)
	d.ended()
}
