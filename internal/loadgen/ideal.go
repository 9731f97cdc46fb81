package loadgen

import (
	"math"
	"math/bits"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// An Ideal is the most that the limits of a job allow: for each key its burst and what
// refills between the first and the last decision.
type Ideal struct {
	Acquires int64
	Tokens   map[string]int64 // by limit, of those that the job takes from
}

// Ideal returns the most that could have been admitted in the time of a tally. No
// correct store admits more; a store admits as much if every key was asked for more
// than its limits allow.
func (j *Job) Ideal(t *Tally) (Ideal, error) {
	ideal := Ideal{Acquires: math.MaxInt64, Tokens: map[string]int64{}}
	if t.First == 0 { // there were no calls
		ideal.Acquires = 0
	}
	parent := j.ParentLimits
	if parent == nil {
		parent = j.Limits
	}
	for _, l := range j.Limits {
		n := j.amount(l.Name)
		if n == 0 {
			continue
		}
		perKey, err := available(l, t)
		if err != nil {
			return ideal, err
		}
		tokens, acquires := multiply(perKey, j.Keys), multiply(perKey/n, j.Keys)
		ideal.Tokens[l.Name] = tokens
		ideal.Acquires = min(ideal.Acquires, acquires)
	}
	if !j.Cascade {
		return ideal, nil
	}
	for _, l := range parent {
		n := j.amount(l.Name)
		if n == 0 {
			continue
		}
		ofParent, err := available(l, t)
		if err != nil {
			return ideal, err
		}
		if own, ok := ideal.Tokens[l.Name]; ok {
			ideal.Tokens[l.Name] = min(own, ofParent)
		}
		ideal.Acquires = min(ideal.Acquires, ofParent/n)
	}
	return ideal, nil
}

// amount returns what an acquire takes of a limit: 1 if Consume does not name it.
func (j *Job) amount(name string) int64 {
	if n, named := j.Consume[name]; named {
		return n
	}
	return 1
}

// available returns the tokens that a full bucket has in the time of a tally.
func available(l zael.Limit, t *Tally) (int64, error) {
	if t.First == 0 {
		return 0, nil
	}
	d, err := l.Definition()
	if err != nil {
		return 0, err
	}
	first, err := bucket.At(time.Unix(0, t.First))
	if err != nil {
		return 0, err
	}
	last, err := bucket.At(time.Unix(0, t.Last))
	if err != nil {
		return 0, err
	}
	switch {
	case d.Flags&bucket.Block != 0:
		return 0, nil
	case d.Flags&(bucket.Unlimited|bucket.Soft) != 0, d.Kind == bucket.Slots: // slots come back at once
		return bucket.MaxAmount, nil
	case d.Kind == bucket.Quota:
		return times(d.Burst, 1+d.Calendar.Starts(first, last)), nil
	case d.Kind == bucket.Session:
		return times(d.Burst, 1+int64(last-first)/int64(d.Period)), nil
	}
	return d.Burst + (d.Drip(last)-d.Drip(first))/d.Unit(), nil
}

// multiply returns the product of two non-negative numbers, at most math.MaxInt64.
func multiply(a int64, b int) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi > 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}

// times returns burst · n, or the greatest int64 if that is beyond it.
func times(burst, n int64) int64 {
	if n > math.MaxInt64/burst {
		return math.MaxInt64
	}
	return burst * n
}
