package sqlitestore_test

import (
	"sync"
	"testing"

	"github.com/zeroae/zael"
)

const (
	processes = 8
	perWorker = 200
	inFlight  = 8 // callers of a worker
)

// Processes that share a file together admit exactly what one would.
func TestProcessesAdmitExactlyTheLimit(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	workers := hireAll(t, path, processes)
	atOnce(t, workers, func(w *worker) { w.collect(0) })
	oks, answers := 0, 0
	for i, w := range workers {
		if err := w.cmd.Wait(); err != nil || w.last != "" {
			t.Errorf("worker %d: got %v and %q, want neither", i, err, w.last)
		}
		oks += w.count["ok"]
		answers += w.count["ok"] + w.count["no"]
	}
	if answers != processes*perWorker || oks != 1000 {
		t.Errorf("%d processes: got %d answers and %d admitted, want %d and 1000", processes, answers, oks, processes*perWorker)
	}
	checkFile(t, path, 1000, 1000)
}

// One of the processes is killed. What it had answered stays taken; the others are not
// affected.
func TestProcessKilledUnderLoad(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	workers := hireAll(t, path, processes-1)
	const many = 500 * perWorker // it cannot be through before it is killed
	victim := hire(t, job{"acquire", inFlight, many, path})
	workers = append(workers, victim)
	atOnce(t, workers, func(w *worker) {
		if w == victim {
			w.collect(20)
			if err := w.kill(); err != nil {
				t.Error(err)
			}
		}
		w.collect(0)
	})
	oks := 0
	for i, w := range workers {
		if err := w.cmd.Wait(); w != victim && err != nil || w.last != "" {
			t.Errorf("worker %d: got %v and %q, want neither", i, err, w.last)
		}
		oks += w.count["ok"]
	}
	if n := victim.count["ok"] + victim.count["no"]; n >= many {
		t.Errorf("the worker that was killed: got all its %d answers, want it killed before", n)
	}
	if oks > 1000 || oks < 1000-inFlight {
		t.Errorf("admitted by all: got %d, want 1000, or up to %d less, which the killed one took without answering", oks, inFlight)
	}
	checkFile(t, path, 1000, 1000)
}

// All processes are killed, repeatedly. The file has all that they answered, and no more
// than was asked.
func TestCrashesLoseNoAnsweredCharge(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	least, most := 0, 0
	for range 3 {
		var workers []*worker
		for range 2 {
			workers = append(workers, hire(t, job{"load", inFlight, 0, path}))
		}
		atOnce(t, workers, func(w *worker) {
			w.collect(100)
			if err := w.kill(); err != nil {
				t.Error(err)
			}
			w.collect(0) // what it wrote before
		})
		for _, w := range workers {
			_ = w.cmd.Wait()
			if w.last != "" {
				t.Errorf("a worker: got %q, want answers only", w.last)
			}
			least += w.count["ok"]
			most += w.count["ok"] + inFlight
		}
	}
	checkFile(t, path, int64(least), int64(most))
}

func hireAll(t *testing.T, path string, n int) []*worker {
	t.Helper()
	var workers []*worker
	for range n {
		workers = append(workers, hire(t, job{"acquire", inFlight, perWorker, path}))
	}
	return workers
}

// atOnce makes all workers start, and calls follow for each.
func atOnce(t *testing.T, workers []*worker, follow func(*worker)) {
	t.Helper()
	for _, w := range workers {
		if err := w.begin(); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { follow(w) })
	}
	wg.Wait()
}

// checkFile opens the file after the workers. It must be intact, with least to most
// tokens of the shared bucket taken and as many counted.
func checkFile(t *testing.T, path string, least, most int64) {
	t.Helper()
	s := open(t, path, nil)
	n := taken(t, s, sharedKey.Entity, t0)
	if n < least || n > most {
		t.Errorf("tokens taken in the file: got %d, want %d to %d", n, least, most)
	}
	for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: sharedKey.Entity}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Amounts["rpm"] != n || r.Events != n {
			t.Errorf("usage in the file: got %d tokens and %d acquires, want %d of both", r.Amounts["rpm"], r.Events, n)
		}
	}
	if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
		t.Errorf("integrity check: got %q, want ok", got)
	}
}
