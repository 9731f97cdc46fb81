package replay

import (
	"errors"
	"time"

	"github.com/zeroae/zael/bucket"
)

// An instant is a point in time as a trace writes it: whole seconds since 1970
// and the nanoseconds on top.
type instant struct {
	sec  int64
	nsec int64 // 0 to 999,999,999
}

func (i instant) time() time.Time { return time.Unix(i.sec, i.nsec).UTC() }

const (
	giga = 1_000_000_000

	// Below relativeBelow a plain number counts seconds from the beginning of
	// the trace, which is put at bucket.Epoch: many published traces have no
	// other time. As a Unix time it would be before March 1973.
	relativeBelow = 100_000_000
)

var errTime = errors.New("is not a time: use RFC 3339, 2006-01-02 15:04:05.999999999 (UTC), or Unix seconds, ms, µs or ns")

// parseInstant reads a time:
//
//   - 2006-01-02 15:04:05, with T or a space between, any number of fractional
//     digits after . or , and then Z, UTC, ±07:00, ±0700, ±07 or nothing, which
//     is UTC too. A date alone is its midnight, and seconds may be left out.
//   - a number: Unix seconds, milliseconds, microseconds or nanoseconds, told
//     apart by size, with or without a fraction; below 10⁸ it is seconds from
//     the beginning of the trace.
//
// Digits beyond the nanosecond are cut off; nothing goes by way of a float.
func parseInstant(s string) (instant, error) {
	s = trim(s)
	if len(s) >= 10 && s[4] == '-' && s[7] == '-' {
		return parseDate(s)
	}
	return parseUnix(s)
}

// digits reads a number of exactly n digits at s[i:], or gives -1.
func digits(s string, i, n int) int {
	if i+n > len(s) {
		return -1
	}
	v := 0
	for _, c := range []byte(s[i : i+n]) {
		if c < '0' || c > '9' {
			return -1
		}
		v = v*10 + int(c-'0')
	}
	return v
}

func parseDate(s string) (instant, error) {
	year, month, day := digits(s, 0, 4), digits(s, 5, 2), digits(s, 8, 2)
	if year < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return instant{}, errTime
	}
	at := instant{sec: daysSince1970(year, month, day) * 86400}
	rest := s[10:]
	if rest == "" {
		return at, nil
	}
	if rest[0] != ' ' && rest[0] != 'T' && rest[0] != 't' {
		return instant{}, errTime
	}
	hour, minute := digits(rest, 1, 2), -1
	if len(rest) >= 6 && rest[3] == ':' {
		minute = digits(rest, 4, 2)
	}
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 {
		return instant{}, errTime
	}
	at.sec += int64(hour)*3600 + int64(minute)*60
	rest = rest[6:]
	if rest != "" && rest[0] == ':' {
		second := digits(rest, 1, 2)
		if second < 0 || second > 59 {
			return instant{}, errTime
		}
		at.sec += int64(second)
		rest = rest[3:]
		if rest != "" && (rest[0] == '.' || rest[0] == ',') {
			n := 1
			for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
				n++
			}
			if n == 1 {
				return instant{}, errTime
			}
			at.nsec = fraction(rest[1:n], 9)
			rest = rest[n:]
		}
	}
	offset, ok := parseZone(rest)
	if !ok {
		return instant{}, errTime
	}
	at.sec -= offset
	return at, nil
}

// parseZone is the seconds east of UTC that s says.
func parseZone(s string) (int64, bool) {
	s = trim(s)
	switch s {
	case "", "Z", "z", "UTC", "GMT":
		return 0, true
	}
	sign := int64(1)
	switch s[0] {
	case '-':
		sign = -1
	case '+':
	default:
		return 0, false
	}
	hour, minute := digits(s, 1, 2), 0
	switch {
	case len(s) == 3:
	case len(s) == 5:
		minute = digits(s, 3, 2)
	case len(s) == 6 && s[3] == ':':
		minute = digits(s, 4, 2)
	default:
		return 0, false
	}
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 {
		return 0, false
	}
	return sign * (int64(hour)*3600 + int64(minute)*60), true
}

// fraction is the first n of the digits after a decimal point, as a number with
// n digits.
func fraction(s string, n int) int64 {
	var v int64
	for i := range n {
		v *= 10
		if i < len(s) {
			v += int64(s[i] - '0')
		}
	}
	return v
}

// parseUnix tells the unit by the size of the number. The sizes do not overlap
// for any time that a bucket can stand for, 1996 to 2053.
func parseUnix(s string) (instant, error) {
	i := 0
	var whole int64
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		if i == 19 {
			return instant{}, errTime // above 2^63 ns
		}
		whole = whole*10 + int64(s[i]-'0')
	}
	if i == 0 || whole < 0 {
		return instant{}, errTime
	}
	frac := ""
	if i < len(s) {
		frac = s[i+1:]
		if s[i] != '.' || frac == "" || !allDigits(frac) {
			return instant{}, errTime
		}
	}
	switch {
	case whole < relativeBelow:
		return instant{sec: bucket.Epoch().Unix() + whole, nsec: fraction(frac, 9)}, nil
	case whole < 100*giga: // seconds until the year 5138
		return instant{sec: whole, nsec: fraction(frac, 9)}, nil
	case whole < 100*giga*1000:
		return instant{sec: whole / 1000, nsec: whole%1000*1_000_000 + fraction(frac, 6)}, nil
	case whole < 100*giga*1_000_000:
		return instant{sec: whole / 1_000_000, nsec: whole%1_000_000*1000 + fraction(frac, 3)}, nil
	}
	return instant{sec: whole / giga, nsec: whole % giga}, nil
}

func allDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// trim is strings.TrimSpace for the spaces that stand in a CSV cell, faster.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince1970 counts days of the Gregorian calendar, from the usual formula
// with years that begin in March; 400 years later, which are 146,097 days, so
// that the first year is not negative.
func daysSince1970(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	y := int64(year) + 400
	return 365*y + y/4 - y/100 + y/400 + int64(153*(month-3)+2)/5 + int64(day) - 1 - 719468 - 146097
}
