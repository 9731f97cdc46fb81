package bucket

import (
	"fmt"
	"math"
	"time"
)

// A State is one limit of a bucket as a store keeps it. The zero State is absent:
// a limit that was never charged, which is full.
type State struct {
	Definition Definition // under which the other fields were written

	// Mark is, of a rate, in units: see the package comment. Of a quota or session it is
	// the Instant from which is counted: the start of the period, or of the session;
	// before any instant if none was begun. Of slots it is the Instant by which as many
	// are free as were asked for, in a record all, if nobody renews.
	Mark int64
	// Used is, of a quota or session, the tokens used since Mark, less than 0 after a
	// top-up; of slots, those that are held. Of a rate it is 0.
	Used int64
	// Generation identifies the stretch of history in which marks can be compared.
	// A new limit begins one, and so do a reset and a change of kind, rate, burst, calendar
	// or length.
	Generation uint64
}

// A Receipt says which stretch of the axis a charge owns, (Mark − n, Mark], or in
// which period it counts, so that it can be given back. It is the Mark and Generation of
// the State just after the charge; of slots, the Generation of their holder alone.
type Receipt struct {
	Mark       int64
	Generation uint64
}

// Absent reports whether the limit was never charged.
func (s State) Absent() bool { return s.Definition.Burst == 0 }

// Receipt returns the receipt for the charge that led to s.
func (s State) Receipt() Receipt {
	if s.Definition.Kind == Slots {
		return Receipt{Generation: s.Generation}
	}
	return Receipt{Mark: s.Mark, Generation: s.Generation}
}

// Stale reports whether d is older than the definition of s: both are of stored
// limits, and the revision of s is higher. A state must not be redefined by a stale
// definition. A definition named by a call is never stale.
func (s State) Stale(d Definition) bool {
	return d.Rev > 0 && s.Definition.Rev > d.Rev
}

// keepRev is how long a limit is kept for its revision: as long as processes may
// remember the one before.
const keepRev = time.Hour

// Forgettable reports whether a store may forget the limit without the others of its
// bucket: it has been idle since an instant, and its revision, if it has one, is an
// hour older or more. Until then it tells processes that know the limits from before
// a change that they are stale.
func (s State) Forgettable(idle Instant) bool {
	return s.Idle(idle) && s.Definition.Rev <= idle.micros()-keepRev.Microseconds()
}

// Idle reports whether a store may forget the limit, with all others of its bucket, at an
// instant: everything is there again, and nothing of before comes back. In a period
// of which nothing is used a quota or session is full, but not idle: what was topped up may have
// been used, and be given back.
func (s State) Idle(at Instant) bool {
	return s.Full(at) && !s.on(at)
}

// WaitIdle returns the time from an instant until the limit is idle if nobody takes anything.
// It is Never beyond the range. s must not be absent.
func (s State) WaitIdle(at Instant) time.Duration {
	if s.on(at) {
		return s.waitUntil(at, s.UsedAt(at), 0)
	}
	return s.WaitFull(at)
}

// Full reports whether everything is there again at an instant, and nothing more. Slots
// are full when nobody holds one.
func (s State) Full(at Instant) bool {
	switch d := &s.Definition; {
	case s.Absent():
		return true
	case d.Kind == Slots:
		return s.Used == 0 || Instant(s.Mark) <= at
	case d.periodic():
		return s.UsedAt(at) == 0
	case d.Schedule != nil:
		return s.Mark <= d.Schedule.floor(at)
	default:
		return s.Mark <= d.Drip(at)
	}
}

// Available returns the whole tokens that could be taken at an instant: at most the
// burst and what was topped up, negative in debt, and at least the least int64. Of a
// limit that blocks it is 0, of an unlimited one MaxAmount. s must not be absent.
func (s State) Available(at Instant) int64 {
	switch d := &s.Definition; {
	case d.Flags&(Block|Unlimited) != 0:
		if d.Flags&Block != 0 {
			return 0
		}
		return MaxAmount
	case d.Kind == Slots:
		return d.Burst - s.Used
	case d.periodic():
		used := s.UsedAt(at)
		if used < d.Burst-math.MaxInt64 {
			return math.MaxInt64
		}
		return d.Burst - used // Burst > 0: within int64 for every used above
	case d.Schedule != nil:
		return d.Schedule.available(s.Mark, at)
	default:
		return s.availableRate(at)
	}
}

// Overdrawn reports whether the limit is soft and in debt at an instant, so that a hard one would
// have refused. s must not be absent.
func (s State) Overdrawn(at Instant) bool {
	return s.Definition.Flags&Soft != 0 && s.Available(at) < 0
}

