package bucket

import (
	"math"
	"time"
)

// A quota or a session is a pair: the instant p from which is counted, and the tokens u
// used since. Periods are compared from one side, as marks are with the drip, so that a
// caller whose clock is behind takes from the later period and none begins twice:
//
//	at        = max(now, p)
//	quota     : since = from = the start of the calendar's period at
//	session   : since = at − Period + 1 ns, from = at
//	used      = u if p ≥ since, else 0; what carries debt: max(0, u − Burst · starts in (p, since])
//	available = Burst − used
//	take n    : allowed iff used + n ≤ Burst;    u' = used + n, p' = p if p ≥ since, else from
//	give n    : u' = u − n, if the receipt has p and p ≥ since
//
// A change of the amount counts at once and keeps what was used.

// Turn returns where the period turns that an instant is in: a state is in it if its Mark
// is since or later, and one that begins it then gets from as its Mark. at must be no
// earlier than the Mark of the state. d must be of a quota or session.
func (d Definition) Turn(at Instant) (since, from Instant) {
	if d.Kind == Quota {
		start, _ := d.Calendar.Period(at)
		return start, start
	}
	return at - Instant(d.Period) + 1, at
}

// fresh returns the Mark of a quota or session of which nothing is used at an instant.
// known is a later one at which nothing was used, or 0: to a clock that is behind, the
// period is that of the later instant.
func (d Definition) fresh(at, known Instant) Instant {
	if d.Kind == Quota {
		start, _ := d.Calendar.Period(later(at, known))
		return start
	}
	if known != 0 && known > at {
		return known
	}
	return least
}

// turn returns the instant that counts for the state, and Definition.Turn of it.
func (s State) turn(at Instant) (counts, since, from Instant) {
	counts = max(at, Instant(s.Mark))
	since, from = s.Definition.Turn(counts)
	return counts, since, from
}

// UsedAt returns the tokens of a quota or session that are used at an instant: less than
// 0 after a top-up.
func (s State) UsedAt(at Instant) int64 {
	_, since, _ := s.turn(at)
	return usedIn(&s.Definition, s.Mark, s.Used, since)
}

// on reports whether the state is of a quota or session whose period is on at an instant.
func (s State) on(at Instant) bool {
	if !s.Definition.periodic() {
		return false
	}
	_, since, _ := s.turn(at)
	return Instant(s.Mark) >= since
}

// usedIn returns the tokens used in the period that turns at since.
func usedIn(d *Definition, mark, used int64, since Instant) int64 {
	if Instant(mark) >= since {
		return used
	}
	if d.Flags&CarryDebt == 0 || used <= d.Burst {
		return 0
	}
	starts := d.Calendar.Starts(Instant(mark), since)
	if starts > used/d.Burst {
		return 0
	}
	return used - d.Burst*starts
}

// turned returns s as it stands in the period that an instant is in: what has ended by its
// definition has ended, whatever comes after it.
func (s State) turned(at Instant) State {
	if _, since, from := s.turn(at); Instant(s.Mark) < since {
		if s.Used = usedIn(&s.Definition, s.Mark, s.Used, since); s.Used != 0 {
			s.Mark = int64(from)
		}
	}
	return s
}

// Period returns the period of a quota or session that an instant is in, and whether there
// is one: a session ends, and there is none until the next use.
func (s State) Period(at Instant) (start, end Instant, ok bool) {
	d := &s.Definition
	if !d.periodic() || s.Absent() {
		return 0, 0, false
	}
	counts, since, _ := s.turn(at)
	if d.Kind == Quota {
		start, end = d.Calendar.Period(counts)
		return start, end, true
	}
	if Instant(s.Mark) < since {
		return 0, 0, false
	}
	return Instant(s.Mark), Instant(s.Mark) + Instant(d.Period), true
}

// takePeriod is Take of a quota or session.
func takePeriod(d *Definition, mark, used int64, at Instant, n int64) (newMark, newUsed int64, ok bool) {
	newMark, newUsed = turned(d, mark, used, at)
	if newUsed > d.Burst-n { // both n and Burst are in range: no overflow
		return mark, used, false
	}
	if n == 0 {
		return mark, used, true
	}
	return newMark, newUsed + n, true
}

// chargePeriod adds n, which may be negative, to what is used.
func chargePeriod(d *Definition, mark, used int64, at Instant, n int64) (newMark, newUsed int64, err error) {
	newMark, newUsed = turned(d, mark, used, at)
	if n > 0 && newUsed > math.MaxInt64-n {
		return mark, used, errTooMuch(n)
	}
	return newMark, newUsed + n, nil
}

// turned returns the Mark and Used of a quota or session that is charged at an instant: a
// new period has begun if the one of mark is over.
func turned(d *Definition, mark, used int64, at Instant) (newMark, newUsed int64) {
	since, from := d.Turn(max(at, Instant(mark)))
	if Instant(mark) >= since {
		return mark, used
	}
	return int64(from), usedIn(d, mark, used, since)
}

// inPeriod reports whether a receipt is of the period that is on.
func (s State) inPeriod(at Instant, r Receipt) bool {
	_, since, _ := s.turn(at)
	return r.Mark == s.Mark && Instant(s.Mark) >= since
}

// waitPeriod is Wait of a quota or session: until the end of the period, or the first
// end that suffices.
func (s State) waitPeriod(at Instant, n int64) time.Duration {
	d, used := &s.Definition, s.UsedAt(at)
	switch {
	case n <= MaxAmount && used <= d.Burst-n:
		return 0
	case n > d.Burst: // an end takes what was topped up with it
		return Never
	}
	return s.waitUntil(at, used, d.Burst-n)
}

// waitEnd returns the time until nothing is used.
func (s State) waitEnd(at Instant) time.Duration {
	used := s.UsedAt(at)
	if used == 0 {
		return 0
	}
	return s.waitUntil(at, used, 0)
}

// waitUntil returns the time until no more than left of what is used is still used: to an
// end of the period.
func (s State) waitUntil(at Instant, used, left int64) time.Duration {
	d := &s.Definition
	if d.Flags&CarryDebt == 0 || used <= d.Burst {
		_, end, _ := s.Period(at)
		return time.Duration(end - at)
	}
	ends := (used - left) / d.Burst
	if (used-left)%d.Burst > 0 {
		ends++
	}
	then, ok := d.Calendar.StartAfter(max(at, Instant(s.Mark)), ends)
	if !ok {
		return Never
	}
	return time.Duration(then - at)
}
