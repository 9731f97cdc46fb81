package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/fakellm"
)

// seen is an upstream that answers with the path and query that it was asked for.
func seen(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = fmt.Fprint(w, "asked for "+r.Method+" "+r.RequestURI)
}

// TestPaths: what is known passes as it is asked for, and nothing else does.
func TestPaths(t *testing.T) {
	t.Parallel()
	r := start(t, policies+begin+"auth: {tokens: true}, upstream_key: '${KEY}', default_resource: gpt, also: [POST /v1/rerank, GET /v1/files, POST /v1/batches]}\n"+
		"- {prefix: /openai/v1/beta, upstream: UPSTREAM/base, upstream_key: '${KEY}', auth: {tokens: true}, limits: policies, default_resource: gpt, provider: anthropic}\n",
		http.HandlerFunc(seen))
	for path, want := range map[string]string{
		"/v1/chat/completions":                                                  "/v1/chat/completions",
		"/chat/completions":                                                     "/chat/completions",
		"/v1/completions":                                                       "/v1/completions",
		"/v1/responses?stream=1&key=zael_x&a=b":                                 "/v1/responses?a=b&stream=1",
		"/v1/embeddings?Access_Token=x":                                         "/v1/embeddings",
		"/v1/images/generations":                                                "/v1/images/generations",
		"/v1/messages?beta=true":                                                "/v1/messages?beta=true",
		"/v1/messages/count_tokens":                                             "/v1/messages/count_tokens",
		"/v1beta/openai/chat/completions":                                       "/v1beta/openai/chat/completions",
		"/openai/deployments/x/chat/completions?api-version=1":                  "/openai/deployments/x/chat/completions?api-version=1",
		"/v1beta/models/g-1.5:streamGenerateContent?alt=sse":                    "/v1beta/models/g-1.5:streamGenerateContent?alt=sse",
		"/v1beta/models/g:countTokens":                                          "/v1beta/models/g:countTokens",
		"/v1/projects/p/locations/l/publishers/google/models/g:generateContent": "/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
		"/model/anthropic.claude-v2%3A1/converse":                               "/model/anthropic.claude-v2:1/converse",
		"/v1/rerank":            "/v1/rerank",
		"/v1/batches/b1/cancel": "/v1/batches/b1/cancel",
		"/v1/beta/v1/messages":  "/base/v1/messages",
	} {
		r.want(post("/openai"+path, `{"model":"m"}`), 200, "asked for POST "+want)
	}
	for path, want := range map[string]string{"/v1/models": "/v1/models", "/v1/models/meta/llama": "/v1/models/meta/llama", "/v1beta/models?pageSize=5": "/v1beta/models?pageSize=5", "/v1/files/f1/content": "/v1/files/f1/content"} {
		r.want(get("/openai"+path), 200, "asked for GET "+want)
	}
	for path, status := range map[string]int{
		"":                                      404,
		"/v1/assistants":                        404,
		"/v1/files":                             404, // only GET is listed
		"/v1/rerankers":                         404,
		"/v1/realtime":                          404,
		"/v1/audio/voices":                      404,
		"/v1/responses/r1/cancel":               404,
		"/v1/fine_tuning/jobs/chat/completions": 404,
		"/v1/threads/t/messages":                404,
		"/v1/messages/batches":                  404,
		"/evil/chat/completions":                404,
		"/v1/v1/v1/chat/completions":            404,
		"/v1beta/models/a/b:generateContent":    404,
		"/v1/beta/v1/chat/completions":          404, // of another provider
		"/v1/../admin":                          400,
		"/v1/%2e%2e/admin":                      400,
		"/v1/./chat/completions":                400,
		"/v1//chat/completions":                 400,
		"/v1/chat/completions/":                 400,
		"/v1/chat%2fcompletions":                400,
		"/v1/chat%5Ccompletions":                400,
		"/v1/chat%252fcompletions":              400,
		"/v1/files%3f/chat/completions":         400,
		"/v1/files%23/chat/completions":         400,
		"/v1/chat%00/completions":               400,
		"/v1/ch%C3%A4t/completions":             400,
		"/v1/a%20b/completions":                 400,
	} {
		a := r.send(post("/openai"+path, `{"model":"m"}`))
		if a.StatusCode != status || !strings.Contains(a.body, `rror":{`) || strings.Contains(a.body, "asked for") {
			t.Errorf("%s: got %d with %s, want %d", path, a.StatusCode, a.body, status)
		}
	}
	r.want(post("/openai/v1/assistants", "{}"), 404, "have to be listed in also of the route /openai")
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"} {
		if a := r.send(request{method, chat, "", nil}); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d", method, a.StatusCode)
		}
	}
	for _, path := range []string{"/openaix/v1/models", "/x/../openai/v1/models", "//openai/v1/models", "/OPENAI/v1/models"} {
		r.want(get(path), 404, `"error":"not_found"`)
	}
}