// Take returns s after n tokens are taken at an instant, if they fit: of a rate by ahead
// later, of other kinds at once. An n of 0 takes nothing, and fits unless the limit is
// in debt. What is soft or unlimited fits always. If n does not fit, is not in 0 to
// MaxAmount, or ahead is negative, Take returns s and false. s must not be absent.
func (s State) Take(at Instant, n int64, ahead time.Duration) (State, bool) {
	mark, used, ok := Take(&s.Definition, s.Mark, s.Used, at, n, ahead)
	s.Mark, s.Used = mark, used
	return s, ok
}

// Take is [State.Take] for the Mark and Used of a state. It copies no State, which makes
// acquires in memory faster.
func Take(d *Definition, mark, used int64, at Instant, n int64, ahead time.Duration) (newMark, newUsed int64, ok bool) {
	switch {
	case d.Plain():
		mark, ok = TakePlain(d, mark, at, n, ahead)
		return mark, used, ok
	case n < 0 || n > MaxAmount || ahead < 0:
		return mark, used, false
	case d.Flags&(Block|Unlimited) != 0:
		return mark, used, d.Flags&Unlimited != 0 || n == 0
	case d.Flags&Soft != 0:
		mark, used, err := charge(d, mark, used, at, n)
		return mark, used, err == nil
	case d.Kind == Slots:
		if n > 0 && used > d.Burst-n { // 0 never refuses
			return mark, used, false
		}
		return mark, used + n, true
	case d.periodic():
		return takePeriod(d, mark, used, at, n)
	default:
		mark, ok = d.Schedule.take(mark, at, n, ahead)
		return mark, used, ok
	}
}

// Charge returns s after n tokens are taken, whatever is available: it may leave
// debt. s must not be absent. The error matches ErrRange if n is not in 0 to
// MaxAmount or the state would leave int64.
func (s State) Charge(at Instant, n int64) (State, error) {
	mark, used, err := charge(&s.Definition, s.Mark, s.Used, at, n)
	s.Mark, s.Used = mark, used
	return s, err
}

func charge(d *Definition, mark, used int64, at Instant, n int64) (newMark, newUsed int64, err error) {
	switch {
	case n < 0 || n > MaxAmount:
		return mark, used, fmt.Errorf("amount %d is not in 0 to %d: %w", n, MaxAmount, ErrRange)
	case n == 0 || d.Flags&Unlimited != 0:
		return mark, used, nil
	case d.Kind == Slots:
		if used > math.MaxInt64-n {
			return mark, used, errTooMuch(n)
		}
		return mark, used + n, nil
	case d.periodic():
		return chargePeriod(d, mark, used, at, n)
	default:
		mark, err = chargeRate(d, mark, at, n)
		return mark, used, err
	}
}

func errTooMuch(n int64) error {
	return fmt.Errorf("a charge of %d on top of what is owed is more than can be counted: %w", n, ErrRange)
}

// Give returns s after up to n tokens of the charge with receipt r are given back. Of a
// rate that is
//
//	mark' = mark − min(n·unit, max(0, r.Mark − drip(at)))
//
// What the drip has passed has refilled by itself; giving it back would make tokens.
// A mark does not fall below the drip. Nothing is given back if s is of another
// generation, or if the charge is a place in line whose time has not come (r.Mark − drip is
// more than a full bucket has) and another one is behind it. A quota or session gets all of
// n back if the charge was in the period that is on, and nothing otherwise. Slots are
// released by their holder: see [Record.Adjust]. at must be the latest
// instant known for the bucket, so that a clock that is behind gives nothing twice.
func (s State) Give(at Instant, n int64, r Receipt) State {
	give(&s, at, n, r)
	return s
}

func give(s *State, at Instant, n int64, r Receipt) {
	switch d := &s.Definition; {
	case n <= 0 || n > MaxAmount || d.Burst == 0 || s.Generation != r.Generation:
	case d.Flags&Unlimited != 0 || d.Kind == Slots:
	case !d.periodic():
		giveRate(s, at, n, r)
	case s.inPeriod(at, r):
		s.Used -= n
	}
}

// Settle returns s after n tokens more are charged to the period of the charge with
// receipt r, of a quota or session. If that period is over, or s is of another generation or
// kind, nothing is charged. at is as for [State.Give], the error as of [State.Charge].
func (s State) Settle(at Instant, n int64, r Receipt) (State, error) {
	if s.Absent() || s.Generation != r.Generation || !s.Definition.periodic() || !s.inPeriod(at, r) {
		return s, nil
	}
	return s.Charge(at, n)
}

