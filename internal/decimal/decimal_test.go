package decimal_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/decimal"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// text is n/10^decimals as a number is printed.
func text(n int64, decimals int) string {
	s := fmt.Sprintf("%0*d", decimals+1, n)
	whole, part := s[:len(s)-decimals], strings.TrimRight(s[len(s)-decimals:], "0")
	return strings.TrimSuffix(whole+"."+part, ".")
}

// Durations of up to eleven days, which have 15 digits, print as they are.
func TestDurations(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 10) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for range 10_000 {
			n := rng.Int64N(int64(math.Pow10(rng.IntN(16))))
			if got, want := strconv.FormatFloat(decimal.Seconds(time.Duration(n)), 'f', -1, 64), text(n, 9); got != want {
				t.Fatalf("Seconds of %d ns: got %s, want %s", n, got, want)
			}
			if got, want := strconv.FormatFloat(decimal.Milliseconds(time.Duration(n)), 'f', -1, 64), text(n, 6); got != want {
				t.Fatalf("Milliseconds of %d ns: got %s, want %s", n, got, want)
			}
		}
	}
}

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ part, whole, want float64 }{
		{3, 500, 0.6},
		{1, 3, 33.333333},
		{2, 3, 66.666667},
		{0, 3, 0},
		{3, 0, 0},
		{1e15, 1e15, 100},
		{1, 1e15, 0},
		{1, 1e8, 1e-6},
		{9.3e18, 1, 9.3e20},
		{-1, 3, -33.333333},
	} {
		if got := decimal.Percent(tt.part, tt.whole); got != tt.want {
			t.Errorf("Percent of %v in %v: got %v, want %v", tt.part, tt.whole, got, tt.want)
		}
	}
}