// TestUpgrades: connections are not handed over.
func TestUpgrades(t *testing.T) {
	t.Parallel()
	r := start(t, limited, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusSwitchingProtocols) }))
	for _, head := range []string{
		"GET /openai/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /openai/v1/models HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\n\r\n",
		"CONNECT /openai/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"CONNECT example.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET http://169.254.169.254/openai/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", // the Host is the URL's
	} {
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn, head)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode/100 != 4 {
			t.Errorf("%q: got %d", head, res.StatusCode)
		}
		_ = res.Body.Close()
		_ = conn.Close()
	}
	r.want(get("/openai/v1/models"), 502, "cannot be reached")
}

// TestWhatCallsTake: lists cost a request, listed paths a token for four bytes, and calls in
// the background pass only if they are listed.
func TestWhatCallsTake(t *testing.T) {
	t.Parallel()
	const yaml = "policies:\n  gpt: {limits: ['rpm=1000/365d', 'tpm=100000/365d']}\n" + begin + "auth: {tokens: true}, upstream_key: '${KEY}'"
	r := start(t, yaml+", also: [POST /v1/rerank]}\n", fakellm.Provider(func(q *fakellm.Request) fakellm.Answer {
		return fakellm.Answer{Chunks: []string{"a"}, Input: 10, Output: 20}
	}))
	limit, tpm := rpm, yearly("tpm", 100_000)
	used := func(requests, tokens int64) {
		t.Helper()
		r.settle()
		left := r.left("local", limit, tpm)
		if 1000-left["rpm"] != requests || 100_000-left["tpm"] != tokens {
			t.Errorf("used %d and %d, want %d and %d", 1000-left["rpm"], 100_000-left["tpm"], requests, tokens)
		}
	}
	r.want(get("/openai/v1/models"), 200, "list")
	used(1, 0)
	r.want(post("/openai/v1/messages/count_tokens", `{"model":"any","messages":[]}`), 200, "list")
	used(2, 0)
	list := r.send(get("/openai/v1/models")).body
	r.want(post("/openai/v1/rerank", `{"query":"1234"}`), 200, "list") // 16 bytes, and those of the answer
	used(4, 4+int64(len(list)+3)/4)
	r.want(post("/openai/v1/rerank", `{"model":"o1"}`), 404, "no model")
	const background = `{"model":"gpt-4","background":true,"input":"a"}`
	r.want(post("/openai/v1/responses", background), 400, "in the background")
	r.want(post("/openai/v1/responses", strings.Replace(background, "true", "false", 1)), 200, "resp-1")
	used(5, 4+int64(len(list)+3)/4+30)
	r.reload(yaml + ", also: [POST /v1/responses]}\n")
	r.want(post("/openai/v1/responses", background), 200, "resp-1")
}

// TestForms: the model of a form is not read.
func TestForms(t *testing.T) {
	t.Parallel()
	web := newToken("web", "role: gateway")
	yaml := "tokens:\n" + web.yaml + policies + begin + "auth: {tokens: true}, upstream_key: '${KEY}'"
	r := start(t, yaml+"}\n", http.HandlerFunc(seen))
	form := request{"POST", "/openai/v1/audio/transcriptions", "--x\r\n", []string{"Content-Type", "multipart/form-data; boundary=x", "Authorization", "Bearer " + web.text}}
	r.want(form, 400, "set default_resource")
	r.reload(yaml + ", default_resource: gpt}\n")
	r.want(form, 200, "asked for")
	r.used("web", 1)
	r.want(post(chat, chatBody, "Authorization", "Bearer "+web.text, "Content-Encoding", "gzip"), 415, "Content-Encoding")
}
