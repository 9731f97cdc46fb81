package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
)

// A crowd takes one token after the other.
type crowd struct {
	told, maybe atomic.Int64 // takes that were told, and that may have been applied
	stop        chan struct{}
	all         sync.WaitGroup
}

var crowdLimit = define(1_000_000, 1, bucket.MaxPeriod)

// startCrowd has callers take until they are stopped; each token is an error to t unless it is
// unavailable, or too late.
func startCrowd(t *testing.T, s *redisstore.Store) *crowd {
	t.Helper()
	c := &crowd{stop: make(chan struct{})}
	for range 8 {
		c.all.Go(func() {
			for {
				select {
				case <-c.stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := s.Take(ctx, t0, 0, []zael.Debit{alice(ask("n", crowdLimit, 1))})
				cancel()
				switch {
				case err == nil:
					c.told.Add(1)
				case errors.Is(err, zael.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
					c.maybe.Add(1)
				default:
					t.Errorf("Take: got %v, want it unavailable, or too late", err)
					return
				}
			}
		})
	}
	return c
}

// until waits until so many more takes were told.
func (c *crowd) until(t *testing.T, more int64) {
	t.Helper()
	goal := c.told.Load() + more
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for c.told.Load() < goal {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %d takes in two minutes", more)
		}
	}
}

// end stops the crowd, and returns how many are charged.
func (c *crowd) end(t *testing.T, s *redisstore.Store) (charged int64) {
	t.Helper()
	close(c.stop)
	c.all.Wait()
	at, err := bucket.At(t0)
	if err != nil {
		t.Fatal(err)
	}
	left := state(t, s, t0, alice().Key, "n")
	return left.Definition.Burst - left.Available(at)
}

// A server that writes each change to disk before it answers is killed with -9 under load and
// started again: nothing that was told is lost.
func TestServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	s, err := redisstore.Open("redis://" + server.Address() + "?virtual_time=true")
	opened(t, s, err)
	c := startCrowd(t, s)
	for range 2 {
		c.until(t, 200)
		server.Kill()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		c.until(t, 1)
		t.Logf("the first take after the server answered came in %v", time.Since(begun))
	}
	c.until(t, 100)
	charged := c.end(t, s)
	if told, most := c.told.Load(), c.told.Load()+c.maybe.Load()+int64(s.Stats().Repeated); charged < told || charged > most {
		t.Errorf("charged: got %d, want %d, which was told, to %d", charged, told, most)
	}
}

// A sentinel lets the replica take over from a primary that is killed. What was told and is lost is
// what the replica did not have; nothing else is.
func TestReplicaTakesOver(t *testing.T) {
	t.Parallel()
	for _, wait := range []int{0, 1} {
		t.Run(fmt.Sprint("wait ", wait), func(t *testing.T) {
			t.Parallel()
			primary := redistest.Start(t, redistest.Options{Password: "s3cret"})
			redistest.StartReplica(t, primary, redistest.Valkey)
			sentinel := redistest.StartSentinel(t, primary, redistest.Valkey)
			s, err := redisstore.Open(fmt.Sprintf("redis+sentinel://:s3cret@%s/main?virtual_time=true&wait=%d", sentinel.Address(), wait))
			opened(t, s, err)
			c := startCrowd(t, s)
			c.until(t, 500)
			primary.Kill()
			begun := time.Now()
			c.until(t, 20)
			took := time.Since(begun)
			charged := c.end(t, s)
			told, most := c.told.Load(), c.told.Load()+c.maybe.Load()+int64(s.Stats().Repeated)
			t.Logf("%d told, %d charged; takes went on %v after the primary was killed", told, charged, took)
			const inFlight = 1000 // far more than what a replica that is in step lacks
			if wait > 0 && charged < told || charged < told-inFlight || charged > most {
				t.Errorf("charged: got %d, of %d that were told", charged, told)
			}
		})
	}
}
