package llm_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/fakellm"
	"github.com/zeroae/zael/llm"
)

// streams are the streamed calls of shapes.
func streams() map[string][2]string {
	all := map[string][2]string{}
	for name, call := range shapes() {
		if strings.Contains(name, "stream") || name == "gemini array" {
			all[name] = call
		}
	}
	return all
}

// TestCutStream: it settles to the input, as it was told or estimated, and the output
// that was seen.
func TestCutStream(t *testing.T) {
	t.Parallel()
	for name, call := range streams() {
		w := setup(t, always(fakellm.Answer{
			Chunks: words(), Input: 30, Output: 200,
			Before: func(chunk int) bool { return chunk < 10 }, // 100 tokens
		}))
		p := policy()
		var got llm.Usage
		c := client(t, limits(t, w, p, &llm.Config{Settled: func(_ *llm.Call, u llm.Usage) { got = u }}))
		res := w.post(context.Background(), t, c, call[0], call[1])
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: the caller is not told that the stream broke", name)
		}
		_ = res.Body.Close()
		input := got.Input == 30
		if !strings.Contains(name, "anthropic") && !strings.Contains(name, "gemini") && !strings.Contains(name, "invoke") {
			input = got.Input > 0 && got.Input < 15 // an estimate: nothing has told it
		}
		if !input || got.Output < 100 || got.Output > 105 || got.Reported {
			t.Errorf("%s: settled %+v, want the prompt and 100 tokens of output", name, got)
		}
		w.checkUsed(t, p, 1, got.Input, got.Output)
	}
}

// TestCallerLeaves: the call settles when the body is closed or the context is done,
// whichever comes first, and the provider is told.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	for _, cancels := range []bool{false, true} {
		left := make(chan struct{})
		w := setup(t, fakellm.Provider(func(*fakellm.Request) fakellm.Answer {
			return fakellm.Answer{Chunks: words(), Input: 30, Output: 200, Before: func(chunk int) bool {
				if chunk == 10 {
					<-left
				}
				return chunk < 10
			}}
		}))
		p := zael.MustPolicy("m", zael.PerMinute("otpm", 100_000), zael.AtOnce("inflight", 3))
		settled := make(chan llm.Usage, 1)
		c := client(t, limits(t, w, p, &llm.Config{Settled: func(_ *llm.Call, u llm.Usage) { settled <- u }}))
		ctx, cancel := context.WithCancel(context.Background())
		res := w.post(ctx, t, c, chat, streamBody)
		lines := bufio.NewReader(res.Body)
		for range 20 { // ten events
			if _, err := lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.left(t, p, "inflight"); got != 2 {
			t.Errorf("%d calls in flight are left of 3", got)
		}
		if cancels {
			cancel()
		} else {
			_ = res.Body.Close()
		}
		if u := <-settled; u.Output < 100 || u.Output > 105 || u.Input == 0 {
			t.Errorf("cancelled %v: settled %+v, want 100 tokens of output", cancels, u)
		}
		if got := w.left(t, p, "inflight"); got != 3 {
			t.Errorf("cancelled %v: %d calls in flight are left of 3", cancels, got)
		}
		close(left)
		_ = res.Body.Close()
		cancel()
	}
}

// TestDrain: an answer whose caller has left is read to its end.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*http.Response, context.CancelFunc){
		"close":  func(res *http.Response, _ context.CancelFunc) { _ = res.Body.Close() },
		"cancel": func(_ *http.Response, cancel context.CancelFunc) { cancel() },
	} {
		for _, ends := range []bool{true, false} {
			left, never := make(chan struct{}), make(chan struct{})
			w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 30, Output: 300, Before: func(chunk int) bool {
				if chunk == 10 {
					<-left
				}
				if chunk == 15 && !ends {
					<-never
				}
				return true
			}}))
			p := policy()
			settled := make(chan llm.Usage, 1)
			most := time.Hour
			if !ends {
				most = 50 * time.Millisecond
			}
			c := client(t, limits(t, w, p, &llm.Config{Drain: most, Settled: func(_ *llm.Call, u llm.Usage) { settled <- u }}))
			ctx, cancel := context.WithCancel(context.Background())
			res := w.post(ctx, t, c, chat, streamBody)
			if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			leave(res, cancel)
			close(left)
			u := <-settled
			if want := (llm.Usage{Input: 30, Output: 300, Reported: true}); ends && u != want {
				t.Errorf("%s: settled %+v, want %+v", name, u, want)
			}
			if !ends && (u.Output < 1 || u.Output > 155 || u.Reported) {
				t.Errorf("%s: settled %+v after the time was over, want at most 150 tokens of output", name, u)
			}
			if name == "cancel" {
				if _, err := io.ReadAll(res.Body); !errors.Is(err, context.Canceled) {
					t.Errorf("the caller reads the error %v, want that of its context", err)
				}
			}
			_ = res.Body.Close()
			close(never)
			cancel()
		}
	}
}

