package replay

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

// The size of a chart in a terminal.
const (
	chartColumns = 66
	chartRows    = 5
)

// writeCharts draws for each limit how much of its burst was in use.
func (r *Report) writeCharts(b *strings.Builder) {
	bins := len(r.series.bins)
	if bins < 2 {
		return
	}
	group := (bins + chartColumns - 1) / chartColumns
	column := time.Duration(group) * r.series.binWidth()
	whose := ""
	if r.Entities > 1 {
		whose = ", fullest entity"
	}
	for i, l := range r.Limits {
		inUse, full := r.inUse(i)
		if full == 0 {
			continue // it does not count
		}
		var columns []float64
		for first := 0; first < bins; first += group {
			highest := int64(0)
			for bin := first; bin < min(first+group, bins); bin++ {
				highest = max(highest, r.series.limitBin(bin, i).level)
			}
			columns = append(columns, percent(float64(highest), full))
		}
		fmt.Fprintf(b, "\n%s: %s, in %% (highest of each %s%s)\n", l.Name, inUse, formatDuration(column), whose)
		writeChart(b, columns)
		writeTimeAxis(b, r.series.start(0).Time(), r.series.start((len(columns)-1)*group).Time(), len(columns))
	}
}

// inUse returns what the level of a limit says, and the level that is full; 0 if the limit
// does not count.
func (r *Report) inUse(i int) (what string, full float64) {
	d := definitionOf(r.limits[i])
	switch kind := r.limits[i].Kind(); {
	case d.Schedule != nil:
		return "taken of the burst", float64(d.Burst)
	case kind == zael.KindRate:
		return "burst in use", float64(d.Burst * d.Unit())
	case kind == zael.KindQuota, kind == zael.KindWindow:
		return "used of the amount", float64(d.Burst)
	case kind == zael.KindSlots:
		return "slots in flight", float64(d.Burst)
	default:
		return "", 0
	}
}

// writeChart draws columns of percentages in blocks of an eighth of a row.
func writeChart(b *strings.Builder, columns []float64) {
	top := chartTop(columns)
	blocks := []rune(" ▁▂▃▄▅▆▇█")
	for row := chartRows - 1; row >= 0; row-- {
		label := ""
		upper := top * float64(row+1) / chartRows // edge of the row, in %
		if row == chartRows-1 || math.Abs(upper-100) < 1e-6 {
			label = fmt.Sprintf("%.0f", upper)
		}
		var line strings.Builder
		for _, c := range columns {
			eighths := int(math.Ceil(c / top * chartRows * 8))
			line.WriteRune(blocks[min(8, max(0, eighths-8*row))])
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("%6s │%s", label, line.String()), " ") + "\n")
	}
}

// chartTop returns the upper end of a chart, in %. Up to 500, it puts 100 on the edge
// of a row.
func chartTop(columns []float64) float64 {
	highest := 0.0
	for _, c := range columns {
		highest = max(highest, c)
	}
	for _, top := range []float64{100, 125, 500.0 / 3, 250, 500} {
		if highest <= top {
			return top
		}
	}
	scale := math.Pow(10, math.Ceil(math.Log10(highest)))
	if highest <= scale/2 {
		return scale / 2
	}
	return scale
}

// writeTimeAxis writes the times of the first and the last column.
func writeTimeAxis(b *strings.Builder, from, to time.Time, columns int) {
	b.WriteString("     0 └" + strings.Repeat("─", columns) + "\n")
	layout := "15:04:05"
	if to.Sub(from) >= 24*time.Hour {
		layout = "2006-01-02 15:04"
	}
	left, right := from.Format(layout), to.Format(layout)
	if gap := columns - len(left) - len(right); gap > 0 {
		left += strings.Repeat(" ", gap) + right
	} else {
		left += " to " + right
	}
	b.WriteString("        " + left + "\n")
}
