package replay

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/zeroae/zael/bucket"
)

// formatCount returns n with commas between thousands: 14,451,900.
func formatCount(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// formatShare returns part of whole in percent. Only none is 0.0 %, and only all
// is 100.0 %.
func formatShare(part, whole int64) string {
	p := percent(float64(part), float64(whole))
	switch {
	case part > 0 && p < 0.1:
		return "<0.1 %"
	case part < whole && p > 99.9:
		return ">99.9 %"
	}
	return fmt.Sprintf("%.1f %%", p)
}

// formatDuration returns d in its two largest units.
func formatDuration(d time.Duration) string {
	units := []struct {
		name   string
		length time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}, {"µs", time.Microsecond}}
	for i, u := range units {
		if d < u.length {
			continue
		}
		text := fmt.Sprintf("%d %s", d/u.length, u.name)
		if u.length <= time.Millisecond {
			return text
		}
		next := units[i+1]
		if rest := d % u.length / next.length; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, next.name)
		}
		return text
	}
	return "0 s"
}

// formatWait returns a number of milliseconds with three significant digits, or from
// 100 s up as formatDuration does.
func formatWait(ms float64) string {
	switch {
	case ms == 0:
		return "0 s"
	case ms < 1000:
		return strconv.FormatFloat(roundTo3(ms), 'f', -1, 64) + " ms"
	case ms < 100_000:
		return strconv.FormatFloat(roundTo3(ms/1000), 'f', -1, 64) + " s"
	}
	return formatDuration(time.Duration(ms * float64(time.Millisecond)))
}

// roundTo3 rounds to three significant digits, but no whole digits.
func roundTo3(x float64) float64 {
	digits := 2 - math.Floor(math.Log10(x))
	scale := math.Pow(10, max(0, digits))
	return math.Round(x*scale) / scale
}

func formatTime(at bucket.Instant) string { return at.Time().Format(time.RFC3339Nano) }

// plural returns n things.
func plural(n int64, thing, things string) string {
	if n == 1 {
		return "1 " + thing
	}
	return formatCount(n) + " " + things
}
