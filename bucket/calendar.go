package bucket

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/zeroae/zael/internal/zoneinfo"
)

// A Cycle is how often the periods of a calendar begin.
type Cycle uint8

// The cycles. All before Daily are aligned to 1970-01-01T00:00:00Z and have a fixed
// length.
const (
	EachSecond Cycle = iota + 1
	EachMinute
	EachHour
	Each7Days
	Each30Days
	Each365Days
	Daily
	Weekly
	Monthly
	Yearly
)

//nolint:gochecknoglobals // a constant table
var cycleNames = [...]string{
	EachSecond: "second", EachMinute: "minute", EachHour: "hour", Each7Days: "7d", Each30Days: "30d", Each365Days: "365d",
	Daily: "day", Weekly: "week", Monthly: "month", Yearly: "year",
}

// String returns the cycle as limits are written: second, minute, hour, day, week,
// month, year, 7d, 30d, 365d.
func (c Cycle) String() string {
	if c == 0 || int(c) >= len(cycleNames) {
		return fmt.Sprintf("cycle %d", uint8(c))
	}
	return cycleNames[c]
}

// ParseCycle returns the cycle that String returns as s.
func ParseCycle(s string) (c Cycle, ok bool) {
	for i, name := range cycleNames {
		if name == s && i > 0 {
			return Cycle(i), true
		}
	}
	return 0, false
}

// Aligned reports whether the periods have a fixed length, and are aligned to
// 1970-01-01T00:00:00Z.
func (c Cycle) Aligned() bool { return c < Daily }

// length returns the length in seconds of the periods of an aligned cycle.
func (c Cycle) length() int64 {
	const day = 24 * 3600
	switch c {
	case EachSecond:
		return 1
	case EachMinute:
		return 60
	case EachHour:
		return 3600
	case Each7Days:
		return 7 * day
	case Each30Days:
		return 30 * day
	}
	return 365 * day
}

// A CalendarSpec says when the periods of a calendar begin: on each day that it names,
// at the first instant at which the wall clock is at or past the time of day. So a time
// that is missing as clocks are set forward is the end of the gap, and one that occurs
// twice counts once.
type CalendarSpec struct {
	Each Cycle
	// On is the day on which the period begins: of a week 1 (Monday) to 7, of a month 1
	// to 31, of a year month·100 + day, 101 to 1231. 0 is the first. A day that a month
	// lacks is the month's last; 29 February is the 28th in most years.
	On int16
	// At is the time of day, in minutes after midnight: 0 to 1439.
	At int16
	// Zone is the name of the time zone in the IANA database; "" is UTC.
	Zone string
}

// ErrCalendar is matched by errors about calendars that cannot be.
var ErrCalendar = errors.New("no such calendar")

// A Calendar divides time into periods, by the wall clock of a time zone. The data of
// time zones come with the program, so that all processes with one version of it compute
// the same periods. Calendars of equal specs are one: compare them with ==. They never
// change, and may be used concurrently.
type Calendar struct {
	spec CalendarSpec
	zone *zoneinfo.Zone         // nil if the cycle is aligned
	last atomic.Pointer[period] // the one that was asked for last
}

// A period is from start until the next one, from end.
type period struct{ start, end Instant }

// NewCalendar returns the calendar of a spec. The error matches ErrCalendar and says
// what is wrong with the spec.
func NewCalendar(spec CalendarSpec) (*Calendar, error) {
	if spec.Zone == "" {
		spec.Zone = "UTC"
	}
	if spec.On == 0 {
		spec.On = spec.Each.firstDay()
	}
	if err := spec.check(); err != nil {
		return nil, err
	}
	c := &Calendar{spec: spec}
	if !spec.Each.Aligned() {
		zone, err := zoneinfo.Load(spec.Zone)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCalendar, err)
		}
		c.zone = zone
	}
	return calendars.intern(spec, c), nil
}

// firstDay returns the least CalendarSpec.On.
func (c Cycle) firstDay() int16 {
	switch c {
	case Weekly, Monthly:
		return 1
	case Yearly:
		return 101
	}
	return 0
}

func (spec *CalendarSpec) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrCalendar}, args...)...)
	}
	switch c := spec.Each; {
	case c == 0 || c > Yearly:
		return fail("cycle %d is none of bucket's", uint8(c))
	case c.Aligned() && (spec.On != 0 || spec.At != 0 || spec.Zone != "UTC"):
		return fail("each %v has no day, time of day or zone: it is aligned to 1970-01-01T00:00:00Z", c)
	case spec.At < 0 || spec.At >= 24*60:
		return fail("time of day %d is not in 0 to 1439 minutes", spec.At)
	case c == Daily && spec.On != 0:
		return fail("each day has no day of its own")
	case c == Weekly && (spec.On < 1 || spec.On > 7):
		return fail("day %d of a week is not in 1 (Monday) to 7", spec.On)
	case c == Monthly && (spec.On < 1 || spec.On > 31):
		return fail("day %d of a month is not in 1 to 31", spec.On)
	case c == Yearly:
		if m, d := int64(spec.On)/100, int64(spec.On)%100; m < 1 || m > 12 || d < 1 || d > daysIn(2000, m) {
			return fail("%d is not a month and a day, 101 to 1231, of a leap year", spec.On)
		}
	}
	return nil
}

// Spec returns what the calendar was made of, with its defaults filled in.
func (c *Calendar) Spec() CalendarSpec { return c.spec }

