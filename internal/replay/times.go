package replay

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

func newTimeReader(o *Options) timeReader { return timeReader{unit: cmp.Or(o.TimeUnit, time.Second)} }

// A timeReader reads the times of a trace. The first decides how all are read:
// as dates, as Unix time, or as time since the beginning of the trace.
type timeReader struct {
	unit   time.Duration // of numbers: a second, or less by a power of 1000
	form   timeForm
	first  int    // line of the first time
	layout string // of the last date
	buffer []byte
}

type timeForm int

const (
	unknownForm timeForm = iota
	dateForm
	unixForm
	relativeForm
)

// relativeBelow is in seconds. If the first time is a smaller number, times count from
// the beginning of the trace, which is put at bucket.Epoch: many published traces have
// no other times. As Unix time it would be before March 1973.
const relativeBelow = 100_000_000

// read returns the time in a cell of a line. The error is a *cellError.
func (r *timeReader) read(cell string, line int) (bucket.Instant, error) {
	text := strings.TrimSpace(cell)
	if inner, ok := strings.CutPrefix(text, "["); ok { // as access logs have it
		text = strings.TrimSuffix(inner, "]")
	}
	if text == "" {
		return 0, &cellError{reason: "the cell is empty"}
	}
	form := dateForm
	var at time.Time
	whole, fraction, ok := cutDecimal(text)
	if ok {
		form, at = r.number(whole, fraction)
	} else if at, ok = r.date(text); !ok {
		return 0, &cellError{reason: quote(cell) + " is not a time"}
	}
	if r.form != unknownForm && form != r.form {
		return 0, &cellError{reason: fmt.Sprintf("%s is %s, but line %d has %s", quote(cell), form, r.first, r.form)}
	}
	instant, err := bucket.At(at)
	if err != nil {
		return 0, r.outOfRange(cell, form, whole)
	}
	if r.form == unknownForm {
		r.form, r.first = form, line
	}
	return instant, nil
}

// duration reads a length of time: a number of units, as of times, or one with a unit of
// its own, such as 250ms, 1.5s or 2min. The error is a *cellError.
func (r *timeReader) duration(cell string) (time.Duration, error) {
	text := strings.TrimSpace(cell)
	if text == "" {
		return 0, &cellError{reason: "the cell is empty"}
	}
	d := time.Duration(-1)
	if whole, fraction, ok := cutDecimal(text); ok {
		if whole <= int64(bucket.MaxInstant)/int64(r.unit) {
			d = time.Duration(whole) * r.unit
			for i, value := 0, int64(r.unit)/10; i < len(fraction) && value > 0; i, value = i+1, value/10 {
				d += time.Duration(int64(fraction[i]-'0') * value)
			}
		}
	} else if parsed, err := time.ParseDuration(strings.Replace(text, "min", "m", 1)); err == nil {
		d = parsed
	}
	if d < 0 || d > time.Duration(bucket.MaxInstant) {
		return 0, &cellError{
			reason: quote(cell) + " is not a length of time from 0 to 29 years",
			remedy: "write a number of " + unitName(r.unit) + ", or one with a unit such as 250ms, 1.5s or 2min",
		}
	}
	return d, nil
}

// number returns the time that a number of units stands for, and whether it is Unix
// time. Digits beyond the nanosecond are cut off.
func (r *timeReader) number(whole int64, fraction string) (timeForm, time.Time) {
	perSecond := int64(time.Second / r.unit)
	seconds, units := whole/perSecond, whole%perSecond
	form := r.form
	switch {
	case form != unknownForm && form != dateForm:
	case seconds < relativeBelow:
		form = relativeForm
	default:
		form = unixForm
	}
	if form == relativeForm {
		seconds = min(seconds, 1<<40) + bucket.Epoch().Unix()
	}
	nanoseconds := units * int64(r.unit)
	for i, value := 0, int64(r.unit)/10; i < len(fraction) && value > 0; i, value = i+1, value/10 {
		nanoseconds += int64(fraction[i]-'0') * value
	}
	return form, time.Unix(seconds, nanoseconds)
}

