package aggregator_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// A proxy between the function and the table loses calls.
type proxy struct {
	broken atomic.Bool            // some calls are lost, before or after they are applied
	denies atomic.Pointer[string] // calls that contain this text are refused
}

func (p *proxy) serve(t *testing.T, endpoint string) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		refuse := func(status int, kind string) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"__type":"com.amazonaws.dynamodb.v20120810#`+kind+`","message":"by the test"}`)
		}
		lost := p.broken.Load() && rand.IntN(5) == 0
		switch text := p.denies.Load(); {
		case text != nil && strings.Contains(string(body), *text):
			refuse(http.StatusBadRequest, "AccessDeniedException")
		case lost && rand.IntN(2) == 0:
			refuse(http.StatusInternalServerError, "InternalServerError")
		case lost:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			refuse(http.StatusInternalServerError, "InternalServerError")
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (p *proxy) deny(text string) { p.denies.Store(&text) }

// A mapping sends records to the function as Lambda's event source mapping does, with
// bisection, three tries and a dead letter queue.
type mapping struct {
	*lambda
	dead [][]json.RawMessage
}

func (m *mapping) deliver(batch []json.RawMessage, tries int) {
	m.t.Helper()
	got := m.invoke(batch)
	switch {
	case got == invocation{}:
		return
	case tries == 0:
		m.dead = append(m.dead, batch)
	case got.failed && len(batch) > 1:
		m.deliver(batch[:len(batch)/2], tries-1)
		m.deliver(batch[len(batch)/2:], tries-1)
	case got.failed:
		m.deliver(batch, tries-1)
	default:
		i := slices.IndexFunc(batch, func(r json.RawMessage) bool { return sequence(r) == got.first })
		if i < 0 {
			m.t.Fatalf("got %q, which is not in the batch", got.first)
		}
		m.deliver(batch[i:], tries-1)
	}
}

func sequence(r json.RawMessage) string {
	var v struct {
		DynamoDB struct {
			SequenceNumber string `json:"SequenceNumber"`
		} `json:"dynamodb"`
	}
	_ = json.Unmarshal(r, &v)
	return v.DynamoDB.SequenceNumber
}

// testFunction sends records of DynamoDB Local's stream to the function: with a table that
// fails, for all or some entities, with batches that are sent again, and dead letters.
//
// Traps of the original: no usage was ever stored, the first take of a bucket was
// not counted, and errors were swallowed.
func testFunction(t *testing.T, path string) {
	t.Helper()
	b := newBench(t)
	var p proxy
	l := newLambda(t, path, p.serve(t, b.endpoint), b.table)
	used := b.work(t, schedules.Count(t, 640))
	records := b.records(t)
	m := &mapping{lambda: l}
	// The last batch is one of at least so many records, so that it has changes of all entities.
	const size = 40
	n := len(records)/size - 1
	batches := append(slices.Collect(slices.Chunk(records[:size*n], size)), records[size*n:])
	for i, batch := range batches {
		p.broken.Store(i%3 == 1)
		if i%7 == 2 || i == len(batches)-1 { // the last changes are counted by no later ones
			p.deny("U#e3")
		}
		if i%7 == 4 {
			p.deny(b.table) // everything
		}
		m.deliver(batch, 3)
		p.denies.Store(nil)
		if i%4 == 3 { // the previous batch is sent again, with more
			m.deliver(append(slices.Clone(batches[i-1]), batch[:10]...), 3)
		}
	}
	p.broken.Store(false)
	if len(m.dead) < 2 {
		t.Errorf("got %d dead letters, want more: the table failed", len(m.dead))
	}
	if got := b.usage(t, zael.Hourly); got["e3 tpm"] == used["e3 tpm"] {
		t.Errorf("before the redrive: got %v, want the last changes of e3 missing", got)
	}
	dead := m.dead
	m.dead = nil
	for range 2 {
		for _, batch := range dead {
			m.deliver(batch, 0)
		}
	}
	if len(m.dead) > 0 {
		t.Errorf("got %d dead letters of dead letters, want none", len(m.dead))
	}
	b.wantUsage(t, used)
	if logs := l.logs(); !strings.Contains(logs, `"level":"ERROR"`) || !strings.Contains(logs, `"first":"`) {
		t.Errorf("got the log %s, want the failures in JSON", logs)
	}
}

