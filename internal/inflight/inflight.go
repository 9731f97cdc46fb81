// Package inflight has what a store is doing, so that closing it can wait for that.
package inflight

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// parkedFor is how long a goroutine without work waits for more; it waits at most twice as
// long.
const parkedFor = time.Second

// A Group has what a store is doing, so that Close can wait for it: the calls
// of callers, and the work in goroutines of the store, which goes on when its
// caller has left. A goroutine that has done its work is parked for the next.
type Group struct {
	mu      sync.Mutex
	n       int // calls and work
	closed  bool
	none    chan struct{} // closed when n is 0 after close
	parked  []chan func() // the last one parked goes on first
	unused  int           // how many of them, from the first, nobody needed since the last trim
	timer   *time.Timer   // of the next trim
	trims   bool          // the timer is set
	workers sync.WaitGroup
}

// Begin counts one more call, unless the group is closed.
func (f *Group) Begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.n++
	return true
}

// End counts one less.
func (f *Group) End() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done()
}

// done counts one less, with f.mu held.
func (f *Group) done() {
	if f.n--; f.n == 0 && f.none != nil {
		close(f.none)
		f.none = nil
	}
}

// Go runs work that belongs to something in flight, and counts it.
func (f *Group) Go(work func()) {
	f.mu.Lock()
	f.n++
	var parked chan func()
	if last := len(f.parked) - 1; last >= 0 {
		parked, f.parked = f.parked[last], f.parked[:last]
		f.unused = min(f.unused, last)
	}
	f.mu.Unlock()
	if parked != nil {
		parked <- work // it has room for one
		return
	}
	f.workers.Go(func() { f.work(work) })
}

// work does what there is to do until nothing has come for a while.
func (f *Group) work(work func()) {
	next := make(chan func(), 1)
	for work != nil {
		work()
		if !f.park(next) {
			return
		}
		work = <-next
	}
}

// park notes that a goroutine has done its work and waits for more, unless there
// will be none.
func (f *Group) park(next chan func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done()
	if f.closed {
		return false
	}
	f.parked = append(f.parked, next)
	switch {
	case f.trims:
	case f.timer == nil:
		f.timer = time.AfterFunc(parkedFor, f.trim)
	default:
		f.timer.Reset(parkedFor)
	}
	f.trims = true
	return true
}

// trim ends the goroutines that nobody needed since the last trim.
func (f *Group) trim() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release(f.unused)
	f.unused = len(f.parked)
	if f.trims = f.unused > 0 && !f.closed; f.trims {
		f.timer.Reset(parkedFor)
	}
}

// release ends the first n of the goroutines that are parked, with f.mu held.
func (f *Group) release(n int) {
	for _, parked := range f.parked[:n] {
		close(parked)
	}
	rest := copy(f.parked, f.parked[n:])
	clear(f.parked[rest:])
	f.parked = f.parked[:rest]
}

// Close lets nothing more begin, waits until nothing is in flight, and ends the
// goroutines.
func (f *Group) Close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	f.release(len(f.parked))
	f.unused = 0
	if f.timer != nil {
		f.timer.Stop()
	}
	if f.n > 0 && f.none == nil {
		f.none = make(chan struct{})
	}
	none := f.none
	f.mu.Unlock()
	if none != nil {
		select {
		case <-none:
		case <-ctx.Done():
			return fmt.Errorf("closing, with writes on their way: %w", ctx.Err())
		}
	}
	f.workers.Wait()
	return nil
}

// Parked returns how many goroutines wait for work.
func (f *Group) Parked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.parked)
}
