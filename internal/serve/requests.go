package serve

import (
	"context"
	"sync"
)

// requests counts the requests that are in handlers.
type requests struct {
	mu     sync.Mutex
	n      int
	closed bool
	none   chan struct{} // closed when there are none and no more begin
}

// begin reports whether a request may begin. If so, it has to call end.
func (r *requests) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.n++
	return true
}

func (r *requests) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n--
	if r.closed && r.n == 0 {
		close(r.none)
	}
}

func (r *requests) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// close lets no more requests begin, waits for those that have begun until ctx is done, and
// returns how many are left.
func (r *requests) close(ctx context.Context) int {
	r.mu.Lock()
	r.closed = true
	if r.n == 0 {
		close(r.none)
	}
	r.mu.Unlock()
	select {
	case <-r.none:
	case <-ctx.Done():
	}
	return r.number()
}
