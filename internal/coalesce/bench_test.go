package coalesce_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// A still is a bucket whose limits never fill, and an engine that keeps it in no time.
type still struct {
	limits limits
	writes atomic.Int64
}

func (e *still) Write(_ context.Context, b *coalesce.Batch) coalesce.Answer {
	runtime.Gosched() // as for the network: others may run
	e.writes.Add(1)
	return coalesce.Answer{Bucket: e.limits, At: b.At, Seen: b.At, Birth: birth}
}

// BenchmarkOneKey is what callers who take from one bucket spend beside the write, each.
func BenchmarkOneKey(b *testing.B) {
	d := define(1e9, 1e9, time.Minute)
	at, err := bucket.At(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	for _, callers := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			full := bucket.State{}.Redefine(d, at, birth)
			e := &still{limits: limits{"rpm": full, "tpm": full}}
			var workers sync.WaitGroup
			g := coalesce.New(e, coalesce.Config{MaxLimits: 40, Remembered: 1000, Tries: 4, AdvanceWhileQueued: true, Go: workers.Go, GaveBack: func(int64, bool) {}})
			defer workers.Wait()
			defer g.Close()
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					ctx := b.Context()
					for left.Add(-1) >= 0 {
						m := g.NewOp()
						m.At, m.Events, m.Charges = at, 1, append(m.Charges, charge("rpm", d, 1), charge("tpm", d, 500))
						if g.Do(ctx, key("a"), m); m.Outcome != coalesce.Applied {
							b.Errorf("outcome: got %d, want %d", m.Outcome, coalesce.Applied)
							return
						}
						g.Recycle(m)
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(e.writes.Load())/float64(b.N), "writes/op")
		})
	}
}
