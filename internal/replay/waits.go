package replay

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// waits are the delays of admitted requests that had to wait, to the
// microsecond and three significant digits, in memory of fixed size.
type waits struct {
	histogram *hdrhistogram.Histogram
	longest   time.Duration
}

func newWaits(longest time.Duration) *waits {
	return &waits{histogram: hdrhistogram.New(1, max(2, microseconds(longest)), 3)}
}

func (w *waits) add(d time.Duration) {
	w.longest = max(w.longest, d)
	// A wait is never longer than MaxWait, so it is in range.
	_ = w.histogram.RecordValue(min(microseconds(d), w.histogram.HighestTrackableValue()))
}

// quantile is the wait that a share q of all admitted requests did not exceed,
// where so many of these did not wait at all.
func (w *waits) quantile(q float64, without int64) time.Duration {
	waited := w.histogram.TotalCount()
	if waited == 0 {
		return 0
	}
	rank := q*float64(waited+without) - float64(without)
	if rank <= 0 {
		return 0
	}
	d := time.Duration(w.histogram.ValueAtQuantile(rank*100/float64(waited))) * time.Microsecond
	return min(d, w.longest)
}

// microseconds rounds up.
func microseconds(d time.Duration) int64 {
	return int64(d/time.Microsecond) + int64(min(1, d%time.Microsecond))
}
