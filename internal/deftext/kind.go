package deftext

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// The letters of kinds and flags.
const (
	rateLetter    = 'r'
	quotaLetter   = 'q'
	sessionLetter = 'w'
	slotsLetter   = 's'

	softLetter      = 's'
	carryLetter     = 'd'
	blockLetter     = 'b'
	unlimitedLetter = 'u'
)

// appendKind appends a definition that is no plain rate, without its revision:
//
//	r10000/60s^20000!s                  a rate that is soft; windows follow after bars
//	q100/month.31.360.Europe/Berlin!d   a quota: cycle, day, minutes after midnight and zone; what is as by default is left out
//	w100/18000s                         a session of 5 hours
//	s20/60s                             slots, held for a minute
//
// After the exclamation mark are the flags: s for soft, d for what carries debt, b for
// block, u for unlimited.
func appendKind(b []byte, d *bucket.Definition) []byte {
	switch d.Kind {
	case bucket.Rate:
		b = appendWindows(appendRate(append(b, rateLetter), d), d.Schedule)
	case bucket.Quota:
		b = appendCalendar(append(appendAmount(append(b, quotaLetter), d), '/'), d.Calendar)
	case bucket.Session:
		b = appendLength(append(appendAmount(append(b, sessionLetter), d), '/'), d.Period)
	case bucket.Slots:
		b = appendLength(append(appendAmount(append(b, slotsLetter), d), '/'), d.Period)
	}
	if d.Flags != 0 {
		b = append(b, '!')
	}
	for _, f := range flagLetters {
		if d.Flags&f.flag != 0 {
			b = append(b, f.letter)
		}
	}
	return b
}

//nolint:gochecknoglobals // a constant table
var flagLetters = [...]struct {
	flag   bucket.Flags
	letter byte
}{{bucket.Soft, softLetter}, {bucket.CarryDebt, carryLetter}, {bucket.Block, blockLetter}, {bucket.Unlimited, unlimitedLetter}}

// appendAmount appends the amount, and the capacity if it is another number.
func appendAmount(b []byte, d *bucket.Definition) []byte {
	b = strconv.AppendInt(b, d.Burst, 10)
	if d.Capacity != d.Burst {
		b = strconv.AppendInt(append(b, 'c'), d.Capacity, 10)
	}
	return b
}

// appendCalendar appends the spec of a calendar.
func appendCalendar(b []byte, c *bucket.Calendar) []byte {
	spec := c.Spec()
	b = append(b, spec.Each.String()...)
	first, err := bucket.NewCalendar(bucket.CalendarSpec{Each: spec.Each})
	on, zone := "", spec.Zone
	if err != nil || first.Spec().On != spec.On {
		on = strconv.Itoa(int(spec.On))
	}
	if zone == "UTC" {
		zone = ""
	}
	at := ""
	if spec.At != 0 {
		at = strconv.Itoa(int(spec.At))
	}
	return append(b, strings.TrimRight("."+on+"."+at+"."+zone, ".")...)
}

// parseKind reads what appendKind wrote.
func parseKind(text string) (d bucket.Definition, err error) {
	text, flags, hasFlags := strings.Cut(text, "!")
	if text == "" || hasFlags && flags == "" {
		return d, ErrText
	}
	for i := range len(flags) {
		known := false
		for _, f := range flagLetters {
			if f.letter == flags[i] {
				d.Flags, known = d.Flags|f.flag, true
			}
		}
		if !known {
			return d, fmt.Errorf("flag %q is not known", flags[i])
		}
	}
	letter, rest := text[0], text[1:]
	if letter == rateLetter {
		rest, windows, scheduled := strings.Cut(rest, "|")
		if err = parseRate(rest, &d); err == nil && scheduled {
			d.Schedule, err = parseWindows(d, windows)
		}
		return d, err
	}
	amount, rest, ok := strings.Cut(rest, "/")
	amount, capacity, hasCapacity := strings.Cut(amount, "c")
	if !ok {
		return d, ErrText
	}
	var errs [3]error
	d.Burst, errs[0] = strconv.ParseInt(amount, 10, 64)
	if d.Capacity = d.Burst; hasCapacity {
		d.Capacity, errs[1] = strconv.ParseInt(capacity, 10, 64)
	}
	switch letter {
	case quotaLetter:
		d.Kind = bucket.Quota
		d.Calendar, errs[2] = parseCalendar(rest)
	case sessionLetter:
		d.Kind = bucket.Session
		d.Period, errs[2] = parseLength(rest)
	case slotsLetter:
		d.Kind = bucket.Slots
		d.Period, errs[2] = parseLength(rest)
	default:
		errs[2] = fmt.Errorf("kind %q is not known", letter)
	}
	return d, errors.Join(errs[:]...)
}

