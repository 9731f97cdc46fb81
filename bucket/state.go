package bucket

import (
	"fmt"
	"math"
	"time"
)

// A State is one limit of a bucket as a store keeps it. The zero State is absent:
// a limit that was never charged, which is full.
type State struct {
	Definition Definition // under which the mark was written
	Mark       int64      // in units; see the package comment
	// Generation identifies the stretch of history in which marks can be compared.
	// A new limit begins one, and so does a change of rate or burst.
	Generation uint64
}

// A Receipt says which stretch of the axis a charge owns, (Mark − n, Mark], so
// that it can be given back. It is the Mark and Generation of the State just after
// the charge.
type Receipt struct {
	Mark       int64
	Generation uint64
}

// Absent reports whether the limit was never charged.
func (s State) Absent() bool { return s.Definition.Period == 0 }

// Receipt returns the receipt for the charge that led to s.
func (s State) Receipt() Receipt { return Receipt{Mark: s.Mark, Generation: s.Generation} }

// Stale reports whether d is older than the definition of s: both are of stored
// limits, and the revision of s is higher. A state must not be redefined by a stale
// definition. A definition named by a call is never stale.
func (s State) Stale(d Definition) bool {
	return d.Rev > 0 && s.Definition.Rev > d.Rev
}

// Redefine returns s under definition d at an instant. Tokens taken stay taken:
//
//	level' = level, written as max(mark, drip(at)) + (drip'(at) − drip(at))
//
// so that flipping between definitions makes no tokens. Where a stored limit takes
// the place of an older one (d has a higher Rev, which happens once) the level is
// also capped:
//
//	level' = min(level, Burst') + max(0, level − max(Burst, Burst'))
//
// so that a lowered burst does not turn what was rightly taken into debt.
//
// An absent state becomes full, in generation birth, a number that the caller makes
// unique, such as a random one. at must be the latest instant known for the bucket:
// the new rate counts from it. A definition without a revision, named by a call,
// keeps the revision of s, so that the cap is not given again.
//
// If [Definition.Unit] changes, the level is multiplied and rounded up. A level
// beyond int64 stays at its end. As drips are rounded down, a change may gain less
// than a unit.
func (s State) Redefine(d Definition, at Instant, birth uint64) State {
	if d.Rev == 0 {
		d.Rev = s.Definition.Rev
	}
	if s.Definition == d {
		return s
	}
	if s.Absent() {
		return State{Definition: d, Mark: d.Drip(at), Generation: birth}
	}
	old := s.Definition
	capped := old.Rev > 0 && d.Rev > old.Rev && d.Burst != old.Burst
	if old.SameRefill(d) {
		s.Definition = d
		return s
	}
	unit, unit2 := old.Unit(), d.Unit()
	level := s.level(at, unit)
	switch {
	case unit > unit2: // down to whole tokens
		level = ceilDiv(level, unit/unit2)
	case unit < unit2:
		level = satMul(level, uint64(unit2/unit))
	}
	if capped {
		burst, burst2 := uint64(old.Burst*unit2), uint64(d.Burst*unit2)
		debt := level - min(level, max(burst, burst2))
		level = min(level, burst2) + debt
	}
	drip := d.drip(at, unit2)
	mark := int64(math.MaxInt64)
	if level <= uint64(math.MaxInt64)-uint64(drip) { // drip < 2^63: no wrap for either sign
		mark = drip + int64(level)
	}
	return State{Definition: d, Mark: mark, Generation: s.Generation + 1}
}

// level returns the level in units. A difference of two int64 fits uint64.
func (s State) level(at Instant, unit int64) uint64 {
	if drip := s.Definition.drip(at, unit); s.Mark > drip {
		return uint64(s.Mark) - uint64(drip)
	}
	return 0
}

// Full reports whether everything has refilled at an instant.
func (s State) Full(at Instant) bool {
	return s.Absent() || s.Mark <= s.Definition.Drip(at)
}

