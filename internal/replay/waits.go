package replay

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// waits is a histogram of the delays of admitted requests that had to wait, with a
// resolution of a microsecond and three significant digits.
type waits struct {
	histogram *hdrhistogram.Histogram
	longest   time.Duration
}

func newWaits(maxWait time.Duration) *waits {
	return &waits{histogram: hdrhistogram.New(1, max(2, microseconds(maxWait)), 3)}
}

func (w *waits) add(d time.Duration) {
	w.longest = max(w.longest, d)
	// A wait is at most maxWait, so it is in range.
	_ = w.histogram.RecordValue(min(microseconds(d), w.histogram.HighestTrackableValue()))
}

// quantile returns the wait that a share q of requests did not exceed: of those that
// waited and a number of others that did not.
func (w *waits) quantile(q float64, others int64) time.Duration {
	waited := w.histogram.TotalCount()
	if waited == 0 {
		return 0
	}
	rank := q*float64(waited+others) - float64(others)
	if rank <= 0 {
		return 0
	}
	d := time.Duration(w.histogram.ValueAtQuantile(rank*100/float64(waited))) * time.Microsecond
	return min(d, w.longest)
}

// microseconds returns d in microseconds, rounded up.
func microseconds(d time.Duration) int64 {
	return int64(d/time.Microsecond) + int64(min(1, d%time.Microsecond))
}

// report returns the quantiles of those that waited and of others that did not.
func (w *waits) report(others int64) Waits {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Waits{P50: ms(w.quantile(0.5, others)), P99: ms(w.quantile(0.99, others)), Max: ms(w.longest)}
}
