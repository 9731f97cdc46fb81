package zael

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// String returns the limit as [ParseLimit] reads it, such as "tpm=10000/min burst 20000".
// It leaves out what is the default.
func (l Limit) String() string { return l.Name + "=" + l.text() }

func (l Limit) text() string {
	t := &l.terms
	var s string
	switch t.kind {
	case KindBlock:
		s = "0/min"
	case KindUnlimited:
		s = "unlimited"
	case KindQuota:
		s = t.quotaText(l.Burst)
	case KindWindow:
		s = strconv.FormatInt(l.Burst, 10) + " per " + periodText(t.length) + " from first use"
	case KindSlots:
		s = strconv.FormatInt(l.Burst, 10) + " at once"
		if t.length != defaultHold {
			s += " hold " + periodText(t.length)
		}
	default:
		s = l.rateText()
		if t.when != "" {
			s += " " + t.when
			if windows, reason := t.schedule(); reason == "" {
				if sc, err := bucket.NewSchedule(bucket.Definition{Burst: 1, Amount: 1, Period: time.Minute}, windows); err == nil {
					s = l.rateText() + " " + whenText(sc.Windows())
				}
			}
		}
	}
	if t.soft {
		s += " soft"
	}
	return s
}

func (l Limit) rateText() string {
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

func (t *terms) quotaText(n int64) string {
	if spec, reason := t.calendar(); reason == "" {
		if c, err := bucket.NewCalendar(spec); err == nil {
			normal := terms{carry: t.carry}
			normal.setCalendar(c.Spec())
			t = &normal
		}
	}
	s := strconv.FormatInt(n, 10) + " each " + t.each
	words := []string{s}
	for _, part := range []struct{ word, value string }{{"on ", t.on}, {"at ", t.at}, {"", t.zone}} {
		if part.value != "" {
			words = append(words, part.word+part.value)
		}
	}
	if t.carry {
		words = append(words, "carry debt")
	}
	return strings.Join(words, " ")
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
		if d > 0 && d%p.length == 0 {
			n := int64(d / p.length)
			if n == 1 {
				return p.name
			}
			return strconv.FormatInt(n, 10) + p.name
		}
	}
	return d.String()
}

// ParseLimit parses a limit, which begins with its NAME and "=". The error is a
// [*ValidationError] that says what to write instead. The rest is one of:
//
//   - AMOUNT/PERIOD, then "burst N" and "capacity N" if they are not the defaults: a rate.
//     PERIOD is s, min, h or d, a number of these, or a duration as [time.ParseDuration]
//     parses it: "rpm=100/min", "tpm=10000/min burst 20000", "rps=2/3s". After "when" comes
//     another burst or refill in a part of the week, as [Limit.When] has it: "rpm=100/min when
//     mon-fri 09:00-18:00 Europe/Berlin times 0.5".
//   - AMOUNT "each" CYCLE, then "on DAY", "at HH:MM", a time zone and "carry debt" where they
//     are not the defaults: a quota, as [Each] has it: "q=100 each day Europe/Berlin",
//     "q=1000 each month on 31 at 06:00", "q=10 each week on sun", "q=5 each hour".
//   - AMOUNT "per" PERIOD "from first use": "q=10 per 5h from first use".
//   - NUMBER "at once", then "hold PERIOD" if it is not 1min: slots: "parallel=20 at once".
//   - "0/min" blocks, "unlimited" admits everything and counts it.
//
// "soft" at the end of one that counts has it never refuse.
func ParseLimit(text string) (Limit, error) {
	p := limitParser{text: text}
	l, err := p.parse()
	if err != nil {
		return Limit{}, err
	}
	d, err := definitionOf(&l)
	if err != nil {
		return Limit{}, err
	}
	return limitOf(l.Name, d), nil
}

// A limitParser has the words that are not read yet.
type limitParser struct {
	text  string
	words []string
}

func (p *limitParser) fail(reason string) error {
	return invalid("Limit", p.text, reason)
}

const likeRate = `: write it like "rpm=100/min" or "tpm=10000/min burst 20000"`

func (p *limitParser) parse() (l Limit, err error) {
	name, rest, ok := strings.Cut(strings.TrimSpace(p.text), "=")
	switch {
	case strings.TrimSpace(p.text) == "":
		return l, p.fail("is empty" + likeRate)
	case !ok || strings.ContainsAny(name, " \t"):
		return l, p.fail("has no =" + likeRate)
	}
	if p.words = strings.Fields(rest); len(p.words) == 0 || !strings.HasPrefix(rest, p.words[0]) {
		return l, p.fail("has no amount after =" + likeRate)
	}
	first := p.words[0]
	p.words = p.words[1:]
	amount, period, isRate := strings.Cut(first, "/")
	switch {
	case first == "unlimited":
		l = Unlimited(name)
	case isRate && isZero(amount):
		if _, err := parsePeriod(period); err != nil {
			return l, p.fail(err.Error() + likeRate)
		}
		l = Block(name)
	case isRate:
		l, err = p.rate(name, amount, period)
	case p.accept("each"):
		l, err = p.quota(name, first)
	case p.accept("per"):
		l, err = p.session(name, first)
	case p.accept("at", "once"):
		l, err = p.slots(name, first)
	default:
		return l, p.fail("has no period" + likeRate + `, "q=100 each day", "q=10 per 5h from first use" or "parallel=20 at once"`)
	}
	if err != nil {
		return l, err
	}
	if p.accept("soft") {
		l = l.Soft()
	}
	if len(p.words) > 0 {
		return l, p.fail(p.unexpected(&l))
	}
	return l, nil
}

