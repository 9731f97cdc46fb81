package bucket

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael/internal/zoneinfo"
)

// A ScheduleWindow is a time of the week in which a rate has another burst or refill.
type ScheduleWindow struct {
	Days uint8 // on which it begins: bit 0 is Monday
	// From and To are minutes after midnight of the wall clock. A To that is not after From
	// is on the next day. To may be 1440.
	From, To int16
	Zone     string // "" is UTC

	// Either Times, the thousandths by which burst and refill are multiplied, the burst
	// floored to whole tokens and at least 1; or the others, of which 0 is the rate's own.
	Times         int64
	Burst, Amount int64
	Period        time.Duration
}

// MaxWindows is how many windows a schedule has at most.
const MaxWindows = 16

// ErrSchedule is matched by errors about schedules that cannot be.
var ErrSchedule = errors.New("no such schedule")

// A Schedule is a rate with windows by wall clock: the first that an instant is in decides,
// and outside of them the rate itself. Refill is integrated over time:
//
//	ceiling(t) = R(t), the refill from Epoch to t in the rates that were in force
//	floor(t)   = the greatest R(s) − burst(s) of all s ≤ t
//	take n     : allowed iff max(mark, floor) + n·unit ≤ ceiling;    mark' = max(mark, floor) + n·unit
//
// Neither falls, so it makes no difference whether anybody asked in a window, and a
// lower burst makes no debt. Windows in an hour that is missing do not occur, and in
// one that occurs twice last two. Schedules of equal rates and windows are one: compare
// them with ==. They never change, and may be used concurrently.
type Schedule struct {
	burst, amount int64 // of the rate
	period        time.Duration
	windows       []ScheduleWindow
	zones         []*zoneinfo.Zone // of the windows
	unit          int64
	parts         []schedulePart // the rate's, then those of the windows

	mu     sync.Mutex
	begins []scheduleBegin // of the weeks from firstWeek on, as far as they were needed
	last   atomic.Pointer[scheduleWeek]
	seen   atomic.Pointer[scheduleSight]
}

// A schedulePart is what is in force in a window: amount thousandths in each period.
type schedulePart struct {
	burst  int64 // in units
	amount int64
	period time.Duration
}

// A scheduleBegin is the refill and the floor at the beginning of a week.
type scheduleBegin struct{ refill, floor int64 }

// A scheduleWeek is one week from an instant that is a whole number of weeks from Epoch.
type scheduleWeek struct {
	number int64
	pieces []schedulePiece
	end    scheduleBegin
}

// A schedulePiece is a time in which one part is in force, until the next one.
type schedulePiece struct {
	start Instant
	part  int
	scheduleBegin
}

const (
	week      = Instant(7 * 24 * time.Hour)
	firstWeek = -int64(MaxInstant/week) - 2
)

//nolint:gochecknoglobals // equal schedules are one; nothing else can be seen of it
var schedules interner[string, Schedule]

// NewSchedule returns the schedule of a rate and 1 to MaxWindows windows. The error matches
// ErrSchedule or ErrRange and says what is wrong.
func NewSchedule(rate Definition, windows []ScheduleWindow) (*Schedule, error) {
	if len(windows) < 1 || len(windows) > MaxWindows {
		return nil, fmt.Errorf("%w: %d windows are not 1 to %d", ErrSchedule, len(windows), MaxWindows)
	}
	sc := &Schedule{burst: rate.Burst, amount: rate.Amount, period: rate.Period, windows: slices.Clone(windows), unit: milli}
	all := []Definition{{Burst: rate.Burst, Amount: rate.Amount, Period: rate.Period, Capacity: 1}}
	times := []int64{milli}
	for i := range sc.windows {
		w := &sc.windows[i]
		d, factor, err := sc.window(w)
		if err != nil {
			return nil, err
		}
		zone, err := zoneinfo.Load(w.Zone)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSchedule, err)
		}
		all, times, sc.zones = append(all, d), append(times, factor), append(sc.zones, zone)
	}
	for i, d := range all {
		if err := d.Validate(); err != nil {
			return nil, err
		}
		if d.Amount > math.MaxInt64/times[i] {
			return nil, fmt.Errorf("%w: amount %d times %d thousandths is too much", ErrSchedule, d.Amount, times[i])
		}
		scaled := Definition{Amount: d.Amount * times[i], Period: d.Period}
		if scaled.faster(MaxRate * milli) {
			return nil, fmt.Errorf("rate %d per %v times %d thousandths is above %d tokens a second: %w", d.Amount, d.Period, times[i], MaxRate, ErrRange)
		}
		if scaled.faster(fineRate * milli) {
			sc.unit = 1
		}
		sc.parts = append(sc.parts, schedulePart{burst: d.Burst, amount: scaled.Amount, period: d.Period})
	}
	for i := range sc.parts {
		sc.parts[i].burst *= sc.unit
	}
	key := fmt.Sprint(sc.burst, sc.amount, sc.period, sc.windows)
	return schedules.intern(key, sc), nil
}

