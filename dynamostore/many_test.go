package dynamostore_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// I5: many callers of many processes on one bucket, some with a parent, admit
// what there is and no more, at little more than one call each.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	const processes, callers, each, burst = 8, 8, 25, 1000
	d := define(burst, 1, 366*24*time.Hour)
	var stores []*dynamostore.Store
	for range processes {
		s, err := dynamostore.New(c, table, &dynamostore.Config{VirtualTime: true, CallTimeout: time.Minute})
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
	var calls uint64
	for _, s := range stores {
		calls += s.Stats().Writes
	}
	if got := admitted.Load(); got != burst {
		t.Errorf("%d takes of a burst of %d: got %d admitted", processes*callers*each, burst, got)
	}
	perTake := float64(calls) / float64(processes*callers*each)
	if t.Logf("%.3f calls a take, %d contended", perTake, contended.Load()); perTake > 1.2 {
		t.Errorf("calls: got %.3f a take, want 1.2 at most", perTake)
	}
	left(t, stores[0], 0, "hot", "rpm", 0)
}
