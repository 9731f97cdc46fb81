package zael

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Kind is how a limit gets back what was taken from it, or that it does not count.
type Kind uint8

// The kinds. The formula of each is in docs/semantics.md.
const (
	KindRate      Kind = iota // tokens refill evenly
	KindQuota                 // an amount in each period of a calendar
	KindWindow                // an amount in each period that begins with its first use
	KindSlots                 // so many are held at once
	KindBlock                 // refuses every amount above 0 at once
	KindUnlimited             // admits everything, and counts it
)

//nolint:gochecknoglobals // a constant table
var kindNames = [...]string{"rate", "quota", "window", "slots", "block", "unlimited"}

// String returns rate, quota, window, slots, block or unlimited.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MarshalText returns the kind as String does.
func (k Kind) MarshalText() ([]byte, error) {
	if int(k) >= len(kindNames) {
		return nil, invalid("Kind", uint8(k), "is none of the constants")
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what MarshalText returns.
func (k *Kind) UnmarshalText(text []byte) error {
	i := slices.Index(kindNames[:], string(text))
	if i < 0 {
		return invalid("Kind", string(text), "is not "+strings.Join(kindNames[:], ", "))
	}
	*k = Kind(i)
	return nil
}

// terms are what a limit has beyond a rate.
type terms struct {
	kind   Kind
	soft   bool
	carry  bool          // of a quota
	each   string        // of a quota: its cycle
	on     string        // of a quota: the day, as it is written; "" is the first
	at     string        // of a quota: the time of day, HH:MM; "" is midnight
	zone   string        // of a quota; "" is UTC
	length time.Duration // of a session; of slots, the hold
	when   string        // of a rate: its windows, as they are written
}

// Each returns a quota of n tokens in each cycle: second, minute, hour, day, week, month,
// year, 7d, 30d or 365d. Weeks begin on Monday, days at midnight in UTC; [Limit.On],
// [Limit.At] and [Limit.In] say otherwise. Second, minute, hour, 7d, 30d and 365d are
// aligned to 1970-01-01T00:00:00Z.
func Each(name string, n int64, cycle string) Limit {
	return Limit{Name: name, Capacity: n, Burst: n, terms: terms{kind: KindQuota, each: cycle}}
}

// EachDay returns a quota of n tokens in each day. See [Each].
func EachDay(name string, n int64) Limit { return Each(name, n, "day") }

// EachWeek returns a quota of n tokens in each week. See [Each].
func EachWeek(name string, n int64) Limit { return Each(name, n, "week") }

// EachMonth returns a quota of n tokens in each month. See [Each].
func EachMonth(name string, n int64) Limit { return Each(name, n, "month") }

// EachYear returns a quota of n tokens in each year. See [Each].
func EachYear(name string, n int64) Limit { return Each(name, n, "year") }

// FromFirstUse returns a limit of n tokens in a period that begins with the first use and
// has a length of 1 s to 366 days. The first use after its end begins the next one.
func FromFirstUse(name string, n int64, length time.Duration) Limit {
	return Limit{Name: name, Capacity: n, Burst: n, terms: terms{kind: KindWindow, length: length}}
}

// defaultHold is the hold of slots that do not say another.
const defaultHold = time.Minute

// AtOnce returns a limit of n slots, 1 to 10⁶: leases hold no more of them at once. A
// process that dies frees its slots within a minute, or what [Limit.Hold] says.
func AtOnce(name string, n int64) Limit {
	return Limit{Name: name, Capacity: n, Burst: n, terms: terms{kind: KindSlots, length: defaultHold}}
}

// Block returns a limit that refuses every request for more than 0 at once.
func Block(name string) Limit { return Limit{Name: name, terms: terms{kind: KindBlock}} }

// Unlimited returns a limit that admits everything, and counts it.
func Unlimited(name string) Limit { return Limit{Name: name, terms: terms{kind: KindUnlimited}} }

// On returns the quota with periods that begin on a day: of a week mon to sun, of a month
// 1 to 31, of a year MM-DD. A day that a month lacks is the month's last; 29 February is
// the 28th in most years.
func (l Limit) On(day string) Limit {
	l.terms.on = day
	return l
}

// At returns the quota with periods that begin at a time of day, HH:MM. A time that is
// missing as clocks are set forward is the end of the gap, and one that occurs twice
// counts once.
func (l Limit) At(clock string) Limit {
	l.terms.at = clock
	return l
}

// In returns the quota with periods by the wall clock of a time zone: a name of the IANA
// database, such as Europe/Berlin.
func (l Limit) In(zone string) Limit {
	l.terms.zone = zone
	return l
}

// CarryDebt returns the quota such that what is used above the amount counts in the
// following periods. Otherwise debt ends with the period.
func (l Limit) CarryDebt() Limit {
	l.terms.carry = true
	return l
}

// Hold returns the limit of slots with another hold: how long after the last sign of life
// of a process its slots are free again, 10 s to 24 h.
func (l Limit) Hold(d time.Duration) Limit {
	l.terms.length = d
	return l
}

// Soft returns the limit such that it charges and reports, but never refuses.
func (l Limit) Soft() Limit {
	l.terms.soft = true
	return l
}

// Kind returns the kind of the limit.
func (l Limit) Kind() Kind { return l.terms.kind }

// IsSoft reports whether the limit never refuses: see [Limit.Soft].
func (l Limit) IsSoft() bool { return l.terms.soft }

// CarriesDebt reports whether what is used above the amount of a quota counts in the
// following periods: see [Limit.CarryDebt].
func (l Limit) CarriesDebt() bool { return l.terms.carry }

// definition returns the numbers of a limit with these terms, checked.
func (t *terms) definition(l *Limit) (bucket.Definition, error) {
	d := bucket.Definition{Burst: l.Burst, Capacity: l.Capacity}
	fail := func(reason string) (bucket.Definition, error) { return d, invalid("Limit "+l.Name, l.text(), reason) }
	if err := t.misplaced(l); err != "" {
		return fail(err)
	}
	if t.soft {
		d.Flags |= bucket.Soft
	}
	switch t.kind {
	case KindBlock:
		return bucket.Blocked(), nil
	case KindUnlimited:
		return bucket.Unbounded(), nil
	case KindRate:
		full := l.withDefaults()
		d.Burst, d.Capacity, d.Amount, d.Period = full.Burst, full.Capacity, l.RefillAmount, l.RefillPeriod
		if l.Burst == 0 { // the error is to be about the amount
			d.Burst = min(max(d.Amount, 1), bucket.MaxAmount)
		}
		if err := l.checked(d); err != nil || t.when == "" {
			return d, err
		}
		windows, reason := t.schedule()
		if reason != "" {
			return fail(reason)
		}
		schedule, err := bucket.NewSchedule(d, windows)
		if err != nil {
			return fail(trimRange(fmt.Errorf("has a window that cannot be: %w", err)) + likeWhen)
		}
		d.Schedule = schedule
		return d, nil
	case KindQuota:
		spec, reason := t.calendar()
		if reason != "" {
			return fail(reason)
		}
		calendar, err := bucket.NewCalendar(spec)
		if err != nil {
			return fail(strings.TrimPrefix(err.Error(), bucket.ErrCalendar.Error()+": "))
		}
		d.Kind, d.Calendar = bucket.Quota, calendar
		if t.carry {
			d.Flags |= bucket.CarryDebt
		}
	case KindWindow:
		d.Kind, d.Period = bucket.Session, t.length
	case KindSlots:
		d.Kind, d.Period = bucket.Slots, t.length
	}
	if d.Capacity == 0 {
		d.Capacity = min(max(d.Burst, 1), bucket.MaxAmount)
	}
	if d.Burst == 0 {
		return fail("has amount 0: to block, write " + l.Name + "=0/min")
	}
	return d, l.checked(d)
}

// misplaced returns what is wrong with terms that do not go together, or "".
func (t *terms) misplaced(l *Limit) string {
	counts := t.kind != KindBlock && t.kind != KindUnlimited
	switch {
	case t.kind > KindUnlimited:
		return "is of an unknown kind"
	case t.kind != KindQuota && (t.on != "" || t.at != "" || t.zone != ""):
		return `has a day, a time or a zone, which go with "each": write it like "q=100 each day at 06:00 Europe/Berlin"`
	case t.kind != KindQuota && t.carry:
		return `carries debt, which goes with "each" alone: other kinds keep debt until it has refilled`
	case t.kind != KindRate && t.when != "":
		return "has a window, which goes with a rate" + likeWhen
	case t.kind != KindWindow && t.kind != KindSlots && t.length != 0:
		return `has a hold, which goes with "at once": write it like "parallel=20 at once hold 5min"`
	case t.soft && !counts:
		return "is soft, and refuses " + map[bool]string{true: "everything", false: "nothing"}[t.kind == KindBlock] + ": leave out soft"
	case t.kind != KindRate && (l.RefillAmount != 0 || l.RefillPeriod != 0):
		return "has a refill, which goes with a rate: leave out RefillAmount and RefillPeriod"
	case !counts && (l.Burst != 0 || l.Capacity != 0):
		return "has a burst or a capacity, which go with limits that count: leave them out"
	}
	return ""
}

//nolint:gochecknoglobals // a constant table
var weekdays = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// calendar returns the spec of a quota's calendar, or what is wrong with it.
func (t *terms) calendar() (spec bucket.CalendarSpec, reason string) {
	cycle, ok := bucket.ParseCycle(t.each)
	if !ok {
		return spec, fmt.Sprintf("has %q after each: write second, minute, hour, day, week, month, year, 7d, 30d or 365d", t.each)
	}
	spec = bucket.CalendarSpec{Each: cycle, Zone: t.zone}
	if cycle.Aligned() && (t.on != "" || t.at != "" || t.zone != "") {
		return spec, fmt.Sprintf("has a day, a time or a zone, but each %s is aligned to 1970-01-01T00:00:00Z: leave them out, or write each day, week, month or year", t.each)
	}
	if t.on != "" {
		if spec.On, reason = parseDay(cycle, t.on); reason != "" {
			return spec, reason
		}
	}
	if t.at != "" {
		minutes, ok := parseClock(t.at)
		if !ok || minutes == 24*60 {
			return spec, fmt.Sprintf("has the time %q: write HH:MM, 00:00 to 23:59", t.at)
		}
		spec.At = int16(minutes)
	}
	return spec, ""
}

// parseDay returns the day of a cycle on which its periods begin.
func parseDay(cycle bucket.Cycle, day string) (on int16, reason string) {
	switch cycle {
	case bucket.Weekly:
		for i, name := range weekdays {
			if day == name {
				return int16(i + 1), ""
			}
		}
		return 0, fmt.Sprintf("has the day %q of a week: write on mon, tue, wed, thu, fri, sat or sun", day)
	case bucket.Monthly:
		if n, err := strconv.ParseUint(day, 10, 8); err == nil && n >= 1 && n <= 31 {
			return int16(n), ""
		}
		return 0, fmt.Sprintf("has the day %q of a month: write on 1 to on 31", day)
	case bucket.Yearly:
		if date, err := time.Parse(time.DateOnly, "2000-"+day); err == nil {
			return int16(int(date.Month())*100 + date.Day()), ""
		}
		return 0, fmt.Sprintf("has the day %q of a year: write on MM-DD, as in on 02-29", day)
	}
	return 0, fmt.Sprintf("has a day beside each %v: write each week on mon, each month on 15, or each year on 04-01", cycle)
}

// parseClock returns the minutes after midnight of HH:MM, up to 24:00.
func parseClock(s string) (minutes int, ok bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	h, err := strconv.ParseUint(s[:2], 10, 8)
	m, err2 := strconv.ParseUint(s[3:], 10, 8)
	minutes = int(h*60 + m)
	return minutes, err == nil && err2 == nil && m < 60 && minutes <= 24*60
}

// setTerms writes the terms of a definition that is not a plain rate.
func setTerms(l *Limit, d *bucket.Definition) {
	t := &l.terms
	t.soft = d.Flags&bucket.Soft != 0
	switch {
	case d.Flags&bucket.Block != 0:
		*l = Block(l.Name)
	case d.Flags&bucket.Unlimited != 0:
		*l = Unlimited(l.Name)
	case d.Schedule != nil:
		t.when = whenText(d.Schedule.Windows())
	case d.Kind == bucket.Session:
		t.kind, t.length = KindWindow, d.Period
		l.RefillPeriod = 0
	case d.Kind == bucket.Slots:
		t.kind, t.length = KindSlots, d.Period
		l.RefillPeriod = 0
	case d.Kind == bucket.Quota:
		t.kind, t.carry = KindQuota, d.Flags&bucket.CarryDebt != 0
		t.setCalendar(d.Calendar.Spec())
	}
}

// setCalendar writes a calendar without what is the default.
func (t *terms) setCalendar(spec bucket.CalendarSpec) {
	t.each = spec.Each.String()
	switch first := spec.On == 1 || spec.On == 101; {
	case first:
	case spec.Each == bucket.Weekly:
		t.on = weekdays[spec.On-1]
	case spec.Each == bucket.Monthly:
		t.on = strconv.Itoa(int(spec.On))
	case spec.Each == bucket.Yearly:
		t.on = fmt.Sprintf("%02d-%02d", spec.On/100, spec.On%100)
	}
	if spec.At != 0 {
		t.at = fmt.Sprintf("%02d:%02d", spec.At/60, spec.At%60)
	}
	if spec.Zone != "UTC" {
		t.zone = spec.Zone
	}
}
