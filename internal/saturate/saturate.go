// Package saturate adds without leaving int64: what would be beyond stays at its
// end.
package saturate

import "math"

// Add is a + b.
func Add(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}

// Sub is a - b.
func Sub(a, b int64) int64 {
	switch difference := a - b; {
	case a >= 0 && b < 0 && difference < 0:
		return math.MaxInt64
	case a < 0 && b > 0 && difference >= 0:
		return math.MinInt64
	default:
		return difference
	}
}

// AddAll adds each of more to the number of its key in sums, and returns sums, which it makes if
// it is nil and there is something to add. What comes to 0 is removed.
func AddAll(sums, more map[string]int64) map[string]int64 {
	for key, n := range more {
		if sum := Add(sums[key], n); sum == 0 {
			delete(sums, key)
		} else {
			if sums == nil {
				sums = map[string]int64{}
			}
			sums[key] = sum
		}
	}
	return sums
}