// window fills in the defaults of a window, and returns its burst and rate, and the
// thousandths by which the latter is multiplied.
func (sc *Schedule) window(w *ScheduleWindow) (d Definition, times int64, err error) {
	if w.Zone == "" {
		w.Zone = "UTC"
	}
	d, times = Definition{Burst: w.Burst, Amount: w.Amount, Period: w.Period, Capacity: 1}, milli
	switch {
	case w.Days == 0 || w.Days > 0x7f:
		return d, 0, fmt.Errorf("%w: a window has no days", ErrSchedule)
	case w.From < 0 || w.From >= 24*60 || w.To < 0 || w.To > 24*60:
		return d, 0, fmt.Errorf("%w: times of day %d to %d are not in 0 to 1440 minutes", ErrSchedule, w.From, w.To)
	case w.Times != 0 && (w.Burst != 0 || w.Amount != 0 || w.Period != 0):
		return d, 0, fmt.Errorf("%w: a window multiplies the rate and has another one", ErrSchedule)
	case w.Times < 0 || w.Times > 1000*milli || w.Times == 0 && w.Burst == 0 && w.Amount == 0:
		return d, 0, fmt.Errorf("%w: a window has neither 1 to 1000000 thousandths nor a burst or an amount", ErrSchedule)
	case (w.Amount == 0) != (w.Period == 0):
		return d, 0, fmt.Errorf("%w: a window has an amount without a period, or a period without an amount", ErrSchedule)
	}
	if w.Times != 0 {
		times = w.Times
		hi, lo := bits.Mul64(uint64(sc.burst), uint64(times))
		burst, _ := bits.Div64(hi, lo, milli)
		return Definition{Burst: int64(max(1, min(burst, uint64(math.MaxInt64)))), Amount: sc.amount, Period: sc.period, Capacity: 1}, times, nil
	}
	if d.Burst == 0 {
		d.Burst = sc.burst
	}
	if d.Amount == 0 {
		d.Amount, d.Period = sc.amount, sc.period
	}
	return d, times, nil
}

// Windows returns the windows with their defaults filled in.
func (sc *Schedule) Windows() []ScheduleWindow { return slices.Clone(sc.windows) }

// fits reports whether the schedule was made by NewSchedule for the rate of d.
func (sc *Schedule) fits(d *Definition) bool {
	return len(sc.parts) > 0 && sc.burst == d.Burst && sc.amount == d.Amount && sc.period == d.Period
}

// maxBurst returns the greatest burst, in units.
func (sc *Schedule) maxBurst() int64 {
	most := int64(0)
	for i := range sc.parts {
		most = max(most, sc.parts[i].burst)
	}
	return most
}

// refillIn returns what refills in a time of no more than a week, in units.
func (sc *Schedule) refillIn(part int, d Instant) int64 {
	p := &sc.parts[part]
	hi, lo := bits.Mul64(uint64(d), uint64(p.amount))
	q, _ := bits.Div64(hi, lo, uint64(p.period)) // thousandths
	return int64(q / uint64(milli/sc.unit))
}

