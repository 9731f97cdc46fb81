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

// Words are how numbers are written.
var (
	Count = count
	Share = share
	Span  = span
	Wait  = wait
)

// A Bin is one bin of a report's series.
type Bin struct {
	Start                      bucket.Instant
	Requests, Admitted, Waited int64
	Uses                       []Use
}

// A Use is one limit in a Bin.
type Use struct{ Demand, Admitted, Refused, Level int64 }

// Bins is the series of a report, and the width of its bins.
func (r *Report) Bins() ([]Bin, time.Duration) {
	var bins []Bin
	for i, b := range r.series.bins {
		out := Bin{r.series.start(i), b.requests, b.admitted, b.waited, nil}
		for limit := range r.series.n {
			u := r.series.use(i, limit)
			out.Uses = append(out.Uses, Use{u.demand, u.admitted, u.refused, u.level})
		}
		bins = append(bins, out)
	}
	return bins, r.series.binWidth()
}

// BinWidths are all widths, from narrow to wide.
func BinWidths() []time.Duration {
	var widths []time.Duration
	for i := range 20 {
		widths = append(widths, binWidth(i))
	}
	return widths
}
