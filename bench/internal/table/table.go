// Package table measures rows in turn and writes what came out.
package table

import (
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/zeroae/zael/bench/internal/rows"
)

// A Line is one row as it was measured.
type Line struct {
	Row    rows.Row
	Nanos  []float64 // an operation, round by round
	Allocs int64     // an operation
	Bytes  int64     // likewise
}

// Measure runs the rows one after the other, and all of them again in each
// round: what slows the machine down for a while slows all of them.
func Measure(g rows.Group, rounds int) ([]Line, error) {
	lines := make([]Line, len(g.Rows))
	for range rounds {
		for i, r := range g.Rows {
			result := testing.Benchmark(r.Run)
			if result.N == 0 {
				return nil, fmt.Errorf("%s/%s failed: go test -bench says why", g.Name, r.Name)
			}
			l := &lines[i]
			l.Row = r
			l.Nanos = append(l.Nanos, float64(result.T.Nanoseconds())/float64(result.N))
			l.Allocs, l.Bytes = result.AllocsPerOp(), result.AllocedBytesPerOp()
		}
	}
	return lines, nil
}

// A Pick chooses the round that counts.
type Pick func(nanos []float64) float64

// Median is the middle of the rounds.
func Median(nanos []float64) float64 {
	n := slices.Sorted(slices.Values(nanos))
	if len(n)%2 == 0 {
		return (n[len(n)/2-1] + n[len(n)/2]) / 2
	}
	return n[len(n)/2]
}

// Best is the fastest round: on a machine that is busy with other work what is
// measured is never too little.
func Best(nanos []float64) float64 { return slices.Min(nanos) }

const (
	head   = "%-38s %10s %8s %8s %8s %8s  %s\n"
	format = "%-38s %10.1f %7.0f%% %8d %8d %8s  %s\n"
)

// Head writes the columns' names.
func Head(w io.Writer) {
	fmt.Fprintf(w, head, "", "ns/op", "spread", "allocs", "B/op", "× peer", "all or nothing")
}

// Write writes a group's lines. Their ratio is to the fastest peer; their spread
// is from the fastest round to the slowest, as a share of what counts.
func Write(w io.Writer, name string, lines []Line, pick Pick) {
	fmt.Fprintf(w, "\n%s\n", name)
	fastest := 0.0
	for i := range lines {
		if n := pick(lines[i].Nanos); lines[i].Row.Peer && (fastest == 0 || n < fastest) {
			fastest = n
		}
	}
	for i := range lines {
		l := &lines[i]
		nanos := pick(l.Nanos)
		spread := 100 * (slices.Max(l.Nanos) - slices.Min(l.Nanos)) / nanos
		ratio, whole := "", ""
		if fastest > 0 {
			ratio, whole = fmt.Sprintf("%.2f", nanos/fastest), "no"
			if l.Row.Whole {
				whole = "yes"
			}
		}
		fmt.Fprintf(w, format, "  "+l.Row.Name, nanos, spread, l.Allocs, l.Bytes, ratio, whole)
	}
}
