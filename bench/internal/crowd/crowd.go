// Package crowd measures concurrent callers of an engine.
package crowd

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Measurement has the results of a load.
type Measurement struct {
	Ops       int
	Elapsed   time.Duration
	CPU       time.Duration // of this process, without the engine
	latencies []time.Duration
}

// Rate returns operations a second.
func (m *Measurement) Rate() float64 { return float64(m.Ops) / m.Elapsed.Seconds() }

// CPUPerOp returns the CPU time of an operation.
func (m *Measurement) CPUPerOp() time.Duration { return m.CPU / time.Duration(max(1, m.Ops)) }

// Quantile returns the latency that a share of the operations did not exceed.
func (m *Measurement) Quantile(share float64) time.Duration {
	if len(m.latencies) == 0 {
		return 0
	}
	slices.Sort(m.latencies)
	return m.latencies[min(len(m.latencies)-1, int(share*float64(len(m.latencies))))]
}

// cpuTime returns the CPU time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const maxLatencies = 50_000 // that each caller keeps

// Run runs callers, each of which calls op repeatedly for a duration, with a pause after
// each call: from none to twice the given one.
func Run(ctx context.Context, callers int, d, pause time.Duration, op func(ctx context.Context, caller, n int) error) (*Measurement, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var ops atomic.Int64
	latencies := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	cpu, begin := cpuTime(), time.Now()
	for c := range callers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil && time.Since(begin) < d; n++ {
				start := time.Now()
				if err := op(ctx, c, n); err != nil {
					cancel(err)
					return
				}
				if ops.Add(1); len(latencies[c]) < maxLatencies {
					latencies[c] = append(latencies[c], time.Since(start))
				}
				if pause > 0 {
					Nap(ctx, pause/2*time.Duration((c*7+n*13)%5))
				}
			}
		})
	}
	wg.Wait()
	m := &Measurement{Ops: int(ops.Load()), Elapsed: time.Since(begin), CPU: cpuTime() - cpu, latencies: slices.Concat(latencies...)}
	return m, context.Cause(ctx)
}

// Nap waits, or until ctx is done.
func Nap(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Median returns the measurement of the median rate.
func Median(ms []*Measurement) *Measurement {
	slices.SortFunc(ms, func(a, b *Measurement) int { return cmp.Compare(a.Rate(), b.Rate()) })
	return ms[len(ms)/2]
}
