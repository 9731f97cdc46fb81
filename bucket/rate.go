package bucket

import (
	"math"
	"math/bits"
	"time"
)

// faster reports whether the rate is above perSecond.
func (d Definition) faster(perSecond int64) bool {
	h1, l1 := bits.Mul64(uint64(d.Amount), uint64(time.Second))
	h2, l2 := bits.Mul64(uint64(perSecond), uint64(d.Period))
	return h1 > h2 || h1 == h2 && l1 > l2
}

// Unit returns the number of mark units in a token: 1000, or 1 if the rate is above
// 1,000,000 tokens a second.
func (d Definition) Unit() int64 {
	if d.Amount > fineRate*int64(MinPeriod/time.Second) && d.faster(fineRate) {
		return 1
	}
	if d.Schedule != nil {
		return d.Schedule.unit
	}
	return milli
}

// Drip returns the place on the axis that refill has reached at an instant, in
// units. It does not fall as at rises, and is negative before Epoch.
func (d Definition) Drip(at Instant) int64 {
	return d.drip(at, d.Unit())
}

func (d Definition) drip(at Instant, unit int64) int64 {
	rate := uint64(d.Amount * unit)
	if at >= 0 {
		hi, lo := bits.Mul64(uint64(at), rate)
		q, _ := bits.Div64(hi, lo, uint64(d.Period))
		return int64(q)
	}
	hi, lo := bits.Mul64(uint64(-at), rate)
	q, r := bits.Div64(hi, lo, uint64(d.Period))
	if r > 0 {
		q++
	}
	return -int64(q)
}

// reaches returns the first instant at which Drip is target or more, or Never's
// value if that is beyond int64. A negative target must be a drip within the range.
func (d Definition) reaches(target, unit int64) Instant {
	rate := uint64(d.Amount * unit)
	if target > 0 {
		hi, lo := bits.Mul64(uint64(target), uint64(d.Period))
		if hi >= rate {
			return math.MaxInt64
		}
		q, r := bits.Div64(hi, lo, rate)
		if r > 0 {
			q++
		}
		if q > math.MaxInt64 {
			return math.MaxInt64
		}
		return Instant(q)
	}
	hi, lo := bits.Mul64(uint64(-target), uint64(d.Period))
	q, _ := bits.Div64(hi, lo, rate)
	return -Instant(q)
}

// Floor returns the mark at which a rate is full at an instant, and Ceiling the one at which
// nothing is left: see [Schedule]. They are drip and drip + Burst·unit if there is no schedule.
func (d Definition) Floor(at Instant) int64 { return d.floor(at) }

// Ceiling returns the mark at which nothing is left of a rate at an instant: see
// [Definition.Floor].
func (d Definition) Ceiling(at Instant) int64 {
	if d.Schedule != nil {
		return d.Schedule.at(at).refill
	}
	return d.Drip(at) + d.Burst*d.Unit()
}

// floor returns the mark at which a rate is full at an instant.
func (d Definition) floor(at Instant) int64 {
	if d.Schedule != nil {
		return d.Schedule.floor(at)
	}
	return d.Drip(at)
}

// level returns the level of a rate in units. A difference of two int64 fits uint64.
func (s State) level(at Instant) uint64 {
	if floor := s.Definition.floor(at); s.Mark > floor {
		return uint64(s.Mark) - uint64(floor)
	}
	return 0
}

// availableRate is Available of a rate without a schedule.
func (s State) availableRate(at Instant) int64 {
	unit := s.Definition.Unit()
	level := s.level(at)
	tokens, burst := ceilDiv(level, unit), s.Definition.Burst // floor(burst − level/unit)
	if tokens > uint64(burst) && tokens-uint64(burst) > math.MaxInt64 {
		return math.MinInt64
	}
	return burst - int64(tokens) // fits int64, so that it does not matter if tokens wraps
}

// TakePlain is [Take] for a plain rate: see [Definition.Plain]. n fits by ahead later if
//
//	level(at + ahead) + n·unit ≤ Burst·unit
func TakePlain(d *Definition, mark int64, at Instant, n int64, ahead time.Duration) (newMark int64, ok bool) {
	if n < 0 || n > d.Burst || ahead < 0 {
		return mark, false
	}
	unit := d.Unit()
	drip := d.drip(at, unit)
	base := max(mark, drip)
	room := drip
	if ahead > 0 {
		room = d.drip(at.Add(ahead), unit)
	}
	// base ≤ room + (burst − n)·unit, without leaving int64.
	if base > room && uint64(base)-uint64(room) > uint64((d.Burst-n)*unit) {
		return mark, false
	}
	if n == 0 {
		return mark, true
	}
	return base + n*unit, true // no more than room + burst: within int64
}

// chargeRate is charge of a rate.
func chargeRate(d *Definition, mark int64, at Instant, n int64) (newMark int64, err error) {
	unit := d.Unit()
	base := max(mark, d.floor(at))
	if base > math.MaxInt64-n*unit {
		return mark, errTooMuch(n)
	}
	return base + n*unit, nil
}

// giveRate is give of a rate.
func giveRate(s *State, at Instant, n int64, r Receipt) {
	unit := s.Definition.Unit()
	drip := s.Definition.floor(at)
	if r.Mark <= drip || s.Mark <= drip {
		return
	}
	left, full := uint64(r.Mark)-uint64(drip), uint64(s.Definition.Burst*unit)
	if s.Definition.Schedule != nil {
		full = uint64(s.Definition.Ceiling(at)) - uint64(drip)
	}
	if left > full && r.Mark != s.Mark {
		return
	}
	s.Mark = max(drip, s.Mark-int64(min(uint64(n*unit), left)))
}

// waitRate is Wait of a rate without a schedule.
func (s State) waitRate(at Instant, n int64) time.Duration {
	d := s.Definition
	if n > d.Burst {
		return Never
	}
	unit := d.Unit()
	drip := d.drip(at, unit)
	room := (d.Burst - n) * unit
	if s.Mark <= drip || uint64(s.Mark)-uint64(drip) <= uint64(room) {
		return 0
	}
	then := d.reaches(s.Mark-room, unit)
	if then == math.MaxInt64 || at < 0 && then > math.MaxInt64+at {
		return Never
	}
	return time.Duration(then - at)
}

func ceilDiv(x uint64, unit int64) uint64 {
	u := uint64(unit)
	q := x / u
	if x%u > 0 {
		q++
	}
	return q
}

func satMul(x, factor uint64) uint64 {
	if x > math.MaxUint64/factor {
		return math.MaxUint64
	}
	return x * factor
}
