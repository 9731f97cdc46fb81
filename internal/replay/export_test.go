package replay

import (
	"time"

	"github.com/zeroae/zael/bucket"
)

// MaxBins bounds a series.
const MaxBins = maxBins

// ParseTime reads a time as the first of a trace whose numbers are in a unit.
func ParseTime(s string, unit time.Duration) (time.Time, error) {
	r := timeReader{unit: unit}
	at, err := r.read(s, 1)
	return at.Time(), err
}

// The formats of numbers.
var (
	FormatCount    = formatCount
	FormatShare    = formatShare
	FormatDuration = formatDuration
	FormatWait     = formatWait
)

// A Bin is one bin of a report's series.
type Bin struct {
	Start                      bucket.Instant
	Requests, Admitted, Waited int64
	Limits                     []LimitBin
}

// A LimitBin is what concerns one limit in a Bin.
type LimitBin struct{ Demand, Admitted, Refused, Level int64 }

// Bins returns the series of a report, and the width of its bins.
func (r *Report) Bins() ([]Bin, time.Duration) {
	var bins []Bin
	for i, b := range r.series.bins {
		out := Bin{r.series.start(i), b.requests, b.admitted, b.waited, nil}
		for limit := range r.series.limits {
			l := r.series.limitBin(i, limit)
			out.Limits = append(out.Limits, LimitBin{l.demand, l.admitted, l.refused, l.level})
		}
		bins = append(bins, out)
	}
	return bins, r.series.binWidth()
}

// BinWidths returns all widths, from narrow to wide.
func BinWidths() []time.Duration {
	var widths []time.Duration
	for i := range 20 {
		widths = append(widths, binWidth(i))
	}
	return widths
}
