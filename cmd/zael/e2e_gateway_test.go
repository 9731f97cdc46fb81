//go:build unix

package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/testrig/sdks"
)

// forty is a part of an answer, of 10 tokens.
const forty = "forty bytes of an answer, with its space"

// provider is one of language models whose answers have 20 parts, 10 tokens of input and 200 of
// output. A caller that was asked to leave gets one part, and no more until the test ends.
func provider(t *testing.T) string {
	t.Helper()
	ended := make(chan struct{})
	server := httptest.NewServer(fakellm.Provider(func(r *fakellm.Request) fakellm.Answer {
		for name := range r.Header {
			if strings.Contains(strings.Join(r.Header[name], ""), "zael_") {
				t.Errorf("the provider sees a token in %s", name)
			}
		}
		leaves := strings.Contains(string(r.Body), "leave")
		return fakellm.Answer{Chunks: strings.SplitAfter(strings.Repeat(forty+"\n", 20), "\n")[:20], Input: 10, Output: 200, Before: func(chunk int) bool {
			if leaves && chunk == 1 {
				<-ended
			}
			return true
		}}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	return server.URL
}

// withGateway starts a server with a gateway for tokens of one name each, and one that reads.
func withGateway(t *testing.T, limits string, names ...string) (d *server, tokens map[string]string) {
	t.Helper()
	s := newShop(t)
	tokens = map[string]string{}
	yaml := "tokens:\n"
	for _, name := range append(names, "read") {
		text, hash := s.newToken()
		role := "gateway"
		if name == "read" {
			role = "read"
		}
		tokens[name] = text
		yaml += fmt.Sprintf("- {name: %s, role: %s, hash: '%s'}\n", name, role, hash)
	}
	upstream := provider(t)
	yaml += "policies:\n  chat: {limits: [" + limits + "]}\ngateway:\n"
	for _, route := range []string{"openai, models: {'gpt-4*': chat}", "anthropic, models: {'claude-*': chat}"} {
		yaml += "- {upstream: '" + upstream + "', upstream_key: '${UPSTREAM_KEY}', auth: {tokens: true}, limits: policies, prefix: /" + route + "}\n"
	}
	s.env = append(s.env, "UPSTREAM_KEY=sk-of-the-operator")
	return s.serve(yaml), tokens
}

// get asks the server for what a token may see.
func (d *server) get(token, path string) string {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.base+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%s: got %d with %s, error %v", path, resp.StatusCode, all, err)
	}
	return string(all)
}

// TestGatewaySDKs drives the gateway by the SDKs that programs use: answers are whole, usage is
// exact to the token, refusals and other errors are those of the SDKs, and a caller that leaves
// in the middle is charged what was seen.
func TestGatewaySDKs(t *testing.T) {
	t.Parallel()
	needs.Engine(t)
	const rpm = 10
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	d, tokens := withGateway(t, fmt.Sprintf("'rpm=%d/365d', 'itpm=1000000/365d', 'otpm=1000000/365d'", rpm), "python-openai", "python-anthropic", "node-openai")
	failures := "unknown model NotFoundError 404 no retry-after\nwrong key AuthenticationError 401 no retry-after\nunlisted path NotFoundError 404 no retry-after\n" +
		"refused RateLimitError 429 retry-after\nrefused stream RateLimitError 429 retry-after\n"
	const part = len(forty) + 1
	var all sync.WaitGroup
	for _, c := range []struct {
		name          string
		cmd           *exec.Cmd
		requests      int // that the program makes before it uses up those that are left
		input, output int64
		want          string
	}{
		{
			"python-openai", sdks.Python(t, read("sdks.py")), 7, 10 * 5, 200 * 4,
			fmt.Sprintf("plain %d 10 200\nstream %d []\nstream with usage %d 200\nresponses 200\nembeddings 10\nmodels []\nleft after %d\n", 20*part, 20*part, 20*part, part),
		},
		{
			"python-anthropic", sdks.Python(t, read("sdks.py")), 3, 10 * 2, 200 * 2,
			fmt.Sprintf("plain %d 10 200\nstream %d 200\nleft after %d\n", 20*part, 20*part, part),
		},
		{
			"node-openai", sdks.Node(t, read("sdks.mjs")), 6, 10 * 4, 200 * 4,
			fmt.Sprintf("plain %d 10 200\nstream %d 0\nstream with usage %d 200\nresponses 200\nmodels 0\nleft after %d\n", 20*part, 20*part, 20*part, part),
		},
	} {
		all.Go(func() {
			more := rpm - c.requests
			_, sdk, _ := strings.Cut(c.name, "-")
			c.cmd.Env = append(c.cmd.Env, "BASE="+d.base, "TOKEN="+tokens[c.name], "SDK="+sdk, "LEFT="+strconv.Itoa(more))
			var said strings.Builder
			c.cmd.Stderr = &said
			out, err := c.cmd.Output()
			if want := c.want + failures; err != nil || string(out) != want {
				t.Errorf("%s: got\n%s\nwant\n%s\nerror %v, %s", c.name, out, want, err, said.String())
				return
			}
			c.input, c.output = c.input+10*int64(more), c.output+200*int64(more)
			// One call was left after one part of 10 tokens, or a little more that was under way.
			left := d.left(tokens["read"], c.name)
			if input, output := 1_000_000-left["itpm"]-c.input, 1_000_000-left["otpm"]-c.output; left["rpm"] != 0 || input < 3 || input > 20 || output < 5 || output > 25 {
				t.Errorf("%s: %v are left: the call that was left took %d of input and %d of output", c.name, left, input, output)
			}
		})
	}
	all.Wait()
	d.signal(syscall.SIGTERM)
	if log := d.ended(); strings.Contains(log, "zael_") || strings.Contains(log, "sk-") || strings.Contains(log, "Tell me") {
		t.Errorf("the log has a key or a prompt: %s", log)
	}
}

// left returns what is left to an entity on chat, when the server has settled.
func (d *server) left(token, entity string) map[string]int64 {
	d.t.Helper()
	for !strings.Contains(d.get(token, "/metrics"), "\nzael_gateway_streams 0\n") {
		runtime.Gosched()
	}
	var answer struct {
		Available map[string]int64 `json:"available"`
	}
	if err := json.Unmarshal([]byte(d.get(token, "/v1/entities/"+entity+"/available?policy=chat")), &answer); err != nil {
		d.t.Fatal(err)
	}
	return answer.Available
}

// TestGatewayEnds: a server that ends in the middle of a stream cuts it off in time, and what was
// seen of it is in the store.
func TestGatewayEnds(t *testing.T) {
	t.Parallel()
	limits := []string{"itpm=1000000/365d", "otpm=1000000/365d"}
	d, tokens := withGateway(t, "'"+strings.Join(limits, "', '")+"'", "web")
	d.write("shutdown_timeout: 1s\n" + strings.TrimPrefix(d.read(), "version: 1\nlisten: 127.0.0.1:0\n"))
	d.signal(syscall.SIGHUP)
	d.await("configuration reloaded")
	body := `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Please leave."}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.base+"/openai/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + tokens["web"]}}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stream := bufio.NewReader(resp.Body)
	if line, err := stream.ReadString('\n'); err != nil || !strings.Contains(line, forty) {
		t.Fatalf("the stream begins with %q, error %v", line, err)
	}
	d.signal(syscall.SIGTERM)
	if rest, err := io.ReadAll(stream); err == nil {
		t.Errorf("the stream ended as if it were whole, with %q", rest)
	}
	if log := d.ended(); strings.Contains(log, "settled") {
		t.Errorf("the log has %s", log)
	}
	out, _ := d.run(0, "available", "--json", "--entity", "web", "--resource", "chat", "--limit", limits[0], "--limit", limits[1])
	var left struct {
		Available map[string]int64 `json:"available"`
	}
	if err := json.Unmarshal([]byte(out), &left); err != nil {
		t.Fatal(err)
	}
	if input, output := 1_000_000-left.Available["itpm"], 1_000_000-left.Available["otpm"]; input < 3 || input > 20 || output < 5 || output > 25 {
		t.Errorf("%d tokens of input and %d of output were charged, want those that were seen: %s", input, output, out)
	}
}

// read returns the configuration.
func (d *server) read() string {
	d.t.Helper()
	text, err := os.ReadFile(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// TestGatewayDocs runs what docs/gateway.md shows: its configuration, and its programs, which
// are answered twice and then refused.
func TestGatewayDocs(t *testing.T) {
	t.Parallel()
	needs.Engine(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "gateway.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		_, rest, _ := strings.Cut(string(text), "\n```"+language+"\n")
		code, _, ok := strings.Cut(rest, "\n```\n")
		if !ok || code == "" {
			t.Fatalf("docs/gateway.md has no block of %s", language)
		}
		return code + "\n"
	}
	s := newShop(t)
	token, hash := s.newToken()
	s.env = append(s.env, "OPENAI_API_KEY=sk-of-the-operator")
	yaml := strings.TrimPrefix(block("yaml"), "version: 1\n")
	for _, change := range [][2]string{{"sha256:…", hash}, {"https://api.openai.com", provider(t)}, {"rpm=500/min", "rpm=2/365d"}} {
		if !strings.Contains(yaml, change[0]) {
			t.Fatalf("the configuration has no %s", change[0])
		}
		yaml = strings.Replace(yaml, change[0], change[1], 1)
	}
	d := s.serve(yaml)
	answer := strings.Repeat(forty+"\n", 20)
	for _, c := range []struct {
		cmd  *exec.Cmd
		want string
	}{
		{sdks.Node(t, block("js")), answer + "\n"},
		{sdks.Python(t, block("python")+block("python")), answer + "refused; try again in "}, // twice in one process: it takes a second to start
		{sdks.Node(t, block("js")), "refused; try again in "},
	} {
		var said strings.Builder
		c.cmd.Env, c.cmd.Stderr = append(c.cmd.Env, "OPENAI_BASE_URL="+d.base+"/openai/v1", "OPENAI_API_KEY="+token), &said
		if out, err := c.cmd.Output(); err != nil || !strings.HasPrefix(string(out), c.want) {
			t.Errorf("%v: got %q, want %q; error %v, %s", c.cmd.Args, out, c.want, err, said.String())
		}
	}
	d.signal(syscall.SIGTERM)
	d.ended()
}

// newToken returns a token and its hash.
func (s shop) newToken() (text, hash string) {
	s.t.Helper()
	out, _ := s.run(0, "token", "new", "--json")
	var made struct {
		Token string `json:"token"`
		Hash  string `json:"hash"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		s.t.Fatal(err)
	}
	return made.Token, made.Hash
}