// testBadRecords: the function names records that it cannot decode and counts the others.
func testBadRecords(t *testing.T, path string) {
	t.Helper()
	b := newBench(t)
	l := newLambda(t, path, b.endpoint, b.table)
	used := b.work(t, 80)
	records := b.records(t)
	// Of a bucket: entities and lists have no counters.
	which := slices.IndexFunc(records, func(r json.RawMessage) bool { return strings.Contains(string(r), `"e":{`) })
	if which < 0 {
		t.Fatalf("no record has counters: %s", records)
	}
	good := records[which]
	for what, bad := range map[string]string{
		"an image that is a text": `"NewImage":"none"`,
		"a counter as a list":     `"NewImage":{"b":{"S":"x"},"e":{"L":[]}}`,
		"a time that is a word":   `"ApproximateCreationDateTime":"today"`,
	} {
		name, _, _ := strings.Cut(bad, ":")
		text := string(good)
		at := strings.Index(text, name+":")
		if at < 0 {
			t.Fatalf("no %s in %s", name, text)
		}
		var old json.RawMessage
		if err := json.NewDecoder(strings.NewReader(text[at+len(name)+1:])).Decode(&old); err != nil {
			t.Fatal(err)
		}
		batch := slices.Clone(records)
		batch[which] = json.RawMessage(strings.Replace(text, name+":"+string(old), bad, 1))
		if got := l.invoke(batch); got.first != sequence(good) {
			t.Errorf("%s: got %+v, want %s named", what, got, sequence(good))
		}
	}
	// A record without a number cannot be named: Lambda must send the whole batch again.
	batch := append(slices.Clone(records), json.RawMessage(`{"dynamodb":{}}`))
	if got := l.invoke(batch); !got.failed {
		t.Errorf("a record without a number: got %+v, want an error", got)
	}
	if got := l.invoke(records); got != (invocation{}) {
		t.Errorf("the good batch: got %+v, want all counted", got)
	}
	if got := l.invoke(nil); got != (invocation{}) {
		t.Errorf("no records: got %+v, want success", got)
	}
	b.wantUsage(t, used)
}

// testTimeOut: the function responds in time although the table does not answer.
func testTimeOut(t *testing.T, path string) {
	t.Helper()
	b := newBench(t)
	b.work(t, 8)
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(hang)
	l := newLambda(t, path, server.URL, b.table)
	l.timeout = 3 * time.Second
	records := b.records(t)
	if got := l.invoke(records); got.first != firstBucket(records) {
		t.Errorf("got %+v, want %s named in time", got, firstBucket(records))
	}
}

// firstBucket returns the sequence number of the first record of a bucket.
func firstBucket(records []json.RawMessage) string {
	i := slices.IndexFunc(records, func(r json.RawMessage) bool { return bytes.Contains(r, []byte(`"B#gpt-4"`)) })
	return sequence(records[i])
}

// testEnvironment: a wrong setting is reported at the start, not with the first batch.
func testEnvironment(t *testing.T, path string) {
	t.Helper()
	for setting, want := range map[string]string{
		"ZAEL_TABLE=":             "ZAEL_TABLE is not set",
		"ZAEL_WINDOWS=weekly":     "ZAEL_WINDOWS",
		"ZAEL_RETENTION_DAYS=0":   "ZAEL_RETENTION_DAYS",
		"ZAEL_RETENTION_DAYS=1.5": "ZAEL_RETENTION_DAYS",
	} {
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1", "ZAEL_TABLE=t", setting)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), want) {
			t.Errorf("%s: got %v and %q, want exit code 1 and %q", setting, err, out, want)
		}
	}
}