// accept reads words if they are the next ones.
func (p *limitParser) accept(words ...string) bool {
	if len(p.words) < len(words) || !slices.Equal(p.words[:len(words)], words) {
		return false
	}
	p.words = p.words[len(words):]
	return true
}

// next reads a word, which is "" at the end.
func (p *limitParser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

// unexpected says what is wrong with the next word, which cannot follow l.
func (p *limitParser) unexpected(l *Limit) string {
	word := strconv.Quote(p.words[0])
	switch l.terms.kind {
	case KindBlock:
		return "has " + word + " after 0, which refuses everything: leave it out"
	case KindUnlimited:
		return "has " + word + " after unlimited, which admits everything: leave it out"
	case KindQuota:
		return "has " + word + ` where on, at, a time zone, carry debt or soft could stand: write it like "q=100 each week on mon at 06:00 Europe/Berlin"`
	case KindWindow:
		return "has " + word + " where soft could stand: leave it out"
	case KindSlots:
		return "has " + word + ` where hold or soft could stand: write it like "parallel=20 at once hold 5min"`
	}
	switch p.words[0] {
	case "on", "at", "each":
		return "has " + word + ` after a rate, which refills evenly: a quota is written like "q=100 each day at 06:00"`
	case "carry":
		return "has " + word + ` after a rate, which keeps debt until it has refilled: it goes with "each" alone`
	}
	return "has " + word + " where burst, capacity or soft could stand" + likeRate
}

func (p *limitParser) rate(name, amount, period string) (l Limit, err error) {
	l = Limit{Name: name}
	if l.RefillAmount, err = parseTokens(amount); err != nil {
		return l, p.fail("amount " + err.Error() + likeRate)
	}
	if l.RefillPeriod, err = parsePeriod(period); err != nil {
		return l, p.fail(err.Error() + likeRate)
	}
	for len(p.words) > 0 {
		var field *int64
		word := p.words[0]
		switch word {
		case "burst":
			field = &l.Burst
		case "capacity":
			field = &l.Capacity
		case "when":
			end := len(p.words)
			if p.words[end-1] == "soft" {
				end--
			}
			l.terms.when, p.words = strings.Join(p.words[:end], " "), p.words[end:]
			return l, nil
		default:
			return l, nil
		}
		p.next()
		switch {
		case *field != 0:
			return l, p.fail("says " + word + " twice" + likeRate)
		case len(p.words) == 0:
			return l, p.fail("has no number after " + word + likeRate)
		}
		if *field, err = parseTokens(p.next()); err != nil {
			return l, p.fail(word + " " + err.Error() + likeRate)
		}
	}
	return l, nil
}

func (p *limitParser) quota(name, amount string) (l Limit, err error) {
	n, err := p.amount(name, amount)
	if err != nil {
		return l, err
	}
	l = Each(name, n, p.next())
	t := &l.terms
	for len(p.words) > 0 && p.words[0] != "soft" {
		field, word := &t.zone, p.next()
		switch word {
		case "on":
			field = &t.on
		case "at":
			field = &t.at
		case "carry":
			if !p.accept("debt") || t.carry {
				return l, p.fail(`has "carry" without "debt" after it, or twice: write "carry debt" once`)
			}
			t.carry = true
			continue
		case "burst", "capacity", "hold", "times", "when":
			p.words = append([]string{word}, p.words...)
			return l, nil // it is unexpected
		}
		value := word
		if field != &t.zone {
			if value = p.next(); value == "" {
				return l, p.fail("has nothing after " + word + `: write it like "q=100 each week on mon at 06:00"`)
			}
		}
		if *field != "" {
			if field == &t.zone {
				word = "a time zone"
			}
			return l, p.fail("says " + word + " twice (" + *field + ", " + value + ")")
		}
		*field = value
	}
	return l, nil
}

func (p *limitParser) session(name, amount string) (l Limit, err error) {
	n, err := p.amount(name, amount)
	if err != nil {
		return l, err
	}
	length, err := parsePeriod(p.next())
	if err != nil {
		return l, p.fail(err.Error() + `: write it like "q=10 per 5h from first use"`)
	}
	if !p.accept("from", "first", "use") {
		return l, p.fail(fmt.Sprintf(`has no "from first use": write %s=%s/%s for a rate, or add it`, name, amount, periodText(length)))
	}
	return FromFirstUse(name, n, length), nil
}

func (p *limitParser) slots(name, number string) (l Limit, err error) {
	n, err := p.amount(name, number)
	if err != nil {
		return l, err
	}
	l = AtOnce(name, n)
	if p.accept("hold") {
		hold, err := parsePeriod(p.next())
		if err != nil {
			return l, p.fail(err.Error() + `: write it like "parallel=20 at once hold 5min"`)
		}
		l = l.Hold(hold)
	}
	return l, nil
}

// amount parses the amount of what is not a rate.
func (p *limitParser) amount(name, s string) (int64, error) {
	if isZero(s) {
		return 0, p.fail("has amount 0: to block, write " + name + "=0/min")
	}
	n, err := parseTokens(s)
	if err != nil {
		return 0, p.fail("amount " + err.Error())
	}
	return n, nil
}

func isZero(s string) bool { return s != "" && strings.Trim(s, "0") == "" }

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
