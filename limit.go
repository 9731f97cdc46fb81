package zael

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Limit is a named rate: RefillAmount tokens refill in each RefillPeriod, spread
// evenly over it, until there are Burst. A Limit is a plain value; methods that take
// one check it.
type Limit struct {
	Name         string        // 1 to 64 characters of A-Z a-z 0-9 _ . / -, beginning with a letter
	Capacity     int64         // nominal tokens, for reports only: 1 to Burst; 0 means the lesser of RefillAmount and Burst
	Burst        int64         // tokens in a full bucket: 1 to 10¹⁵; 0 means RefillAmount. Less than RefillAmount smooths
	RefillAmount int64         // tokens: 1 to 10¹⁵, and at most 9·10⁹ a second
	RefillPeriod time.Duration // 1 s to 366 days
}

// PerSecond returns a limit of n tokens a second with a burst of n.
func PerSecond(name string, n int64) Limit { return perPeriod(name, n, time.Second) }

// PerMinute returns a limit of n tokens a minute with a burst of n.
func PerMinute(name string, n int64) Limit { return perPeriod(name, n, time.Minute) }

// PerHour returns a limit of n tokens an hour with a burst of n.
func PerHour(name string, n int64) Limit { return perPeriod(name, n, time.Hour) }

// PerDay returns a limit of n tokens in 24 hours with a burst of n.
func PerDay(name string, n int64) Limit { return perPeriod(name, n, 24*time.Hour) }

func perPeriod(name string, n int64, period time.Duration) Limit {
	return Limit{Name: name, Capacity: n, Burst: n, RefillAmount: n, RefillPeriod: period}
}

// WithBurst returns the limit with another burst and the same rate. Capacity is lowered
// to the burst if it is greater.
func (l Limit) WithBurst(burst int64) Limit {
	l.Burst = burst
	l.Capacity = min(l.Capacity, burst)
	return l
}

// Validate returns a [*ValidationError] if a field of the limit is out of range.
func (l Limit) Validate() error {
	_, err := definitionOf(&l)
	return err
}

// withDefaults returns the limit with its zero fields filled in.
func (l Limit) withDefaults() Limit {
	l.Burst = cmp.Or(l.Burst, l.RefillAmount)
	l.Capacity = cmp.Or(l.Capacity, min(l.RefillAmount, l.Burst))
	return l
}

// definitionOf returns the limit's numbers, checked, without a revision.
func definitionOf(l *Limit) (bucket.Definition, error) {
	d := bucket.Definition{
		Burst: l.Burst, Amount: l.RefillAmount, Period: l.RefillPeriod, Capacity: l.Capacity,
	}
	if d.Burst == 0 { // if the amount is out of range, the error is to be about the amount
		d.Burst = min(max(d.Amount, 1), bucket.MaxAmount)
	}
	if d.Capacity == 0 {
		d.Capacity = min(d.Amount, d.Burst)
	}
	if !validName(l.Name) {
		return d, invalid("Limit.Name", l.Name, nameRule)
	}
	if err := d.Validate(); err != nil {
		return d, invalid("Limit "+l.Name, l.text(), trimRange(err))
	}
	return d, nil
}

// trimRange returns the reason in an error of package bucket.
func trimRange(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+bucket.ErrRange.Error())
}

// String returns the limit as [ParseLimit] reads it, such as "tpm=10000/min burst 20000".
func (l Limit) String() string { return l.Name + "=" + l.text() }

func (l Limit) text() string {
	l = l.withDefaults()
	s := strconv.FormatInt(l.RefillAmount, 10) + "/" + periodText(l.RefillPeriod)
	if l.Burst != l.RefillAmount {
		s += " burst " + strconv.FormatInt(l.Burst, 10)
	}
	if l.Capacity != min(l.RefillAmount, l.Burst) {
		s += " capacity " + strconv.FormatInt(l.Capacity, 10)
	}
	return s
}

// periods are the units of periods in text, the longest first.
var periods = [...]struct { //nolint:gochecknoglobals // a constant table
	name   string
	length time.Duration
}{
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"min", time.Minute},
	{"s", time.Second},
}

func periodText(d time.Duration) string {
	for _, p := range periods {
		if d == p.length {
			return p.name
		}
		if d > 0 && d%p.length == 0 {
			return strconv.FormatInt(int64(d/p.length), 10) + p.name
		}
	}
	return d.String()
}

// ParseLimit parses a limit: NAME=AMOUNT/PERIOD, then "burst N" and "capacity N" if they
// are not the defaults. PERIOD is s, min, h or d, a number of these, or a duration as
// [time.ParseDuration] parses it: "rpm=100/min", "tpm=10000/min burst 20000",
// "rps=2/3s", "batch=100/15min". The error is a [*ValidationError].
func ParseLimit(text string) (Limit, error) {
	fail := func(reason string) (Limit, error) {
		return Limit{}, invalid("Limit", text, reason+`: write it like "rpm=100/min" or "tpm=10000/min burst 20000"`)
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return fail("is empty")
	}
	name, rate, ok := strings.Cut(words[0], "=")
	if !ok {
		return fail("has no =")
	}
	amount, period, ok := strings.Cut(rate, "/")
	if !ok {
		return fail("has no period")
	}
	l := Limit{Name: name}
	var err error
	if l.RefillAmount, err = parseTokens(amount); err != nil {
		return fail("amount " + err.Error())
	}
	if l.RefillPeriod, err = parsePeriod(period); err != nil {
		return fail(err.Error())
	}
	for rest := words[1:]; len(rest) > 0; rest = rest[2:] {
		var field *int64
		switch rest[0] {
		case "burst":
			field = &l.Burst
		case "capacity":
			field = &l.Capacity
		default:
			return fail(fmt.Sprintf("has %q where burst or capacity could stand", rest[0]))
		}
		if *field != 0 {
			return fail("says " + rest[0] + " twice")
		}
		if len(rest) == 1 {
			return fail("has no number after " + rest[0])
		}
		if *field, err = parseTokens(rest[1]); err != nil {
			return fail(rest[0] + " " + err.Error())
		}
	}
	l = l.withDefaults()
	return l, l.Validate()
}

func parseTokens(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > bucket.MaxAmount {
		return 0, fmt.Errorf("%q is not a whole number from 1 to %d", s, bucket.MaxAmount)
	}
	return n, nil
}

func parsePeriod(s string) (time.Duration, error) {
	digits := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		for _, p := range periods {
			if s[digits:] != p.name {
				continue
			}
			n := int64(1)
			if digits > 0 {
				var err error
				if n, err = strconv.ParseInt(s[:digits], 10, 64); err != nil || n > math.MaxInt64/int64(p.length) {
					break
				}
			}
			return time.Duration(n) * p.length, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	return 0, errors.New("period " + strconv.Quote(s) + " is not s, min, h or d, nor a number of one")
}

func limitOf(name string, d bucket.Definition) Limit {
	return Limit{Name: name, Capacity: d.Capacity, Burst: d.Burst, RefillAmount: d.Amount, RefillPeriod: d.Period}
}
