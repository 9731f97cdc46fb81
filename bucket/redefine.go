package bucket

import "math"

// Redefine returns s under definition d at an instant. Tokens taken stay taken:
//
//	level' = level, of a rate written as max(mark, drip(at)) + (drip'(at) − drip(at))
//
// so that flipping between definitions makes no tokens. Where a stored limit takes
// the place of an older one (d has a higher Rev, which happens once) and its burst
// or, of other kinds, its periods differ, the level is also capped:
//
//	level' = min(level, Burst') + max(0, level − max(Burst, Burst'))
//
// so that a lowered burst does not turn what was rightly taken into debt.
//
// Where the amount of a quota or session changes, what is used stays and no period
// begins. What is used also stays where its periods change, or it becomes a rate or was
// one; it is counted in the new period that is on. A session of which nothing is used has
// not begun. A change of flags, and of the number
// or hold of slots, leaves the state as it is. A limit that blocks or lifts another one
// keeps its numbers, so that it goes on when the limit holds again. Slots become nothing
// else: s then counts as absent.
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
	old := &s.Definition
	switch {
	case *old == d:
		return s
	case s.Absent() || (old.Kind == Slots) != (d.Kind == Slots):
		return newState(d, at, 0, birth)
	case d.Flags&(Block|Unlimited) != 0:
		flags, rev := d.Flags&(Block|Unlimited)|old.Flags&CarryDebt, d.Rev
		s.Definition.Flags, s.Definition.Rev = flags, rev
		return s
	case old.sameAxis(d):
		if old.Turns(d) {
			s = s.turned(at)
		}
		s.Definition = d
		return s
	case old.periodic():
		s = s.turned(at)
	}
	capped := old.Rev > 0 && d.Rev > old.Rev && (d.Burst != old.Burst || old.periodic() || d.periodic())
	level, unit := s.levelAt(at)
	unit2 := int64(1)
	if d.Kind == Rate {
		unit2 = d.Unit()
	}
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
	next := State{Definition: d, Generation: s.Generation + 1}
	if d.Kind == Rate {
		next.Mark = addLevel(d.floor(at), level)
		return next
	}
	next.Mark, next.Used = s.Mark, addLevel(0, level)
	if old.periodic() {
		if used := s.UsedAt(at); used < 0 { // topped up: that stays until the end
			next.Used = used
		}
	} else {
		next.Mark = int64(d.fresh(at, 0))
	}
	_, since, from := next.turn(at)
	switch {
	case next.Used == 0 && d.Kind == Session:
		next.Mark = int64(least) // a session begins with a use
	case next.Used != 0 && Instant(next.Mark) < since:
		next.Mark = int64(from)
	}
	return next
}

// Turns reports whether [State.Redefine] from d to other, of the same periods, first has
// their ends counted by d: one of them carries debt, and the amount or that changes.
func (d Definition) Turns(other Definition) bool {
	carries := d.Flags&CarryDebt != other.Flags&CarryDebt
	return d.Kind == Quota && (carries || d.Flags&CarryDebt != 0 && d.Burst != other.Burst)
}

// newState returns a limit that was never charged. known is as for fresh.
func newState(d Definition, at, known Instant, birth uint64) State {
	s := State{Definition: d, Generation: birth}
	switch {
	case d.periodic():
		s.Mark = int64(d.fresh(at, known))
	case d.Kind == Rate:
		s.Mark = d.floor(later(at, known))
	}
	return s
}

// levelAt returns what is taken and not yet there again, in units, and how many of them
// a token has.
func (s State) levelAt(at Instant) (level uint64, unit int64) {
	if s.Definition.periodic() {
		return uint64(max(0, s.UsedAt(at))), 1
	}
	return s.level(at), s.Definition.Unit()
}

// addLevel returns from + level, or the greatest int64 if that is beyond it.
func addLevel(from int64, level uint64) int64 {
	if level > uint64(math.MaxInt64)-uint64(from) { // the difference does not wrap, for either sign
		return math.MaxInt64
	}
	return from + int64(level)
}