// keepRev is how long a limit is kept for its revision: as long as processes may
// remember the one before.
const keepRev = time.Hour

// Forgettable reports whether a store may forget the limit without the others of its
// bucket: it has been full since an instant, and its revision, if it has one, is an
// hour older or more. Until then it tells processes that know the limits from before
// a change that they are stale.
func (s State) Forgettable(full Instant) bool {
	return s.Full(full) && s.Definition.Rev <= full.micros()-keepRev.Microseconds()
}

// Available returns the whole tokens that could be taken at an instant: at most the
// burst, negative in debt, and at least the least int64. s must not be absent.
func (s State) Available(at Instant) int64 {
	unit := s.Definition.Unit()
	level := s.level(at, unit)
	tokens, burst := ceilDiv(level, unit), s.Definition.Burst // floor(burst − level/unit)
	if tokens > uint64(burst) && tokens-uint64(burst) > math.MaxInt64 {
		return math.MinInt64
	}
	return burst - int64(tokens) // fits int64, so that it does not matter if tokens wraps
}

// Take returns s after n tokens are taken at an instant, if they fit by ahead later:
//
//	level(at + ahead) + n·unit ≤ Burst·unit
//
// An n of 0 takes nothing, and fits unless the limit is in debt. If n does not fit,
// is not in 0 to MaxAmount, or ahead is negative, Take returns s and false. s must
// not be absent.
func (s State) Take(at Instant, n int64, ahead time.Duration) (State, bool) {
	mark, ok := Take(&s.Definition, s.Mark, at, n, ahead)
	s.Mark = mark
	return s, ok
}

// Take is [State.Take] for a mark alone: it copies no State, which makes acquires
// in memory faster.
func Take(d *Definition, mark int64, at Instant, n int64, ahead time.Duration) (newMark int64, ok bool) {
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

// Charge returns s after n tokens are taken, whatever is available: it may leave
// debt. s must not be absent. The error matches ErrRange if n is not in 0 to
// MaxAmount or the mark would leave int64.
func (s State) Charge(at Instant, n int64) (State, error) {
	if n < 0 || n > MaxAmount {
		return s, fmt.Errorf("amount %d is not in 0 to %d: %w", n, MaxAmount, ErrRange)
	}
	if n == 0 {
		return s, nil
	}
	unit := s.Definition.Unit()
	mark := max(s.Mark, s.Definition.drip(at, unit))
	if mark > math.MaxInt64-n*unit {
		return s, fmt.Errorf("a charge of %d on top of what is owed is more than can be counted: %w", n, ErrRange)
	}
	s.Mark = mark + n*unit
	return s, nil
}

// Give returns s after up to n tokens of the charge with receipt r are given back:
//
//	mark' = mark − min(n·unit, max(0, r.Mark − drip(at)))
//
// What the drip has passed has refilled by itself; giving it back would make tokens.
// A mark does not fall below the drip. Nothing is given back if s is of another
// generation, or if the charge is a place in line whose time has not come
// (r.Mark − drip > Burst) and another one is behind it. at must be the latest
// instant known for the bucket, so that a clock that is behind gives nothing twice.
func (s State) Give(at Instant, n int64, r Receipt) State {
	if n <= 0 || n > MaxAmount || s.Absent() || s.Generation != r.Generation {
		return s
	}
	unit := s.Definition.Unit()
	drip := s.Definition.drip(at, unit)
	if r.Mark <= drip || s.Mark <= drip {
		return s
	}
	left := uint64(r.Mark) - uint64(drip)
	if left > uint64(s.Definition.Burst*unit) && r.Mark != s.Mark {
		return s
	}
	s.Mark = max(drip, s.Mark-int64(min(uint64(n*unit), left)))
	return s
}

// Wait returns the time from an instant until n tokens fit: 0 if they fit, and Never
// if n is above the burst or the time is beyond the range. s must not be absent, and
// n not negative.
func (s State) Wait(at Instant, n int64) time.Duration {
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
