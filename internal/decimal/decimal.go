// Package decimal makes float64s that print without noise digits.
package decimal

import (
	"math"
	"time"
)

// Seconds returns d in seconds: the float64 nearest to them, which prints with at
// most nine decimals. That of d.Seconds may be the one next to it, such as
// 12.693999999999999.
func Seconds(d time.Duration) float64 { return float64(d) / float64(time.Second) }

// Milliseconds returns d in milliseconds, also with at most six decimals.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Percent returns part of whole in percent, rounded to six decimals; 0 if whole
// is 0.
func Percent(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return Round(100*part/whole, 6)
}

// Round returns x rounded to so many decimals.
func Round(x float64, decimals int) float64 {
	const integers = 1 << 53 // from here on a float64 has no decimals
	scale := math.Pow10(decimals)
	if math.Abs(x) >= integers/scale {
		return x
	}
	return math.Round(x*scale) / scale
}
