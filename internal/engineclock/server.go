package engineclock

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/storearg"
)

// A Server is the clock of an engine as a store's calls use it. The exported fields are set before.
type Server struct {
	Read    func() Reading              // this machine's clocks: Machine
	Virtual bool                        // callers' times are the engine's
	Ask     func(context.Context) error // makes a call whose answer tells the time, to Heard
	What    string                      // Ask does, for errors

	// Every is how long after an answer the engine is asked again, in the background by Go; 0:
	// never, as every answer tells the time.
	Every time.Duration
	Go    func(func())

	clock  Clock
	heard  atomic.Int64 // when an answer told the time last, or the background began to ask for it
	silent atomic.Bool  // the engine answers and tells no time: it is believed to have ours

	mu    sync.Mutex
	asked *asking // the call that is under way
}

// An asking is a call for the engine's time. Callers that come meanwhile wait for it.
type asking struct {
	done chan struct{}
	left bool  // the caller that made it has left
	err  error // both are set when done is closed
}

// Heard notes an answer with the engine's time, which is rounded down to a resolution, to a call
// that was sent at a reading.
func (s *Server) Heard(date time.Time, resolution time.Duration, sent Reading) {
	received := s.Read()
	s.clock.Answer(date, resolution, sent, received)
	s.heard.Store(int64(received.Mono))
}

// Instant returns now, which the caller has just read from this machine's wall clock, by the
// engine's clock. If the offset between the two is not known it asks the engine first.
func (s *Server) Instant(ctx context.Context, now time.Time) (time.Time, bucket.Instant, error) {
	if !s.Virtual {
		entered := s.Read()
		offset, known := s.clock.Offset(entered)
		switch {
		case !known && !s.silent.Load():
			if err := s.ask(ctx); err != nil {
				return now, 0, err
			}
			offset, _ = s.clock.Offset(entered)
		case s.Every > 0 && time.Duration(s.heard.Load())+s.Every < entered.Mono:
			s.heard.Store(int64(entered.Mono))
			s.Go(func() { _ = s.Ask(context.WithoutCancel(ctx)) }) // if it fails, the next one asks again
		}
		now = now.Add(offset)
	}
	at, err := storearg.Instant(now)
	return now, at, err
}

// Local is Instant where the engine need not be asked; else ok is false.
func (s *Server) Local(now time.Time) (by time.Time, at bucket.Instant, ok bool) {
	if !s.Virtual {
		offset, known := s.clock.Offset(s.Read())
		if !known && !s.silent.Load() {
			return now, 0, false
		}
		now = now.Add(offset)
	}
	at, err := bucket.At(now)
	return now, at, err == nil
}

// ask asks the engine unless its time is known by now. Concurrent callers share one call and its
// error, unless the caller that makes it leaves.
func (s *Server) ask(ctx context.Context) error {
	for {
		a, mine := s.asking()
		switch {
		case a == nil:
			return nil
		case mine:
			a.err = s.Ask(ctx)
			a.left = ctx.Err() != nil
			s.answered(a)
			return a.err
		}
		select {
		case <-a.done:
			if a.err != nil && !a.left {
				return a.err
			}
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", s.What, ctx.Err())
		}
	}
}

// asking returns the call that is under way; a new one, which is the caller's to make; or none, if
// the time is known by now.
func (s *Server) asking() (a *asking, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil {
		return s.asked, false
	}
	if _, known := s.clock.Offset(s.Read()); known || s.silent.Load() {
		return nil, false
	}
	s.asked = &asking{done: make(chan struct{})}
	return s.asked, true
}

func (s *Server) answered(a *asking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.err == nil {
		s.silent.Store(s.clock.silent())
	}
	s.asked = nil
	close(a.done)
}