// timeFor returns the least time in which so much refills, and whether that is in range.
func (sc *Schedule) timeFor(part int, units int64) (Instant, bool) {
	p := &sc.parts[part]
	if units > math.MaxInt64/(milli/sc.unit) {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(units*(milli/sc.unit)), uint64(p.period))
	if hi >= uint64(p.amount) {
		return 0, false
	}
	q, r := bits.Div64(hi, lo, uint64(p.amount))
	if r > 0 {
		q++
	}
	return Instant(min(q, math.MaxInt64)), q <= math.MaxInt64
}

// week returns the week that an instant is in.
func (sc *Schedule) week(at Instant) *scheduleWeek {
	number := floorDiv(int64(at), int64(week))
	w := sc.last.Load()
	if w == nil || w.number != number {
		w = sc.makeWeek(number, sc.begin(number))
		sc.last.Store(w)
	}
	return w
}

// begin returns the refill and the floor at the beginning of a week, of which all that
// come before are made once.
func (sc *Schedule) begin(number int64) scheduleBegin {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if len(sc.begins) == 0 {
		sc.begins = append(sc.begins, scheduleBegin{0, math.MinInt64})
	}
	for n := firstWeek + int64(len(sc.begins)) - 1; n < max(number, 0); n++ {
		sc.begins = append(sc.begins, sc.makeWeek(n, sc.begins[len(sc.begins)-1]).end)
		if n != -1 {
			continue
		}
		shift := sc.begins[len(sc.begins)-1].refill // so that it is 0 at Epoch
		for i := range sc.begins {
			b := &sc.begins[i]
			if b.refill -= shift; b.floor != math.MinInt64 {
				b.floor -= shift
			}
		}
	}
	return sc.begins[number-firstWeek]
}

// makeWeek returns a week that begins like that.
func (sc *Schedule) makeWeek(number int64, begin scheduleBegin) *scheduleWeek {
	start := Instant(number) * week
	w := &scheduleWeek{number: number}
	for _, unix := range sc.changes(start) {
		part := sc.inForce(unix)
		if n := len(w.pieces); n > 0 {
			if w.pieces[n-1].part == part {
				continue
			}
			begin = sc.after(&w.pieces[n-1], instantOfUnix(unix))
		}
		w.pieces = append(w.pieces, schedulePiece{instantOfUnix(unix), part, begin})
	}
	w.end = sc.after(&w.pieces[len(w.pieces)-1], start+week)
	return w
}

// after returns the refill and the floor at an instant in a piece, or at its end.
func (sc *Schedule) after(p *schedulePiece, at Instant) scheduleBegin {
	refill := p.refill + sc.refillIn(p.part, at-p.start)
	return scheduleBegin{refill, max(p.floor, refill-sc.parts[p.part].burst)}
}

