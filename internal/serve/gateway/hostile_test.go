package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/serve/gateway"
	"github.com/zeroae/zael/internal/testrig/certificates"
	"github.com/zeroae/zael/internal/testrig/fakellm"
)

// TestWhatIsHidden: what a caller sends to be let in, or to pass for another, does not go
// upstream, and what the upstream tells of its account does not come back.
func TestWhatIsHidden(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	r := start(t, limited, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		headers <- q.Header
		h := w.Header()
		for _, name := range []string{"Set-Cookie", "OpenAI-Organization", "X-RateLimit-Limit-Requests", "Anthropic-RateLimit-Tokens-Limit", "Access-Control-Allow-Origin", "X-Request-Id"} {
			h.Set(name, "of the upstream")
		}
		_, _ = io.WriteString(w, `{"usage":{"prompt_tokens":1,"completion_tokens":1}}`)
	}))
	a := r.send(post(chat, chatBody,
		"Authorization", "Bearer sk-mine", "X-Api-Key", "sk-mine", "X-Goog-Api-Key", "sk-mine", "Api-Key", "sk-mine", "Cookie", "a=b",
		"Connection", "Authorization, X-Kept, close", "X-Kept", "1", "Forwarded", "for=1.2.3.4", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "a", "X-Forwarded-Port", "1",
		"X-Real-Ip", "1.2.3.4", "Openai-Organization", "other", "Openai-Project", "other", "Accept-Encoding", "br", "Openai-Beta", "x", "Te", "gzip", "Proxy-Authorization", "Basic x",
	))
	if a.StatusCode != http.StatusOK {
		t.Fatalf("got %d with %s", a.StatusCode, a.body)
	}
	got := <-headers
	for name, want := range map[string]string{
		"Authorization": "Bearer " + key, "Accept-Encoding": "identity", "Openai-Beta": "x", "X-Api-Key": "", "X-Goog-Api-Key": "", "Api-Key": "", "Cookie": "", "X-Kept": "",
		"Forwarded": "", "X-Forwarded-For": "", "X-Forwarded-Host": "", "X-Forwarded-Port": "", "X-Forwarded-Proto": "", "X-Real-Ip": "", "Openai-Organization": "", "Openai-Project": "", "Te": "", "Proxy-Authorization": "",
	} {
		if got := strings.Join(got.Values(name), ","); got != want {
			t.Errorf("the upstream sees %s: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"Set-Cookie": "", "Openai-Organization": "", "X-Ratelimit-Limit-Requests": "3", "Anthropic-Ratelimit-Tokens-Limit": "", "Access-Control-Allow-Origin": "", "X-Request-Id": "of the upstream",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("the caller sees %s: %q, want %q", name, got, want)
		}
	}
}

// TestCredentials: each provider gets its key in its own header.
func TestCredentials(t *testing.T) {
	t.Parallel()
	r := start(t, policies+begin+"auth: {tokens: true}, upstream_key: '${KEY}', default_resource: gpt}\n"+
		"- {prefix: /claude, upstream: UPSTREAM, upstream_key: '${KEY}', auth: {tokens: true}, limits: policies, default_resource: gpt, provider: anthropic}\n",
		http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			for _, name := range []string{"Authorization", "X-Api-Key", "X-Goog-Api-Key"} {
				if value := q.Header.Get(name); value != "" {
					_, _ = fmt.Fprintf(w, "%s: %s\n", name, value)
				}
			}
		}))
	for path, want := range map[string]string{
		chat:                  "Authorization: Bearer " + key + "\n",
		"/openai/v1/messages": "X-Api-Key: " + key + "\n",
		"/openai/v1beta/models/g:generateContent": "X-Goog-Api-Key: " + key + "\n",
		"/openai/model/m/converse":                "Authorization: Bearer " + key + "\n",
		"/claude/v1/messages":                     "X-Api-Key: " + key + "\n",
	} {
		if a := r.send(post(path, `{"model":"gpt-4"}`)); a.body != want {
			t.Errorf("%s: the upstream sees %q, want %q", path, a.body, want)
		}
	}
	if a := r.send(get("/claude/v1/models")); a.body != "X-Api-Key: "+key+"\n" {
		t.Errorf("a list of Anthropic: the upstream sees %q", a.body)
	}
}

