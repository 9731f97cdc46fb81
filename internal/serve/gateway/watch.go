package gateway

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A watch ends a call that stands still: one whose upstream sends nothing, or whose client
// reads nothing. It looks every quarter of the shortest time, which costs a call less than a
// timer that each part of its answer sets.
type watch struct {
	bounds Bounds
	flight *flight
	writer http.ResponseWriter
	begun  time.Time
	every  time.Duration
	mu     sync.Mutex // held while it looks
	timer  *time.Timer
	over   bool

	// What the call waits for since when, in nanoseconds from begun, and 0 if for nothing.
	header, idle, client atomic.Int64

	// last is when a part of the answer came. Reading a part, writing it and waiting for the
	// next follow each other, and the clock is asked once for all: what a client takes to
	// read counts for its upstream too, which may take longer.
	last atomic.Int64
}

func (s *watch) start(bounds Bounds, f *flight, w http.ResponseWriter) {
	s.bounds, s.flight, s.writer, s.begun = bounds, f, w, time.Now()
	s.every = max(time.Millisecond, min(bounds.Header, bounds.Idle, bounds.Client)/4)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.every, s.look)
}

func (s *watch) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.timer.Stop()
}

// now returns an instant that is not 0.
func (s *watch) now() int64 { return max(1, int64(time.Since(s.begun))) }

// lastPart returns when the last part came, or the instant before there is one.
func (s *watch) lastPart() int64 {
	if last := s.last.Load(); last != 0 {
		return last
	}
	return s.now()
}

func (s *watch) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	now := s.now()
	late := func(since *atomic.Int64, most time.Duration) bool {
		at := since.Load()
		return at != 0 && now-at >= int64(most)
	}
	switch {
	case late(&s.header, s.bounds.Header):
		s.flight.cancel(errHeader)
	case late(&s.idle, s.bounds.Idle):
		s.flight.cancel(errIdle)
	case late(&s.client, s.bounds.Client):
		s.flight.cancel(errUnread)
		_ = http.NewResponseController(s.writer).SetWriteDeadline(s.begun) // which is over
	default:
		s.timer.Reset(s.every)
	}
}

// A watched writer is the client's.
type watched struct {
	http.ResponseWriter
	watch *watch
}

// Write implements http.ResponseWriter.
func (w *watched) Write(p []byte) (int, error) {
	w.watch.client.Store(w.watch.lastPart())
	n, err := w.ResponseWriter.Write(p)
	w.watch.client.Store(0)
	return n, err
}

// FlushError is what http.ResponseController calls.
func (w *watched) FlushError() error {
	w.watch.client.Store(w.watch.lastPart())
	err := http.NewResponseController(w.ResponseWriter).Flush()
	w.watch.client.Store(0)
	return err
}

// Unwrap lets http.ResponseController find what the server's writer can do besides.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A countedBody is that of a call. It is kept until the call ends, so all of them are bounded.
type countedBody struct {
	io.ReadCloser
	flight *flight
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.flight.body.Add(int64(n))
	if g := b.flight.gateway; g.bodies.Add(int64(n)) > g.bounds.Bodies {
		return n, errBodies
	}
	return n, err
}

// A watchedBody is that of the upstream's answer.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.idle.Store(b.watch.lastPart())
	n, err := b.ReadCloser.Read(p)
	b.watch.idle.Store(0)
	b.watch.last.Store(b.watch.now())
	return n, err
}
