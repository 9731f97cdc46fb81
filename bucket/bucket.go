// Package bucket implements the arithmetic of zael's token buckets for authors of
// stores: pure functions on integers, without clocks, I/O or locks. A store keeps
// a [Record] for each bucket, and a [State] for each of its limits.
//
// # Marks
//
// A limit is kept as one integer, its mark, on an axis along which refill drips
// at a constant pace (GCRA, the generic cell rate algorithm of
// ITU-T I.371, counted in tokens and not in time):
//
//	drip(now) = floor((now − Epoch) · Amount · unit / Period)
//	level     = max(0, mark − drip(now))       taken and not yet refilled
//	available = floor((Burst·unit − level) / unit)
//	take n    : allowed iff level + n·unit ≤ Burst·unit
//	            mark' = max(mark, drip(now)) + n·unit
//
// The unit is 1/1000 token ([Definition.Unit]); rates above 1,000,000 tokens a
// second count whole tokens. Drip is counted from the epoch and not from the last
// call, so reading it often neither gains nor loses refill. A limit that was never
// charged is full; no number stands for it.
//
// # Ranges
//
// Bursts and amounts are at most [MaxAmount], periods from [MinPeriod] to
// [MaxPeriod], rates at most [MaxRate], instants within [MaxInstant] of
// [Epoch]. Within them nothing overflows: see [Definition.Validate], [At] and
// [ErrRange].
package bucket

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Ranges of the arithmetic.
const (
	MaxAmount int64 = 1e15                 // tokens: the largest burst, refill and amount
	MaxRate   int64 = 9e9                  // tokens a second
	MinPeriod       = time.Second          // shortest refill period
	MaxPeriod       = 366 * 24 * time.Hour // longest refill period

	// MaxInstant is how far from Epoch an instant may be, before and after it:
	// 29 years of 365 days.
	MaxInstant = Instant(29 * 365 * 24 * time.Hour)

	// Never is the wait for tokens that will never be there.
	Never = time.Duration(math.MaxInt64)
)

const (
	milli     = 1000      // units a token, up to fineRate
	fineRate  = 1_000_000 // tokens a second; above it the unit is a token
	epochUnix = 1735689600
)

// ErrRange is matched by errors about numbers out of range.
var ErrRange = errors.New("out of range")

// Epoch returns the time from which drips are counted: 2025-01-01T00:00:00Z.
func Epoch() time.Time { return time.Unix(epochUnix, 0).UTC() }

// An Instant is a time in nanoseconds after Epoch; negative before it.
type Instant int64

// At returns t as an Instant. The error matches ErrRange if t is further than
// MaxInstant from Epoch.
func At(t time.Time) (Instant, error) {
	s, ns := t.Unix()-epochUnix, int64(t.Nanosecond())
	if limit := int64(MaxInstant / Instant(time.Second)); s < -limit || s > limit || s == limit && ns > 0 {
		return 0, fmt.Errorf("time %s is more than 29 years from %s: %w", t.UTC().Format(time.RFC3339), Epoch().Format(time.DateOnly), ErrRange)
	}
	return Instant(s*int64(time.Second) + ns), nil
}

// Time returns the instant as a time in UTC.
func (at Instant) Time() time.Time {
	return time.Unix(epochUnix, int64(at)).UTC()
}

// micros returns the instant as revisions count, in µs since 1970.
func (at Instant) micros() int64 {
	return epochUnix*1e6 + int64(at)/1000
}

// Add returns at + d, or MaxInstant if that is earlier. d must not be negative.
func (at Instant) Add(d time.Duration) Instant {
	if d > time.Duration(MaxInstant-at) {
		return MaxInstant
	}
	return at + Instant(d)
}

// A Definition is one limit in numbers. Two definitions are compared with ==.
type Definition struct {
	Burst    int64         // tokens that a full bucket holds: 1 to MaxAmount
	Amount   int64         // tokens that refill in each Period: 1 to MaxAmount
	Period   time.Duration // MinPeriod to MaxPeriod
	Capacity int64         // nominal tokens, for reports only; 1 to Burst
	Rev      int64         // revision of the stored limit, µs since 1970; 0 for a limit named by the call. In a State: the highest seen
}

// Validate returns an error that names the first number out of range, and matches
// ErrRange.
func (d Definition) Validate() error {
	switch {
	case d.Burst < 1 || d.Burst > MaxAmount:
		return fmt.Errorf("burst %d is not in 1 to %d: %w", d.Burst, MaxAmount, ErrRange)
	case d.Amount < 1 || d.Amount > MaxAmount:
		return fmt.Errorf("refill amount %d is not in 1 to %d: %w", d.Amount, MaxAmount, ErrRange)
	case d.Period < MinPeriod || d.Period > MaxPeriod:
		return fmt.Errorf("refill period %v is not in %v to %v: %w", d.Period, MinPeriod, MaxPeriod, ErrRange)
	case d.faster(MaxRate):
		return fmt.Errorf("rate %d per %v is above %d tokens a second: %w", d.Amount, d.Period, MaxRate, ErrRange)
	case d.Capacity < 1 || d.Capacity > d.Burst:
		return fmt.Errorf("capacity %d is not in 1 to the burst, %d: %w", d.Capacity, d.Burst, ErrRange)
	case d.Rev < 0:
		return fmt.Errorf("revision %d is negative: %w", d.Rev, ErrRange)
	}
	return nil
}

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

// SameRefill reports whether d and other have the same rate and burst, so that marks
// under them mean the same. Capacity and revision may differ.
func (d Definition) SameRefill(other Definition) bool {
	return d.Burst == other.Burst && d.Amount == other.Amount && d.Period == other.Period
}
