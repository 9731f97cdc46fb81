package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A measurement is what came of a load.
type measurement struct {
	ops   int
	took  time.Duration
	cpu   time.Duration // of this process, the engine's not counted
	times []time.Duration
}

func (m *measurement) rate() float64 { return float64(m.ops) / m.took.Seconds() }

func (m *measurement) cpuPerOp() time.Duration { return m.cpu / time.Duration(max(1, m.ops)) }

// quantile is a time that a share of the operations did not exceed.
func (m *measurement) quantile(share float64) time.Duration {
	if len(m.times) == 0 {
		return 0
	}
	slices.Sort(m.times)
	return m.times[min(len(m.times)-1, int(share*float64(len(m.times))))]
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const timed = 50_000 // operations whose times a caller keeps

// load has callers call op, one call after the other, for a time. With pause each
// waits that long on average after a call, from none to twice.
func load(ctx context.Context, callers int, d, pause time.Duration, op func(ctx context.Context, caller, n int) error) (*measurement, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var ops atomic.Int64
	times := make([][]time.Duration, callers)
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
				if ops.Add(1); len(times[c]) < timed {
					times[c] = append(times[c], time.Since(start))
				}
				if pause > 0 {
					nap(ctx, pause/2*time.Duration((c*7+n*13)%5))
				}
			}
		})
	}
	wg.Wait()
	m := &measurement{ops: int(ops.Load()), took: time.Since(begin), cpu: cpuTime() - cpu, times: slices.Concat(times...)}
	return m, context.Cause(ctx)
}

func nap(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
