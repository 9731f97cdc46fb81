package rows

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/peers"
)

// Heap is how many bytes of heap an entity takes in one way to limit, its key
// included, when n of them have asked for something that has not refilled.
func Heap(w *peers.Way, n int) (float64, error) {
	limits := []peers.Limit{
		{Name: "rpd", Every: time.Minute, Burst: 10_000, Amount: 1},
		{Name: "tpd", Every: time.Minute, Burst: 1_000_000, Amount: 500},
	}[:w.Limits]
	before := heapAlloc()
	l, err := w.New(limits)
	if err != nil {
		return 0, err
	}
	for i := range n {
		if key := load.Key(i); !l.Allow(key) {
			return 0, fmt.Errorf("%s: the first request of %s was refused", w.Name, key)
		}
	}
	after := heapAlloc()
	if z, ok := l.(interface{ Len() int }); ok && z.Len() != n {
		return 0, errors.New("zael forgot a bucket that is in use")
	}
	if c, ok := l.(interface{ Close() }); ok {
		c.Close()
	}
	runtime.KeepAlive(l)
	return (float64(after) - float64(before)) / float64(n), nil
}

func heapAlloc() uint64 {
	runtime.GC()
	runtime.GC() // frees what the first one found only finalizers and pools to hold
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
