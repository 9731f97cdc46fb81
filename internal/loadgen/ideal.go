package loadgen

import (
	"math"
	"math/bits"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// An Ideal is the most that the limits of a job allow: of each key a full
// burst and what refills between the first and the last decision.
type Ideal struct {
	Acquires int64            // as many of the job's amounts as fit
	Tokens   map[string]int64 // by name of the limits that the job takes from
}

// Ideal is the most that could have been admitted in the time of a tally. What
// was admitted is never more, and as much where every key was asked more often
// than its limits allow.
func (j *Job) Ideal(t *Tally) (Ideal, error) {
	ideal := Ideal{Acquires: math.MaxInt64, Tokens: map[string]int64{}}
	if t.First == 0 { // nothing was asked
		ideal.Acquires = 0
	}
	parent := j.ParentLimits
	if parent == nil {
		parent = j.Limits
	}
	for _, l := range j.Limits {
		n := j.Consume[l.Name]
		if n == 0 {
			continue
		}
		one, err := room(l, t)
		if err != nil {
			return ideal, err
		}
		tokens, acquires := times(one, j.Keys), times(one/n, j.Keys)
		for _, p := range parent {
			if !j.Cascade || p.Name != l.Name {
				continue
			}
			all, err := room(p, t)
			if err != nil {
				return ideal, err
			}
			tokens, acquires = min(tokens, all), min(acquires, all/n)
		}
		ideal.Tokens[l.Name] = tokens
		ideal.Acquires = min(ideal.Acquires, acquires)
	}
	return ideal, nil
}

// room is how many tokens a limit has for one bucket in the time of a tally.
func room(l zael.Limit, t *Tally) (int64, error) {
	if t.First == 0 {
		return 0, nil
	}
	if err := l.Validate(); err != nil {
		return 0, err
	}
	d := bucket.Definition{Burst: l.Burst, Amount: l.RefillAmount, Period: l.RefillPeriod, Capacity: l.Capacity}
	first, err := bucket.At(time.Unix(0, t.First))
	if err != nil {
		return 0, err
	}
	last, err := bucket.At(time.Unix(0, t.Last))
	if err != nil {
		return 0, err
	}
	return d.Burst + (d.Drip(last)-d.Drip(first))/d.Unit(), nil
}

// times stops at the end of int64.
func times(n int64, factor int) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(factor))
	if hi > 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}
