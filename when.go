package zael

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/zeroae/zael/bucket"
)

// When returns the rate with another burst or refill in a part of the week, as it is
// written in the text of a limit after "when":
//
//	DAYS [HH:MM-HH:MM] [ZONE] ("times" FACTOR | AMOUNT/PERIOD ["burst" N] | "burst" N)
//
// such as "mon-fri 09:00-18:00 Europe/Berlin times 0.5" or "sat,sun burst 500". What is not
// said is the rate's; a part that ends no later than it begins ends on the next day. The
// first part that the wall clock is in decides. There are at most 16.
func (l Limit) When(part string) Limit {
	l.terms.when = strings.TrimSpace(l.terms.when + " when " + part)
	return l
}

const likeWhen = `: write it like "rpm=100/min when mon-fri 09:00-18:00 Europe/Berlin times 0.5" or "… when sat-sun burst 500"`

// schedule returns the windows of a text like "when … when …", or what is wrong with it.
func (t *terms) schedule() (windows []bucket.ScheduleWindow, reason string) {
	words := strings.Fields(t.when)
	for len(words) > 0 {
		var w bucket.ScheduleWindow
		if w, words, reason = parseWindow(words[1:]); reason != "" { // the first is "when"
			return nil, reason + likeWhen
		}
		if len(words) > 0 && words[0] != "when" {
			return nil, fmt.Sprintf("has %q where when could stand", words[0]) + likeWhen
		}
		windows = append(windows, w)
	}
	return windows, ""
}

// parseWindow reads what follows "when".
func parseWindow(words []string) (w bucket.ScheduleWindow, rest []string, reason string) {
	next := func() string {
		if len(words) == 0 {
			return ""
		}
		word := words[0]
		words = words[1:]
		return word
	}
	days := next()
	var ok bool
	if w.Days, ok = parseDays(days); !ok {
		return w, words, fmt.Sprintf("has the days %q after when", days)
	}
	w.To = 24 * 60
	word := next()
	if from, to, isTime := strings.Cut(word, "-"); isTime && strings.Contains(word, ":") {
		f, ok := parseClock(from)
		u, ok2 := parseClock(to)
		if !ok || !ok2 || f == 24*60 {
			return w, words, fmt.Sprintf("has the time %q after when", word)
		}
		w.From, w.To, word = int16(f), int16(u), next()
	}
	amount, period, isRate := strings.Cut(word, "/")
	if isRate && strings.Trim(amount, "0123456789") != "" || word != "times" && word != "burst" && !isRate {
		w.Zone, word = word, next()
		amount, period, isRate = strings.Cut(word, "/")
	}
	var err error
	switch {
	case word == "times":
		factor := next()
		if w.Times, ok = parseFactor(factor); !ok {
			return w, words, fmt.Sprintf("has the factor %q, which is not 0.001 to 1000 with at most 3 decimals", factor)
		}
		return w, words, ""
	case word == "burst":
		if w.Burst, err = parseTokens(next()); err != nil {
			return w, words, "burst " + err.Error()
		}
		return w, words, ""
	case !isRate:
		return w, words, fmt.Sprintf("has %q where times, burst or a rate has to stand", word)
	}
	if w.Amount, err = parseTokens(amount); err == nil {
		w.Period, err = parsePeriod(period)
	}
	if err == nil && len(words) > 0 && words[0] == "burst" {
		next()
		w.Burst, err = parseTokens(next())
	}
	if err != nil {
		return w, words, err.Error()
	}
	return w, words, ""
}

// parseDays reads days such as mon-fri or sat,sun.
func parseDays(s string) (days uint8, ok bool) {
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, reason := parseDay(bucket.Weekly, from)
		last, reason2 := first, ""
		if isRange {
			last, reason2 = parseDay(bucket.Weekly, to)
		}
		if reason != "" || reason2 != "" {
			return 0, false
		}
		for d := first; ; d = d%7 + 1 {
			days |= 1 << (d - 1)
			if d == last {
				break
			}
		}
	}
	return days, true
}

// parseFactor reads a number with at most three decimals, in thousandths.
func parseFactor(s string) (thousandths int64, ok bool) {
	whole, decimals, _ := strings.Cut(s, ".")
	if len(decimals) > 3 || whole == "" || len(whole) > 4 || strings.HasSuffix(s, ".") {
		return 0, false
	}
	n, err := strconv.ParseUint(whole+(decimals + "000")[:3], 10, 32)
	return int64(n), err == nil && n >= 1 && n <= 1_000_000
}

// whenText returns windows as schedule reads them, without what is the default.
func whenText(windows []bucket.ScheduleWindow) string {
	var words []string
	for i := range windows {
		w := &windows[i]
		words = append(words, "when", daysText(w.Days))
		if w.From != 0 || w.To != 24*60 {
			words = append(words, fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60))
		}
		if w.Zone != "UTC" {
			words = append(words, w.Zone)
		}
		if w.Times != 0 {
			factor := fmt.Sprintf("%d.%03d", w.Times/1000, w.Times%1000)
			words = append(words, "times", strings.TrimSuffix(strings.TrimRight(factor, "0"), "."))
		}
		if w.Amount != 0 {
			words = append(words, strconv.FormatInt(w.Amount, 10)+"/"+periodText(w.Period))
		}
		if w.Burst != 0 {
			words = append(words, "burst", strconv.FormatInt(w.Burst, 10))
		}
	}
	return strings.Join(words, " ")
}

// daysText returns days as parseDays reads them: mon-fri, sat, mon,wed-fri.
func daysText(days uint8) string {
	var parts []string
	for i := bits.TrailingZeros8(days); i < 7; {
		n := bits.TrailingZeros8(^(days >> i))
		part := weekdays[i]
		if n > 1 {
			part += "-" + weekdays[i+n-1]
		}
		parts = append(parts, part)
		if i += n; days>>i == 0 {
			break
		}
		i += bits.TrailingZeros8(days >> i)
	}
	return strings.Join(parts, ",")
}
