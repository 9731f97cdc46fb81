package llm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/limiters"
	"github.com/zeroae/zael/llm"
	"github.com/zeroae/zael/memstore"
)

// A slow provider sends a stream whose end it keeps back. In a bubble.
type slow struct {
	*world
	limits *llm.Limits
	policy *zael.Policy
	last   chan struct{} // closed to send the end

	mu  sync.Mutex
	all []llm.Usage
}

func newSlow(t *testing.T, drain time.Duration) *slow {
	t.Helper()
	limiter, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &slow{world: &world{Still: &limiters.Still{Limiter: limiter}, url: "http://provider"}, last: make(chan struct{})}
	s.policy = zael.MustPolicy("m", zael.PerMinute("otpm", 1_000_000), zael.AtOnce("inflight", 5))
	s.limits = limits(t, s.world, s.policy, &llm.Config{Drain: drain, Settled: func(_ *llm.Call, u llm.Usage) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = append(s.all, u)
	}})
	return s
}

const (
	slowBegin = `data: {"choices":[{"delta":{"content":"` + "forty bytes of an answer, without an end" + `"}}]}` + "\n\n"
	slowEnd   = `data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":200}}` + "\n\ndata: [DONE]\n\n"
)

// settled returns what calls have settled to.
func (s *slow) settled() []llm.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// stream makes a call and reads the beginning of its answer.
func (s *slow) stream(ctx context.Context, t *testing.T) io.ReadCloser {
	t.Helper()
	res, err := s.limits.Middleware(s.request(ctx, t, chat, streamBody), func(r *http.Request) (*http.Response, error) {
		from, to := io.Pipe()
		go func() {
			if _, err := io.WriteString(to, slowBegin); err != nil {
				return
			}
			select {
			case <-s.last:
				_, _ = io.WriteString(to, slowEnd)
				_ = to.Close()
			case <-r.Context().Done():
				_ = to.CloseWithError(r.Context().Err())
			}
		}()
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: from}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, len(slowBegin))); err != nil {
		t.Fatal(err)
	}
	return res.Body
}

// shutdown begins one, and returns where its error comes.
func (s *slow) shutdown(t *testing.T, within time.Duration) <-chan error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- s.limits.Shutdown(ctx)
	}()
	synctest.Wait()
	return done
}

// TestShutdownWaitsForStreams: that are under way, until their callers have read or left
// them. They have settled then.
func TestShutdownWaitsForStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, 0)
		if err := s.limits.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown with nothing under way: %v", err)
		}
		read, left := s.stream(t.Context(), t), s.stream(t.Context(), t)
		done := s.shutdown(t, time.Hour)
		_ = left.Close()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Shutdown = %v with a stream under way", err)
		default:
		}
		close(s.last)
		if _, err := io.ReadAll(read); err != nil {
			t.Error(err)
		}
		_ = read.Close()
		if err := <-done; err != nil || len(s.settled()) != 2 || s.settled()[1].Output != 200 || s.left(t, s.policy, "inflight") != 5 {
			t.Errorf("Shutdown = %v, settled %+v", err, s.settled())
		}
	})
}

// TestShutdownOfCallersThatDoNotRead: it returns when its time is over. The stream goes on,
// and settles even if the Limiter was closed.
func TestShutdownOfCallersThatDoNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlow(t, 0)
		body := s.stream(t.Context(), t)
		begin := time.Now()
		if err := <-s.shutdown(t, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("Shutdown = %v after %s, want the context's error after a minute", err, time.Since(begin))
		}
		if err := s.Limiter.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(s.last)
		if got, err := io.ReadAll(body); err != nil || !bytes.Contains(got, []byte("[DONE]")) {
			t.Errorf("read %q, error %v", got, err)
		}
		if len(s.settled()) != 1 || !s.settled()[0].Reported {
			t.Errorf("settled %+v", s.settled())
		}
		_ = body.Close()
	})
}

// TestShutdownOfDrainedStreams: it waits for streams whose callers have left, and cuts them
// off when its time is over.
func TestShutdownOfDrainedStreams(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSlow(t, time.Hour)
			ctx, cancel := context.WithCancel(t.Context())
			closed, canceled := s.stream(t.Context(), t), s.stream(ctx, t)
			_ = closed.Close()
			cancel()
			done := s.shutdown(t, time.Minute)
			if len(s.settled()) != 0 {
				t.Errorf("settled %+v when the callers leave", s.settled())
			}
			if ends {
				close(s.last)
			}
			begin := time.Now()
			err := <-done
			_ = canceled.Close()
			if took := time.Since(begin); took > time.Minute || ends && took > 0 {
				t.Errorf("Shutdown took %s", took)
			}
			if err != nil || len(s.settled()) != 2 || s.left(t, s.policy, "inflight") != 5 {
				t.Fatalf("Shutdown = %v, settled %+v", err, s.settled())
			}
			for _, u := range s.settled() {
				if want := map[bool]int64{true: 200, false: 10}[ends]; u.Output != want || u.Reported != ends {
					t.Errorf("settled %+v, want %d tokens of output", u, want)
				}
			}
		})
	}
}

// TestEncodingsThatAreNotRead: a provider is asked for gzip alone. What it sends otherwise
// passes as it is, and settles by estimate, to no more than was reserved.
func TestEncodingsThatAreNotRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		encoding, kind, path, body string
		bytes                      int
		input, output              int64
	}{
		{"br", "application/json", chat, chatBody, 300, 6, 150},
		{"zstd", "text/event-stream", chat, streamBody, 4000, 6, 500},
		{"br", "application/json", "/v1/messages", chatBody, 1, 6, 1},
		{"", "audio/mpeg", "/v1/audio/speech", `{"model":"tts","input":"Say something."}`, 100_000, 3, 0},
	} {
		w := setup(t, nil)
		p := policy()
		l := limits(t, w, p, nil)
		r := w.request(context.Background(), t, c.path, c.body)
		r.Header.Set("Accept-Encoding", "gzip, br, zstd")
		sent := strings.Repeat("\x00\"{", c.bytes)[:c.bytes]
		res, err := l.Middleware(r, func(r *http.Request) (*http.Response, error) {
			if got := r.Header.Get("Accept-Encoding"); got != "gzip" {
				t.Errorf("%s: asked for %q, want gzip", c.encoding, got)
			}
			h := http.Header{"Content-Type": {c.kind}, "Content-Encoding": {c.encoding}}
			if c.encoding == "" {
				h.Del("Content-Encoding")
			}
			return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(strings.NewReader(sent))}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != sent || res.Header.Get("Content-Encoding") != c.encoding {
			t.Errorf("%s: read %d bytes in %q, error %v", c.encoding, len(got), res.Header.Get("Content-Encoding"), err)
		}
		_ = res.Body.Close()
		w.checkUsed(t, p, 1, c.input, c.output)
	}
}
