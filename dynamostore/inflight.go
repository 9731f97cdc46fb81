package dynamostore

import (
	"context"
	"fmt"
	"sync"
)

// inflight counts what is on its way, so that Close can wait for it.
type inflight struct {
	mu     sync.Mutex
	n      int
	closed bool
	none   chan struct{} // closed when n is 0 after close
}

// begin counts one more, unless it is closed.
func (f *inflight) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.n++
	return true
}

func (f *inflight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n == 0 && f.none != nil {
		close(f.none)
		f.none = nil
	}
}

// spawn starts work that belongs to something on its way, and counts it.
func (f *inflight) spawn(work func()) {
	f.mu.Lock()
	f.n++
	f.mu.Unlock()
	go func() {
		defer f.end()
		work()
	}()
}

// close lets nothing more begin and waits until nothing is on its way.
func (f *inflight) close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	if f.n == 0 {
		f.mu.Unlock()
		return nil
	}
	if f.none == nil {
		f.none = make(chan struct{})
	}
	none := f.none
	f.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("dynamostore: closing, with writes on their way: %w", ctx.Err())
	}
}
