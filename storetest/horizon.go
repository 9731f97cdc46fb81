package storetest

import (
	"fmt"
	"math/big"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/zoneinfo"
)

// A horizon is the time in which a walk takes place. It finds starts of periods and parts
// of schedules by looking at the wall clock every quarter of an hour, as all that it is
// asked about begins at one.
type horizon struct {
	from, to time.Time
	calendar map[*bucket.Calendar][]time.Time
	schedule map[*bucket.Schedule][]piece
}

const quarter = 15 * time.Minute

func newHorizon(from, to time.Time) *horizon {
	return &horizon{
		from: from.Truncate(quarter), to: to,
		calendar: map[*bucket.Calendar][]time.Time{}, schedule: map[*bucket.Schedule][]piece{},
	}
}

// A piece is a time in which a rate is the same, until the next one.
type piece struct {
	start  time.Time
	burst  int64 // thousandths of a token
	amount int64 // thousandths of a token that refill in each period
	period time.Duration
}

// refilled is what refills in a time, in thousandths of a token.
func (p *piece) refilled(d time.Duration) int64 {
	n := new(big.Int).Mul(big.NewInt(p.amount), big.NewInt(int64(d)))
	return n.Div(n, big.NewInt(int64(p.period))).Int64()
}

// needs is the least time in which so many thousandths refill.
func (p *piece) needs(n int64) time.Duration {
	d := new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(p.period)))
	d.Add(d, big.NewInt(p.amount-1))
	return time.Duration(d.Div(d, big.NewInt(p.amount)).Int64())
}

// pieces are those of a rate, in order.
func (h *horizon) pieces(d *bucket.Definition) []piece {
	base := piece{start: h.from, burst: d.Burst * 1000, amount: d.Amount * 1000, period: d.Period}
	if d.Schedule == nil {
		return []piece{base}
	}
	if all, ok := h.schedule[d.Schedule]; ok {
		return all
	}
	windows := d.Schedule.Windows()
	clocks := make([]wallClock, len(windows))
	for i, w := range windows {
		clocks[i].zone = location(w.Zone)
	}
	var all []piece
	for t := h.from; t.Before(h.to); t = t.Add(quarter) {
		p := base
		for i, w := range windows {
			if isIn(w, clocks[i].at(t)) {
				p = partOf(base, w)
				break
			}
		}
		p.start = t
		if n := len(all); n == 0 || all[n-1].burst != p.burst || all[n-1].amount*int64(p.period) != p.amount*int64(all[n-1].period) {
			all = append(all, p)
		}
	}
	h.schedule[d.Schedule] = all
	return all
}

// partOf is the rate in a window.
func partOf(base piece, w bucket.ScheduleWindow) piece {
	p := base
	if w.Times > 0 {
		p.burst = max(1, base.burst/1000*w.Times/1000) * 1000
		p.amount = base.amount * w.Times / 1000
		return p
	}
	if w.Burst > 0 {
		p.burst = w.Burst * 1000
	}
	if w.Amount > 0 {
		p.amount, p.period = w.Amount*1000, w.Period
	}
	return p
}

// isIn reports whether a wall clock is in a window. What ends past midnight is of the day
// on which it begins.
func isIn(w bucket.ScheduleWindow, wall time.Time) bool {
	day := func(t time.Time) bool { return w.Days>>((int(t.Weekday())+6)%7)&1 == 1 }
	minutes := int16(wall.Hour()*60 + wall.Minute())
	if w.From < w.To {
		return day(wall) && minutes >= w.From && minutes < w.To
	}
	return day(wall) && minutes >= w.From || day(wall.AddDate(0, 0, -1)) && minutes < w.To
}

// starts are the instants at which periods of a calendar begin: each is the first at which
// the wall clock is at or past the time of day on a day that it names.
func (h *horizon) starts(c *bucket.Calendar) []time.Time {
	if all, ok := h.calendar[c]; ok {
		return all
	}
	spec := c.Spec()
	var all []time.Time
	if spec.Each.Aligned() {
		all = h.aligned(spec.Each)
	} else {
		clock := wallClock{zone: location(spec.Zone)}
		// On any day: it is not due again before its time of day has come again.
		timeOfDay := func(wall time.Time) time.Time {
			return wall.Add(-time.Duration(spec.At) * time.Minute).Truncate(24 * time.Hour)
		}
		wall := clock.at(h.from)
		came, latest := timeOfDay(wall), due(spec, wall)
		for t := h.from.Add(quarter); t.Before(h.to); t = t.Add(quarter) {
			wall := clock.at(t)
			if at := timeOfDay(wall); at.After(came) {
				came = at
				if d := due(spec, wall); d.After(latest) {
					latest, all = d, append(all, t)
				}
			}
		}
	}
	h.calendar[c] = all
	return all
}

func (h *horizon) aligned(each bucket.Cycle) []time.Time {
	length := map[bucket.Cycle]int64{bucket.EachSecond: 1, bucket.EachMinute: 60, bucket.EachHour: 3600, bucket.Each7Days: 7 * 86400}[each]
	var all []time.Time
	for s := (h.from.Unix()/length + 1) * length; s < h.to.Unix(); s += length {
		all = append(all, time.Unix(s, 0).UTC())
	}
	return all
}

// A wallClock is a wall clock of a zone, asked about instants in order.
type wallClock struct {
	zone   *time.Location
	offset time.Duration // of the zone, until end
	known  bool
	end    time.Time // zero if there is none
}

// at is what the clock shows, as if it were UTC.
func (c *wallClock) at(t time.Time) time.Time {
	if !c.known || !c.end.IsZero() && !t.Before(c.end) {
		in := t.In(c.zone)
		_, seconds := in.Zone()
		_, c.end = in.ZoneBounds()
		c.offset, c.known = time.Duration(seconds)*time.Second, true
	}
	return t.UTC().Add(c.offset)
}

// due is the last time at or before what a wall clock shows at which a period should begin.
func due(spec bucket.CalendarSpec, wall time.Time) time.Time {
	for day := wall.Truncate(24 * time.Hour); ; day = day.AddDate(0, 0, -1) {
		last := day.AddDate(0, 1, -day.Day()).Day()
		switch {
		case spec.Each == bucket.Weekly && (int(day.Weekday())+6)%7 != int(spec.On)-1:
			continue
		case spec.Each == bucket.Monthly && day.Day() != min(int(spec.On), last):
			continue
		case spec.Each == bucket.Yearly && (int(day.Month()) != int(spec.On)/100 || day.Day() != min(int(spec.On)%100, last)):
			continue
		}
		if at := day.Add(time.Duration(spec.At) * time.Minute); !at.After(wall) {
			return at
		}
	}
}

func location(zone string) *time.Location {
	if zone == "" {
		return time.UTC
	}
	l, err := zoneinfo.Location(zone)
	if err != nil {
		panic(fmt.Sprintf("zone %q: %v", zone, err)) // a constant of the checks
	}
	return l
}