// TestDrainedAnswerIsWhole: a caller who stays reads what it would without Drain.
func TestDrainedAnswerIsWhole(t *testing.T) {
	t.Parallel()
	for name, call := range shapes() {
		w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 30, Output: 300}))
		p := policy()
		_, want := w.all(t, client(t, limits(t, w, p, nil)), call[0], call[1])
		_, got := w.all(t, client(t, limits(t, w, p, &llm.Config{Drain: time.Hour})), call[0], call[1])
		if got != want {
			t.Errorf("%s: read %q, want %q", name, got, want)
		}
		w.checkUsed(t, p, 2, 60, 600)
	}
}

// TestPlainAnswerIsCut: by the provider, or by a caller who does not read on.
func TestPlainAnswerIsCut(t *testing.T) {
	t.Parallel()
	for name, call := range shapes() {
		if _, ok := streams()[name]; ok {
			continue
		}
		w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 30, Output: 200, Cut: true}))
		p := policy()
		res := w.post(context.Background(), t, client(t, limits(t, w, p, nil)), call[0], call[1])
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: no error", name)
		}
		_ = res.Body.Close()
		if input, output := 100_000-w.left(t, p, "itpm"), 100_000-w.left(t, p, "otpm"); input == 0 || output == 0 || output > 205 {
			t.Errorf("%s: used %d and %d", name, input, output)
		}
	}
}

// TestNoUsage: an answer without any settles to the prompt's estimate and what was seen.
func TestNoUsage(t *testing.T) {
	t.Parallel()
	for name, call := range shapes() {
		w := setup(t, always(fakellm.Answer{Chunks: words(), NoUsage: true}))
		p := policy()
		w.all(t, client(t, limits(t, w, p, nil)), call[0], call[1])
		if input, output := 100_000-w.left(t, p, "itpm"), 100_000-w.left(t, p, "otpm"); input == 0 || output < 200 || output > 205 {
			t.Errorf("%s: used %d and %d, want an estimate and 200", name, input, output)
		}
	}
}

// TestPiecesOfAnySize: what is read does not depend on where the network cuts.
func TestPiecesOfAnySize(t *testing.T) {
	t.Parallel()
	for name, call := range shapes() {
		w := setup(t, always(fakellm.Answer{Chunks: words(), Input: 345, Cached: 45, Output: 210}))
		p := policy()
		res := w.post(context.Background(), t, client(t, limits(t, w, p, nil)), call[0], call[1])
		if _, err := io.ReadAll(iotest.OneByteReader(res.Body)); err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		w.checkUsed(t, p, 1, 300, 210)
		_ = name
	}
}

// TestMemoryOfAStreamIsBounded: a stream of 512 KB is not held, and neither is one event.
//
//nolint:paralleltest // it measures the heap, which other tests use too
func TestMemoryOfAStreamIsBounded(t *testing.T) {
	w := setup(t, nil)
	for name, text := range map[string][2]string{
		"events":    {"", `data: {"choices":[{"delta":{"content":"` + strings.Repeat("x", 1000) + `"}}],"usage":null}` + "\n\n"},
		"one event": {`data: {"usage":{"`, strings.Repeat("x", 1<<10)},
		"usage":     {"", `data: {"usage":{"a":[` + strings.Repeat("1,", 1000) + `1]}}` + "\n\n"},
		"one line":  {"", strings.Repeat("x", 1<<10)},
	} {
		l := limits(t, w, zael.MustPolicy("m", zael.PerMinute("rpm", 100)), nil)
		res, err := l.Middleware(w.request(context.Background(), t, chat, streamBody), func(*http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader(text[0]), &repeated{text: text[1]})
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(body)}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		held := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := held()
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(res.Body, 1<<19), make([]byte, 32<<10)); err != nil {
			t.Errorf("%s: error %v", name, err)
		}
		if grown := held() - before; grown > 1<<18 {
			t.Errorf("%s: the heap has grown by %d bytes", name, grown)
		}
		_ = res.Body.Close()
	}
}

type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], r.text[r.at:])
		n += k
		r.at = (r.at + k) % len(r.text)
	}
	return n, nil
}