// date reads a date, in UTC unless it names a zone.
func (r *timeReader) date(text string) (time.Time, bool) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, " UTC"), " GMT")
	// Package time reads RFC 3339 three times as fast as other layouts, and most
	// dates are nearly that.
	if len(text) >= len(time.DateTime) && strings.IndexByte(" Tt", text[len(time.DateOnly)]) >= 0 {
		r.buffer = append(r.buffer[:0], text...)
		r.buffer[len(time.DateOnly)] = 'T'
		last, zone := text[len(text)-1], text[len(text)-len("+00:00")]
		if last != 'Z' && zone != '+' && zone != '-' {
			r.buffer = append(r.buffer, 'Z')
		}
		var at time.Time
		if at.UnmarshalText(r.buffer) == nil {
			return at, true
		}
	}
	text = strings.ToUpper(text) // T and Z; months may be in either case
	if at, err := time.Parse(r.layout, text); err == nil {
		return at, true
	}
	for _, date := range [...]string{
		"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
		"2006/01/02 15:04:05", "02/Jan/2006:15:04:05",
	} {
		for _, zone := range [...]string{"", "Z07:00", "Z0700", "Z07", " Z07:00", " Z0700", " Z07"} {
			if at, err := time.Parse(date+zone, text); err == nil {
				r.layout = date + zone
				return at, true
			}
		}
	}
	return time.Time{}, false
}

// outOfRange returns the error about a time that package bucket cannot represent.
func (r *timeReader) outOfRange(cell string, form timeForm, whole int64) error {
	e := &cellError{reason: quote(cell) + " is further than 29 years from 2025"}
	if form == dateForm {
		return e
	}
	e.reason = fmt.Sprintf("%s, read as %s in %s, is further than 29 years from 2025", quote(cell), form, unitName(r.unit))
	if form == relativeForm {
		e.remedy = "name another unit with --time-unit"
		return e
	}
	for unit := time.Second; unit > 0; unit /= 1000 {
		other := timeReader{unit: unit, form: unixForm}
		_, at := other.number(whole, "")
		if _, err := bucket.At(at); err == nil {
			e.remedy = fmt.Sprintf("--time-unit %s would make it %s", unitName(unit), at.UTC().Format(time.RFC3339))
		}
	}
	return e
}

// warning returns why a trace with a number of rows over a length of time is
// implausible, or an empty string: its times may be in a smaller unit. Unix times are
// not in doubt, as they would be out of range in any other unit.
func (r *timeReader) warning(rows int64, length time.Duration) string {
	const (
		day  = 24 * time.Hour
		long = 366 * day
	)
	implausible := func(length time.Duration) bool {
		return length > long || length >= day && length/time.Duration(rows-1) > time.Minute
	}
	if r.form != relativeForm || rows < 2 || r.unit == time.Nanosecond || !implausible(length) {
		return ""
	}
	text := fmt.Sprintf("the trace takes %s, with a request every %s on average, if its times are in %s",
		formatDuration(length), formatDuration(length/time.Duration(rows-1)), unitName(r.unit))
	for unit := r.unit; unit > 1; {
		unit /= 1000
		length /= 1000
		if !implausible(length) {
			return text + fmt.Sprintf("; --time-unit %s would make it %s", unitName(unit), formatDuration(length))
		}
	}
	return text + "; --time-unit names another unit"
}

func (f timeForm) String() string {
	return [...]string{"no time", "a date", "Unix time", "time since the beginning"}[f]
}

// unitName returns the name of a unit in the flag --time-unit.
func unitName(unit time.Duration) string {
	switch unit {
	case time.Millisecond:
		return "ms"
	case time.Microsecond:
		return "us"
	case time.Nanosecond:
		return "ns"
	}
	return "s"
}

// cutDecimal splits a non-negative decimal number such as 374, 374.0 or .5 at its
// point.
func cutDecimal(s string) (whole int64, fraction string, ok bool) {
	point := 0
	for point < len(s) && isDigit(s[point]) {
		point++
	}
	switch {
	case s == "":
		return 0, "", false
	case point == len(s):
	case s[point] != '.', len(s) == 1, !allDigits(s[point+1:]):
		return 0, "", false
	default:
		fraction = s[point+1:]
	}
	if point > 0 {
		var err error
		if whole, err = strconv.ParseInt(s[:point], 10, 64); err != nil {
			return 0, "", false
		}
	}
	return whole, fraction, true
}

func allDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