// TestForbiddenAddresses: whatever a name leads to, some addresses are not dialled. This one
// would lead to a server of this machine.
func TestForbiddenAddresses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	transport := gateway.Upstream()
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, "http://0.0.0.0:"+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err == nil {
		_ = res.Body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "no call goes there") {
		t.Errorf("got %v", err)
	}
}

// TestRedirects go to the client: the operator's key follows nobody.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	r := start(t, limited, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		http.Redirect(w, q, "http://169.254.169.254/latest", http.StatusTemporaryRedirect)
	}))
	a := r.send(post(chat, chatBody))
	if a.StatusCode != http.StatusTemporaryRedirect || a.Header.Get("Location") != "http://169.254.169.254/latest" || asked.Load() != 1 {
		t.Errorf("got %d to %q after %d requests", a.StatusCode, a.Header.Get("Location"), asked.Load())
	}
}

// TestBombs: a small compressed answer that stands for a large one is cut off, and costs
// little memory; what is compressed otherwise passes unread.
func TestBombs(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	part := make([]byte, 1<<20)
	_, _ = z.Write(part)
	_ = z.Close()
	type encoded struct {
		encoding string
		body     []byte
	}
	var next atomic.Pointer[encoded]
	next.Store(&encoded{"gzip", bomb.Bytes()})
	r := startWith(t, limited, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		now := next.Load()
		w.Header().Set("Content-Encoding", now.encoding)
		_, _ = w.Write(now.body)
	}), gateway.Bounds{Decoded: 512 << 10})
	res, err := r.open(context.Background(), post(chat, chatBody, "Accept-Encoding", "gzip"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if err == nil || n > 512<<10 || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("read %d bytes of a bomb, error %v, %v", n, err, res.Header)
	}
	next.Store(&encoded{"br", []byte("not read")})
	a := r.want(post(chat, chatBody), 200, "not read")
	if a.Header.Get("Content-Encoding") != "br" {
		t.Errorf("another encoding: %v", a.Header)
	}
	next.Store(&encoded{"gzip", []byte("not gzip")})
	if res, err = r.open(context.Background(), post(chat, chatBody, "Accept-Encoding", "gzip")); err == nil {
		_, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Error("what is no gzip passes as if it were whole")
	}
}

// TestLargeBodies are refused before they are read, and while they are.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	r := start(t, "max: {call: 1KiB}\n"+limited, always(fakellm.Answer{Input: 1, Output: 1}))
	r.want(post(chat, strings.Replace(chatBody, "Tell", strings.Repeat("a", 1000), 1)), 413, "max.call")
	req, err := http.NewRequest(http.MethodPost, r.base+chat, io.MultiReader(strings.NewReader(`{"model":"gpt-4","a":"`), strings.NewReader(strings.Repeat("a", 2000))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of unknown length: got %d", res.StatusCode)
	}
	if left := r.left("local", yearly("rpm", 3)); left["rpm"] != 3 {
		t.Errorf("%v is left", left)
	}
}

// TestAllBodies: what calls under way hold of memory is bounded, together.
func TestAllBodies(t *testing.T) {
	t.Parallel()
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	r := startWith(t, limited, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
		arrived <- struct{}{}
		<-release
		return fakellm.Answer{Input: 1, Output: 1}
	}), gateway.Bounds{Bodies: 2000})
	large := post(chat, strings.Replace(chatBody, "Tell", strings.Repeat("a", 1000), 1))
	first := make(chan int, 1)
	go func() { first <- r.send(large).StatusCode }()
	<-arrived
	r.want(large, 503, "have too large bodies together")
	close(release)
	if got := <-first; got != http.StatusOK {
		t.Errorf("the first call: %d", got)
	}
	r.settle()
	for r.metric("zael_gateway_streams") != "0" { // until it has given its share back
		runtime.Gosched()
	}
	r.want(large, 200, "choices")
}

