package replay

import (
	"time"

	"github.com/zeroae/zael/bucket"
)

// A requirement finds, as requests go by, what one limit would have needed to
// refuse none of them: the least burst at its rate, and the least rate at its
// burst. Both are exact, by the arithmetic of package bucket with its rounding.
type requirement struct {
	definition bucket.Definition
	unit       int64
	maxWait    time.Duration // of a request

	burst   int64 // so far; above bucket.MaxAmount if no burst is enough
	rate    int64 // so far, in tokens each definition.Period; above maxRate if no rate is enough
	maxRate int64
}

// A lenientBucket is the bucket of an entity as it would be if every request had
// been admitted.
type lenientBucket struct {
	mark  int64 // at the limit's rate
	taken bool  // mark is set

	// For the least rate, in leastrate.go.
	settled int64 // tokens, since the first of the origins
	origins []origin
}

// An observation is one request as one limit sees it. Its tokens are settled as
// soon as they are taken.
type observation struct {
	at           bucket.Instant
	drip         int64 // of the limit, at the request
	waitDrip     int64 // of the limit, at the end of the request's longest wait
	take, settle int64 // tokens
}

func newRequirement(d bucket.Definition, maxWait time.Duration) requirement {
	q := requirement{definition: d, unit: 1, maxWait: maxWait, burst: 1, rate: 1}
	if d.Kind == bucket.Rate && d.Flags&(bucket.Block|bucket.Unlimited) == 0 {
		q.unit = d.Unit()
		q.maxRate = min(bucket.MaxAmount, bucket.MaxRate/int64(time.Second)*int64(d.Period)) // MaxRate is per second
	}
	return q
}

// observe raises the burst and the rate to what a request needs, and charges the
// bucket.
func (q *requirement) observe(b *lenientBucket, o *observation) {
	q.raiseBurst(b, o)
	q.raiseRate(b, o)
}

// raiseBurst uses that a bucket which refuses nothing has the mark
// max(mark, drip) + settle·unit after each request, whatever its burst, and that it
// admits a request if
//
//	max(mark, drip) + take·unit ≤ drip(at + wait) + burst·unit  and  take ≤ burst
func (q *requirement) raiseBurst(b *lenientBucket, o *observation) {
	if q.burst > bucket.MaxAmount {
		return
	}
	mark := o.drip
	if b.taken {
		mark = max(mark, b.mark)
	}
	burst := o.take
	if mark > o.waitDrip {
		debt := uint64(mark) - uint64(o.waitDrip)
		tokens := debt / uint64(q.unit)
		if debt%uint64(q.unit) > 0 {
			tokens++
		}
		if tokens > uint64(bucket.MaxAmount) {
			q.burst = bucket.MaxAmount + 1
			return
		}
		burst += int64(tokens)
	}
	q.burst = max(q.burst, burst)
	b.taken = true
	if b.mark = mark + o.settle*q.unit; b.mark < mark { // overflow
		q.burst = bucket.MaxAmount + 1
	}
}
