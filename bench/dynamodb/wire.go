package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael/dynamostore"
)

// A wire counts calls and, with ids, how often each write was sent.
type wire struct {
	next http.RoundTripper
	ids  bool

	mu    sync.Mutex
	calls int
	sent  map[string]int // by id of the write
}

func idOf(body []byte) string {
	m := regexp.MustCompile(`":id":\{"S":"([0-9a-f]{16})"\}`).FindSubmatch(body)
	if m == nil {
		return ""
	}
	return string(m[1])
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	id := ""
	if w.ids && r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(body))
		id = idOf(body)
	}
	w.mu.Lock()
	if w.calls++; id != "" {
		w.sent[id]++
	}
	w.mu.Unlock()
	return w.next.RoundTrip(r)
}

// reset sets the counts to zero.
func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.sent = 0, map[string]int{}
}

// counts returns the calls since reset, and those of each write.
func (w *wire) counts() (calls int, writes []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.sent {
		writes = append(writes, n)
	}
	return w.calls, writes
}

func config(endpoint string) aws.Config {
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	}
}

// client returns the client that zael recommends, with its calls counted.
func client(endpoint string, ids bool) (*dynamodb.Client, *wire) {
	w := &wire{ids: ids, sent: map[string]int{}, next: tuned(endpoint)}
	cfg := config(endpoint)
	cfg.HTTPClient = &http.Client{Transport: w}
	return dynamodb.NewFromConfig(cfg), w
}

// tuned returns the transport of dynamostore.NewClient with longer timeouts, as the engine
// may take long to accept a thousand connections.
func tuned(endpoint string) http.RoundTripper {
	b, ok := dynamostore.NewClient(config(endpoint)).Options().HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return http.DefaultTransport
	}
	t := b.GetTransport()
	t.DialContext = (&net.Dialer{Timeout: time.Minute}).DialContext
	t.ResponseHeaderTimeout = time.Minute
	return t
}