// Adjust charges n tokens to a state, or gives them back if n is less than 0, as [Record.Adjust]
// does it for a charge under definition d with receipt r. Slots it does not give back.
// latest is the later of at and the latest instant known for the bucket, the error as of
// [State.Charge].
func Adjust(s *State, d *Definition, at, latest Instant, n int64, r Receipt) (err error) {
	switch {
	case n < 0:
		if d.Flags&Unlimited == 0 { // what charged nothing owns nothing
			give(s, latest, -n, r)
		}
	case settles(d, n, r):
		*s, err = s.Settle(latest, n, r)
	default:
		s.Mark, s.Used, err = charge(&s.Definition, s.Mark, s.Used, at, n)
	}
	return err
}

// settles reports whether a charge of an adjust counts in the period of a take alone.
func settles(d *Definition, n int64, r Receipt) bool {
	return n > 0 && d.periodic() && r.Generation != 0
}

// Wait returns the time from an instant until n tokens fit: 0 if they fit, and Never
// if they are more than will ever be there or the time is beyond the range. s must not
// be absent, and n not negative.
func (s State) Wait(at Instant, n int64) time.Duration {
	switch d := &s.Definition; {
	case d.Flags&Block != 0:
		if n > 0 {
			return Never
		}
		return 0
	case d.Flags&(Unlimited|Soft) != 0:
		return 0
	case d.Kind == Slots:
		return s.waitSlots(at, n)
	case d.periodic():
		return s.waitPeriod(at, n)
	case d.Schedule != nil:
		return d.Schedule.wait(s.Mark, at, n)
	default:
		return s.waitRate(at, n)
	}
}

// WaitFull returns the time from an instant until everything is there again if nobody
// takes anything: see [State.Full]. What is above the amount of a quota by a top-up is
// gone then too. It is Never beyond the range. s must not be absent.
func (s State) WaitFull(at Instant) time.Duration {
	switch d := &s.Definition; {
	case d.Kind == Slots:
		if s.Used == 0 {
			return 0
		}
		return time.Duration(max(0, Instant(s.Mark)-at))
	case d.periodic():
		return s.waitEnd(at)
	case d.Schedule != nil:
		return d.Schedule.waitFull(s.Mark, at)
	default:
		return s.waitRate(at, d.Burst)
	}
}

func (s State) waitSlots(at Instant, n int64) time.Duration {
	switch d := &s.Definition; {
	case n > d.Burst:
		return Never
	case n == 0 || s.Used <= d.Burst-n:
		return 0
	}
	return time.Duration(max(0, Instant(s.Mark)-at))
}

// TopUp returns s with n tokens more. A quota or session has them on top of its amount
// until its period ends; one that has none on begins. A rate has them up to its burst.
// The error matches ErrRange if n is not in 1 to MaxAmount, if more than MaxAmount
// would be on top, or if the limit is of a kind that cannot be topped up: slots, and what
// is blocked or unlimited. s must not be absent, and at as for [State.Give].
func (s State) TopUp(at Instant, n int64) (State, error) {
	switch d := &s.Definition; {
	case n < 1 || n > MaxAmount:
		return s, fmt.Errorf("amount %d is not in 1 to %d: %w", n, MaxAmount, ErrRange)
	case d.Flags&Block != 0:
		return s, fmt.Errorf("a limit that blocks cannot be topped up: %w", ErrRange)
	case d.Flags&Unlimited != 0:
		return s, fmt.Errorf("an unlimited limit cannot be topped up: %w", ErrRange)
	case d.Kind == Slots:
		return s, fmt.Errorf("slots cannot be topped up: %w", ErrRange)
	case d.periodic():
		mark, used, err := chargePeriod(d, s.Mark, s.Used, at, -n)
		if err != nil || used < -MaxAmount {
			return s, fmt.Errorf("a top-up of %d leaves more than %d on top of the amount: %w", n, MaxAmount, ErrRange)
		}
		s.Mark, s.Used = mark, used
		return s, nil
	default:
		floor := d.floor(at)
		if s.Mark > floor {
			s.Mark -= int64(min(uint64(s.Mark)-uint64(floor), uint64(n*d.Unit())))
		}
		return s, nil
	}
}

// Reset returns s as full: a rate has its burst, the period of a quota begins again, and
// a session has ended. Receipts from before give nothing back. Slots stay as they are.
// s must not be absent.
func (s State) Reset(at Instant) State {
	switch d := &s.Definition; {
	case d.Kind == Slots:
		return s
	case d.periodic():
		s.Mark, s.Used = int64(d.fresh(at, 0)), 0
	default:
		s.Mark = d.floor(at)
	}
	s.Generation++
	return s
}
