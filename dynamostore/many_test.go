package dynamostore_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/trial"
)

// I5: many callers of many processes on one bucket admit what there is and no more, and
// the callers of a process share its writes. How many of these come after another process's
// and are repeated is the engine's pace.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	const processes, callers, each, burst = 8, 8, 25, 1000
	d := define(burst, 1, 366*24*time.Hour)
	var stores []*dynamostore.Store
	for range processes {
		s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
		stores = append(stores, opened(t, s, err))
	}
	var admitted, contended atomic.Int64
	var wg sync.WaitGroup
	for _, s := range stores {
		for range callers {
			wg.Go(func() {
				for range each {
					_, err := s.Take(t.Context(), t0, 0, []zael.Debit{debit("hot", ask("rpm", d, 1))})
					for errors.Is(err, zael.ErrContention) {
						contended.Add(1)
						_, err = s.Take(t.Context(), t0, 0, []zael.Debit{debit("hot", ask("rpm", d, 1))})
					}
					if err == nil {
						admitted.Add(1)
					} else if !errors.Is(err, zael.ErrExceeded) {
						t.Errorf("Take: got %v, want it admitted or refused", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	var calls, applied uint64
	for _, s := range stores {
		calls, applied = calls+s.Stats().Writes, applied+s.Stats().Writes-s.Stats().Failed
	}
	if got := admitted.Load(); got != burst {
		t.Errorf("%d takes of a burst of %d: got %d admitted", processes*callers*each, burst, got)
	}
	t.Logf("%.3f calls a take, %d contended, %d applied", float64(calls)/float64(processes*callers*each), contended.Load(), applied)
	if got := float64(applied) / burst; got > 0.5 {
		t.Errorf("writes that were applied: got %.3f for each that is admitted, want 0.5 at most: the callers of a process share them", got)
	}
	left(t, stores[0], 0, "hot", "rpm", 0)
}

// 25 processes, each with callers and children of its own, on one parent: no
// more than it has is admitted, what was given back is there, and the callers of
// a process share its writes of the parent.
func TestManyProcessesWithOneParent(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	const processes, callers, each, burst = 25, 6, 5, 500
	d := define(burst, 1, 366*24*time.Hour)
	var admitted, contended atomic.Int64
	var wg sync.WaitGroup
	var stores []*dynamostore.Store
	for p := range processes {
		s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
		stores = append(stores, opened(t, s, err))
		for range callers {
			wg.Go(func() {
				for range each {
					ask := []zael.Debit{debit(fmt.Sprint("child", p), ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1))}
					_, err := s.Take(t.Context(), t0, 0, ask)
					for errors.Is(err, zael.ErrContention) { // nothing was taken
						contended.Add(1)
						_, err = s.Take(t.Context(), t0, 0, ask)
					}
					switch {
					case err == nil:
						admitted.Add(1)
					case !errors.Is(err, zael.ErrExceeded):
						t.Errorf("Take: got %v, want it admitted or refused", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	var calls, applied uint64
	for _, s := range stores {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		calls, applied = calls+s.Stats().Writes, applied+s.Stats().Writes-s.Stats().Failed
	}
	const asked = processes * callers * each
	t.Logf("%d takes: %d admitted, %d contended, %.2f writes each, %d applied", asked, admitted.Load(), contended.Load(), float64(calls)/asked, applied)
	reader, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, reader, err)
	left(t, reader, 0, "parent", "rpm", burst-admitted.Load())
	if got := admitted.Load(); got > burst || got < burst*9/10 {
		t.Errorf("admitted: got %d, want %d, or a few less: two that came after the last token may both have been refused", got, burst)
	}
	if got := float64(applied) / asked; got > 1 {
		t.Errorf("writes that were applied: got %.2f a take, want 1 at most, of two buckets", got)
	}
}
