package awsquirks_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/awsquirks"
)

type clientFunc func(*http.Request) (*http.Response, error)

func (f clientFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// writer is a body as the library's: it knows how to write itself.
type writer struct{ *bytes.Reader }

func (writer) Close() error { return nil }

func TestPlainBodies(t *testing.T) {
	t.Parallel()
	var got string
	client := awsquirks.PlainBodies(clientFunc(func(r *http.Request) (*http.Response, error) {
		if _, ok := r.Body.(io.WriterTo); ok {
			t.Error("the body: got an io.WriterTo, want none")
		}
		text, err := io.ReadAll(r.Body)
		got = string(text)
		return nil, err
	}))
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:1", writer{bytes.NewReader([]byte("text"))})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := req.Body.(io.WriterTo); !ok {
		t.Fatal("the body before: got no io.WriterTo")
	}
	if _, err := client.Do(req); err != nil || got != "text" { //nolint:bodyclose // there is no answer
		t.Errorf("body: got %q and %v, want %q", got, err, "text")
	}
	for _, body := range []io.Reader{nil, http.NoBody, strings.NewReader("")} {
		req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:1", body)
		if err != nil {
			t.Fatal(err)
		}
		before := req.Body
		_, _ = awsquirks.PlainBodies(clientFunc(func(r *http.Request) (*http.Response, error) { // neither
			if r.Body != before {
				t.Errorf("no body: got %v, want %v as it was", r.Body, before)
			}
			return nil, nil
		})).Do(req) //nolint:bodyclose // there is no answer
	}
}