// appendWindows appends the windows of a schedule, if there is one: days, from, to, times, burst,
// amount, period and zone of each.
func appendWindows(b []byte, sc *bucket.Schedule) []byte {
	if sc == nil {
		return b
	}
	for _, w := range sc.Windows() {
		b = append(b, '|')
		for _, n := range []int64{int64(w.Days), int64(w.From), int64(w.To), w.Times, w.Burst, w.Amount, int64(w.Period)} {
			b = append(strconv.AppendInt(b, n, 10), ',')
		}
		b = append(b, w.Zone...)
	}
	return b
}

// parseWindows reads what appendWindows wrote, behind its first bar.
func parseWindows(rate bucket.Definition, text string) (*bucket.Schedule, error) {
	var windows []bucket.ScheduleWindow
	for one := range strings.SplitSeq(text, "|") {
		fields := strings.Split(one, ",")
		if len(fields) != 8 {
			return nil, ErrText
		}
		var n [7]int64
		for i := range n {
			var err error
			if n[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
				return nil, err
			}
		}
		windows = append(windows, bucket.ScheduleWindow{
			Days: uint8(n[0]), From: int16(n[1]), To: int16(n[2]), Times: n[3], Burst: n[4], Amount: n[5], Period: time.Duration(n[6]), Zone: fields[7],
		})
	}
	rate.Flags = 0
	return bucket.NewSchedule(rate, windows)
}

// parseCalendar reads what appendCalendar wrote.
func parseCalendar(text string) (*bucket.Calendar, error) {
	fields := strings.SplitN(text, ".", 4)
	each, ok := bucket.ParseCycle(fields[0])
	if !ok {
		return nil, fmt.Errorf("cycle %q is not known", fields[0])
	}
	spec := bucket.CalendarSpec{Each: each}
	for i, to := range []*int16{&spec.On, &spec.At} {
		if len(fields) <= i+1 || fields[i+1] == "" {
			continue
		}
		n, err := strconv.ParseInt(fields[i+1], 10, 16)
		if err != nil {
			return nil, err
		}
		*to = int16(n)
	}
	if len(fields) == 4 {
		spec.Zone = fields[3]
	}
	return bucket.NewCalendar(spec)
}

// appendLength appends a time: in seconds, or in nanoseconds if these are not whole.
func appendLength(b []byte, d time.Duration) []byte {
	if d%time.Second == 0 {
		return append(strconv.AppendInt(b, int64(d/time.Second), 10), 's')
	}
	return append(strconv.AppendInt(b, int64(d), 10), 'n')
}

// parseLength reads what appendLength wrote.
func parseLength(text string) (time.Duration, error) {
	if text == "" {
		return 0, ErrText
	}
	n, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	switch unit := text[len(text)-1]; {
	case err != nil:
		return 0, err
	case unit == 'n':
		return time.Duration(n), nil
	case unit == 's' && n <= int64(bucket.MaxPeriod/time.Second):
		return time.Duration(n) * time.Second, nil
	}
	return 0, ErrText
}
