package live_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael/internal/serve/live"
)

// Whoever asks within the age has what was read once; an error is not kept.
func TestShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := live.NewShared[int](time.Now, 5*time.Second, time.Minute)
		reads := 0
		get := func(key string) int {
			v, _, err := s.Get(t.Context(), key, func(context.Context) (int, error) {
				reads++
				<-time.After(time.Second) // on the clock of the test
				return reads, nil
			})
			if err != nil {
				t.Error(err)
			}
			return v
		}
		answers := make(chan int, 10)
		for range 10 {
			go func() { answers <- get("a") }()
		}
		for range 10 {
			if got := <-answers; got != 1 {
				t.Errorf("ten at once: got %d, want what was read once", got)
			}
		}
		<-time.After(3 * time.Second)
		if got := get("a"); got != 1 {
			t.Errorf("after 4 s: got read %d, want the first", got)
		}
		if got := get("b"); got != 2 {
			t.Errorf("another key: got read %d, want the second", got)
		}
		<-time.After(time.Second)
		if got := get("a"); got != 3 {
			t.Errorf("after 6 s: got read %d, want another", got)
		}
		s.Forget()
		if got := get("a"); got != 4 {
			t.Errorf("after a change: got read %d, want another", got)
		}

		broken := errors.New("broken")
		if _, _, err := s.Get(t.Context(), "c", func(context.Context) (int, error) { return 0, broken }); !errors.Is(err, broken) {
			t.Errorf("got %v, want the error of the read", err)
		}
		if got := get("c"); got != 5 {
			t.Errorf("after an error: got read %d, want another", got)
		}

		left, leave := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() {
			_, _, err := s.Get(left, "d", func(ctx context.Context) (int, error) {
				<-time.After(time.Second)
				return 7, ctx.Err()
			})
			got <- err
		}()
		synctest.Wait()
		leave()
		if v := get("d"); v != 7 {
			t.Errorf("the reader has left: got %d, want what it read", v)
		}
		if err := <-got; err != nil {
			t.Errorf("the reader that left: got %v, want none", err)
		}
	})
}
