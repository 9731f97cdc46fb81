package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
)

// The goroutines in which a store writes are as many as it needs at a time. They
// are used again, and end when they are needed no more.
func TestGoroutinesAreUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := storeOn(t, &dynamofake.Network{Table: dynamofake.New(), Latency: 20 * time.Millisecond}, 1)
		d := define(1_000_000, 1_000_000, time.Second)
		atOnce := func(n int) {
			t.Helper()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if _, err := s.Take(t.Context(), time.Now(), 0, []zael.Debit{debit(fmt.Sprint(i), ask("n", d, 1))}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			synctest.Wait()
		}
		want := func(when string, n int) {
			t.Helper()
			if got := dynamostore.Parked(s); got != n {
				t.Errorf("goroutines parked %s: got %d, want %d", when, got, n)
			}
		}
		for range 50 {
			atOnce(1)
		}
		want("after 50 writes, one after the other", 1)
		atOnce(20)
		want("after 20 at once", 20)
		for range 100 { // 2 s or more
			atOnce(3)
		}
		want("after 2 s with 3 at once", 3)
		<-time.After(3 * time.Second)
		synctest.Wait()
		want("3 s later", 0)
		atOnce(5)
		want("after 5 at once", 5)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("after Close", 0)
	})
}

// Close waits for writes whose callers have left, and for what gives them back;
// not for longer than its context lets it, and then they end by themselves.
func TestCloseWaitsForLeavers(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"patient": time.Minute, "impatient": time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			table := dynamofake.New()
			s, err := dynamostore.New(&dynamofake.Network{Table: table, Latency: 50 * time.Millisecond}, "fake", nil)
			if err != nil {
				t.Fatal(err)
			}
			take := func(ctx context.Context) error {
				_, err := s.Take(ctx, time.Now(), 0, []zael.Debit{debit("e", ask("n", define(100, 100, time.Hour), 7))})
				return err
			}
			if err := take(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if err := take(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Take: got %v, want the deadline exceeded", err)
			}
			ctx, cancel = context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = s.Close(ctx)
			if wants := patience < time.Second; errors.Is(err, context.DeadlineExceeded) != wants || err != nil != wants {
				t.Errorf("%s Close: got %v, want an error: %v", name, err, wants)
			}
			if got := s.Stats().Undone; err == nil && got != 1 {
				t.Errorf("given back when Close returns: got %d takes, want 1", got)
			}
			<-time.After(time.Second) // the bubble ends only if no goroutine is left
			synctest.Wait()
			if got := counter(t, table, "e", "c_n"); got != 7 {
				t.Errorf("charged: got %d, want the 7 of the first", got)
			}
		})
	}
}
