package zael_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/memstore"
)

// leavers lets 100 callers a second come to a limit of 50, each of whom gives up
// after half a second, and returns how many were served in each second.
func leavers(t *testing.T, limiters ...*zael.Limiter) []int {
	t.Helper()
	seconds := 5 + schedules.Count(t, 30)
	served := make([]int, seconds+1)
	var mu sync.Mutex
	var callers sync.WaitGroup
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a load that can be repeated
	policy := zael.MustPolicy("gpt-4", zael.PerSecond("rps", 50))
	begin := time.Now()
	for next := time.Duration(0); next < time.Duration(seconds)*time.Second; next += time.Duration(random.ExpFloat64() * float64(10*time.Millisecond)) {
		time.Sleep(next - time.Since(begin)) //nolint:forbidigo // of the bubble
		l := limiters[random.IntN(len(limiters))]
		callers.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			defer time.AfterFunc(500*time.Millisecond, cancel).Stop()
			req := policy.For("key-1")
			req.MaxWait = 30 * time.Second
			lease, err := l.Acquire(ctx, req)
			if err == nil {
				err = lease.Commit(ctx)
			} else if errors.Is(err, context.Canceled) {
				return
			}
			if err != nil {
				t.Errorf("Acquire: got %v, want a lease or context.Canceled", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			served[min(seconds, int(time.Since(begin)/time.Second))]++
		})
	}
	callers.Wait()
	return served[:seconds]
}

// Bug of others (x/time/rate): callers that leave the line take their places with
// them, so that service falls to nothing.
func TestLeaversDoNotStopService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		for second, n := range leavers(t, l) {
			if second >= 5 && n < 49 {
				t.Errorf("second %d: got %d served, want at least 49", second, n)
			}
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// While callers of this process wait, one that does not wait is refused, and told
// of those in front.
func TestNobodyPassesTheLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		policy := zael.MustPolicy("gpt-4", zael.PerSecond("rps", 1))
		req := policy.For("key-1")
		if err := l.Allow(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for range 3 {
			req := req
			req.MaxWait = time.Minute
			callers.Go(func() {
				lease, err := l.Acquire(t.Context(), req)
				if err != nil {
					t.Error(err)
					return
				}
				if err := lease.Commit(t.Context()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		var exceeded *zael.ExceededError
		if err := l.Allow(t.Context(), req); !errors.As(err, &exceeded) || exceeded.RetryAfter() != 4*time.Second {
			t.Errorf("Allow behind three: got %v, want a refusal for 4 s", err)
		}
		d, err := l.Decide(t.Context(), req)
		if err != nil || d.Admitted || d.RetryAfter() != 4*time.Second {
			t.Errorf("Decide behind three: got %+v, %v, want a refusal for 4 s", d, err)
		}
		late := req
		late.MaxWait = 3500 * time.Millisecond
		if _, err := l.Acquire(t.Context(), late); !errors.As(err, &exceeded) {
			t.Errorf("Acquire within 3.5 s behind three: got %v, want a refusal at once", err)
		}
		callers.Wait()
		time.Sleep(time.Second) //nolint:forbidigo // of the bubble
		if err := l.Allow(t.Context(), req); err != nil {
			t.Errorf("after all: got %v, want it admitted", err)
		}
	})
}

// A cascade waits for both buckets, and what it waits for is taken from both.
func TestLineOfACascade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := zael.New(memstore.New(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.CreateEntity(t.Context(), zael.Entity{ID: "key-1", ParentID: "org"}); err != nil {
			t.Fatal(err)
		}
		policy := zael.Must(zael.MustPolicy("gpt-4", zael.PerSecond("rps", 100)).WithParentLimits(zael.PerSecond("rps", 2)))
		begin := time.Now()
		for i := range 5 {
			req := policy.For("key-1")
			req.Cascade, req.MaxWait = true, time.Minute
			lease, err := l.Acquire(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if err := lease.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := time.Since(begin), max(0, time.Duration(i-1)*500*time.Millisecond); got.Round(time.Millisecond) != want {
				t.Errorf("acquire %d: got it after %v, want %v", i, got, want)
			}
			if d := lease.Decision(); d.Len() != 2 || d.Status(1).Entity != "org" {
				t.Errorf("acquire %d: got %d statuses, want those of key-1 and org", i, d.Len())
			}
		}
	})
}
