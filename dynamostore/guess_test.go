package dynamostore_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// A pace is a load on one bucket.
type pace struct {
	processes, callers int   // callers of each process
	rate, burst        int64 // of the limit, a second
	amount             int64 // of an acquire
	every              time.Duration
	random             bool // a caller's acquires are every apart on average, up to half more or less
}

// callsOf returns how many calls an acquire takes, by the clock of a bubble, without the first of
// each process, which finds out about the bucket.
func (p pace) callsOf(t *testing.T, seed uint64) float64 {
	t.Helper()
	acquires := max(1500, 64*p.processes)
	switch {
	case p.processes == 1 && testing.Short():
		acquires = 100
	case testing.Short():
		acquires = 600
	case p.processes == 1: // nobody disturbs: all are alike
		acquires = 500
	}
	writes := 0
	synctest.Test(t, func(t *testing.T) {
		table := dynamofake.New()
		limits := []zael.Limit{{Name: "n", RefillAmount: p.rate, RefillPeriod: time.Second, Burst: p.burst}}
		networks := make([]*dynamofake.Network, p.processes)
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for i := range p.processes {
			networks[i] = &dynamofake.Network{Table: table, Latency: time.Millisecond / 2}
			l, err := zael.New(storeOn(t, networks[i], seed*100+uint64(i)), nil)
			if err != nil {
				t.Fatal(err)
			}
			for j := range p.callers {
				rng := rand.New(rand.NewPCG(seed, uint64(i*p.callers+j)))
				wg.Go(func() {
					for range acquires / p.processes / p.callers {
						if l.Allow(t.Context(), zael.Request{Entity: "e", Resource: "r", Limits: limits, Consume: zael.Amounts{"n": p.amount}}) == nil {
							admitted.Add(1)
						}
						d := p.every
						if p.random {
							d = d/2 + time.Duration(rng.Int64N(int64(d)))
						}
						time.Sleep(d) //nolint:forbidigo // of the bubble; no timer if it is 0
					}
				})
			}
		}
		wg.Wait()
		for _, n := range networks {
			writes += n.Writes()
		}
		if admitted.Load() == 0 {
			t.Error("nobody was admitted")
		}
	})
	return float64(writes-p.processes) / float64(acquires)
}

// A caller whom nobody disturbs is never wrong about its bucket, whatever the limit
// and its pace. With other processes a guess is wrong now and then.
func TestGuesses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pace
		most float64 // calls an acquire
	}{
		"alone, 100/s, one every 9 ms":       {pace{1, 1, 100, 100, 1, 9 * time.Millisecond, false}, 1.005},
		"alone, 100/s, at random":            {pace{1, 1, 100, 100, 1, 11 * time.Millisecond, true}, 1.005},
		"alone, 10,000/s":                    {pace{1, 1, 10_000, 10_000, 1, 0, false}, 1.005},
		"alone, 1,000,000/s":                 {pace{1, 1, 1_000_000, 1_000_000, 1, 0, false}, 1.005},
		"alone, nearly all of 1,000,000/s":   {pace{1, 1, 1_000_000, 1_000_000, 900, 0, false}, 1.005},
		"alone, more than 1,000,000/s":       {pace{1, 1, 1_000_000, 1_000_000, 1100, 0, false}, 1.005},
		"alone, 10⁹/s":                       {pace{1, 1, 1_000_000_000, 1_000_000_000, 1, 0, false}, 1.005},
		"8 processes, 0.3 times the rate":    {pace{8, 8, 200, 50, 1, 64 * time.Second / 60, true}, 1.25},
		"8 processes, 0.9 times the rate":    {pace{8, 8, 200, 50, 1, 64 * time.Second / 180, true}, 1.2},
		"8 processes, 1.5 times the rate":    {pace{8, 8, 200, 50, 1, 64 * time.Second / 300, true}, 0.96},
		"8 processes, 5 times the rate":      {pace{8, 8, 200, 50, 1, 64 * time.Second / 1000, true}, 0.8},
		"64 processes, a level near 0":       {pace{64, 1, 400, 400, 1, 64 * time.Second / 300, true}, 1.43}, // 1.37, and 1.5 without a pad
		"8 processes, far below a high rate": {pace{8, 8, 200_000, 50_000, 1, 0, false}, 0.4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && tt.processes > 1 && tt.rate < 1000 && tt.every != 64*time.Second/180 {
				t.Skip("one load of this limit is enough; the others are a part of make check")
			}
			for seed := range uint64(schedules.Count(t, 1)) {
				got := tt.callsOf(t, seed)
				t.Logf("seed %d: %.4f calls an acquire", seed, got)
				if got > tt.most {
					t.Errorf("seed %d: got %.4f calls an acquire, want %v at most", seed, got, tt.most)
				}
			}
		})
	}
}
