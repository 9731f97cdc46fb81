package saturate_test

import (
	"maps"
	"math"
	"math/big"
	"testing"

	"github.com/zeroae/zael/internal/saturate"
)

// Sums and differences of numbers around 0 and the ends of int64 are those of
// whole numbers without ends, brought within them.
func TestAddAndSub(t *testing.T) {
	t.Parallel()
	within := func(n *big.Int) int64 {
		switch {
		case n.IsInt64():
			return n.Int64()
		case n.Sign() > 0:
			return math.MaxInt64
		default:
			return math.MinInt64
		}
	}
	var numbers []int64
	for _, n := range []int64{math.MinInt64, math.MinInt64 / 2, 0, math.MaxInt64 / 2, math.MaxInt64} {
		numbers = append(numbers, n-2, n-1, n, n+1, n+2) // beyond an end those at the other
	}
	for _, a := range numbers {
		for _, b := range numbers {
			x, y := big.NewInt(a), big.NewInt(b)
			if got, want := saturate.Add(a, b), within(new(big.Int).Add(x, y)); got != want {
				t.Errorf("Add(%d, %d): got %d, want %d", a, b, got, want)
			}
			if got, want := saturate.Sub(a, b), within(new(big.Int).Sub(x, y)); got != want {
				t.Errorf("Sub(%d, %d): got %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestAddAll(t *testing.T) {
	t.Parallel()
	if got := saturate.AddAll(nil, nil); got != nil {
		t.Errorf("nothing and nothing: got %v, want nil", got)
	}
	sums := saturate.AddAll(nil, map[string]int64{"a": 1, "b": math.MaxInt64, "c": 0})
	sums = saturate.AddAll(sums, map[string]int64{"a": -1, "b": 1, "d": -2})
	if want := map[string]int64{"b": math.MaxInt64, "d": -2}; !maps.Equal(sums, want) {
		t.Errorf("got %v, want %v", sums, want)
	}
}