// valid reports whether NewCalendar has made c.
func (c *Calendar) valid() bool { return c != nil && c.spec.Each != 0 }

// Period returns the period that an instant is in: it starts at start, and the next one
// at end.
func (c *Calendar) Period(at Instant) (start, end Instant) {
	p := c.last.Load()
	if p == nil || at < p.start || at >= p.end {
		i := c.index(at)
		p = &period{c.start(i), c.start(i + 1)}
		c.last.Store(p)
	}
	return p.start, p.end
}

// Starts returns how many periods start after one instant and no later than another.
func (c *Calendar) Starts(after, to Instant) int64 {
	if to <= after {
		return 0
	}
	from, until := c.index(after), c.index(to)
	n := until - from
	if c.zone == nil {
		return n
	}
	for _, skip := range c.zone.Skips() { // periods that start at one instant are one
		if at := instantOfUnix(skip); at > after && at <= to {
			for i := c.index(at); c.start(i) == at && c.start(i-1) == at; i-- {
				n--
			}
		}
	}
	return n
}

// StartAfter returns the start number n, 1 or more, of those after an instant. If it is
// after MaxInstant, ok is false.
func (c *Calendar) StartAfter(at Instant, n int64) (start Instant, ok bool) {
	const most = 1e10 // more than there are seconds
	if n > most {
		return 0, false
	}
	i := c.index(at) + n
	if c.zone != nil && i > c.index(MaxInstant)+1 {
		return 0, false
	}
	start = c.start(i)
	for start <= MaxInstant && c.Starts(at, start) < n {
		i++
		start = c.start(i)
	}
	return start, start <= MaxInstant
}

// index returns the number of the period that an instant is in. Periods are numbered by
// their dates, so that two of them may start at one instant; it is then the later.
func (c *Calendar) index(at Instant) int64 {
	unix := floorDiv(int64(at), int64(time.Second)) + epochUnix
	if c.zone == nil {
		return floorDiv(unix, c.spec.Each.length())
	}
	i := c.indexOfDay(floorDiv(unix+c.zone.Offset(unix), 24*3600))
	for c.start(i) > at {
		i--
	}
	for c.start(i+1) <= at {
		i++
	}
	return i
}

// indexOfDay returns the number of a period near a day.
func (c *Calendar) indexOfDay(day int64) int64 {
	switch c.spec.Each {
	case Daily:
		return day
	case Weekly:
		return floorDiv(day+3, 7)
	case Monthly:
		y, m := monthOf(day)
		return y*12 + m - 1
	}
	y, _ := monthOf(day)
	return y
}

// start returns the first instant of period i.
func (c *Calendar) start(i int64) Instant {
	if c.zone == nil {
		return instantOfUnix(i * c.spec.Each.length())
	}
	return instantOfUnix(c.zone.First(c.dayOf(i)*24*3600 + int64(c.spec.At)*60))
}

// dayOf returns the day on which period i begins.
func (c *Calendar) dayOf(i int64) int64 {
	on := int64(c.spec.On)
	switch c.spec.Each {
	case Daily:
		return i
	case Weekly:
		return i*7 - 3 + on - 1 // 1970-01-01 was a Thursday
	case Monthly:
		y, m := floorDiv(i, 12), i-floorDiv(i, 12)*12+1
		return dayOfDate(y, m, min(on, daysIn(y, m)))
	}
	m, d := on/100, on%100
	return dayOfDate(i, m, min(d, daysIn(i, m)))
}

// instantOfUnix returns the instant of seconds since 1970.
func instantOfUnix(unix int64) Instant {
	return Instant((unix - epochUnix) * int64(time.Second))
}

// dayOfDate returns the days from 1970-01-01 to a date of the Gregorian calendar.
//
// Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms.
func dayOfDate(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := (153*((m+9)%12)+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// monthOf returns the year and month of a day counted from 1970-01-01, by the same
// source.
func monthOf(day int64) (y, m int64) {
	day += 719468
	era := floorDiv(day, 146097)
	doe := day - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	m, y = (mp+2)%12+1, yoe+era*400
	if m <= 2 {
		y++
	}
	return y, m
}

func daysIn(y, m int64) int64 {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func floorDiv(x, y int64) int64 {
	q := x / y
	if x%y < 0 {
		q--
	}
	return q
}

// least is before every instant: where no period was begun.
const least = Instant(math.MinInt64)

// An interner keeps one value for each key, as long as it is used.
type interner[K comparable, V any] struct {
	mu     sync.Mutex
	values map[K]weak.Pointer[V]
}

//nolint:gochecknoglobals // equal calendars are one; nothing else can be seen of it
var calendars interner[CalendarSpec, Calendar]

// intern returns the value that is kept for a key; that is v if there is none.
func (in *interner[K, V]) intern(key K, v *V) *V {
	in.mu.Lock()
	defer in.mu.Unlock()
	if kept := in.values[key].Value(); kept != nil {
		return kept
	}
	if in.values == nil {
		in.values = map[K]weak.Pointer[V]{}
	}
	in.values[key] = weak.Make(v)
	runtime.AddCleanup(v, in.forget, key)
	return v
}

// forget removes a key whose value is no longer used.
func (in *interner[K, V]) forget(key K) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if p, ok := in.values[key]; ok && p.Value() == nil {
		delete(in.values, key)
	}
}