// changes returns the times, in seconds since 1970, in the week from an instant at which
// another part may come into force; the first is the beginning.
func (sc *Schedule) changes(start Instant) []int64 {
	from := int64(start/Instant(time.Second)) + epochUnix
	to := from + int64(week/Instant(time.Second))
	all := []int64{from}
	for i := range sc.windows {
		w, zone := &sc.windows[i], sc.zones[i]
		for t := from; t < to; {
			offset, end := zone.Offset(t), to
			if at, ok := zone.Changes(t); ok && at < to {
				end = at
			}
			all = append(all, t)
			for day := floorDiv(t+offset, 24*3600); day <= floorDiv(end+offset, 24*3600); day++ {
				for _, minutes := range [2]int16{w.From, w.To} {
					if at := day*24*3600 + int64(minutes)*60 - offset; at >= t && at < end {
						all = append(all, at)
					}
				}
			}
			t = end
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inForce returns the part that is in force at a time, in seconds since 1970.
func (sc *Schedule) inForce(unix int64) int {
	for i := range sc.windows {
		w := &sc.windows[i]
		wall := unix + sc.zones[i].Offset(unix)
		day := floorDiv(wall, 24*3600)
		second := wall - day*24*3600
		weekday := (day + 3) - floorDiv(day+3, 7)*7 // 1970-01-01 was a Thursday
		today, yesterday := w.Days>>weekday&1 == 1, w.Days>>((weekday+6)%7)&1 == 1
		from, to := int64(w.From)*60, int64(w.To)*60
		if from < to && today && second >= from && second < to ||
			from >= to && (today && second >= from || yesterday && second < to) {
			return i + 1
		}
	}
	return 0
}

// at returns the refill and the floor at an instant.
func (sc *Schedule) at(at Instant) scheduleBegin {
	w := sc.week(at)
	i, found := slices.BinarySearchFunc(w.pieces, at, func(p schedulePiece, at Instant) int { return int(min(1, max(-1, p.start-at))) })
	if !found {
		i--
	}
	return sc.after(&w.pieces[i], at)
}

// floor returns the mark at which a bucket is full at an instant.
func (sc *Schedule) floor(at Instant) int64 { return sc.at(at).floor }

// available returns the whole tokens that are left at an instant.
func (sc *Schedule) available(mark int64, at Instant) int64 {
	b := sc.at(at)
	if mark = max(mark, b.floor); mark > b.refill && uint64(mark)-uint64(b.refill) > math.MaxInt64 {
		return math.MinInt64
	}
	return floorDiv(b.refill-mark, sc.unit)
}

// take returns the mark after n tokens, in 0 to MaxAmount, are taken at an instant if they
// fit by ahead later.
func (sc *Schedule) take(mark int64, at Instant, n int64, ahead time.Duration) (int64, bool) {
	now, then := sc.at(at), sc.at(at.Add(ahead))
	base := max(mark, now.floor)
	need := uint64(n * sc.unit)
	for _, m := range [2]int64{base, then.floor} {
		if m > then.refill || uint64(then.refill)-uint64(m) < need {
			return mark, false
		}
	}
	if n == 0 {
		return mark, true
	}
	return base + n*sc.unit, true
}

// wait returns the time from an instant until n tokens fit, or Never.
func (sc *Schedule) wait(mark int64, at Instant, n int64) time.Duration {
	if n > sc.maxBurst()/sc.unit || n*sc.unit > sc.sight(at).burst {
		return Never
	}
	need := n * sc.unit
	least := max(mark, sc.floor(at))
	if least > math.MaxInt64-need {
		return Never
	}
	return sc.first(at, least+need, func(p *schedulePiece, from scheduleBegin) (target int64, ok bool) {
		base := max(mark, from.floor)
		return base + need, need <= sc.parts[p.part].burst && base <= math.MaxInt64-need
	})
}

// waitFull returns the time from an instant until the mark is no higher than the floor.
func (sc *Schedule) waitFull(mark int64, at Instant) time.Duration {
	if mark <= sc.floor(at) {
		return 0
	}
	return sc.first(at, mark, func(p *schedulePiece, _ scheduleBegin) (target int64, ok bool) {
		burst := sc.parts[p.part].burst
		return mark + burst, mark <= math.MaxInt64-burst
	})
}

// first returns the time from an instant until the refill reaches what target says of the
// piece that is on then, which is least at least. target is told the refill and the floor where
// the piece begins, or at the instant.
func (sc *Schedule) first(at Instant, least int64, target func(*schedulePiece, scheduleBegin) (int64, bool)) time.Duration {
	for start := sc.skip(at, least); start <= MaxInstant; start = sc.skip(start, least) {
		w := sc.week(start)
		next := Instant(w.number+1) * week
		for i := range w.pieces {
			p := &w.pieces[i]
			end := next
			if i+1 < len(w.pieces) {
				end = w.pieces[i+1].start
			}
			if end <= start {
				continue
			}
			from := p.scheduleBegin
			if p.start < start {
				from = sc.after(p, start)
			}
			goal, ok := target(p, from)
			if !ok {
				continue
			}
			if goal <= from.refill {
				return time.Duration(max(p.start, start) - at)
			}
			if d, ok := sc.timeFor(p.part, goal-p.refill); ok && d < end-p.start {
				return time.Duration(p.start + d - at)
			}
		}
		start = next
	}
	return Never
}
