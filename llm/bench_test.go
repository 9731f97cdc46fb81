package llm_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/zeroae/zael"
)

// BenchmarkStream is a streamed answer of 400 chunks with usage, read through the limits.
func BenchmarkStream(b *testing.B) {
	w := setup(b, nil)
	l := limits(b, w, zael.MustPolicy("m", zael.PerSecond("rpm", 1_000_000_000), zael.Unlimited("tpm")), nil)
	event := `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"some words"},"finish_reason":null}],"usage":null}` + "\n\n"
	text := strings.Repeat(event, 400) + `data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":400}}` + "\n\ndata: [DONE]\n\n"
	bare := http.RoundTripper(provider(text))
	for name, transport := range map[string]http.RoundTripper{"bare": bare, "limited": l.Transport(bare)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				res, err := transport.RoundTrip(w.request(context.Background(), b, chat, streamBody))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(struct{ io.Writer }{io.Discard}, res.Body)
				_ = res.Body.Close()
			}
		})
	}
}

// A provider answers each call with a stream.
type provider string

func (p provider) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(string(p))),
	}, nil
}
