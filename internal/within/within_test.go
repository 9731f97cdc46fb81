package within_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/zeroae/zael/internal/within"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = time.Second

type key struct{}

// never is a channel that nothing is sent to.
var never chan struct{}

func want(t *testing.T, what string, ctx context.Context, err error) { //nolint:revive // t goes first
	t.Helper()
	if got := ctx.Err(); !errors.Is(got, err) {
		t.Errorf("%s: got error %v, want %v", what, got, err)
	}
	select {
	case <-ctx.Done():
		if err == nil {
			t.Errorf("%s: got the context done, want it open", what)
		}
	default:
		if err != nil {
			t.Errorf("%s: got the context open, want it done", what)
		}
	}
}

// Waiting ends at the deadline, which is the timeout after the caller began, or up to a hundredth
// less, and no earlier; so does Done.
func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := within.New(timeout)
		shared := 0
		for i := range 50 {
			begun, asks := time.Now(), i%2 == 0
			c := limit.Begin(t.Context())
			d, ok := c.Deadline()
			if !ok || d.After(begun.Add(timeout)) || d.Before(begun.Add(timeout-timeout/100)) {
				t.Errorf("deadline: got %v after it began, want %v or up to a hundredth less", d.Sub(begun), timeout)
			}
			if d.Before(begun.Add(timeout)) {
				shared++
			}
			go func() {
				defer c.End()
				if asks {
					<-c.Done()
				} else if within.Wait(c, never) {
					t.Error("wait: got true, want false: nothing was sent")
				}
				if now := time.Now(); !now.Equal(d) {
					t.Errorf("told: got %v after the deadline, want at it", now.Sub(d))
				}
				if err := c.Err(); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("told: got error %v, want context.DeadlineExceeded", err)
				}
			}()
			time.Sleep(timeout / 250) //nolint:forbidigo // of the bubble
		}
		if shared < 30 {
			t.Errorf("deadlines of others: got %d of 50, want two in three", shared)
		}
		time.Sleep(timeout) //nolint:forbidigo // of the bubble
	})
}

// The caller's context ends the other one, by its cancellation or its own deadline, and so does End.
func TestEnds(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			limit := within.New(timeout)
			begin := func(ctx context.Context) *within.Context {
				c := limit.Begin(context.WithValue(ctx, key{}, "mine"))
				if asks {
					c.Done()
				}
				want(t, "just begun", c, nil)
				if got := c.Value(key{}); got != "mine" {
					t.Errorf("value: got %v, want the caller's", got)
				}
				return c
			}
			caller, leave := context.WithCancel(t.Context())
			left := begin(caller)
			leave()
			synctest.Wait()
			want(t, "its caller has left", left, context.Canceled)
			if within.Wait(left, never) {
				t.Error("wait: got true, want false: the caller has left")
			}
			short, cancel := context.WithTimeout(t.Context(), timeout/2)
			defer cancel()
			hurried := begin(short)
			if within.Wait(hurried, never) {
				t.Error("wait: got true, want false: the caller's deadline has passed")
			}
			synctest.Wait()
			want(t, "its caller's deadline has passed", hurried, context.DeadlineExceeded)
			ended := begin(t.Context())
			ended.End()
			want(t, "ended", ended, context.Canceled)
			for _, c := range []*within.Context{left, hurried, ended} {
				c.End()
			}
		})
	}
}

// Contexts derived from one end with it, and need no goroutine to notice that.
func TestDerived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := within.New(timeout).Begin(t.Context())
		sooner, cancel := context.WithTimeout(c, timeout/2)
		defer cancel()
		later, end := context.WithTimeout(context.WithValue(c, key{}, 1), 2*timeout)
		defer end()
		stays := context.WithoutCancel(c)
		before := runtime.NumGoroutine()
		child, stop := context.WithCancel(c)
		defer stop()
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("goroutines: got %d more for a derived context, want none", after-before)
		}
		<-sooner.Done()
		want(t, "half the time", c, nil)
		<-later.Done()
		synctest.Wait()
		want(t, "derived", later, context.DeadlineExceeded)
		want(t, "derived", child, context.DeadlineExceeded)
		want(t, "without cancel", stays, nil)
		c.End()
	})
}

// What is sent is received, whatever the context is.
func TestWait(t *testing.T) {
	t.Parallel()
	done := make(chan struct{}, 1)
	c := within.New(time.Hour).Begin(t.Context())
	defer c.End()
	for _, ctx := range []context.Context{t.Context(), c} {
		if done <- struct{}{}; !within.Wait(ctx, done) {
			t.Error("wait: got false, want true")
		}
	}
	gone, leave := context.WithCancel(t.Context())
	if leave(); within.Wait(gone, never) {
		t.Error("wait: got true, want false")
	}
}

// A detached context has its caller's values, goes on without it, and ends at the deadline.
func TestDetached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := within.New(timeout)
		caller, leave := context.WithCancel(context.WithValue(t.Context(), key{}, "mine"))
		first := limit.Detach(caller)
		leave()
		want(t, "the caller has left", first, nil)
		if got := first.Value(key{}); got != "mine" {
			t.Errorf("value: got %v, want the caller's", got)
		}
		end, _ := first.Deadline()
		if want := time.Now().Add(timeout); !end.Equal(want) {
			t.Errorf("deadline: got %v, want %v", end, want)
		}
		<-time.After(timeout / 200)
		if got, _ := limit.Detach(caller).Deadline(); !got.Equal(end) {
			t.Errorf("begun just after: got the deadline %v, want that of the first, %v", got, end)
		}
		<-first.Done()
		if now := time.Now(); !now.Equal(end) {
			t.Errorf("done: got %v, want %v", now, end)
		}
		want(t, "after the deadline", first, context.DeadlineExceeded)
		second := limit.Detach(caller)
		want(t, "begun after the deadline", second, nil)
		<-second.Done()
	})
}
