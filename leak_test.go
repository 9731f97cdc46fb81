package zael_test

import (
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/sqlitestore"
)

// settlements are what an Observer is told of the ends of leases.
type settlements struct {
	zael.Observer // of what else there is: nothing is expected

	ends chan zael.Observed
}

func (*settlements) Decision(*zael.Observed)                      {}
func (*settlements) StoreCall(zael.StoreOp, time.Duration, error) {}
func (s *settlements) Settled(o *zael.Observed)                   { s.ends <- *o }

// collectUntil runs the garbage collector until something is told.
func (s *settlements) collectUntil() zael.Observed {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		runtime.GC()
		select {
		case o := <-s.ends:
			return o
		case <-tick.C:
		}
	}
}

// TestTrap13LeakedLease is trap 13 of the kinds: a lease that is never ended keeps its slots
// until the garbage collector finds it, and no longer. What else it took stays taken.
func TestTrap13LeakedLease(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) zael.Store{
		"memory": func(*testing.T) zael.Store { return memstore.New(nil) },
		"sqlite": func(t *testing.T) zael.Store {
			t.Helper()
			s, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "zael.db"), nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			observer := &settlements{ends: make(chan zael.Observed, 10)}
			l, err := zael.New(open(t), &zael.Config{Observer: observer, CloseStore: true, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			p, err := zael.NewPolicy("gpt-4", zael.PerDay("tpd", 1000), zael.AtOnce("parallel", 3).Hold(10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			kept, err := l.Acquire(t.Context(), p.For("key-1", 100, 1))
			if err != nil {
				t.Fatal(err)
			}
			forgetLease(t, l, p)
			o := observer.collectUntil()
			if !errors.Is(o.Err, zael.ErrLeaseLeaked) || o.Entity != "key-1" || o.Resource != "gpt-4" || o.Decision != nil {
				t.Errorf("the observer is told %+v, want ErrLeaseLeaked of key-1 on gpt-4", o)
			}
			if got := l.Stats().LeakedLeases; got != 1 {
				t.Errorf("LeakedLeases: got %d, want 1", got)
			}
			if left := freeSlots(t, l, p); left != 2 {
				t.Errorf("after a lease of 2 slots was collected: got %d free, want 2", left)
			}
			if !kept.Held() {
				t.Error("the lease that is kept: got Held false")
			}
			if err := kept.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-observer.ends
			for range 3 { // nothing is released twice
				runtime.GC()
			}
			if left := freeSlots(t, l, p); left != 3 {
				t.Errorf("after the other lease has ended: got %d free, want 3", left)
			}
			got, err := l.Available(t.Context(), zael.Query{Entity: "key-1", Policy: p})
			if err != nil || got["tpd"] != 800 {
				t.Errorf("tokens: got %d available (%v), want the 200 of the leaked lease to stay taken", got["tpd"], err)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLeakedLeaseInMemory: a lease that is answered by value is found as well: with what it took,
// released and took more. Leases that were ended release nothing again.
func TestLeakedLeaseInMemory(t *testing.T) {
	t.Parallel()
	l, err := zael.New(memstore.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := zael.NewPolicy("gpt-4", zael.PerDay("tpd", 1000), zael.AtOnce("parallel", 12))
	if err != nil {
		t.Fatal(err)
	}
	acquire := func(n int64) *zael.Lease {
		lease, err := l.Acquire(t.Context(), p.For("key-1", 10, n))
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	kept := acquire(1)
	if err := acquire(1).Commit(t.Context()); err != nil { // makes the bucket, and a tether for the next
		t.Fatal(err)
	}
	for what, forget := range map[string]func() error{
		"takes":        func() error { acquire(2); return nil },
		"releases one": func() error { return acquire(3).Release(zael.Amounts{"parallel": 1}) },
		"takes more":   func() error { return acquire(1).Consume(t.Context(), zael.Amounts{"parallel": 1}) },
		"takes later":  func() error { return acquire(0).Consume(t.Context(), zael.Amounts{"parallel": 2}) },
	} {
		if err := forget(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for l.Stats().LeakedLeases < 4 {
		runtime.GC()
		<-tick.C
	}
	if free := freeSlots(t, l, p); free != 11 {
		t.Errorf("after four leases were collected: got %d slots free, want all but the one that is kept", free)
	}
	if err := kept.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	for range 5 {
		runtime.GC()
	}
	if free, leaked := freeSlots(t, l, p), l.Stats().LeakedLeases; free != 12 || leaked != 4 {
		t.Errorf("got %d slots free and %d leaked leases, want 12 and 4", free, leaked)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

//go:noinline
func forgetLease(t *testing.T, l *zael.Limiter, p *zael.Policy) {
	t.Helper()
	if _, err := l.Acquire(t.Context(), p.For("key-1", 200, 2)); err != nil {
		t.Fatal(err)
	}
}

func freeSlots(t *testing.T, l *zael.Limiter, p *zael.Policy) int64 {
	t.Helper()
	got, err := l.Available(t.Context(), zael.Query{Entity: "key-1", Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return got["parallel"]
}
