package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/gateway"
	"github.com/zeroae/zael/stores"
)

// chunks are how many parts an answer has.
const chunks = 200

// upstream answers with a stream of chunks, each flushed, with the pause between them that the
// query has as pace. With hold it waits after the first one until the client leaves.
func upstream(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	h := w.Header()
	h["Content-Type"] = []string{"text/event-stream"}
	flush := http.NewResponseController(w).Flush
	pace, _ := time.ParseDuration(r.Header.Get("X-Pace"))
	for i := range chunks {
		_, _ = fmt.Fprintf(w, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"word %d "},"finish_reason":null}],"usage":null}`+"\n\n", i)
		if flush() != nil {
			return
		}
		if r.Header.Get("X-Hold") != "" {
			<-r.Context().Done()
			return
		}
		if pace > 0 {
			select {
			case <-time.After(pace):
			case <-r.Context().Done():
				return
			}
		}
	}
	_, _ = io.WriteString(w, `data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":`+strconv.Itoa(chunks*2)+"}}\n\ndata: [DONE]\n\n")
}

// proxy is a reverse proxy of net/http alone, which sends a key.
func proxy(to string) (http.Handler, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	p := &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/openai")
			r.Out.Header.Set("Authorization", "Bearer sk-of-the-operator")
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// An answer that begins before the end of the body was seen is cut off otherwise.
		_ = http.NewResponseController(w).EnableFullDuplex()
		p.ServeHTTP(w, r)
	}), nil
}

// daemon is zael serve with a gateway, over a store in memory.
func daemon(ctx context.Context, to string) (*serve.Daemon, error) {
	dir, err := os.MkdirTemp("", "zael-bench-gateway-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "zael.yaml")
	text := `version: 1
listen: 127.0.0.1:0
max: {connections: 100000, streams: 100000}
policies:
  gpt: {limits: ["rpm=1000000000/min", "tpm=100000000000/min"]}
gateway:
- {prefix: /openai, upstream: '` + to + `', upstream_key: "${KEY}", auth: {tokens: true}, limits: policies, models: {"gpt-4*": gpt}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d, err := serve.New(ctx, &serve.Options{
		Source: config.Source{File: file, LookupEnv: func(string) (string, bool) { return "sk-of-the-operator", true }}, Log: io.Discard,
		Open:     func(ctx context.Context, _ string) (serve.Store, error) { return stores.Open(ctx, "memory:") },
		Handlers: serve.Handlers{Gateway: gateway.New},
	})
	if err != nil {
		return nil, errors.Join(errors.New("starting the daemon"), err)
	}
	return d, nil
}
