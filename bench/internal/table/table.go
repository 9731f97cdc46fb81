// Package table runs benchmarks in turn and writes the results.
package table

import (
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/zeroae/zael/bench/internal/suite"
)

// A Row has the results of a benchmark.
type Row struct {
	Benchmark suite.Benchmark
	Nanos     []float64 // an operation, in each round
	Allocs    int64     // an operation
	Bytes     int64     // an operation
}

// Measure runs the benchmarks of a group in turn, all of them in each round, so that a
// slow phase of the machine affects all.
func Measure(g suite.Group, rounds int) ([]Row, error) {
	rows := make([]Row, len(g.Benchmarks))
	for range rounds {
		for i, b := range g.Benchmarks {
			result := testing.Benchmark(b.Run)
			if result.N == 0 {
				return nil, fmt.Errorf("%s/%s failed: go test -bench says why", g.Name, b.Name)
			}
			r := &rows[i]
			r.Benchmark = b
			r.Nanos = append(r.Nanos, float64(result.T.Nanoseconds())/float64(result.N))
			r.Allocs, r.Bytes = result.AllocsPerOp(), result.AllocedBytesPerOp()
		}
	}
	return rows, nil
}

// A Statistic summarizes the rounds.
type Statistic func(nanos []float64) float64

// Median returns the median round.
func Median(nanos []float64) float64 {
	n := slices.Sorted(slices.Values(nanos))
	if len(n)%2 == 0 {
		return (n[len(n)/2-1] + n[len(n)/2]) / 2
	}
	return n[len(n)/2]
}

// Best returns the fastest round: other work on the machine can only add time.
func Best(nanos []float64) float64 { return slices.Min(nanos) }

const (
	header = "%-38s %10s %8s %8s %8s %8s  %s\n"
	format = "%-38s %10.1f %7.0f%% %8d %8d %8s  %s\n"
)

// WriteHeader writes the names of the columns.
func WriteHeader(w io.Writer) {
	fmt.Fprintf(w, header, "", "ns/op", "spread", "allocs", "B/op", "× peer", "all or nothing")
}

// Write writes the rows of a group. Ratios are to the fastest peer. The spread is from the
// fastest round to the slowest, relative to the statistic.
func Write(w io.Writer, name string, rows []Row, statistic Statistic) {
	fmt.Fprintf(w, "\n%s\n", name)
	fastest := 0.0
	for i := range rows {
		if n := statistic(rows[i].Nanos); rows[i].Benchmark.Peer && (fastest == 0 || n < fastest) {
			fastest = n
		}
	}
	for i := range rows {
		r := &rows[i]
		nanos := statistic(r.Nanos)
		spread := 100 * (slices.Max(r.Nanos) - slices.Min(r.Nanos)) / nanos
		ratio, allOrNothing := "", ""
		if fastest > 0 {
			ratio, allOrNothing = fmt.Sprintf("%.2f", nanos/fastest), "no"
			if r.Benchmark.AllOrNothing {
				allOrNothing = "yes"
			}
		}
		fmt.Fprintf(w, format, "  "+r.Benchmark.Name, nanos, spread, r.Allocs, r.Bytes, ratio, allOrNothing)
	}
}
