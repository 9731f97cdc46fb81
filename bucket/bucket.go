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
// Marks count thousandths of a token; in the formulas, unit is how many of them a token
// has ([Definition.Unit]): 1000, or 1 at rates above 1,000,000 tokens a second. Drip is
// counted from the epoch and not from the last call, so reading it often neither gains
// nor loses refill. A limit that was never charged is full; no number stands for it.
//
// # Other kinds
//
// A quota is a pair: the instant from which is counted, and the tokens used since. Its
// amount comes back as a whole when the next period begins: at instants of a [Calendar],
// or a time after the first use. Slots are taken by holders and come back when these
// release them, or have not renewed their hold in time. See period.go and holder.go.
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
