package replay

import (
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A need finds, while rows go by, what one limit would have needed to refuse
// none of them: the least burst at its rate, and the least rate at its burst.
// Both are exact, by the arithmetic of package bucket, floors included.
type need struct {
	def  bucket.Definition
	unit int64
	wait time.Duration // a request may wait so long

	burst   int64 // the least so far; above bucket.MaxAmount: none is enough
	rate    int64 // tokens each def.Period; above maxRate: none is enough
	maxRate int64
}

// A track is what a need keeps of one entity's bucket: the bucket as it would
// be if everything had been admitted.
type track struct {
	mark  int64 // at the limit's own rate, if used
	used  bool
	taken int64 // since the first of the lines
	lines []line
}

func newNeed(l zael.Limit, wait time.Duration) need {
	def := definition(l)
	most := min(bucket.MaxAmount, bucket.MaxRate/int64(time.Second)*int64(def.Period)) // MaxRate is 9 a nanosecond
	return need{def: def, unit: def.Unit(), wait: wait, burst: 1, rate: 1, maxRate: most}
}

// definition is l as a Limiter hands it to a store; l is valid.
func definition(l zael.Limit) bucket.Definition {
	d := bucket.Definition{Burst: l.Burst, Amount: l.RefillAmount, Period: l.RefillPeriod, Capacity: l.Capacity}
	if d.Burst == 0 {
		d.Burst = d.Amount
	}
	return d
}

// add is a request of an entity that takes some tokens and settles to others
// at once. drip is the limit's at the instant, ahead the one at its end of wait.
func (n *need) add(t *track, at bucket.Instant, drip, ahead, take, settle int64) {
	n.addBurst(t, drip, ahead, take, settle)
	n.addRate(t, at, take, settle)
}

// addBurst: a bucket that refuses nothing has the mark max(mark, drip) + settle
// after each request, whatever its burst, and a request asks for
//
//	max(mark, drip) + take·unit ≤ drip(at + wait) + burst·unit  and  take ≤ burst
func (n *need) addBurst(t *track, drip, ahead, take, settle int64) {
	if n.burst > bucket.MaxAmount {
		return
	}
	mark := drip
	if t.used {
		mark = max(mark, t.mark)
	}
	burst := take
	if mark > ahead {
		over := uint64(mark) - uint64(ahead)
		tokens := over / uint64(n.unit)
		if over%uint64(n.unit) > 0 {
			tokens++
		}
		if tokens > uint64(bucket.MaxAmount) {
			n.burst = bucket.MaxAmount + 1
			return
		}
		burst += int64(tokens)
	}
	n.burst = max(n.burst, burst)
	t.used = true
	if t.mark = mark + settle*n.unit; t.mark < mark { // beyond int64
		n.burst = bucket.MaxAmount + 1
	}
}
