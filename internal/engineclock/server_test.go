package engineclock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael/internal/engineclock"
)

// ahead is by how much the engine's clock goes before this machine's.
const ahead = time.Hour

// server returns the clock of an engine that answers a second after it is asked, and what counts
// the calls.
func server() (s *engineclock.Server, calls *int) {
	calls = new(int)
	s = &engineclock.Server{Read: engineclock.Machine(), What: "store: asking"}
	s.Ask = func(ctx context.Context) error {
		*calls++
		sent := s.Read()
		select {
		case <-time.After(time.Second):
			s.Heard(time.Now().Add(ahead), time.Microsecond, sent)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s, calls
}

// check fails the test unless now is counted within the second that an answer takes.
func check(t *testing.T, s *engineclock.Server) {
	t.Helper()
	now := time.Now()
	by, at, err := s.Instant(t.Context(), now)
	if err != nil {
		t.Error(err)
		return
	}
	if apart := by.Sub(now.Add(ahead)).Abs(); apart > time.Second || !at.Time().Equal(by.Truncate(time.Nanosecond)) {
		t.Errorf("%v is counted at %v (instant %v), want an hour later", now, by, at.Time())
	}
}

func TestCallersShareOneCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, calls := server()
		if _, _, ok := s.Local(time.Now()); ok {
			t.Error("Local before the first answer: got ok")
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { check(t, s) })
		}
		wg.Wait()
		check(t, s)
		if _, _, ok := s.Local(time.Now()); !ok || *calls != 1 {
			t.Errorf("Local after an answer: ok is %v, after %d calls; want true and 1", ok, *calls)
		}
	})
}

func TestCallerThatAsksLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, calls := server()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() {
			_, _, err := s.Instant(ctx, time.Now())
			first <- err
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { check(t, s) })
		}
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who has left: got %v", err)
		}
		wg.Wait()
		if *calls != 2 {
			t.Errorf("got %d calls, want 2: one of those that wait asks again", *calls)
		}
	})
}

func TestErrorIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken, calls := errors.New("broken"), 0
		s := &engineclock.Server{Read: engineclock.Machine()}
		s.Ask = func(context.Context) error {
			calls++
			<-time.After(time.Second)
			return broken
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, err := s.Instant(t.Context(), time.Now()); !errors.Is(err, broken) {
					t.Errorf("got %v, want %v", err, broken)
				}
			})
		}
		wg.Wait()
		if calls != 1 {
			t.Errorf("got %d calls, want 1", calls)
		}
	})
}

func TestWaitingCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := server()
		var wg sync.WaitGroup
		wg.Go(func() { check(t, s) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := s.Instant(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", err)
		}
		wg.Wait()
	})
}

func TestAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, calls := server()
		var background sync.WaitGroup
		s.Every, s.Go = 10*time.Second, background.Go
		for range 5 {
			check(t, s)
			check(t, s) // does not ask, too
			background.Wait()
			<-time.After(11 * time.Second)
		}
		if *calls != 5 {
			t.Errorf("got %d calls, want 5", *calls)
		}
	})
}

// An engine that answers and tells no time is believed to have ours.
func TestSilentEngine(t *testing.T) {
	t.Parallel()
	calls := 0
	s := &engineclock.Server{Read: engineclock.Machine(), Ask: func(context.Context) error {
		calls++
		return nil
	}}
	now := time.Now()
	for range 3 {
		if by, _, err := s.Instant(t.Context(), now); err != nil || !by.Equal(now) {
			t.Errorf("got %v and %v, want %v", by, err, now)
		}
	}
	if by, _, ok := s.Local(now); !ok || !by.Equal(now) || calls != 1 {
		t.Errorf("Local: got %v, %v after %d calls; want %v, true after 1", by, ok, calls, now)
	}
}

func TestVirtualTime(t *testing.T) {
	t.Parallel()
	s := &engineclock.Server{Virtual: true}
	at := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	if by, _, err := s.Instant(t.Context(), at); err != nil || !by.Equal(at) {
		t.Errorf("got %v and %v, want %v", by, err, at)
	}
	if _, _, err := s.Instant(t.Context(), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a time out of range: got no error")
	}
}
