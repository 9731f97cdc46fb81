package bucket

import (
	"fmt"
	"time"
)

// A Kind is how a limit gets back what was taken from it.
type Kind uint32

// The kinds of limits. The zero value is a rate.
const (
	Rate    Kind = iota // Amount tokens refill in each Period, evenly, until there are Burst
	Quota               // Burst tokens are there in each period of the Calendar
	Session             // Burst tokens are there in each Period, which begins at the first use
	Slots               // Burst slots are held, until they are released or not renewed for Period
)

// String returns rate, quota, window or slots.
func (k Kind) String() string {
	switch k {
	case Rate:
		return "rate"
	case Quota:
		return "quota"
	case Session:
		return "window"
	case Slots:
		return "slots"
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// Flags change how a limit decides.
type Flags uint32

// The flags.
const (
	Soft      Flags = 1 << iota // charges and reports, but never refuses
	CarryDebt                   // of a quota: what is used above its amount counts in the next periods
	// Block refuses every amount above 0, as one that never fits. The numbers beside it
	// are those of the limit that it blocks, whose state stays as it is.
	Block
	// Unlimited admits everything and leaves the state as it is. The numbers beside it
	// are those of the limit that it lifts.
	Unlimited

	allFlags = Soft | CarryDebt | Block | Unlimited
)

// A Definition is one limit in numbers. Two definitions are compared with ==.
type Definition struct {
	Burst    int64         // tokens that a full bucket holds, the amount of a quota, or the number of slots: 1 to MaxAmount, of slots to MaxSlots
	Amount   int64         // of a rate: tokens that refill in each Period, 1 to MaxAmount; of other kinds 0
	Period   time.Duration // of a rate and a session: MinPeriod to MaxPeriod; of slots, how long one is held without a renewal: MinHold to MaxHold; of a quota 0
	Capacity int64         // nominal tokens, for reports only; 1 to Burst
	Rev      int64         // revision of the stored limit, µs since 1970; 0 for a limit named by the call. In a State: the highest seen
	Kind     Kind
	Flags    Flags
	Calendar *Calendar // of a quota
	Schedule *Schedule // of a rate: its windows by wall clock; nil if there are none
}

// Ranges of slots.
const (
	MaxSlots int64 = 1e6
	MinHold        = 10 * time.Second
	MaxHold        = 24 * time.Hour
)

// Blocked returns the definition of a limit that was blocked before it was used.
func Blocked() Definition { return flagged(Block) }

// Unbounded returns the definition of a limit that was unlimited before it was used.
func Unbounded() Definition { return flagged(Unlimited) }

func flagged(f Flags) Definition {
	return Definition{Burst: 1, Amount: 1, Period: time.Minute, Capacity: 1, Flags: f}
}

// Plain reports whether d is a rate without flags and schedule: its state is the mark
// alone, and [Take] may be used for it.
func (d Definition) Plain() bool {
	return d.Kind == Rate && d.Flags == 0 && d.Schedule == nil
}

// periodic reports whether the state is a period and what was used in it.
func (d Definition) periodic() bool { return d.Kind == Quota || d.Kind == Session }

// Validate returns an error that names the first number out of range, and matches
// ErrRange.
func (d Definition) Validate() error {
	most := MaxAmount
	if d.Kind == Slots {
		most = MaxSlots
	}
	switch {
	case d.Burst < 1 || d.Burst > most:
		return fmt.Errorf("%s %d is not in 1 to %d: %w", d.amountName(), d.Burst, most, ErrRange)
	case d.Rev < 0:
		return fmt.Errorf("revision %d is negative: %w", d.Rev, ErrRange)
	case d.Kind > Slots:
		return fmt.Errorf("kind %d is not known: %w", uint32(d.Kind), ErrRange)
	}
	if err := d.validateFlags(); err != nil {
		return err
	}
	if err := d.validateKind(); err != nil {
		return err
	}
	if d.Capacity < 1 || d.Capacity > d.Burst {
		return fmt.Errorf("capacity %d is not in 1 to the %s, %d: %w", d.Capacity, d.amountName(), d.Burst, ErrRange)
	}
	return nil
}

// amountName returns what Burst is called.
func (d Definition) amountName() string {
	switch d.Kind {
	case Quota, Session:
		return "amount"
	case Slots:
		return "number of slots"
	default:
		return "burst"
	}
}

func (d Definition) validateFlags() error {
	f := d.Flags
	switch {
	case f&^allFlags != 0:
		return fmt.Errorf("flags %#x are not known: %w", uint32(f), ErrRange)
	case f&Block != 0 && f&Unlimited != 0:
		return fmt.Errorf("a limit is blocked and unlimited: %w", ErrRange)
	case f&(Block|Unlimited) != 0 && (f&Soft != 0 || d.Kind == Slots):
		return fmt.Errorf("a limit that is soft or slots is blocked or unlimited: %w", ErrRange)
	case f&CarryDebt != 0 && d.Kind != Quota:
		return fmt.Errorf("a %v carries debt: %w", d.Kind, ErrRange)
	}
	return nil
}

func (d Definition) validateKind() error {
	switch {
	case d.Kind != Rate && d.Amount != 0:
		return fmt.Errorf("refill amount %d of a %v: %w", d.Amount, d.Kind, ErrRange)
	case (d.Kind == Quota) != (d.Calendar != nil) || d.Kind == Quota && (!d.Calendar.valid() || d.Period != 0):
		return fmt.Errorf("a %v has no calendar of NewCalendar, or one too many: %w", d.Kind, ErrRange)
	case d.Schedule != nil && (d.Kind != Rate || !d.Schedule.fits(&d)):
		return fmt.Errorf("a %v has a schedule that NewSchedule has not made for a rate: %w", d.Kind, ErrRange)
	}
	switch d.Kind {
	case Session:
		if d.Period < MinPeriod || d.Period > MaxPeriod {
			return fmt.Errorf("length %v is not in %v to %v: %w", d.Period, MinPeriod, MaxPeriod, ErrRange)
		}
	case Slots:
		if d.Period < MinHold || d.Period > MaxHold {
			return fmt.Errorf("hold %v is not in %v to %v: %w", d.Period, MinHold, MaxHold, ErrRange)
		}
	case Rate:
		switch {
		case d.Amount < 1 || d.Amount > MaxAmount:
			return fmt.Errorf("refill amount %d is not in 1 to %d: %w", d.Amount, MaxAmount, ErrRange)
		case d.Period < MinPeriod || d.Period > MaxPeriod:
			return fmt.Errorf("refill period %v is not in %v to %v: %w", d.Period, MinPeriod, MaxPeriod, ErrRange)
		case d.faster(MaxRate):
			return fmt.Errorf("rate %d per %v is above %d tokens a second: %w", d.Amount, d.Period, MaxRate, ErrRange)
		}
	}
	return nil
}

// SameRefill reports whether d and other differ in capacity and revision alone, so that
// they decide alike.
func (d Definition) SameRefill(other Definition) bool {
	other.Capacity, other.Rev = d.Capacity, d.Rev
	return d == other
}

// sameAxis reports whether the numbers of a state under d mean the same under other:
// both are rates with the same refill and burst, have the same periods, or are slots.
// Capacity, revision and flags may differ, and so may the amount of a quota or session.
func (d Definition) sameAxis(other Definition) bool {
	if d.Kind != other.Kind {
		return false
	}
	switch d.Kind {
	case Quota:
		return d.Calendar == other.Calendar
	case Session:
		return d.Period == other.Period
	case Slots:
		return true
	default:
		return d.Burst == other.Burst && d.Amount == other.Amount && d.Period == other.Period && d.Schedule == other.Schedule
	}
}
