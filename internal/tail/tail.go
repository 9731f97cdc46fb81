// Package tail keeps the end of a log.
package tail

import "sync"

// Size is how many bytes of a log are kept, at least.
const Size = 16 << 10

// A Tail keeps the end of what is written to it. Safe for concurrent use.
type Tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write keeps p. It never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*Size {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-Size:]...)
	}
	return len(p), nil
}

// String is what was kept.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
