package dynamostore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// Many processes with callers of their own, all under one parent: 24 of them, whose item takes
// 200 writes a second, and in a long run 200 and 1000. A write of each acquire, or each process as fast
// as it can, would be far more. They find the pace by what is throttled, and nearly
// nobody is told that the store is unavailable.
func TestManyProcessesOnOneParent(t *testing.T) {
	t.Parallel()
	processes, callers, seconds, limit := 24, 6, 2, 200
	switch {
	case schedules.Long(t):
		processes, callers, seconds, limit = 200, 12, 5, 1000
	case testing.Short():
		t.Skip("a load that is a part of make check")
	}
	synctest.Test(t, func(t *testing.T) {
		own := define(1000, 1000, time.Second)
		all := define(1_000_000, 1_000_000, time.Second)
		table := dynamofake.New()
		shared := &dynamofake.Cap{PerSecond: limit}
		end := time.Now().Add(time.Duration(seconds) * time.Second)
		var admitted, unavailable, late, other atomic.Int64
		var wg sync.WaitGroup
		var stores []*dynamostore.Store
		for p := range processes {
			s := storeOn(t, &dynamofake.Network{Table: table, Cap: shared, Latency: 2 * time.Millisecond}, uint64(p))
			stores = append(stores, s)
			for i := range callers {
				rng := rand.New(rand.NewPCG(uint64(p), uint64(i)))
				debits := func() []zael.Debit {
					return []zael.Debit{debit("child-"+strconv.Itoa(p)+"-"+strconv.Itoa(i%4), ask("rpm", own, 1)), debit("parent", ask("rpm", all, 1))}
				}
				wg.Go(func() {
					for time.Now().Before(end) {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						begin := time.Now()
						_, err := s.Take(ctx, begin, 0, debits())
						cancel()
						switch {
						case err == nil:
							admitted.Add(1)
						case errors.Is(err, zael.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded):
							unavailable.Add(1)
						default:
							other.Add(1)
							t.Errorf("Take: got %v", err)
						}
						if time.Since(begin) > time.Second {
							late.Add(1)
						}
						time.Sleep(time.Duration(rng.Int64N(int64(20 * time.Millisecond)))) //nolint:forbidigo // of the bubble
					}
				})
			}
		}
		wg.Wait()
		for _, s := range stores {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		asked := admitted.Load() + unavailable.Load()
		share := float64(unavailable.Load()) / float64(asked)
		stats := shared.Of("E#parent", "B#gpt-4")
		t.Logf("%d processes in %d s: %d acquires, %d of them unavailable (%.2f %%); the parent: %d writes, %d throttled",
			processes, seconds, asked, unavailable.Load(), 100*share, stats.Writes, stats.Throttled)
		if share >= 0.01 {
			t.Errorf("unavailable: got %.2f %%, want under 1 %%", 100*share)
		}
		if late.Load() > 0 {
			t.Errorf("answered after the deadline: got %d, want none", late.Load())
		}
		if most := limit * (seconds + 2); stats.Writes > most {
			t.Errorf("writes of the parent: got %d, want %d at most", stats.Writes, most)
		}
		if stats.Throttled > stats.Writes/2 {
			t.Errorf("throttled: got %d of %d, want them to keep to the pace", stats.Throttled, stats.Throttled+stats.Writes)
		}
		if per := float64(asked) / float64(stats.Writes); per < 2 {
			t.Errorf("acquires a write of the parent: got %.2f, want 2 or more", per)
		}
	})
}
