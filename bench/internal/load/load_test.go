package load_test

import (
	"testing"

	"github.com/zeroae/zael/bench/internal/load"
)

func TestShares(t *testing.T) {
	t.Parallel()
	const n = 1 << 17
	for _, c := range []struct {
		pattern  load.Pattern
		keys     int
		most     [2]float64 // share of the most frequent key
		distinct [2]int     // keys that occur
	}{
		{load.One, 1, [2]float64{1, 1}, [2]int{1, 1}},
		{load.Uniform, 100_000, [2]float64{1e-5, 1e-4}, [2]int{72_000, 75_000}},
		{load.Zipf, 100_000, [2]float64{0.1, 0.2}, [2]int{10_000, 50_000}}, // 1 / Σ rank^-1.1 = 0.13
	} {
		var loads load.Loads
		l := loads.Get(c.pattern)
		if l.Keys != c.keys {
			t.Errorf("%s: keys: got %d, want %d", c.pattern, l.Keys, c.keys)
		}
		known := map[string]bool{}
		for i := range l.Keys {
			known[load.Key(i)] = true
		}
		count := map[string]int{}
		most := 0
		for i := range n {
			key := l.At(i)
			if !known[key] {
				t.Fatalf("%s: element %d: got %q, want one of the keys", c.pattern, i, key)
			}
			count[key]++
			most = max(most, count[key])
		}
		if share := float64(most) / n; share < c.most[0] || share > c.most[1] {
			t.Errorf("%s: share of the most frequent key: got %f, want %f to %f", c.pattern, share, c.most[0], c.most[1])
		}
		if d := len(count); d < c.distinct[0] || d > c.distinct[1] {
			t.Errorf("%s: different keys: got %d, want %d to %d", c.pattern, d, c.distinct[0], c.distinct[1])
		}
		if again := 4 * n; l.At(again) != l.At(0) || loads.Get(c.pattern) != l {
			t.Errorf("%s: got another sequence, want the same", c.pattern)
		}
	}
}
