package bucket_test

import (
	"math"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/bucket"
)

// The generators below cover the whole range of the arithmetic and come to its
// edges often.

// near draws one of the edges, give or take 2, or anything in lo to hi.
func near(lo, hi int64, edges ...int64) *rapid.Generator[int64] {
	beside := rapid.Custom(func(t *rapid.T) int64 {
		edge := min(max(rapid.SampledFrom(edges).Draw(t, "edge"), lo), hi)
		off := rapid.Int64Range(-2, 2).Draw(t, "off")
		switch n := edge + off; {
		case off > 0 && (n > hi || n < edge):
			return hi
		case off < 0 && (n < lo || n > edge):
			return lo
		default:
			return n
		}
	})
	return rapid.OneOf(beside, rapid.Int64Range(lo, hi))
}

// definitions draws valid definitions.
func definitions() *rapid.Generator[bucket.Definition] {
	return rapid.Custom(func(t *rapid.T) bucket.Definition {
		period := near(int64(bucket.MinPeriod), int64(bucket.MaxPeriod),
			int64(bucket.MinPeriod), int64(time.Minute), int64(time.Hour), int64(bucket.MaxPeriod)).Draw(t, "period")
		fastest := min(bucket.MaxAmount, 9*period) // 9e9 tokens a second are 9 a nanosecond
		fine := period / 1000                      // 1,000,000 tokens a second, rounded down
		amount := near(1, fastest, 1, fine, fastest).Draw(t, "amount")
		burst := near(1, bucket.MaxAmount, 1, min(amount, 10), amount, bucket.MaxAmount).Draw(t, "burst")
		return bucket.Definition{
			Burst: burst, Amount: amount, Period: time.Duration(period),
			Capacity: near(1, burst, burst).Draw(t, "capacity"),
			Rev:      near(0, math.MaxInt64, 0, 0, 5).Draw(t, "rev"),
		}
	})
}

// instants draws instants within the range.
func instants() *rapid.Generator[bucket.Instant] {
	edge := int64(bucket.MaxInstant)
	return rapid.Map(near(-edge, edge, -edge, 0, edge), func(n int64) bucket.Instant { return bucket.Instant(n) })
}

// later draws instants that are not before at.
func later(at bucket.Instant) *rapid.Generator[bucket.Instant] {
	edge := int64(bucket.MaxInstant)
	return rapid.Map(near(int64(at), edge, int64(at), min(int64(at)+int64(time.Second), edge)), func(n int64) bucket.Instant { return bucket.Instant(n) })
}

// amounts draws amounts that a caller may ask for.
func amounts(d bucket.Definition) *rapid.Generator[int64] {
	return near(0, bucket.MaxAmount, 0, 1, d.Burst, bucket.MaxAmount)
}

// anyAmounts draws amounts that a caller may ask for, and some that are out of range.
func anyAmounts(d bucket.Definition) *rapid.Generator[int64] {
	return rapid.OneOf(amounts(d), amounts(d), near(math.MinInt64, math.MaxInt64, math.MinInt64, -1, bucket.MaxAmount+1, math.MaxInt64))
}

// marks draws marks around an instant: in the past, in use, in debt, and at
// the ends of int64.
func marks(d bucket.Definition, at bucket.Instant) *rapid.Generator[int64] {
	drip, full := d.Drip(at), d.Burst*d.Unit()
	to := func(mark, more int64) int64 { return mark + min(more, math.MaxInt64-max(mark, 0)) }
	empty := to(drip, full)
	far := to(drip, math.MaxInt64) // the level is at int64's end, or as near as it comes
	return rapid.OneOf(
		near(drip, empty, drip, empty),
		near(math.MinInt64, math.MaxInt64, drip, empty, far, to(far, full), math.MinInt64, math.MaxInt64),
	)
}

// states draws states under d: used, sometimes never charged.
func states(d bucket.Definition, at bucket.Instant) *rapid.Generator[bucket.State] {
	return rapid.Custom(func(t *rapid.T) bucket.State {
		return bucket.State{
			Definition: d,
			Mark:       marks(d, at).Draw(t, "mark"),
			Generation: rapid.SampledFrom([]uint64{0, 1, math.MaxUint64}).Draw(t, "generation"),
		}
	})
}

// aheads draws times to take ahead, sometimes impossible ones.
func aheads() *rapid.Generator[time.Duration] {
	return rapid.Map(near(math.MinInt64, math.MaxInt64, -1, 0, 0, 0, int64(time.Second), 2*int64(bucket.MaxInstant), math.MaxInt64),
		func(n int64) time.Duration { return time.Duration(n) })
}