// TestStreamsThatAreNotRead: over HTTP/2 a client stops one stream and goes on with others.
func TestStreamsThatAreNotRead(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	event := []byte("data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("a", 10_000) + "\"}}]}\n\n")
	authority := certificates.New(t)
	files := authority.Issue("localhost")
	r := startWith(t, fmt.Sprintf("tls: {cert: %s, key: %s}\n", files.Cert, files.Key)+limited, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for q.Context().Err() == nil {
			if _, err := w.Write(event); err != nil {
				break
			}
		}
		close(ended)
	}), gateway.Bounds{Client: 50 * time.Millisecond})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r.client.Transport, r.base = transport, "https://"+r.Addr().String()
	res, err := r.open(context.Background(), post(chat, chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.ProtoMajor != 2 || res.StatusCode != http.StatusOK {
		t.Fatalf("got %s with %d", res.Proto, res.StatusCode)
	}
	<-ended                                       // though nobody reads
	for r.metric("zael_gateway_streams") != "0" { // nor does the handler wait for the client
		runtime.Gosched()
	}
}

// TestUpstreams: one that cannot be reached, breaks off or sends nonsense is an error in the
// provider's form, or a cut answer, and gives tokens back as far as they were not used.
func TestUpstreams(t *testing.T) {
	t.Parallel()
	var next atomic.Value
	r := start(t, limited, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch next.Load() {
		case "break":
			panic(http.ErrAbortHandler)
		case "500":
			http.Error(w, "failed", http.StatusInternalServerError)
		case "huge header":
			w.Header().Set("X-Huge", strings.Repeat("a", 300<<10))
		}
	}))
	for _, how := range []string{"break", "huge header"} {
		next.Store(how)
		a := r.want(post(chat, chatBody), 502, `"code":"server_error"`)
		if strings.Contains(a.body, "127.0.0.1") || a.Header.Get("X-Should-Retry") == "false" {
			t.Errorf("%s: %s with %v", how, a.body, a.Header)
		}
	}
	next.Store("500")
	r.want(post(chat, chatBody), 500, "failed")
	r.settle()
	if left := r.left("local", yearly("tpm", 100_000)); left["tpm"] < 100_000-60 {
		t.Errorf("%v is left", left)
	}
}

// TestStandingStill: an upstream that stops is cut, before its answer and within it.
func TestStandingStill(t *testing.T) {
	t.Parallel()
	event := []byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
	silent := startWith(t, limited, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	}), gateway.Bounds{Header: 50 * time.Millisecond})
	silent.want(post(chat, chatBody), 504, `"code":"timeout"`)
	stops := startWith(t, limited, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write(event)
		_ = http.NewResponseController(w).Flush()
		<-q.Context().Done()
	}), gateway.Bounds{Idle: 50 * time.Millisecond})
	res, err := stops.open(context.Background(), post(chat, chatBody))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if !bytes.Equal(got, event) || err == nil {
		t.Errorf("read %q, error %v, want one event and an end in the middle", got, err)
	}
}

// TestClientsThatDoNotRead are cut off, and settle.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	event := []byte("data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("a", 10_000) + "\"}}]}\n\n")
	r := startWith(t, limited, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			if _, err := w.Write(event); err != nil {
				ended <- err
				return
			}
			if q.Context().Err() != nil {
				ended <- q.Context().Err()
				return
			}
		}
	}), gateway.Bounds{Client: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", chat, len(chatBody), chatBody); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("got %q, error %v", line, err)
	}
	if err := <-ended; err == nil {
		t.Error("the upstream was not told")
	}
	r.settle()
	if got := r.metric(`zael_gateway_tokens_total{kind="output",resource="gpt",route="/openai",source="estimated"}`); got == "none" {
		t.Error("nothing was counted")
	}
}
