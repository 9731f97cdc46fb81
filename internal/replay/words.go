package replay

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// count is n with thousands apart: 14,451,900.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// share is part of whole in percent. It says 0.0 % and 100.0 % only of none and
// all.
func share(part, whole int64) string {
	p := percent(float64(part), float64(whole))
	switch {
	case part > 0 && p < 0.1:
		return "<0.1 %"
	case part < whole && p > 99.9:
		return ">99.9 %"
	}
	return fmt.Sprintf("%.1f %%", p)
}

// span is a length of time in its two largest units.
func span(d time.Duration) string {
	units := []struct {
		name   string
		length time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}, {"µs", time.Microsecond}}
	for i, u := range units {
		if d < u.length {
			continue
		}
		if i+1 == len(units) || u.length <= time.Millisecond {
			return fmt.Sprintf("%d %s", d/u.length, u.name)
		}
		next := units[i+1]
		text := fmt.Sprintf("%d %s", d/u.length, u.name)
		if rest := d % u.length / next.length; rest > 0 {
			text += fmt.Sprintf(" %d %s", rest, next.name)
		}
		return text
	}
	return "0 s"
}

// wait is a number of milliseconds as a person reads a wait.
func wait(ms float64) string {
	switch {
	case ms == 0:
		return "0 s"
	case ms < 1000:
		return strconv.FormatFloat(significant(ms), 'f', -1, 64) + " ms"
	case ms < 100_000:
		return strconv.FormatFloat(significant(ms/1000), 'f', -1, 64) + " s"
	}
	return span(time.Duration(ms * float64(time.Millisecond)))
}

// significant keeps three digits.
func significant(x float64) float64 {
	digits := 2 - math.Floor(math.Log10(x))
	scale := math.Pow(10, max(0, digits))
	return math.Round(x*scale) / scale
}

// plural is n things.
func plural(n int64, thing, things string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(n) + " " + things
}
