package table_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/bench/internal/suite"
	"github.com/zeroae/zael/bench/internal/table"
)

func TestStatistics(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		nanos        []float64
		median, best float64
	}{
		{[]float64{7}, 7, 7},
		{[]float64{9, 1, 5}, 5, 1},
		{[]float64{4, 9, 1, 6}, 5, 1},
	} {
		if got := table.Median(c.nanos); got != c.median {
			t.Errorf("median of %v: got %v, want %v", c.nanos, got, c.median)
		}
		if got := table.Best(c.nanos); got != c.best {
			t.Errorf("best of %v: got %v, want %v", c.nanos, got, c.best)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	rows := []table.Row{
		{Benchmark: suite.Benchmark{Name: "zael", AllOrNothing: true}, Nanos: []float64{50, 60, 40}, Allocs: 1, Bytes: 16},
		{Benchmark: suite.Benchmark{Name: "slow", Peer: true, AllOrNothing: true}, Nanos: []float64{300, 10, 300}},
		{Benchmark: suite.Benchmark{Name: "fast", Peer: true}, Nanos: []float64{100, 100, 90}},
	}
	for _, c := range []struct {
		statistic table.Statistic
		want      [][]string
	}{
		{table.Median, [][]string{
			{"zael", "50.0", "40%", "1", "16", "0.50", "yes"},
			{"slow", "300.0", "97%", "0", "0", "3.00", "yes"},
			{"fast", "100.0", "10%", "0", "0", "1.00", "no"},
		}},
		{table.Best, [][]string{
			{"zael", "40.0", "50%", "1", "16", "4.00", "yes"},
			{"slow", "10.0", "2900%", "0", "0", "1.00", "yes"},
			{"fast", "90.0", "11%", "0", "0", "9.00", "no"},
		}},
	} {
		var b strings.Builder
		table.Write(&b, "limits=1", rows, c.statistic)
		got := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(got) != 4 || got[0] != "limits=1" {
			t.Fatalf("got %d lines, the first %q, want 4 with the group's name", len(got), got[0])
		}
		for i, want := range c.want {
			if words := strings.Fields(got[i+1]); strings.Join(words, " ") != strings.Join(want, " ") {
				t.Errorf("line %d: got %v, want %v", i+1, words, want)
			}
		}
	}
}

// TestWriteWithoutPeers checks that a group without peers has no ratios.
func TestWriteWithoutPeers(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	table.Write(&b, "floor", []table.Row{{Benchmark: suite.Benchmark{Name: "time.Now"}, Nanos: []float64{40}}}, table.Median)
	want := "floor\n  time.Now 40.0 0% 0 0"
	if got := strings.Join(strings.Fields(b.String()), " "); got != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got %q, want %q", got, want)
	}
}
