package dynamostore_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/trial"
)

// Overload: during 20 s at twice a limit of 50 a second, in a long run at three times, no more
// tokens are admitted than have refilled, and at most one in a hundred fewer. The processes go
// through the same 20 s of virtual time side by side, with clocks that differ, a stretch at a time:
// within it their calls come in any order. A single process has a table in memory.
func TestOverload(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	times := 2
	if schedules.Long(t) {
		times = 3
	}
	for i, tt := range []struct {
		processes int
		amount    int64
		skew      time.Duration // clocks differ by up to so much
		stretch   time.Duration
	}{
		{1, 1, 0, 50 * time.Millisecond},
		{8, 2, 70 * time.Millisecond, 100 * time.Millisecond}, // as 5.6 leaves them
		{4, 5, 30 * time.Millisecond, 50 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%d processes, %d tokens, skew %v", tt.processes, tt.amount, tt.skew), func(t *testing.T) {
			t.Parallel()
			const rate, seconds = 50, 20
			d := define(rate, rate, time.Second)
			rng := rand.New(rand.NewPCG(uint64(i), 50))
			start := func() *dynamostore.Store {
				s, err := dynamostore.NewTrial(c, table, patient(), trial.Options{VirtualTime: true})
				return opened(t, s, err)
			}
			if tt.processes == 1 {
				start = func() *dynamostore.Store {
					s, err := dynamostore.NewTrial(dynamofake.New(), "fake", patient(), trial.Options{VirtualTime: true})
					return opened(t, s, err)
				}
			}
			var stores []*dynamostore.Store
			var skews []time.Duration
			for range tt.processes {
				stores = append(stores, start())
				skews = append(skews, time.Duration(rng.Int64N(int64(tt.skew)+1)))
			}
			type call struct {
				at    time.Duration
				store int
			}
			var calls []call
			for n := range rate * times * seconds / int(tt.amount) {
				gap := time.Duration(tt.amount) * time.Second / time.Duration(rate*times)
				calls = append(calls, call{time.Duration(n)*gap + time.Duration(rng.Int64N(int64(gap))), rng.IntN(tt.processes)})
			}
			slices.SortFunc(calls, func(a, b call) int { return cmp.Compare(a.at, b.at) })
			entity := fmt.Sprintf("overload-%d", i)
			var admitted, contended atomic.Int64
			first, last := bucket.MaxInstant, bucket.Instant(0)
			for from := 0; from < len(calls); {
				var wg sync.WaitGroup
				to := from
				for ; to < len(calls) && calls[to].at < calls[from].at+tt.stretch; to++ {
					now := t0.Add(calls[to].at + skews[calls[to].store])
					at, err := bucket.At(now)
					if err != nil {
						t.Fatal(err)
					}
					first, last = min(first, at), max(last, at)
					s := stores[calls[to].store]
					wg.Go(func() {
						for {
							_, err := s.Take(t.Context(), now, 0, []zael.Debit{debit(entity, ask("rps", d, tt.amount))})
							switch {
							case err == nil:
								admitted.Add(tt.amount)
							case errors.Is(err, zael.ErrContention):
								contended.Add(1)
								continue
							case !errors.Is(err, zael.ErrExceeded):
								t.Errorf("Take: got %v, want it admitted or refused", err)
							}
							return
						}
					})
				}
				wg.Wait()
				from = to
			}
			ideal := d.Burst + (d.Drip(last)-d.Drip(first))/d.Unit()
			if got := admitted.Load(); got > ideal || got*100 < ideal*99 {
				t.Errorf("%d takes in %d s: got %d tokens admitted, want %d or up to 1 %% less", len(calls), seconds, got, ideal)
			}
			var sum dynamostore.Stats
			for _, s := range stores {
				sum.Writes += s.Stats().Writes
			}
			t.Logf("%d of an ideal of %d tokens, %.3f calls a take, %d contended", admitted.Load(), ideal, float64(sum.Writes)/float64(len(calls)), contended.Load())
		})
	}
}
