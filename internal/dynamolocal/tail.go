package dynamolocal

import (
	"strings"
	"sync"
)

// tailSize is how many bytes of a log are kept, at least.
const tailSize = 16 << 10

// A tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write keeps p. It never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// lastLines are the last of a log, as they go into an error.
func lastLines(log string) string {
	const most = 30
	var lines []string
	for line := range strings.Lines(log) {
		// It has no logger for Jetty, and says so at each start.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "SLF4J:") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n\t")
}

// excerpt is a sentence of them.
func excerpt(log string) string {
	if lines := lastLines(log); lines != "" {
		return "it said:\n\t" + lines
	}
	return "it said nothing"
}
