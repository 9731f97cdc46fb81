package llm

import (
	"context"
	"sync"
)

// underway are the calls that have not settled, and the answers that are read on although
// their callers have left.
type underway struct {
	mu     sync.Mutex
	n      int           // calls, and goroutines that read
	idle   chan struct{} // closed when n is 0; nil if nobody waits
	unread map[*drained]struct{}
}

func (u *underway) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n++
}

func (u *underway) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.idle != nil {
		close(u.idle)
		u.idle = nil
	}
}

// none returns a channel that is closed when nothing is under way.
func (u *underway) none() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if u.idle == nil {
		u.idle = make(chan struct{})
	}
	return u.idle
}

// left says that the caller of an answer has left, and ended that it is read no more.
func (u *underway) left(d *drained) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.unread == nil {
		u.unread = map[*drained]struct{}{}
	}
	u.unread[d] = struct{}{}
}

func (u *underway) ended(d *drained) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.unread, d)
}

// cut cuts off the answers whose callers have left, and waits until they have settled.
func (u *underway) cut() {
	u.mu.Lock()
	var all []*drained
	for d := range u.unread {
		all = append(all, d)
	}
	u.mu.Unlock()
	for _, d := range all {
		d.answer.cancel()
	}
	for _, d := range all {
		<-d.done
	}
}

// Shutdown waits until all calls that are under way have settled, answers that are read on
// by Config.Drain included. If ctx is done before, it cuts these off, so that they settle to
// what was seen. If then calls are left, whose callers have neither read their answers to
// the end nor closed them, it returns the error of ctx. Calls that are made meanwhile are
// limited as ever.
//
// Call it at the end of a program, once it makes no more calls, and before the Limiter or
// its store is closed.
func (l *Limits) Shutdown(ctx context.Context) error {
	select {
	case <-l.underway.none():
		return nil
	case <-ctx.Done():
		l.underway.cut()
	}
	select {
	case <-l.underway.none():
		return nil
	default:
		return ctx.Err()
	}
}
