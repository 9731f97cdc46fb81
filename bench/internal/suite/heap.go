package suite

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/zeroae/zael/bench/internal/load"
	"github.com/zeroae/zael/bench/internal/peers"
)

// Heap returns the bytes of heap for each of n entities that are in use, their keys
// included.
func Heap(c *peers.Contender, n int) (float64, error) {
	limits := []peers.Limit{
		{Name: "rpd", Every: time.Minute, Burst: 10_000, Amount: 1},
		{Name: "tpd", Every: time.Minute, Burst: 1_000_000, Amount: 500},
	}[:c.Limits]
	before := heapAlloc()
	l, err := c.New(limits)
	if err != nil {
		return 0, err
	}
	for i := range n {
		if key := load.Key(i); !l.Allow(key) {
			return 0, fmt.Errorf("%s: the first request of %s was refused", c.Name, key)
		}
	}
	after := heapAlloc()
	if z, ok := l.(interface{ Len() int }); ok && z.Len() != n {
		return 0, errors.New("zael forgot a bucket in use")
	}
	if closer, ok := l.(interface{ Close() }); ok {
		closer.Close()
	}
	runtime.KeepAlive(l)
	return (float64(after) - float64(before)) / float64(n), nil
}

func heapAlloc() uint64 {
	runtime.GC()
	runtime.GC() // frees what finalizers and pools held at the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
